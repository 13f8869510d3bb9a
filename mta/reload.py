"""mta reload: every daemon of a runtime directory reads its configuration anew.

Only a configuration that ``mta check`` passes is given to them: with one that has
errors nobody is told anything.  They are found by their sockets, whoever started them.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from mta import checking
from mta.config import lint
from mta.errors import EX_CONFIG, EX_OK, PosthouseError
from mta.machine.census import delivers, listeners
from mta.machine.logline import printable
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config

__all__ = ["NobodyError", "reload"]


class NobodyError(PosthouseError):
    """No daemon runs."""


def reload(config: Config, say: Callable[[str], None]) -> int:
    """Check ``config``, then send SIGHUP to all daemons, and ``say`` which; return a status.

    NobodyError if none runs; OSError if one is another user's.
    """
    errors = [f for f in checking.check(config) if f.severity == "error"]
    for finding in errors:
        say(lint.spell(config, finding))
    if errors:
        return EX_CONFIG
    found = _running(config)
    told = [(pid, title) for pid, title in found if _hang_up(config, pid)]
    for pid, title in told:
        say(f"told to read {config.path}: pid {pid}, {printable(title)}")
    if not told:
        raise NobodyError(f"no daemon runs in {config.runtime}")
    return EX_OK


def _running(config: Config) -> list[tuple[int, str]]:
    found = [(deliver.pid, deliver.title) for deliver in delivers(config.runtime)]
    return listeners(config.runtime) + [(pid, title) for pid, title in found if "deliver" in title]


def _hang_up(config: Config, pid: int) -> bool:
    """Send SIGHUP to a process that is still there, and still one of ours."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            # The descriptor holds on to the process: what the sockets say now is about it.
            if pid in (number for number, _ in _running(config)):
                signal.pidfd_send_signal(fd, signal.SIGHUP)
                return True
        finally:
            os.close(fd)
    return False
