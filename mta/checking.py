"""All that ``mta check`` finds: what the configuration's lints say, and its daemons' lines.

The lints read only as much of a deliver's flags as they need; here each line is
read as deliver itself reads it, so that a line that would end with 64 is told before
it is started.
"""

from __future__ import annotations

import os
import shlex

from mta.config import lint
from mta.config.findings import Finding
from mta.deliver.flags import parse
from mta.errors import UsageError
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mta.config.model import Config, Daemon

__all__ = ["check"]


def check(config: Config) -> list[Finding]:
    """Return everything remarkable about ``config`` on this machine."""
    found = [*lint.check(config), *_lines(config)]
    return sorted(found, key=lambda each: (each.line is None, each.line or 0))


def _lines(config: Config) -> Iterator[Finding]:
    """Each line of ``daemons`` that deliver would not take, or whose log it could not write."""
    for daemon in config.daemons:
        words = _words(daemon)
        if not words or os.path.basename(words[0]) != "deliver":
            continue
        try:
            flags = parse(words[1:])
        except UsageError as error:
            yield Finding(daemon.line, "error", f"deliver: {error}")
            continue
        if flags.passive:
            yield Finding(daemon.line, "error", "deliver: -p: there are no passive channels")
        if flags.log_file:
            path = os.path.join(config.log.dir, flags.log_file)
            if not _can_be_written(path):
                text = f"deliver: the log {path} cannot be written: nothing would be in it"
                yield Finding(daemon.line, "warning", text)


def _words(daemon: Daemon) -> list[str]:
    try:
        return shlex.split(daemon.command)
    except ValueError:
        return []  # a lint tells that


def _can_be_written(path: str) -> bool:
    """Whether the file at ``path`` can be appended to, or made with the directories above it."""
    if os.path.exists(path):
        return os.path.isfile(path) and os.access(path, os.W_OK)
    above = os.path.dirname(path)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    return os.path.isdir(above) and os.access(above, os.W_OK | os.X_OK)
