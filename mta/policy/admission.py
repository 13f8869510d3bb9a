"""Admission: intake slows before the mail that it lets in would grow too old in its queue.

Delivers measure how fast a queue drains while there is more to do than they
can; what waits, divided by that, is how old new mail will become.  A queue with
a target for this slows who brings its mail: not at all below half of the target,
then longer and longer, and beyond the target it refuses for now.  Who brings
little has up to twice as much, so that he who floods is slowed first, and alone
if that is enough.

Source   CoDel (RFC 8289): what waits is judged by its time, not by its number.
Units    Ages and pauses are seconds, flows jobs a second; ``now`` is any clock's.
State    A Drain is what one deliver measured of one queue.

Invariants, each a property in tests/policy/test_admission.py
    AD1  More waiting jobs, a slower drain, or a larger share of the flow never mean
         a shorter pause, nor that somebody is let in who was refused.
    AD2  Without a target, or with a queue that is short or is not known to be too
         slow, nobody is slowed.
    AD3  No pause is longer than MOST; nobody is refused below the target, and
         everybody beyond twice the target.
    AD4  A drain lies between the least and the most that was measured while there
         was more to do; what was settled in idle times does not count.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FOREVER", "MOST", "SHORT", "Drain", "Flow", "Pace", "admit", "predicted_age", "weight"]

MOST = 5.0  # seconds that a transaction waits at most
SHORT = 10  # jobs: a queue no longer than this is no queue
FULL_SHARE = 0.5  # of what a queue drains: who brings as much is held to the target itself
FOREVER = 30 * 86400.0  # what is never delivered, as an age
WARM = 5.0  # seconds for which a queue must have been long before its drain is known
CALM = 10.0  # seconds after which a queue that is short again makes it unknown
TAU = 20.0  # seconds over which the drain is an average


@frozen
class Flow:
    """What one deliver tells of one queue.

    ``backlog`` are the jobs that could go now, hosts that do not answer left out, and
    ``paced`` those of them that only the rate of their host keeps back: a queue that
    drains at a rate grows as old as that says.
    ``rate`` what it settles in a second just now, ``drain`` what it does when it has
    more than enough to do, below 0 if that is not known.  ``oldest`` is the age of
    the oldest of them where the deliver cannot see them all, else 0.
    """

    backlog: int
    rate: float
    drain: float
    oldest: float = 0.0
    paced: int = 0


@frozen
class Pace:
    """How long somebody waits for his answer, and whether it is no."""

    pause: float = 0.0
    refused: bool = False


def predicted_age(flows: Sequence[Flow]) -> float:
    """Return how old new mail will become in a queue that these delivers serve.

    They all see the same jobs, and each takes its part.  0.0 if nobody knows.
    """
    known = [flow for flow in flows if flow.drain >= 0]
    backlog = max((flow.backlog for flow in flows), default=0)
    if not known or backlog <= SHORT:
        return 0.0
    drain = sum([flow.drain for flow in known])
    age = backlog / drain if drain * FOREVER > backlog else FOREVER
    return min(FOREVER, max(age, *[flow.oldest for flow in flows]))


def weight(rate: float, drain: float) -> float:
    """Return, from 0 to 1, how much of the trouble somebody is who brings ``rate``."""
    if rate <= 0:
        return 0.0
    full = FULL_SHARE * drain
    return 1.0 if rate >= full else rate / full


def admit(age: float, target: float, heavy: float) -> Pace:
    """Return what becomes of a recipient where new mail will be ``age`` old.

    ``heavy`` is the client's weight; a ``target`` of 0 is off.
    """
    if target <= 0:
        return Pace()
    strain = age / (target * (2.0 - heavy))
    return Pace(min(MOST, max(0.0, (2.0 * strain - 1.0) * MOST)), strain > 1.0)


class Drain:
    """How fast one deliver drains one queue; note() what it did about once a second."""

    def __init__(self) -> None:
        self.rate = 0.0  # settled in a second, whatever there is to do
        self.drain = -1.0  # the same while there was more to do than it could
        self._at: float | None = None
        self._settled = 0
        self._long = self._short = 0.0  # seconds for which the queue has been so
        self._done = 0  # settled in ``_long``
        self._was_long = False

    def note(self, settled: int, backlog: int, now: float) -> None:
        """Take in how many jobs have been ``settled`` in all, and how many could go now."""
        before, self._at = self._at, now
        count, self._settled = settled - self._settled, settled
        long, self._was_long = self._was_long, backlog > SHORT
        if before is None or now <= before:
            return
        passed = now - before
        part = passed / (TAU + passed)
        self.rate += part * (count / passed - self.rate)
        if not (long and self._was_long):
            self._short += passed
            if self._short >= CALM:
                self.drain, self._long, self._done = -1.0, 0.0, 0
            return
        self._short = 0.0
        if self.drain >= 0:
            self.drain += part * (count / passed - self.drain)
            return
        self._long += passed
        self._done += count
        if self._long >= WARM:
            self.drain = self._done / self._long
