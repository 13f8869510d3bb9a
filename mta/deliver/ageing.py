"""Ageing: jobs that nobody attempts are warned of, and given up, when it is time.

Attempts find out by themselves that a job is too old; but a job may wait for a
dead host, for a channel that no deliver serves, or for a release.  The ager
walks a queue from the oldest hour, in slices, and opens only jobs that have
passed an age at which something may be due since the last walk: younger ones
are not even listed, and a job that was looked at is not opened again before its
next age, or the end that its author has set.  A job in another's hands is left to the next walk.

Held jobs are warned of, and never given up: whoever holds mail wants it kept.

Units    Wall-clock seconds; a slice is bounded in monotonic ones.
State    For each age how far walks have come, and at most AGAIN names to look at
         again.  Lost on restart: then each job older than the least age is opened once.

Invariants, each a property in tests/deliver/test_ageing.py
    Z1   A job that is over is failed with 5.4.7, unless held, and one whose warning is due
         is warned of, once, by the walk that begins after that, unless another has it.
    Z2   A walk opens a job at most once, and none that is too young by its name.
    Z3   A slice ends when its time is over, or with REPORTS jobs warned of or given up,
         and never reads on while half of what gather holds is taken.
"""

from __future__ import annotations

from heapq import heappop, heappush

from mta.deliver.desk import UNTRIED, Flight
from mta.deliver.limits import gives_up, warns
from mta.errors import SpoolError
from mta.route.expanded import MARKS
from mta.spool.layout import JobName, arrived
from mta.spool.states import HOLD, WARNED
from mta.types import BULK, NORMAL, URGENT, Mailbox
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mta.config.model import Channel
    from mta.deliver.desk import Clock, Desk
    from mta.deliver.gather import Gather
    from mta.spool.spool import Spool
    from mta.spool.states import Entry

__all__ = ["FAIL", "GRACE", "SHARE", "WARN", "Ager", "ages_of", "due"]

AGAIN = 10_000  # names that a walk leaves to the next
REPORTS = 10  # in a slice: after a long stop there may be many, and none is urgent
SORTED = 50_000  # jobs of one hour beyond which its lists are in order each by itself
GRACE = 60.0  # after its time, in which an attempt may still be the last; at most a SHAREth of it
SHARE = 4
WALK = 60.0  # seconds between the beginnings of walks, at most
WARN, FAIL = "warn", "fail"
KINDS = (URGENT, NORMAL, BULK)
OVER = object()


def due(channel: Channel, entry: Entry, at: float, now: float, grace: float = 0.0) -> str:
    """Return what is due for a job that arrived at ``at``: WARN, FAIL or ""."""
    held = entry.note(HOLD) is not None
    over = gives_up(channel, entry.envelope, at)
    if not held and now >= over + grace:
        return FAIL
    warning = warns(channel, entry.envelope, at)
    if not isinstance(entry.job.reverse_path, Mailbox):
        return ""
    if warning and now >= warning and (held or now < over) and entry.note(WARNED) is None:
        return WARN
    return ""


def ages_of(channel: Channel, grace: float = 0.0) -> set[float]:
    """Return the ages at which something may be due for a job of ``channel``."""
    warnings = {channel.warn_after.of(kind) for kind in KINDS}
    return {age for age in warnings if age} | {channel.fail_after.of(k) + grace for k in KINDS}


class Ager:
    """Walks one queue."""

    def __init__(
        self,
        spool: Spool,
        queue: str,
        channels: Sequence[Channel],
        desks: Mapping[str, Desk],
        gather: Gather,
        clock: Clock,
        grace: float = GRACE,
    ) -> None:
        """Age the jobs of ``queue``, which the ``channels`` share; ``desks`` is by their names."""
        self._spool = spool
        self._queue = queue
        self._channels = {channel.name: channel for channel in channels}
        self._desks = desks
        self._gather = gather
        self._clock = clock
        ends = [channel.fail_after.of(kind) for channel in channels for kind in KINDS]
        self._grace = grace = min([grace, *[end / SHARE for end in ends]])
        self._ages = sorted({age for channel in channels for age in ages_of(channel, grace)})
        self._passed = dict.fromkeys(self._ages, 0.0)  # arrivals up to here have been looked at
        self._again: dict[str, JobName] = {}
        self._dated: list[
            tuple[float, str, JobName]
        ] = []  # a heap: messages with an end of their own
        self._lost = False  # whether a name could not be kept: then all are looked at again
        self._walk: Iterator[JobName | None] | None = None
        self.interval = min([WALK, *[max(1.0, age / 4) for age in self._ages]])
        self.next_walk = 0.0
        self.busy = 0  # jobs at the desk
        self.warned = self.failed = self.looked = 0

    def slice(self, seconds: float) -> bool:
        """Work for about so long; return whether the walk has more to do."""
        if self._walk is None:
            self._begin()
        assert self._walk is not None
        until = self._clock.monotonic() + seconds
        enough = self.warned + self.failed + REPORTS
        try:
            while not self._gather.full:
                name = next(self._walk, OVER)
                if name is OVER:
                    self._walk = None
                    return False
                if isinstance(name, JobName):
                    self._look_at(name)
                if self._clock.monotonic() >= until or self.warned + self.failed >= enough:
                    break
        except OSError:
            self._walk = None  # the disk: the next walk begins where this one did
            return False
        return True

    @property
    def walking(self) -> bool:
        """Whether a walk has been begun and is not over."""
        return self._walk is not None

    def _begin(self) -> None:
        now = self._clock.wall()
        self.next_walk = self._clock.monotonic() + self.interval
        again, self._again, self._lost = self._again, {}, False
        while self._dated and self._dated[0][0] <= now:
            _, key, name = heappop(self._dated)
            again[key] = name
        bands = [(self._passed[age], now - age) for age in self._ages]
        self._walk = self._names(again, bands, now)

    def _names(
        self, again: dict[str, JobName], bands: list[tuple[float, float]], now: float
    ) -> Iterator[JobName | None]:
        """Yield what this walk looks at, and None where a slice may end before it comes.

        What is not yet due is passed over by name.
        """
        yield from again.values()
        for after, before in _merged(bands):
            since, until = (after - 1e-6 if after else None), before + 1e-6  # both are included
            for names in self._spool.names(
                self._queue, newer_than=since, older_than=until, sort_limit=SORTED
            ):
                for name in names:
                    if name.key not in again and self._may_be_due(name, now):
                        yield name
                yield None
        for age in self._ages:
            self._passed[age] = 0.0 if self._lost else now - age

    def _may_be_due(self, name: JobName, now: float) -> bool:
        """Whether any channel would warn of a job of this kind and age, or give it up."""
        age = now - arrived(name.id)
        for channel in self._channels.values():
            wait = channel.warn_after.of(name.kind)
            if age >= channel.fail_after.of(name.kind) + self._grace or 0 < wait <= age:
                return True
        return False

    def _look_at(self, name: JobName) -> None:
        self.looked += 1
        try:
            claim = self._spool.claim(name)
        except SpoolError:
            self._later(name)
            return
        if claim is None:
            if self._spool.peek(name) is not None:
                self._later(name)  # in another's hands
            return
        entry, at = claim.entry, arrived(name.id)
        channel = self._channels.get(entry.job.channel)
        now, mono = self._clock.wall(), self._clock.monotonic()
        what = "" if channel is None else due(channel, entry, at, now, self._grace)
        tried = tuple([(r, s) for r, s in entry.pending if r.action not in MARKS])
        if what != FAIL and entry.envelope.expires > now:
            self._date(name, entry.envelope.expires + self._grace)
        if not what or not tried:
            claim.release()
            return
        flight = Flight(claim, tried, now, mono)
        desk = self._desks[entry.job.channel]
        self.busy += 1
        if what == WARN:
            self.warned += desk.warn(flight, self._landed)
            return
        self.failed += 1
        flight.told = {r.index: (s.outcome or UNTRIED, "") for r, s in tried}
        desk.settle(flight, self._landed)

    def _landed(self, flight: Flight, when: float) -> None:
        self.busy -= 1
        if when:  # it could not be told now
            self._later(flight.name)

    def _later(self, name: JobName) -> None:
        if len(self._again) < AGAIN:
            self._again[name.key] = name
        else:
            self._lost = True

    def _date(self, name: JobName, when: float) -> None:
        if len(self._dated) < AGAIN:
            heappush(self._dated, (when, name.key, name))


def _merged(bands: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return ``bands`` in order, those that touch as one, without the empty ones."""
    merged: list[tuple[float, float]] = []
    for after, before in sorted(bands):
        if before <= after:
            continue
        if merged and after <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(before, merged[-1][1])
        else:
            merged.append((after, before))
    return merged
