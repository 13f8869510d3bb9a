"""The master: binds, starts workers by exec, and starts again what dies; no mail passes here.

It keeps every listening socket open, so that what a dead worker had not accepted
is served by the next.  On SIGHUP new workers start with the new configuration,
and only when all of them serve are the old ones told to drain.

Units    Times are float seconds on the monotonic clock.
State    Sockets, children, the counters' memory.

Invariants, each a test in tests/smtpd/test_master.py
    MA1  A worker that dies is started again, ever more slowly if it keeps dying.
    MA2  A configuration that cannot be used, before or after a reload, leaves those
         who serve as they are; at the start it ends smtpd with 78.
    MA3  After SIGTERM no worker is left, and none was killed that ended in time.
"""

from __future__ import annotations

import json
import marshal
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mta.config.load import load_config
from mta.config.model import flatten
from mta.errors import EX_CONFIG, EX_OK, EX_USAGE, ConfigError, PosthouseError
from mta.machine.census import forget_dead
from mta.machine.listen import activated, listen
from mta.machine.notify import READY, STOPPING, tell
from mta.machine.process import Signals, die_with_parent, set_title
from mta.machine.run import Account, account
from mta.machine.wake import Ear
from mta.smtpd.counters import Counters
from mta.smtpd.worker import PATIENCE

if TYPE_CHECKING:
    import socket

    from mta.config.model import Config
    from mta.machine.log import Log

__all__ = ["ENVIRONMENT", "Master", "count_workers"]

ENVIRONMENT = "SMTPD_WORKER"  # the variable by which a worker learns what it is
MOST_WORKERS = 4  # where the configuration leaves it to us
SHORTEST, LONGEST = 0.1, 10.0  # seconds before a worker that died is started again
STEADY = 10.0  # one that lived so long begins with the shortest again
MARGIN = 5.0  # seconds beyond their patience before workers are killed
_HOPELESS = (EX_CONFIG, EX_USAGE)


def count_workers(asked: int, processors: int) -> int:
    """Return how many workers to start: as many as asked, or one a processor, at most 4."""
    return asked or max(1, min(MOST_WORKERS, processors))


class _Child:
    """A worker process: ``number`` of its generation, and its ``slot`` in the counters."""

    def __init__(self, process: subprocess.Popen[bytes], number: int, slot: int, ready: int):
        self.process = process
        self.number = number
        self.slot = slot
        self.ready = ready  # the pipe on which it says that it serves; -1 once it is closed
        self.serves = False
        self.since = time.monotonic()
        self.leaving = False


class Master:
    """One smtpd."""

    def __init__(self, config: Config, log: Log, *, workers: int | None, level: str) -> None:
        """Serve by ``config``; ``workers`` and ``level`` are the command line's, for ever."""
        if not config.listen:
            raise ConfigError(f"{config.path}: nothing to listen on: see listen in mta.yaml(5)")
        self._config = config
        self._log = log
        self._asked = workers
        self._level = level
        self._passed = activated(os.environ, os.getpid())
        self._sockets: dict[str, list[socket.socket]] = {}
        self._children: list[_Child] = []
        self._before: list[_Child] = []  # those who serve until the new ones do
        self._due: dict[int, float] = {}  # worker's number → when it is to be started
        self._pauses: dict[int, float] = {}
        self._status = EX_OK
        self._served = False  # has any worker ever?
        self._told = False  # whoever started us, that all workers serve
        self._ending = False
        self._workers = self._count(config)
        self._slots = 4 * self._workers + 4
        self._memory = Counters.create(self._slots)
        self._counters = Counters(self._memory, self._slots, 0)
        self._bind(config)
        self._user = _user(config)
        self._step_down()

    def _count(self, config: Config) -> int:
        asked = config.smtpd.workers if self._asked is None else self._asked
        return count_workers(asked, len(os.sched_getaffinity(0)))

    def _bind(self, config: Config) -> None:
        """Listen where ``config`` says, with a socket for each worker; keep what is bound."""
        wanted: dict[str, list[socket.socket]] = {}
        new: list[socket.socket] = []
        try:
            for listener in config.listen:
                address = listener.address
                had = self._sockets.get(address) or self._passed.get(address) or []
                if address in self._passed or (had and address.startswith("unix:")):
                    wanted[address] = had
                    continue
                missing = self._workers - len(had)
                made = listen(address, missing, more=bool(had)) if missing > 0 else []
                new += made
                wanted[address] = [*had, *made][: self._workers]
        except ConfigError:
            for sock in new:
                sock.close()
            raise
        kept = {id(sock) for socks in wanted.values() for sock in socks}
        for socks in (*self._sockets.values(), *self._passed.values()):
            for sock in socks:
                if id(sock) not in kept:
                    sock.close()
        self._passed = {a: s for a, s in self._passed.items() if a in wanted}
        self._sockets = wanted

    def _step_down(self) -> None:
        """As root, be smtpd.user for all that touches files: logs, sockets of our own making."""
        if self._user is not None:
            os.setgroups(self._user.groups)
            os.setegid(self._user.gid)
            os.seteuid(self._user.uid)

    @contextmanager
    def _as_root(self) -> Iterator[None]:
        """Be root again, where we were: to bind, and to start workers that read secrets."""
        if self._user is not None:
            os.seteuid(0)
            os.setegid(0)
        try:
            yield
        finally:
            self._step_down()

    def run(self) -> int:
        """Serve until a signal ends it; return the exit status."""
        signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        ear = self._sign_in()
        self._start_all()
        try:
            while not self._ending:
                self._wait(signals.fileno())
                came = signals.taken()
                self._reap()
                if signal.SIGTERM in came or signal.SIGINT in came:
                    break
                if signal.SIGHUP in came:
                    self._reload()
                self._start_due()
                self._log.flush()
        finally:
            self._stop()
            signals.close()
            if ear is not None:
                ear.close()
        return self._status

    def _sign_in(self) -> Ear | None:
        """Show who and where we are: to ps(1), and to mta status by a socket of our name."""
        places = ", ".join(f"{row.service} at {row.address}" for row in self._config.listen)
        set_title(f"smtpd: {places[:200]}")
        runtime = self._config.runtime
        try:
            forget_dead(runtime)
            return Ear(runtime, f"smtpd.{os.getpid()}")
        except OSError as error:
            self._log.warning(f"{runtime}: {error.strerror}: mta status will not know of us")
            return None

    def _wait(self, fd: int) -> None:
        """Return at a signal, when a worker is ready, or when one is due."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        for child in self._children:
            if child.ready >= 0:
                poll.register(child.ready, select.POLLIN)
        due = min(self._due.values(), default=None)
        patience = None if due is None else max(0.0, due - time.monotonic()) * 1000
        for ready, _ in poll.poll(patience):
            if ready != fd:
                self._note_ready(ready)

    def _note_ready(self, fd: int) -> None:
        for child in self._children:
            if child.ready == fd:
                said = os.read(fd, 16)
                os.close(fd)
                child.ready = -1
                child.serves = bool(said)  # else it died, as _reap() will hear
                self._served = self._served or child.serves
        if not self._told and self._all_serve():
            self._told = tell(READY) or True
        if self._before and self._all_serve():
            for child in self._before:
                child.leaving = True
                self._signal(child, signal.SIGHUP)
            self._before = []

    def _all_serve(self) -> bool:
        now = [child for child in self._children if child not in self._before]
        serving = {child.number for child in now if child.serves and not child.leaving}
        return len(serving) >= self._workers

    def _start_all(self) -> None:
        self._due.clear()
        self._pauses.clear()
        for number in range(self._workers):
            self._start(number)

    def _start(self, number: int) -> None:
        used = {child.slot for child in self._children}
        slot = next(slot for slot in range(self._slots) if slot not in used)
        self._counters.clear(slot)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        copy = _copy(self._config)
        descriptors = [self._memory, writing, copy]
        rows = []
        for listener in self._config.listen:
            sockets = self._sockets[listener.address]
            fd = sockets[number % len(sockets)].fileno()
            descriptors.append(fd)
            rows.append([fd, listener.service, listener.proxy])
        spec = {
            "config": self._config.path,
            "copy": copy,
            "number": number,
            "slot": slot,
            "slots": self._slots,
            "memory": self._memory,
            "ready": writing,
            "parent": os.getpid(),
            "level": self._level,
            "sockets": rows,
        }
        try:
            with self._as_root():
                process = _spawn(spec, descriptors)
        except OSError as error:
            os.close(reading)
            self._again(number, f"cannot start a worker: {error.strerror}")
        else:
            self._children.append(_Child(process, number, slot, reading))
        finally:
            os.close(writing)
            os.close(copy)

    def _again(self, number: int, why: str) -> None:
        pause = self._pauses.get(number, SHORTEST)
        self._pauses[number] = min(2 * pause, LONGEST)
        self._due[number] = time.monotonic() + pause
        self._log.warning(f"{why}; it starts again in {pause:g} s")

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [n for n, due in self._due.items() if due <= now]:
            del self._due[number]
            self._start(number)

    def _reap(self) -> None:
        for child in list(self._children):
            status = child.process.poll()
            if status is not None:
                self._gone(child, status)

    def _gone(self, child: _Child, status: int) -> None:
        self._children.remove(child)
        self._counters.clear(child.slot)
        if child.ready >= 0:
            os.close(child.ready)
        if child in self._before:
            self._before.remove(child)
            return  # its successor has started already
        if child.leaving:
            return
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        if not child.serves and status in _HOPELESS and (self._before or not self._served):
            self._give_up(status)
            return
        if time.monotonic() - child.since >= STEADY:
            self._pauses.pop(child.number, None)
        self._again(child.number, f"worker {child.number} ended with {how}")

    def _give_up(self, status: int) -> None:
        """A new worker finds the configuration wrong: keep those who serve, or end."""
        if not self._before:
            self._status, self._ending = status, True
            return
        self._log.warning("the new workers cannot serve; those with the old configuration go on")
        for child in self._children:
            if child not in self._before and not child.leaving:
                child.leaving = True
                self._signal(child, signal.SIGTERM)
        self._before = []
        self._due.clear()

    def _reload(self) -> None:
        """Read the configuration, and replace the workers; or say why not."""
        self._log.close()  # a log that was renamed is opened anew
        try:
            config = load_config(self._config.path)
            if not config.listen:
                raise ConfigError(f"{config.path}: nothing to listen on")
            self._workers = self._count(config)
            if 2 * self._workers > self._slots:
                text = f"smtpd.workers: {self._workers} need a restart, not a reload"
                raise ConfigError(f"{config.path}: {text}")
            with self._as_root():
                self._bind(config)
        except PosthouseError as error:
            self._workers = self._count(self._config)
            self._log.warning(f"{error}; smtpd goes on as it was")
            return
        self._config = config
        self._before = [child for child in self._children if not child.leaving]
        self._make_room()
        self._start_all()

    def _signal(self, child: _Child, number: int) -> None:
        """Send a signal to a worker, whoever it has become."""
        with self._as_root():
            child.process.send_signal(number)

    def _make_room(self) -> None:
        """Leave slots for new workers, should reloads come faster than old ones end."""
        leaving = [c for c in self._children if c.leaving or (c in self._before and not c.serves)]
        while leaving and len(self._children) + self._workers > self._slots:
            child = leaving.pop(0)
            self._signal(child, signal.SIGKILL)
            child.process.wait()
            self._gone(child, 0)

    def _stop(self) -> None:
        """Ask all workers to stop; kill those that do not."""
        tell(STOPPING)
        for child in self._children:
            self._signal(child, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE + MARGIN
        for child in self._children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._log.warning(f"worker {child.number} did not stop: killed")
                self._signal(child, signal.SIGKILL)
                child.process.wait()
        for socks in self._sockets.values():
            for sock in socks:
                sock.close()


def _copy(config: Config) -> int:
    """Return a descriptor of ``config`` as it is: what is on the disk may have become wrong."""
    fd = os.memfd_create("configuration", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        marshal.dump(flatten(config), file)
    return fd


def _user(config: Config) -> Account | None:
    """Return the account that root is to step down to; None where there is nothing to do."""
    name = config.smtpd.user
    if not name or os.geteuid() != 0:
        return None
    who = account(name)
    if who is None:
        raise ConfigError(f"{config.path}: smtpd.user: there is no account {name}")
    return who


def _spawn(spec: dict[str, Any], descriptors: list[int]) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(
        (sys.executable, "-m", "mta.smtpd.program"),
        env={**os.environ, ENVIRONMENT: json.dumps(spec)},
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for us; we ask them to stop
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  we have no threads
    )
