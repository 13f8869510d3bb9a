"""Jobs of dead hosts: each is told once why it waits, and failed when its time is over.

A dead host's jobs are passed over by name.  So that its author and the operator
find a reason, a job that nobody has tried yet is opened once in this deliver's
life and deferred with the reply that buried its host, without a connection.

State    The names still to be told; the jobs being settled.

Invariants, each a property in tests/deliver/test_lane.py
    A5   A job of a dead host is opened at most once for each burial it lives to
         see for the first time, and written to at most once.
"""

from __future__ import annotations

from collections import deque

from mta.deliver.desk import Flight
from mta.errors import SpoolError
from mta.policy.retry import expired
from mta.spool.layout import arrived
from mta.types import HOST, Outcome
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import ByClass
    from mta.deliver.desk import Clock, Desk
    from mta.deliver.hosts import Hosts
    from mta.spool.layout import JobName
    from mta.spool.spool import Spool

__all__ = ["Shelf"]

BATCH, FEW = 16, 2  # jobs told in one go


class Shelf:
    """The dead hosts' jobs of one lane."""

    def __init__(
        self, spool: Spool, desk: Desk, hosts: Hosts, clock: Clock, fail_after: ByClass
    ) -> None:
        self._spool = spool
        self._desk = desk
        self._hosts = hosts
        self._clock = clock
        self._fail_after = fail_after
        self._untold: deque[JobName] = deque()
        self.settling = 0

    def __len__(self) -> int:
        return len(self._untold)

    def note(self, name: JobName) -> None:
        """Take in a name whose host is dead."""
        if self._hosts.news(name.host, name.id, arrived(name.id)) or self._over(name):
            self._untold.append(name)

    def _over(self, name: JobName) -> bool:
        return expired(arrived(name.id), self._clock.wall(), self._fail_after.of(name.kind))

    def tell(self, busy: bool = False) -> None:
        """Tell a batch of the jobs, a small one while others are on their way."""
        for _ in range(min(FEW if busy else BATCH, len(self._untold))):
            self._tell(self._untold.popleft())

    def _tell(self, name: JobName) -> None:
        now, mono = self._clock.wall(), self._clock.monotonic()
        facts = self._hosts.facts(name.host, now, mono)
        if facts.dead is None:
            return  # it will be tried, which says more
        try:
            claim = self._spool.claim(name)
        except SpoolError:
            return  # not told; the next sweep's deliver will see
        if claim is None:
            return
        over = self._over(name)
        tried = tuple((r, s) for r, s in claim.entry.pending if s.outcome is None or over)
        if not tried or claim.entry.held is not None:
            claim.release()
            return
        flight = Flight(claim, tried, now, mono)
        flight.not_before = facts.dead_until
        outcome = Outcome(facts.dead.reply, HOST)
        flight.told = {recipient.index: (outcome, "") for recipient, _ in tried}
        self.settling += 1
        self._desk.settle(flight, self._landed)

    def _landed(self, _flight: Flight, _when: float) -> None:
        self.settling -= 1  # its name stays with its dead host

    def clear(self) -> None:
        """Forget who is still to be told: another deliver will."""
        self._untold.clear()
