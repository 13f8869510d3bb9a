"""The configuration as a Router: its channel table, its aliases, its users.

Source   mta.yaml(5): channels, local.
Trust    An ``:include:`` file names where mail goes, so it must belong to root
         or to the owner of mta.yaml, and nobody else may write it.
"""

from __future__ import annotations

import os
import stat

from mta.route.router import Router
from mta.route.table import ChannelRow, ChannelTable, Pattern
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Channel, Config

__all__ = [
    "known_user",
    "max_recipients",
    "read_include",
    "router",
    "router_with",
]

INCLUDE_LIMIT = 1 << 20  # octets


def router(config: Config) -> Router:
    """Return the Router of ``config``, which asks the system for accounts and include files."""
    return router_with(
        config,
        lambda name: known_user(config, name),
        lambda path: read_include(config, path),
    )


def router_with(
    config: Config, known: Callable[[str], bool], include: Callable[[str], str]
) -> Router:
    """Return the Router of ``config`` that asks ``known`` and ``include`` instead."""
    local = config.local
    return Router(
        ChannelTable([_row(config, channel) for channel in config.channels]),
        local.domains,
        config.hostname,
        {name: targets for name, targets, _ in config.aliases},
        known,
        include,
        local.users[0] if local.users else "",
    )


def _row(config: Config, channel: Channel) -> ChannelRow:
    patterns: list[Pattern] = []
    for pattern in channel.domains:
        of_local = pattern == "$local"
        names = config.local.domains if of_local else (pattern,)
        where = "local.domains" if of_local else "domains"
        patterns += [Pattern(name, "", where) for name in names]
    return ChannelRow(
        channel.name,
        channel.queue,
        channel.program == "local",
        tuple(patterns),
        channel.table,
        config.table(channel.table),
    )


def max_recipients(config: Config) -> dict[str, int]:
    """Return the most recipients of one job, by channel name."""
    return {channel.name: channel.max_recipients for channel in config.channels}


def known_user(config: Config, name: str) -> bool:
    """Whether ``name``, in lower case, is one of the users, or of the system's accounts."""
    if config.local.users is not None:
        return name in config.local.users
    import pwd

    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def read_include(config: Config, path: str) -> str:
    """Return the text of an ``:include:`` file; a relative ``path`` is beside the alias file.

    Raises ValueError with the reason if it cannot or must not be read.
    """
    whole = os.path.join(os.path.dirname(config.local.aliases or config.path), path)
    try:
        with open(whole, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            owners = (0, os.stat(config.path).st_uid)
            reason = _distrust(os.fstat(file.fileno()), owners)
            octets = b"" if reason else file.read(INCLUDE_LIMIT + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{whole}: {why}") from None
    if len(octets) > INCLUDE_LIMIT:
        reason = f"it is larger than {INCLUDE_LIMIT} octets"
    if reason:
        raise ValueError(f"{whole}: {reason}")
    from mta.config.text import BadFile, decode

    try:
        return decode(octets)
    except BadFile as error:
        raise ValueError(error.spell(whole)) from None


def _distrust(status: os.stat_result, owners: tuple[int, ...]) -> str:
    """Why a file with this status may not say where mail goes; "" if it may."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid not in owners:
        return "it belongs neither to root nor to the owner of mta.yaml"
    if status.st_mode & 0o022:
        return "its group or others may write it"
    return ""
