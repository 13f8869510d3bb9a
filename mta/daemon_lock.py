"""The lock that a daemon is known by: taken before its exec, passed through it, its for life.

Whoever starts daemons takes it, so that of one name there is one, and whoever asks
looks at it: no pid is believed without the lock.

State    RUNTIME/daemon/NAME holds "PID" and the command, a line each, and is locked by
         that process as long as it lives.  Locked: it runs.  Free, but not empty: it
         died.  Empty or missing: it was stopped, or never started.
Units    Times are float seconds on the monotonic clock.

Invariants, each a property in tests/test_daemon_lock.py
    DL1  What is locked runs as the pid and the command that are written there, through
         its exec; when it has ended without having been forgotten, it died.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress

from mta.errors import PosthouseError
from mta.machine.ownership import make_directory
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from mta.config.model import Config

__all__ = [
    "DEAD",
    "RUNNING",
    "STOPPED",
    "RunningError",
    "Seen",
    "folder",
    "forget",
    "see",
    "sign",
    "take",
]

RUNNING, DEAD, STOPPED = "running", "dead", "stopped"
LOCK_LIMIT = 1.0  # seconds: who only looks holds the lock for a moment, too


class RunningError(PosthouseError):
    """The daemon runs already."""


@frozen
class Seen:
    """What a lock says; ``pid`` and ``command`` are 0 and "" of what was stopped."""

    state: str = STOPPED
    pid: int = 0
    command: str = ""


def folder(config: Config) -> str:
    """Return the directory of the locks."""
    return f"{config.runtime}/daemon"


def see(config: Config, name: str) -> Seen:
    """Return how the daemon ``name`` stands now."""
    try:
        fd = os.open(f"{folder(config)}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Seen()
    try:
        limit = time.monotonic() + LOCK_LIMIT
        while True:
            free = _try_lock(fd, fcntl.LOCK_SH)
            text = os.pread(fd, 1 << 16, 0).decode("utf-8", "replace")
            if free or text.endswith("\n") or time.monotonic() >= limit:
                break
            time.sleep(0.01)  # it is about to write down who it is
    finally:
        os.close(fd)
    pid, _, command = text.partition("\n")
    state = RUNNING if not free else DEAD if pid else STOPPED
    number = int(pid) if pid.isdecimal() and len(pid) < 10 else 0  # a pid_t
    return Seen(state, number, command.rstrip("\n"))


def take(config: Config, name: str, patience: float = LOCK_LIMIT) -> int:
    """Take the lock of ``name``; return its descriptor.  RunningError if it runs already."""
    if config.smtpd.user and not os.path.isdir(config.runtime):  # at boot /run is empty
        os.makedirs(config.runtime, mode=0o750)
        with suppress(LookupError, PermissionError):
            shutil.chown(config.runtime, config.smtpd.user)
    make_directory(folder(config))
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # the folder may be another's
    fd = os.open(f"{folder(config)}/{name}", flags, 0o600)
    limit = time.monotonic() + patience
    while not _try_lock(fd, fcntl.LOCK_EX):
        if time.monotonic() >= limit:
            os.close(fd)
            raise RunningError(f"{name} runs already")
        time.sleep(0.01)
    os.ftruncate(fd, 0)  # who died before us is nobody that runs, though the lock is taken again
    return fd


def sign(fd: int, command: str) -> None:
    """Write down, in the process that is to be the daemon, who holds the lock."""
    os.pwrite(fd, f"{os.getpid()}\n{command}\n".encode(), 0)
    os.set_inheritable(fd, True)


def forget(config: Config, name: str) -> None:
    """Note that a daemon was stopped, and is not dead; nothing if it runs, or never ran."""
    with suppress(RunningError, FileNotFoundError):
        os.stat(f"{folder(config)}/{name}")  # one that never ran leaves no file
        os.close(take(config, name))


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
