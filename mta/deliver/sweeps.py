"""Sweeps of one queue: lists of names, all of them or so many at a time.

With a bound on the jobs of a sweep the next one goes on where the last one
ended, and begins anew at the oldest when it has come to the end: no part of a long
queue waits for the part before it to be empty.

State    Where the last sweep ended, and whether a sweep has met what it could not read.

Invariants, each a property in tests/deliver/test_sweeps.py
    SW1  Without a bound a sweep gives every name of its ages once.
    SW2  With one, at most so many names are taken in each sweep, and every name
         that stays in the queue is given within as many sweeps as there are
         names, divided by the bound, and one more.
    SW3  A turn gives at most READ names and one list more, whatever the queue holds: who
         asks or rings meanwhile is heard before the next.
"""

from __future__ import annotations

from mta.spool.layout import arrived
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mta.config.model import Channel
    from mta.deliver.rules import Rules
    from mta.policy.select import Bounds
    from mta.spool.layout import JobName
    from mta.spool.spool import Spool

__all__ = ["Sweeps"]

LISTS, READ = 8, 500  # in one turn: lists, and names after which no other is read
INSTANT = 1e-6  # what ids tell arrivals apart by


@frozen
class _Place:
    """Where a sweep ended: the last name as names are ordered, and its arrival."""

    key: tuple[str, str, int]
    at: float


class Sweeps:
    """The sweeps of one lane."""

    def __init__(
        self, spool: Spool, channel: Channel, rules: Rules, complain: Callable[[str], None]
    ) -> None:
        """Read the queue of ``channel``; with a bound on ``jobs`` names are always sorted.

        ``complain`` hears of a disk that does not let us read on: that ends the sweep, not us.
        """
        self._spool, self._complain = spool, complain
        self._queue = channel.queue
        self._ages = rules.ages
        self._ordered = rules.ordered or channel.jobs > 0
        self._sort_limit = 0 if channel.jobs else rules.sort_limit
        self._jobs = channel.jobs
        self._left = 0
        self._ended: _Place | None = None
        self._reading: Iterator[list[JobName]] | None = None
        self.unread = ""  # why a part of the queue could not be read, if that happened

    @property
    def running(self) -> bool:
        """Whether a sweep is under way."""
        return self._reading is not None

    def begin(self, now: float, since: float | None = None) -> bool:
        """Begin a sweep unless one is under way; return whether one began.

        It leaves out what arrived before ``since``, unless there is a bound.
        """
        if self._reading is not None:
            return False
        self._left = self._jobs
        bounds, place = self._ages.at(now), self._ended
        newer = None if since is None or self._jobs else since - INSTANT
        self._reading = self._names(bounds, newer) if place is None else self._round(bounds, place)
        return True

    def stop(self) -> None:
        """End the sweep that is under way, if one is."""
        self._reading = None

    def feed(self, offer: Callable[[JobName], bool]) -> None:
        """Read a list of names, or several if they are short; ``offer`` tells which are new."""
        read = 0
        for _ in range(LISTS):
            names = self.read() or ()
            read += len(names)
            for name in names:
                if offer(name) and not self.took(name):
                    return
            if read >= READ or not self.running:
                return

    def read(self) -> list[JobName] | None:
        """Return the next names, perhaps none; None when the sweep has ended."""
        assert self._reading is not None
        try:
            names = next(self._reading, None)
        except OSError as error:
            names = None
            where = f"{error.filename}: " if error.filename else ""
            self.unread = f"queue {self._queue} cannot be read whole: {where}{error.strerror}"
            self._complain(f"{self.unread}; the next sweep tries again")
        if names is None:
            self._reading, self._ended = None, None
        return names

    def took(self, name: JobName) -> bool:
        """Note that ``name`` was new to who reads; return whether the sweep goes on."""
        if not self._jobs:
            return True
        self._left -= 1
        if self._left > 0:
            return True
        self._ended = _Place(_key(name), arrived(name.id))
        self._reading = None
        return False

    def _names(
        self, bounds: Bounds, newer: float | None = None, older: float | None = None
    ) -> Iterator[list[JobName]]:
        """Return the names within ``bounds`` and between the other two."""
        newest = [t for t in (bounds.newer_than, newer) if t is not None]
        oldest = [t for t in (bounds.older_than, older) if t is not None]
        return self._spool.names(
            self._queue,
            newer_than=max(newest, default=None),
            older_than=min(oldest, default=None),
            ordered=self._ordered,
            sort_limit=self._sort_limit,
        )

    def _round(self, bounds: Bounds, place: _Place) -> Iterator[list[JobName]]:
        """Yield the names that stand after ``place``, then those up to it."""
        for names in self._names(bounds, newer=place.at - INSTANT):
            yield [name for name in names if _key(name) > place.key]
        for names in self._names(bounds, older=place.at + INSTANT):
            yield [name for name in names if _key(name) <= place.key]


def _key(name: JobName) -> tuple[str, str, int]:
    """Return what names of a sweep are ordered by."""
    return name.hour, name.file.rpartition("/")[2], name.place
