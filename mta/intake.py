"""The intake daemon: follows the journal for all delivers of a spool.

A ``deliver -b`` that finds the intake lock free starts it, and passes the
locked descriptor on: the lock lives exactly as long as this process.  It ends
with the deliver that started it; another deliver then starts the next.

    python -m mta.intake --config FILE --lock-fd N --parent PID
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

from mta.config.load import load_config
from mta.config.model import Config
from mta.config.queues import alike, modes, paths
from mta.errors import PosthouseError, SpoolError, exit_code, spelt
from mta.machine.log import Log
from mta.machine.process import Signals, die_with_parent, set_title
from mta.machine.wake import Bell, Ear
from mta.policy.modes import BACKGROUND, rings
from mta.policy.order import Order
from mta.spool.checking import Finding, check, set_aside
from mta.spool.cleaning import SHARDS, clean
from mta.spool.entry import Envelope
from mta.spool.intake import Intake
from mta.spool.journal import Synced
from mta.spool.layout import JobName
from mta.spool.spool import Spool

__all__ = ["main"]

SURVEY = 1.0  # seconds between looks at the journal that no wake-up asked for
RETRY = 0.02  # seconds until a deliver that could not listen is told again
PAUSE = 5.0  # seconds of rest after the disk failed
CHECKING = 86400.0  # seconds between the beginnings of checks of the whole spool
FILES = 100  # of which so many files are looked at in a second
OVER = object()
CLEANING = 300.0  # seconds between slices of cleaning: all of them in about a day
ORPHAN_AGE = 4 * 3600.0  # seconds; younger bodies may be on their way


class Daemon:
    """One intake; run() returns when it is told to stop."""

    def __init__(
        self, spool: Spool, runtime: str, log: Log, modes: Mapping[str, str], order: Order
    ) -> None:
        """Serve ``spool``; wake delivers through ``runtime``, as the queues' ``modes`` say.

        ``order`` says whose jobs are made first.
        """
        self._log = log
        self._ear = Ear(runtime, "intake")
        self._bell = Bell(runtime)
        with suppress(OSError):  # where that cannot be, files are made as everywhere
            spool.fs.spread()

        def wakes(queue: str, mode: str) -> bool:
            return rings(modes.get(queue, BACKGROUND), mode)

        self._intake = Intake(spool, self._ring, self._queued, rings=wakes, order=order)
        self._spool = spool
        self._taken = 0
        self._complained = float("-inf")
        self._shard = 0
        self._cleaned = time.monotonic()
        self._checking: Iterator[Finding | None] | None = None
        self._checked = time.monotonic() - CHECKING + CLEANING

    def _ring(self, names: list[JobName]) -> None:
        queues: dict[str, list[str]] = {}
        for name in names:
            queues.setdefault(name.queue, []).append(name.file)
        for queue, files in queues.items():
            self._bell.ring(queue, files)

    def _queued(self, envelope: Envelope) -> None:
        self._log.queued(
            envelope.id,
            envelope.reverse_path,
            envelope.size,
            envelope.recipients,
            envelope.origin,
        )

    def run(self, signals: Signals) -> None:
        """Take in what comes until a signal does; then at once, for others want the lock."""
        surveyed = 0.0
        while not signals.taken():
            now = time.monotonic()
            survey = now - surveyed >= SURVEY
            try:
                try:
                    self._taken += self._intake.step(survey=survey)
                finally:  # one queue that cannot be written is no reason to keep all segments
                    if survey:
                        surveyed = now
                        self._survey(now)
                pause = RETRY if self._bell.pending else max(0.0, surveyed + SURVEY - now)
                pause = 0.0 if self._intake.behind else pause
            except SpoolError as error:
                self._complain(str(error), now)
                pause = PAUSE
            self._bell.retry()
            self._log.maybe_flush(now)
            self._wait(pause, signals)

    def _complain(self, what: str, now: float) -> None:
        """Warn of trouble with the disk, once a pause however often mail wakes us meanwhile."""
        if now - self._complained >= PAUSE:
            self._complained = now
            self._log.warning(what)

    def _survey(self, now: float) -> None:
        """Let go what is done with, and do a slice of the work that is never done."""
        self._intake.checkpoint()
        self._clean(now)
        self._check(now)
        waiting = f", {self._intake.waiting} in line" if self._intake.behind else ""
        set_title(f"intake: {self._taken} messages taken in{waiting}")

    def _clean(self, now: float) -> None:
        """Clean one slice when it is time."""
        if now - self._cleaned >= CLEANING:
            self._cleaned = now
            try:
                removed = clean(self._spool, self._shard, time.time() - ORPHAN_AGE)
            except OSError as error:
                raise SpoolError(f"cleaning: {error.strerror}: {error.filename or ''}") from error
            self._shard = (self._shard + 1) % SHARDS
            if removed:
                self._log.warning(f"removed {removed} bodies that no job needed any more")

    def _check(self, now: float) -> None:
        """Look at some files of the queues; once a day all of them are gone through."""
        if self._checking is None:
            if now - self._checked < CHECKING:
                return
            self._checked = now
            self._checking = check(self._spool, time.time(), alone=True)
        try:
            for _ in range(FILES):
                finding = next(self._checking, OVER)
                if finding is OVER:
                    self._checking = None
                    return
                if isinstance(finding, Finding):
                    self._found(finding)
        except OSError as error:
            self._checking = None  # tomorrow again
            self._log.warning(f"spool check: {error.strerror}: {error.filename or ''}")

    def _found(self, finding: Finding) -> None:
        done = ""
        if finding.needless:
            try:
                done = f": set aside as {set_aside(self._spool, finding)}"
            except OSError as error:  # the others are looked at all the same
                done = f": cannot be set aside: {error.strerror}"
        self._log.warning(f"spool check: {finding.path}: {finding.text}{done}")

    def _wait(self, seconds: float, signals: Signals) -> None:
        try:
            select.select([self._ear.fileno(), signals.fileno()], [], [], seconds)
        except InterruptedError:
            return
        for datagram in self._ear.read():
            segment, _, offset = datagram.decode("ascii", "replace").partition(" ")
            if offset.isdecimal():
                self._intake.told(Synced(segment, int(offset)))

    def close(self) -> None:
        """End in order."""
        self._ear.close()
        self._intake.close()
        self._log.flush()


def order_of(config: Config) -> Order:
    """Return the order in which jobs are made: what holds back bulk, or floods, least or anywhere.

    Each channel puts its own in the order that it wants.
    """
    channels = config.channels
    delay = min([channel.bulk_delay for channel in channels], default=0.0)
    return Order(bulk_delay=delay, fair=any(channel.fair_authors for channel in channels))


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; return an exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    options = dict(zip(words[::2], words[1::2], strict=False))
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    die_with_parent(int(options.get("--parent", os.getppid())))
    set_title("intake: starting")
    try:
        config = load_config(options.get("--config"))
        lock = int(options["--lock-fd"])
        os.set_inheritable(lock, False)
        log = Log(config.log.dir, config.log.formats, "intake")
        spool = Spool.open(config.spool, paths=paths(config), alike=alike(config))
        daemon = Daemon(spool, config.runtime, log, modes(config), order_of(config))
        log.started("intake", words)
        daemon.run(signals)
        log.stopped("intake")
        daemon.close()
    except PosthouseError as error:
        print(spelt("intake", error), file=sys.stderr)
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
