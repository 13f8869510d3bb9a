"""Running other programs, and our own code as another user, under limits.

Mail makes us run programs that we did not write.  Each runs in a session of
its own with no descriptor but its three, in a fixed environment, for a limited
time; at the deadline its whole process group is ended.  Nothing here blocks:
whoever runs something waits on its descriptors, so that one channel program
can have many commands in flight without threads.

Source   exit statuses: sysexits.h; waiting on a process: pidfd_open(2).
Units    Times are float seconds on the caller's monotonic clock.
State    One child process and the read end of one pipe per Running.

Invariants, each a property in tests/machine/test_run.py
    X1   A Running ends: at its deadline its group gets SIGTERM, GRACE seconds
         later SIGKILL.
    X2   At most OUTPUT_LIMIT octets of output are kept: the last ones.
    X3   A child has no descriptor of ours above 2.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from mta.errors import PosthouseError
from mta.values import frozen

__all__ = ["Account", "Ran", "Running", "account", "become", "fork", "start"]

OUTPUT_LIMIT = 65536
GRACE = 5.0


@frozen
class Account:
    """Whom to run as: a name of the system's accounts with its ids and home."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


@frozen
class Ran:
    """How it ended: ``status`` as in subprocess (negative: a signal), and what it wrote."""

    status: int
    output: bytes
    timed_out: bool

    @property
    def last_line(self) -> str:
        """The last line of the output that is not empty, as text; "" if there is none."""
        lines = [line for line in self.output.replace(b"\r", b"\n").split(b"\n") if line.strip()]
        return lines[-1].decode("utf-8", "replace") if lines else ""


def account(name: str) -> Account | None:
    """Return the system's account ``name``, or None if there is none."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, groups, found.pw_dir, found.pw_shell)


def become(who: Account) -> None:
    """Turn this process into ``who`` for ever; PosthouseError if root could be had back."""
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    if os.getresuid() != (who.uid,) * 3 or os.getresgid() != (who.gid,) * 3:
        raise PosthouseError(f"cannot become {who.name}")
    with contextlib.suppress(PermissionError):
        os.setuid(0)
        raise PosthouseError(f"became {who.name}, but root could be had back")


class Running:
    """One child at work: when one of ``descriptors`` reads, or at ``deadline``, ``step``."""

    def __init__(self, pid: int, output: int, deadline: float) -> None:
        """Watch child ``pid``, the leader of its group, and its output; both become ours."""
        self._pid = pid
        self._output = output
        self._pidfd = os.pidfd_open(pid)
        self._kept = b""
        self._open = True
        self.deadline = deadline
        self._kills = [signal.SIGTERM, signal.SIGKILL]
        os.set_blocking(output, False)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to wait on until it reads."""
        return (self._pidfd, self._output) if self._open else (self._pidfd,)

    def step(self, now: float) -> Ran | None:
        """Take what there is to take; return how it ended, or None while it runs."""
        self._read()
        timed_out = len(self._kills) < 2
        if os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            if timed_out:  # the leader is a zombie yet, so that its number still names its group
                self._kill(signal.SIGKILL)
            return self._reap(timed_out)
        if now >= self.deadline and self._kills:
            self._kill(self._kills.pop(0))
            self.deadline = now + GRACE
        return None

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._open:
                piece = os.read(self._output, 65536)
                self._kept = (self._kept + piece)[-OUTPUT_LIMIT:]
                self._open = piece != b""

    def _reap(self, timed_out: bool) -> Ran:
        _, wait_status = os.waitpid(self._pid, 0)
        os.close(self._output)
        os.close(self._pidfd)
        return Ran(os.waitstatus_to_exitcode(wait_status), self._kept, timed_out)

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)


def start(
    argv: Sequence[str],
    stdin: int,
    environment: Mapping[str, str],
    deadline: float,
    *,
    who: Account | None = None,
    cwd: str = "/",
) -> Running:
    """Start ``argv`` with ``stdin`` and both outputs kept; as ``who`` if not None.

    Raises OSError if it cannot be started.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=writing,
            stderr=writing,
            env=dict(environment),
            cwd=cwd,
            close_fds=True,
            start_new_session=True,
            restore_signals=True,
            umask=0o077,
            user=None if who is None else who.uid,
            group=None if who is None else who.gid,
            extra_groups=None if who is None else list(who.groups),
        )
    except BaseException as error:
        os.close(reading)
        if isinstance(error, subprocess.SubprocessError):
            raise OSError(f"cannot start {argv[0]}: {error}") from None
        raise
    finally:
        os.close(writing)
    process.returncode = 0  # waited for by Running, not by its own collector
    return Running(process.pid, reading, deadline)


def fork(
    work: Callable[[], bytes], keep: Sequence[int], deadline: float, who: Account | None
) -> Running:
    """Run ``work`` in a child that is ``who`` (None: ourselves); its result is the output.

    ``keep`` are the descriptors it needs.  The exit status is 0, or 75 after an
    exception, whose text is the output.  Only for a process that has no threads.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(work, {*keep, writing}, writing, who)
    os.close(writing)
    return Running(pid, reading, deadline)


def _child(
    work: Callable[[], bytes], keep: set[int], writing: int, who: Account | None
) -> NoReturn:
    status = 75
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.setsid()
        _close_others(keep)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o077)
        os.chdir("/")
        if who is not None:
            become(who)
        result = work()
        status = 0
    except BaseException as error:
        result = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
    with contextlib.suppress(BaseException):
        os.write(writing, result[-OUTPUT_LIMIT:])
    os._exit(status)


def _close_others(keep: set[int]) -> None:
    """Close all descriptors but ``keep``; the first three become /dev/null."""
    empty = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        if fd not in keep:
            os.dup2(empty, fd)
    low = 3
    for fd in sorted(fd for fd in keep if fd > 2):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, max(low, 1 << 16))
