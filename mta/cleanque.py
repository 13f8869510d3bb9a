"""cleanque: the spool's housekeeping, once: what is late is warned of or given up, what is
needless goes, what is wrong is told.

A running intake cleans, and a deliver -b ages the queues that it serves, both by
themselves; this is for what nobody serves, from a timer or by hand.  Nothing is
read whole before the work begins: orphans go directory by directory, jobs are
aged hour by hour, and none is opened that is too young by its name.

Source   MMDF's cleanque(8), whose four hours an orphan must be old.
"""

from __future__ import annotations

import os
import sys
import time

from mta.arguments import FLAG, VALUE, read_options
from mta.config.load import load_config
from mta.config.queues import alike, paths
from mta.deliver.ageing import FAIL, WARN, Ager, ages_of, due
from mta.deliver.desk import Desk
from mta.deliver.gather import Gather
from mta.deliver.returns import Post
from mta.errors import EX_TEMPFAIL, PosthouseError, UsageError, exit_code, spelt
from mta.machine import clock
from mta.machine.log import Log
from mta.machine.logline import printable
from mta.spool.checking import check, set_aside
from mta.spool.cleaning import SHARDS, clean
from mta.spool.intake import Intake, try_lock
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.config.model import Config
    from mta.spool.entry import Envelope

    Say = Callable[[str], None]

__all__ = ["main", "run"]

ORPHAN_AGE = 4 * 3600.0  # seconds
SLICE = 0.05  # seconds after which reports are sent on
GATHER = 3600.0  # seconds: each walk sends what it has gathered when it ends
EX_FOUND = 1  # something is wrong that a person must decide
_USAGE = "usage: cleanque [-nw] [--check] [--config FILE]"


class Cleaner:
    """One run over one spool; ``act`` is False for -n."""

    def __init__(
        self, config: Config, spool: Spool, log: Log, now: float, say: Say, act: bool
    ) -> None:
        self._config = config
        self._spool = spool
        self._log = log
        self._now = now
        self._say = say
        self._act = act
        self._lock = try_lock(spool)

    @property
    def alone(self) -> bool:
        """Whether no intake runs, and none can begin."""
        return self._lock is not None

    def wall(self) -> float:
        """Return the time of this run: a job is not judged by when we come to it."""
        return self._now

    monotonic = staticmethod(clock.monotonic)

    def tidy(self) -> None:
        """Do an intake's work once.  SpoolError if the disk fails."""
        if not self.alone:
            self._say("intake runs, and cleans as it goes")
            return
        taken = left = 0
        if self._act:
            intake = Intake(self._spool, lambda names: None, self._queued)
            try:
                taken = intake.catch_up()
                left = intake.checkpoint(at_once=True)
            finally:
                intake.close()
        before, act = self._now - ORPHAN_AGE, self._act
        removed = sum(clean(self._spool, shard, before, act=act) for shard in range(SHARDS))
        if act:
            self._say(f"took in {taken} message(s), {left} segment(s) of the journal in use")
        self._say(f"{'removed' if act else 'would remove'} {removed} orphaned bodies")

    def _queued(self, e: Envelope) -> None:
        self._log.queued(e.id, e.reverse_path, e.size, e.recipients, e.origin)

    def age(self) -> None:
        """Warn of what is late, and give up what is over."""
        if not self._spool.ready:
            self._say("the spool has not been recovered since the machine started: nothing is aged")
            return
        if not self._act:
            self._foresee()
            return
        post = Post(self._config)
        gather = Gather(post, self._log, clock.monotonic, GATHER, lambda keys: True)
        warned = failed = 0
        try:
            for ager in self._agers(gather):
                while ager.slice(SLICE):
                    gather.tick()
                    if gather.full:
                        gather.flush()
                gather.flush()
                warned, failed = warned + ager.warned, failed + ager.failed
        finally:
            post.close()
            self._spool.close()
        self._say(f"warned of {warned} job(s), gave up {failed}")

    def _agers(self, gather: Gather) -> list[Ager]:
        """Return an ager for each queue that some channel has."""
        agers = []
        for queue in self._spool.queues():
            channels = [c for c in self._config.channels if c.queue == queue]
            desks = {
                c.name: Desk(
                    *(c, self._spool, self._log, gather, self), authors=self._config.authors
                )
                for c in channels
            }
            agers.append(Ager(self._spool, queue, channels, desks, gather, self, grace=0.0))
        return agers

    def _foresee(self) -> None:
        """Count what age() would do; every job is read that may be late."""
        counts = {WARN: 0, FAIL: 0, "": 0}
        for queue in self._spool.queues():
            channels = {c.name: c for c in self._config.channels if c.queue == queue}
            least = min([age for c in channels.values() for age in ages_of(c)], default=self._now)
            old = self._now - least
            for names in self._spool.names(queue, older_than=old, ordered=False):
                for name in names:
                    entry = self._spool.peek(name)
                    channel = channels.get(entry.job.channel) if entry is not None else None
                    if entry is not None and channel is not None:
                        counts[due(channel, entry, arrived(name.id), self._now)] += 1
        self._say(f"would warn of {counts[WARN]} job(s), give up {counts[FAIL]}")

    def check(self, tell: Say) -> int:
        """Tell what is wrong in the queues; return how much of it is left for a person."""
        left = 0
        for finding in check(self._spool, self._now, alone=self.alone and self._act):
            if finding is None:
                continue
            where, put = os.path.join(self._config.spool, finding.path), ""
            if finding.needless and self._act and self.alone:
                try:
                    put = f": set aside as {set_aside(self._spool, finding)}"
                except OSError as error:
                    left, put = left + 1, f": cannot be set aside: {error.strerror}"
            elif not finding.needless:
                left += 1
            tell(f"{where}: {finding.text}{put}")
        return left

    def close(self) -> None:
        """Give the intake lock back, and write the log."""
        if self._lock is not None:
            self._spool.fs.close(self._lock)
        self._log.close()


def run(arguments: Sequence[str], now: float, say: Say) -> int:
    """Clean the configured spool; return an exit status.

    PosthouseError if the spool or the command line will not do.
    """
    known = {"n": FLAG, "w": FLAG}, {"check": FLAG, "config": VALUE}
    options, operands = read_options(arguments, *known)
    if operands:
        raise UsageError(_USAGE)
    given = dict(options)
    config = load_config(given.get("config"))
    spool = Spool.open(config.spool, paths=paths(config), alike=alike(config))
    log = Log(config.log.dir, config.log.formats, "cleanque")
    quiet = "w" not in given and "n" not in given
    whisper = (lambda text: None) if quiet else say
    cleaner = Cleaner(config, spool, log, now, whisper, "n" not in given)
    try:
        cleaner.tidy()
        cleaner.age()
        left = cleaner.check(say) if "check" in given else 0
    finally:
        cleaner.close()
    for name in sorted(spool.fs.list("bad")):
        say(f"kept for a person: {os.path.join(config.spool, 'bad', name)}")
    return EX_FOUND if left else 0


def main() -> int:
    """The command ``cleanque``; returns its exit status."""
    try:
        return run(sys.argv[1:], time.time(), lambda text: print(printable(text)))
    except PosthouseError as error:
        print(spelt("cleanque", error), file=sys.stderr)
        return exit_code(error)
    except OSError as error:
        print(f"cleanque: {error.strerror}: {error.filename or ''}", file=sys.stderr)
        return EX_TEMPFAIL
    except KeyboardInterrupt:
        return 130
