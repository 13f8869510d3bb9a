"""Flows: what one deliver measures of its queues and tells those who let mail in.

Source   policy/admission.py says what is made of it; machine/flow.py where it stands.
Units    Times are float seconds; ``mono`` is the monotonic clock, ``wall`` that of arrivals.
State    How fast each queue drains; lost on restart, and known again within seconds.

Invariants, each a test in tests/deliver/test_flows.py
    FW1  Of a queue that several channels serve, what they settle adds up, and what
         waits counts once.
    FW2  It is told at most once in EVERY, or in SELDOM where no channel has a target.
    FW3  Jobs of hosts that are dead or have not answered yet do not count.
    FW4  Jobs that the rate of their host keeps back do, and are told apart: the queue
         drains no faster than that.
"""

from __future__ import annotations

from mta.machine.flow import Teller
from mta.policy.admission import Drain, Flow
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.deliver.lane import Lane

__all__ = ["Flows"]

EVERY = 1.0
SELDOM = 5.0


class _Queue:
    def __init__(self, runtime: str, name: str, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self.every = EVERY if any(lane.channel.target_age for lane in lanes) else SELDOM
        self.drain = Drain()
        self.teller = Teller(runtime, name)
        self.looked = -SELDOM

    def look(self, mono: float, wall: float) -> None:
        backlog, paced = max(lane.index.answering for lane in self.lanes)
        self.drain.note(sum(lane.settled for lane in self.lanes), backlog, mono)
        oldest = max((lane.age_of_latest(wall) for lane in self.lanes), default=0.0)
        self.teller.tell(Flow(backlog, self.drain.rate, self.drain.drain, oldest, paced), mono)


class Flows:
    """All queues of one deliver; tick() them, close() at the end."""

    def __init__(self, runtime: str, lanes: Sequence[Lane]) -> None:
        names = dict.fromkeys([lane.channel.queue for lane in lanes])
        self._queues = [
            _Queue(runtime, name, [lane for lane in lanes if lane.channel.queue == name])
            for name in names
        ]

    def tick(self, mono: float, wall: float) -> None:
        """Measure and tell, each queue when it is its time."""
        for queue in self._queues:
            if not 0.0 <= mono - queue.looked < queue.every:
                queue.looked = mono
                queue.look(mono, wall)

    def close(self) -> None:
        """Take back what was told."""
        for queue in self._queues:
            queue.teller.close()
