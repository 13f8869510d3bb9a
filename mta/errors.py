"""The six exceptions, and the one table from exception to exit status.

A delivery result is a value (``types.Outcome``); an exception is for what stops
*us*.  Each message is one line that a person can act on, without a traceback.

Source   exit codes: sysexits.h
"""

from __future__ import annotations

from mta.words import printable

__all__ = [
    "EXIT_CODES",
    "EX_CONFIG",
    "EX_DATAERR",
    "EX_NOHOST",
    "EX_NOUSER",
    "EX_OK",
    "EX_SOFTWARE",
    "EX_TEMPFAIL",
    "EX_UNAVAILABLE",
    "EX_USAGE",
    "ChannelError",
    "ConfigError",
    "LocalProtocolError",
    "PosthouseError",
    "RemoteProtocolError",
    "SpoolError",
    "UsageError",
    "exit_code",
    "spelt",
]

LINE_LIMIT = 1000  # signs of a line: more of it says no more

EX_OK = 0
EX_USAGE = 64
EX_DATAERR = 65
EX_NOUSER = 67
EX_NOHOST = 68
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_CONFIG = 78


class PosthouseError(Exception):
    """What every command reports as ``program: message`` before it exits."""


class ConfigError(PosthouseError):
    """The configuration cannot be used; the message begins ``file:line:column:``."""


class SpoolError(PosthouseError):
    """The spool cannot be used, or could not promise durability: try again later."""


class LocalProtocolError(PosthouseError):
    """We were about to break a protocol: a defect of ours."""


class RemoteProtocolError(PosthouseError):
    """The peer broke a protocol; caught at the connection and made a 4yz Outcome."""


class ChannelError(PosthouseError):
    """A channel program could not be started, died, or broke the channel protocol."""


class UsageError(PosthouseError):
    """The command line is wrong."""


EXIT_CODES: dict[type[PosthouseError], int] = {
    ConfigError: EX_CONFIG,
    SpoolError: EX_TEMPFAIL,
    LocalProtocolError: EX_SOFTWARE,
    RemoteProtocolError: EX_TEMPFAIL,
    ChannelError: EX_TEMPFAIL,
    UsageError: EX_USAGE,
}


def exit_code(error: PosthouseError) -> int:
    """Return the sysexits status of ``error``; EX_SOFTWARE for a class not in the table."""
    return EXIT_CODES.get(type(error), EX_SOFTWARE)


def spelt(program: str, error: object) -> str:
    """Return what ``program`` says of ``error``, which may quote what anybody typed.

    Its lines can be printed, and none is endless.
    """
    head = f"{program}: " if program else ""
    return "\n".join([f"{head}{_line(line)}" for line in str(error).split("\n")])


def _line(text: str) -> str:
    return printable(text if len(text) <= LINE_LIMIT else f"{text[:LINE_LIMIT]}...")
