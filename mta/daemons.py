"""mta daemons: each line of ``daemons`` in mta.yaml by a name; started, stopped, and looked at.

What the init script and the systemd units call, so that nobody but us reads
mta.yaml.  A line's name is its command and its number among the lines of that
command: smtpd1, deliver1, deliver2.  A command alone names all its lines.

State    A lock for each, in RUNTIME/daemon: see daemon_lock.py.  Who else starts daemons,
         as mta up does, takes the same ones.
Units    Times are float seconds on the monotonic clock.

Invariants, each a property in tests/test_daemons.py
    DA1  Every line has one name, and no two lines have the same.
    DA2  Of one name there is at most one daemon, however many start it at once.
    DA3  A signal goes only to the process that holds the lock.
    DA4  When stop() returns, none of what it was to stop runs.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from contextlib import suppress

from mta.daemon_lock import (
    DEAD,
    RUNNING,
    STOPPED,
    RunningError,
    folder,
    forget,
    see,
    sign,
    take,
)
from mta.errors import EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE, UsageError
from mta.machine.wake import Ear
from mta.up import commands, named
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from mta.config.model import Config

__all__ = [
    "DEAD",
    "RUNNING",
    "STOPPED",
    "Daemon",
    "become",
    "choose",
    "command",
    "look",
    "named",
    "start",
    "stop",
]

LSB_DEAD, LSB_STOPPED = 1, 3  # exit statuses of an init script's status
PATIENCE = 60.0  # seconds that daemons have to stop before they are killed
READY_LIMIT = 60.0  # seconds to wait for a daemon to serve; one that recovers a spool goes on
STDERR = "daemons.err"  # in the log's directory: what daemons say outside of the log
SAID_LIMIT = 4096  # octets of it that are shown

_NAME = re.compile("[a-z]+[1-9][0-9]*")


@frozen
class Daemon:
    """A line of ``daemons``, and what became of it; ``command`` is "" if the line is gone.

    ``pid`` and ``started`` (the command as it was then) are of a process that runs or has
    died, else 0 and "".
    """

    name: str
    command: str
    line: int = 0
    argv: tuple[str, ...] = ()
    state: str = STOPPED
    pid: int = 0
    started: str = ""


def look(config: Config) -> list[Daemon]:
    """Return every line with its state, and behind them what still runs of lines that are gone."""
    lines = named(commands(config))
    found = [
        _seen(config, Daemon(name, command.text, command.line, command.argv))
        for name, command in lines.items()
    ]
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder(config))):
            if name not in lines and _NAME.fullmatch(name):
                other = _seen(config, Daemon(name, ""))
                found += [other] if other.state == RUNNING else []
    return found


def choose(daemons: Sequence[Daemon], names: Sequence[str]) -> list[Daemon]:
    """Return those that ``names`` name, all if there are none; UsageError for an unknown name."""
    if not names:
        return list(daemons)
    for word in names:
        if not any(_is(daemon, word) for daemon in daemons):
            known = " ".join(daemon.name for daemon in daemons)
            raise UsageError(f"no daemon is called {word!r}; there are: {known}")
    return [daemon for daemon in daemons if any(_is(daemon, word) for word in names)]


def _is(daemon: Daemon, word: str) -> bool:
    return word in (daemon.name, daemon.name.rstrip("0123456789"))


def _seen(config: Config, daemon: Daemon) -> Daemon:
    """Return ``daemon`` as it stands now."""
    seen = see(config, daemon.name)
    return replace(daemon, state=seen.state, pid=seen.pid, started=seen.command)


def become(config: Config, name: str) -> NoReturn:
    """Become the daemon ``name``: what ExecStart= and init run.  RunningError if it runs."""
    daemons = [daemon for daemon in look(config) if daemon.name == name and daemon.command]
    if not daemons:
        choose(look(config), [name])
        raise UsageError(f"{name!r} is more than one daemon, or one whose line is gone")
    sign(take(config, name), daemons[0].command)
    os.environ["MTA_CONFIG"] = config.path
    os.execv(daemons[0].argv[0], daemons[0].argv)


def start(config: Config, names: Sequence[str], say: Callable[[str], None]) -> bool:
    """Start what of ``names`` does not run, and wait until it serves; False if any does not."""
    wanted = [daemon for daemon in choose(look(config), names) if daemon.command]
    starting: list[_Starting] = []
    for daemon in wanted:
        if daemon.state == RUNNING:
            say(f"{daemon.name} runs already, pid {daemon.pid}")
            continue
        try:
            starting.append(_Starting(config, daemon))
        except RunningError as error:
            say(str(error))
    limit = time.monotonic() + READY_LIMIT
    served = [one.wait(limit, say) for one in starting]  # none is left unwaited for
    return all(served)


class _Starting:
    """A daemon that has been started and does not serve yet."""

    def __init__(self, config: Config, daemon: Daemon) -> None:
        fd = take(config, daemon.name)
        try:
            self._daemon = daemon
            self._ear = Ear(config.runtime, f"daemon/{daemon.name}.ready")
            os.makedirs(config.log.dir, exist_ok=True)
            path = os.path.join(config.log.dir, STDERR)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._errors = os.open(path, flags, 0o640)
            self._before = os.fstat(self._errors).st_size
            ready = f"{folder(config)}/{daemon.name}.ready"
            self._process = subprocess.Popen(
                daemon.argv,
                env={**os.environ, "MTA_CONFIG": config.path, "NOTIFY_SOCKET": ready},
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                cwd="/",
                pass_fds=(fd,),
                start_new_session=True,
                preexec_fn=lambda: sign(fd, daemon.command),  # noqa: PLW1509  we have no threads
            )
        finally:
            os.close(fd)

    def wait(self, limit: float, say: Callable[[str], None]) -> bool:
        """Wait until it serves; False if it ended before, and then say why."""
        try:
            return self._wait(limit, say)
        finally:
            self._ear.close()
            os.close(self._errors)

    def _wait(self, limit: float, say: Callable[[str], None]) -> bool:
        pidfd = os.pidfd_open(self._process.pid)
        try:
            while (left := limit - time.monotonic()) > 0:
                select.select([self._ear.fileno(), pidfd], [], [], left)
                if any(b"READY=1" in datagram for datagram in self._ear.read()):
                    say(f"{self._daemon.name} serves, pid {self._process.pid}")
                    return True
                if self._process.poll() is not None:
                    status = self._process.returncode
                    how = f"signal {-status}" if status < 0 else f"exit status {status}"
                    say(f"{self._daemon.name} ended with {how}{self._said()}")
                    return False
        finally:
            os.close(pidfd)
        say(f"{self._daemon.name}, pid {self._process.pid}, runs but does not serve yet")
        return True

    def _said(self) -> str:
        """Return what the daemon, or a neighbour, has written to standard error since."""
        said = os.pread(self._errors, SAID_LIMIT, self._before).decode("utf-8", "replace").strip()
        return f": {said}" if said else ""


def stop(
    config: Config, names: Sequence[str], say: Callable[[str], None], patience: float = PATIENCE
) -> None:
    """Ask what runs of ``names`` to stop, kill what has not within ``patience``, and wait."""
    chosen = choose(look(config), names)
    held = [_Held(config, daemon) for daemon in chosen if daemon.state == RUNNING]
    for one in held:
        one.signal(signal.SIGTERM)
    limit = time.monotonic() + patience
    for one in held:
        if not one.gone(limit):
            say(f"{one.daemon.name}, pid {one.daemon.pid}, did not stop: killed")
            one.signal(signal.SIGKILL)
            one.gone(time.monotonic() + PATIENCE)
        say(f"{one.daemon.name} stopped")
        one.close()
    for daemon in chosen:
        forget(config, daemon.name)


class _Held:
    """A process that holds a daemon's lock, by a descriptor that no other process can get."""

    def __init__(self, config: Config, daemon: Daemon) -> None:
        self.daemon = daemon
        self._fd = -1
        if daemon.pid:
            with suppress(ProcessLookupError):
                self._fd = os.pidfd_open(daemon.pid)
        # Only now is it sure whose descriptor this is: the holder's, if he still is that.
        now = _seen(config, daemon)
        if self._fd >= 0 and (now.state, now.pid) != (RUNNING, daemon.pid):
            self.close()

    def signal(self, number: int) -> None:
        if self._fd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def gone(self, limit: float) -> bool:
        """Wait until it has ended; False when ``limit`` passes before."""
        if self._fd < 0:
            return True
        left = max(0.0, limit - time.monotonic())
        return bool(select.select([self._fd], [], [], left)[0])

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def command(
    config: Config,
    act: str,
    names: Sequence[str],
    say: Callable[[str], None],
    *,
    as_json: bool = False,
    patience: float = PATIENCE,
) -> int:
    """Do what ``mta daemons`` was asked: "show", "start", "stop" or "run"; return a status.

    "show" says by its status, as LSB has it for init scripts, whether all that was
    asked for runs: 0, or 1 if any has died, or 3 if any was not started.
    """
    if act == "run":
        if len(names) != 1:
            raise UsageError("--run needs one NAME")
        try:
            become(config, names[0])
        except RunningError as error:
            say(str(error))
            return EX_TEMPFAIL
    if act == "start":
        return EX_OK if start(config, names, say) else EX_UNAVAILABLE
    if act == "stop":
        stop(config, names, say, patience)
        return EX_OK
    chosen = choose(look(config), names)
    for daemon in chosen:
        say(json.dumps(_record(daemon)) if as_json else _line(daemon))
    states = {daemon.state for daemon in chosen}
    return LSB_DEAD if DEAD in states else LSB_STOPPED if STOPPED in states else EX_OK


def _record(daemon: Daemon) -> dict[str, object]:
    return {
        "name": daemon.name,
        "state": daemon.state,
        "pid": daemon.pid,
        "command": daemon.command,
        "line": daemon.line,
        "started_as": daemon.started,
    }


def _line(daemon: Daemon) -> str:
    """Return name, state, pid and command, with a tab between them."""
    remark = ""
    if not daemon.command:
        remark = f"{daemon.started} (no more in mta.yaml)"
    elif daemon.state == RUNNING and daemon.started != daemon.command:
        remark = f"{daemon.command} (runs as: {daemon.started})"
    pid = str(daemon.pid) if daemon.state == RUNNING else "-"
    return "\t".join((daemon.name, daemon.state, pid, remark or daemon.command))
