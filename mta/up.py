"""mta up: starts the configured daemons in the foreground, and starts again what dies.

For one user, a container and the tests; in production init or systemd does
this, with a unit for each deliver.

Units    Times are float seconds on the monotonic clock.
State    The children.  They die with us, also when we are killed.  Each is known by the
         lock that passes through its exec, as one that mta daemons starts.

Invariants, each a property in tests/test_up.py
    U1   A daemon that keeps dying is started ever more seldom, at most every LONGEST seconds.
    U2   A daemon that says its command line or configuration is wrong is not started again.
    U3   stop() returns within PATIENCE + a moment, and no child is left.
    U4   What runs already, whoever started it, is not started a second time; it is when
         that has ended.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import time

from mta.daemon_lock import RunningError, forget, see, sign, take
from mta.errors import EX_CONFIG, EX_OK, EX_USAGE, ConfigError
from mta.machine.process import Signals, die_with_parent
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.config.model import Config

__all__ = ["Command", "Supervisor", "commands", "make_mail_root", "named", "next_pause"]

SHORTEST, LONGEST = 1.0, 60.0  # seconds before a daemon that died is started again
STEADY = 60.0  # one that ran this long had a good start: its pause begins anew
PATIENCE = 30.0  # seconds that daemons have to stop before they are killed
LOOKS = 0.1  # seconds that somebody who only looks may hold a lock

_MODULES = {"deliver": "mta.deliver.program", "smtpd": "mta.smtpd.program"}
_HOPELESS = (EX_USAGE, EX_CONFIG)


@frozen
class Command:
    """A daemon's command as typed, its line in mta.yaml, and what is run for it."""

    text: str
    line: int
    argv: tuple[str, ...]


def commands(config: Config) -> list[Command]:
    """Return the daemons of ``config``; ConfigError for one that no version knows."""
    found = []
    for daemon in config.daemons:
        name, *arguments = shlex.split(daemon.command) or [""]
        if name in _MODULES:
            argv = (sys.executable, "-m", _MODULES[name], *arguments)
            found.append(Command(daemon.command, daemon.line, argv))
        else:
            known = ", ".join(_MODULES)
            where = f"{config.path}:{daemon.line}:1"
            raise ConfigError(f"{where}: {name!r} is no daemon; there are: {known}")
    if not found:
        raise ConfigError(f"{config.path}: no daemon to start: see daemons in mta.yaml(5)")
    return found


def named(lines: Sequence[Command]) -> dict[str, Command]:
    """Return the lines by name, in order."""
    found: dict[str, Command] = {}
    count: dict[str, int] = {}
    for command in lines:
        word = command.text.split()[0]
        count[word] = count.get(word, 0) + 1
        found[f"{word}{count[word]}"] = command
    return found


def make_mail_root(config: Config) -> str:
    """Make the directory that the mailboxes lie in; return it if it had to be made, else "".

    deliver never makes it: a mail root that is missing may be a disk not mounted.
    In the foreground, for one user, a fresh configuration is the likelier reason.
    """
    before = config.local.mailbox.partition("{user}")[0]
    root = before[: before.rindex("/") + 1]
    if os.path.isdir(root):
        return ""
    os.makedirs(root, mode=0o755)
    return root


def next_pause(pause: float, lived: float) -> float:
    """Return how long to wait before the next start, after one that ``lived`` so long."""
    return SHORTEST if lived >= STEADY or not pause else min(2 * pause, LONGEST)


@frozen
class _Child:
    """One daemon: running as ``process``, or None until ``due``; ``due`` < 0 is never.

    ``others``: it runs, but somebody else has started it.
    """

    name: str
    command: Command
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    pause: float = 0.0
    due: float = 0.0
    others: bool = False


class Supervisor:
    """Keeps the daemons of one configuration running."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        """Supervise ``config.daemons``, and ``say`` what happens, a line each.  ConfigError."""
        self._config = config
        self._say = say
        self._children = [_Child(*each) for each in named(commands(config)).items()]
        self._signals = Signals(signal.SIGINT, signal.SIGTERM)
        self.status = EX_OK  # EX_CONFIG once a daemon has said that it cannot ever run
        if made := make_mail_root(config):
            say(f"made {made}")

    @property
    def hopeless(self) -> bool:
        """Whether nothing runs and nothing will be started again."""
        return all(child.process is None and child.due < 0 for child in self._children)

    def step(self, timeout: float) -> bool:
        """Start what is due, note what ended; wait up to ``timeout``; False when told to stop."""
        now = time.monotonic()
        self._children = [self._advance(child, now) for child in self._children]
        idle = [child for child in self._children if child.process is None and child.due > 0]
        self._wait(max(0.0, min([timeout, *[child.due - now for child in idle]])))
        return not self._signals.taken()

    def _advance(self, child: _Child, now: float) -> _Child:
        if child.process is None:
            return self._start(child, now) if 0 <= child.due <= now else child
        status = child.process.poll()
        return child if status is None else self._ended(child, status, now)

    def _start(self, child: _Child, now: float) -> _Child:
        try:
            fd = take(self._config, child.name, 0.0 if child.others else LOOKS)
        except RunningError:
            return self._left_alone(child, now)
        parent = os.getpid()

        def begin() -> None:
            sign(fd, child.command.text)
            die_with_parent(parent)

        try:
            process = subprocess.Popen(
                child.command.argv,
                env={**os.environ, "MTA_CONFIG": self._config.path},
                stdin=subprocess.DEVNULL,
                pass_fds=(fd,),
                start_new_session=True,  # Ctrl-C is for us; we ask them to stop
                preexec_fn=begin,  # noqa: PLW1509  we have no threads
            )
        finally:
            os.close(fd)
        self._say(f"started {child.command.text} (pid {process.pid})")
        return replace(child, process=process, since=now, others=False)

    def _left_alone(self, child: _Child, now: float) -> _Child:
        """Look again soon: it may be what is left of an earlier mta up, and end."""
        if not child.others:
            pid = see(self._config, child.name).pid
            self._say(f"{child.name} runs already (pid {pid}): started here when that ends")
        return replace(child, due=now + SHORTEST, others=True)

    def _ended(self, child: _Child, status: int, now: float) -> _Child:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        said = f"{child.command.text} (line {child.command.line}) ended with {how}"
        if status == EX_OK or status in _HOPELESS:
            self._say(f"{said}: not started again")
            self.status = self.status if status == EX_OK else EX_CONFIG
            return replace(child, process=None, due=-1.0)
        pause = next_pause(child.pause, now - child.since)
        self._say(f"{said}: starts again in {pause:.0f} s")
        return replace(child, process=None, pause=pause, due=now + pause)

    def _wait(self, timeout: float) -> None:
        """Return at a signal, a child's end, or after ``timeout``."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        watched = [os.pidfd_open(c.process.pid) for c in self._children if c.process is not None]
        for fd in watched:
            poll.register(fd, select.POLLIN)
        try:
            poll.poll(timeout * 1000)
        finally:
            for fd in watched:
                os.close(fd)

    def stop(self) -> None:
        """Ask all daemons to stop, kill those that do not within PATIENCE, and wait for them."""
        running = [c.process for c in self._children if c.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"pid {process.pid} did not stop: killed")
                process.kill()
                process.wait()
        for child in self._children:
            if not child.others:
                forget(self._config, child.name)
        self._children = []
        self._signals.close()
