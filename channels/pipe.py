"""pipe: give each message to a program of the configuration, on its standard input.

The way to deliver by whatever knows only stdin and exit statuses: an archiver,
a ticket system, ``rmail``.  No shell is involved, and what an address says
reaches the program as part of an argument that the configuration began, never
as an option.

Source   pipe(8) of Postfix, sysexits.h.  The manual is man/pipe.8.
Options  command (repeated: the argument vector), timeout (seconds), crlf (yes or no),
         user (whom to run it as when we are root; nobody, if it is not given).
State    The commands in flight: at most as many as deliver offered jobs.

Invariants, each a property in tests/channels/test_pipe.py
    P1   The program gets exactly the body, with LF line ends unless crlf is on; a
         BINARYMIME body (RFC 3030) as it is.
    P2   Each recipient is settled by its own run of the program.
    P3   No text in an address makes an argument begin with "-" that did not.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Generator, Mapping
from typing import BinaryIO

from mta.channel.records import EACH, Dispatch, Opening
from mta.errors import ConfigError
from mta.machine.body import prepared, trouble
from mta.machine.run import Account, Ran, Running, account, start
from mta.machine.serve import Service, Tell, run_program
from mta.machine.sysexits import exit_outcome
from mta.types import CHANNEL, RECIPIENT, Outcome, Recipient, Reply
from mta.values import frozen

__all__ = ["Pipe", "arguments", "environment", "names_of", "open_program"]

PATH = "/usr/local/bin:/usr/bin:/bin"
TIMEOUT = 300.0
JOBS = 250  # as many as deliver offers, but no more than descriptors allow

_PLACEHOLDER = re.compile(r"\{(sender|recipient|id|user|extension|domain|host|queue)\}")


@frozen
class Pipe:
    """The options of one pipe channel; ``timeout`` in seconds."""

    command: tuple[str, ...]
    timeout: float
    crlf: bool
    queue: str
    hostname: str
    who: Account | None = None

    def deliver(
        self, dispatch: Dispatch, body: BinaryIO, tell: Tell
    ) -> Generator[Running, Ran, None]:
        """Run the command once for each recipient, one after the other."""
        with prepared(b"", body, crlf=self.crlf or dispatch.binary) as text:
            for recipient in dispatch.recipients:
                text.seek(0)
                outcome = yield from self._run(dispatch, recipient, text)
                tell(recipient.index, outcome, "")

    def _run(
        self, dispatch: Dispatch, recipient: Recipient, text: BinaryIO
    ) -> Generator[Running, Ran, Outcome]:
        names = names_of(dispatch, recipient, self.queue)
        try:
            argv = arguments(self.command, names)
        except ValueError as error:
            return Outcome(Reply(550, "5.1.3", str(error)), RECIPIENT)
        deadline = time.monotonic() + self.timeout
        variables = environment(names, self.hostname)
        try:
            running = start(argv, text.fileno(), variables, deadline, who=self.who)
        except OSError as error:
            return Outcome(trouble(error, f"cannot start {argv[0]}").reply, CHANNEL)
        ran = yield running
        return exit_outcome(ran, os.path.basename(argv[0]))


def names_of(dispatch: Dispatch, recipient: Recipient, queue: str) -> dict[str, str]:
    """Return what the placeholders of a command stand for."""
    user, _, extension = recipient.mailbox.local.partition("+")
    return {
        "sender": str(dispatch.reverse_path),
        "recipient": str(recipient.mailbox),
        "id": dispatch.id,
        "user": user,
        "extension": extension,
        "domain": recipient.mailbox.domain,
        "host": dispatch.host,
        "queue": queue,
    }


def arguments(command: tuple[str, ...], names: Mapping[str, str]) -> list[str]:
    """Return ``command`` with its placeholders filled, each argument still one argument.

    Raises ValueError if an argument would begin with "-" only because of what
    was filled in, or would hold a NUL.
    """
    filled = [_PLACEHOLDER.sub(lambda match: names[match[1]], word) for word in command]
    for word, template in zip(filled, command, strict=True):
        if word.startswith("-") and not template.startswith("-"):
            raise ValueError("the address would be an option to the program")
        if "\0" in word:
            raise ValueError("the address holds a NUL")
    return filled


def environment(names: Mapping[str, str], hostname: str) -> dict[str, str]:
    """Return the whole environment of the program."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "SENDER": names["sender"],
        "RECIPIENT": names["recipient"],
        "USER": names["user"],
        "EXTENSION": names["extension"],
        "DOMAIN": names["domain"],
        "MESSAGE_ID": names["id"],
        "HOSTNAME": hostname,
    }


def _account(opening: Opening) -> Account | None:
    """Return whom commands run as: None for ourselves, which only root may change."""
    name = opening.option("user")
    if os.geteuid() != 0:
        return None
    who = account(name or "nobody")
    if who is None:
        raise ConfigError(f"channel {opening.channel}: no account {name or 'nobody'}")
    return who


def open_program(opening: Opening) -> Service:
    """Return the service that ``opening`` asks for; ConfigError if its options are wrong."""
    command = opening.every("command")
    if not command or _PLACEHOLDER.search(command[0]) or not command[0].startswith("/"):
        raise ConfigError(f"channel {opening.channel}: command must begin with an absolute path")
    try:
        timeout = float(opening.option("timeout") or TIMEOUT)
    except ValueError:
        raise ConfigError(f"channel {opening.channel}: timeout is not a number") from None
    crlf = opening.option("crlf", "no") in ("yes", "true", "1")
    who = _account(opening)
    pipe = Pipe(command, timeout or TIMEOUT, crlf, opening.queue, opening.hostname, who)
    return Service(EACH, JOBS, pipe.deliver)


if __name__ == "__main__":
    sys.exit(run_program("pipe", open_program))
