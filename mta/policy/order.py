"""Whose turn it is: each job gets a place in the line of its channel, the lowest goes first.

A place never changes once it is given, so that lines are heaps; it is a time, so
that nothing starves: whatever comes late enough stands behind.

    arrival, host   arrival, less URGENT_LEAD for urgent mail, plus the channel's
                    ``bulk_delay`` for bulk
    priority        arrival, plus a second for each POINTS of sendmail's priority:
                    octets - 1800 x precedence + 30000 x recipients + 90000 x attempts
    random          by lot
    none            as they were found

In the order of arrival, one author's waiting jobs stand SPACING seconds apart, so
that the flood of one does not hold up the single message of another; but
none stands more than HORIZON behind its arrival.

Source   sendmail's op, 2.3.1 and "RecipientFactor", "ClassFactor", "RetryFactor".
Units    Wall-clock seconds; points are sendmail's.
State    The authors of the jobs that may go, AUTHORS at most; others stand by
         their arrival alone.

Invariants, each a property in tests/policy/test_order.py
    O1   The jobs of an author who is alone go in the order in which they came.
    O2   Of two authors who both have jobs waiting, each has about half of the
         turns, up to the horizon.
    O3   No job goes after one that came more than HORIZON later and is as urgent.
    O4   A bulk job that is older by more than the delay goes before a normal one.
    O5   The table of authors never holds more than AUTHORS, and none that waits
         for nothing.
"""

from __future__ import annotations

from mta.types import BULK, NORMAL, URGENT
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.types import Kind

__all__ = ["ARRIVAL", "HORIZON", "HOST", "SPACING", "URGENT_LEAD", "Order", "priority"]

ARRIVAL, HOST, PRIORITY, RANDOM, NONE = "arrival", "host", "priority", "random", "none"

URGENT_LEAD = 3600.0
SPACING = 1.0
HORIZON = 3600.0
AUTHORS = 10_000
POINTS = 1000.0  # of sendmail's, that are worth a second of waiting

PER_CLASS, PER_RECIPIENT, PER_ATTEMPT = 1800.0, 30_000.0, 90_000.0
PRECEDENCE = {URGENT: 100, NORMAL: 0, BULK: -60}  # of a job that has not been read


def priority(octets: int, precedence: int, recipients: int, attempts: int) -> float:
    """Return sendmail's number for a job: the lower, the sooner."""
    return octets - PER_CLASS * precedence + PER_RECIPIENT * recipients + PER_ATTEMPT * attempts


class Order:
    """The line of one channel."""

    def __init__(
        self,
        kind: str = ARRIVAL,
        *,
        bulk_delay: float = 0.0,
        fair: bool = True,
        draw: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``kind`` is one of the orders above; ``draw`` gives the lots."""
        self.kind = kind
        self._draw = draw
        self._handicaps = {URGENT: -URGENT_LEAD, NORMAL: 0.0, BULK: bulk_delay}
        self._fair = fair and kind == ARRIVAL
        self._authors: dict[str, list[float]] = {}  # how many wait, and the last one's place

    def place(
        self, arrived: float, kind: Kind, octets: int, recipients: int, attempts: int
    ) -> float:
        """Return where a job stands, its author aside."""
        if self.kind == PRIORITY:
            points = priority(octets, PRECEDENCE[kind], recipients, attempts)
            return arrived + points / POINTS
        if self.kind == RANDOM:
            return self._draw()
        return 0.0 if self.kind == NONE else arrived + self._handicaps[kind]

    def enter(self, author: str, place: float) -> float:
        """Return where a job stands that joins the line; leave() follows some day."""
        if not self._fair or not author:
            return place
        known = self._authors.get(author)
        if known is None:
            if len(self._authors) < AUTHORS:
                self._authors[author] = [1.0, place]
            return place
        place = min(max(place, known[1] + SPACING), place + HORIZON)
        known[0] += 1.0
        known[1] = max(place, known[1])
        return place

    def leave(self, author: str) -> None:
        """A job of ``author`` stands in the line no more."""
        known = self._authors.get(author)
        if known is not None:
            known[0] -= 1.0
            if known[0] <= 0.0:
                del self._authors[author]

    def rejoin(self, author: str, place: float) -> None:
        """A job joins the line again at the place that it had."""
        if not self._fair or not author:
            return
        known = self._authors.get(author)
        if known is not None:
            known[0] += 1.0
            known[1] = max(place, known[1])
        elif len(self._authors) < AUTHORS:
            self._authors[author] = [1.0, place]
