"""Pacing: what the flows of queues ask of those who bring mail, for smtpd and submit alike.

Units    Times are float seconds on the monotonic clock, flows jobs a second.
State    What delivers told last; looked at once in LOOK.

Invariants, each a test in tests/test_pacing.py
    PC1  Of a message for several queues the slowest decides.
    PC2  Queues without a target, and those of which nobody tells, slow nobody.
"""

from __future__ import annotations

from mta.machine.flow import read_flows
from mta.policy.admission import Pace, admit, predicted_age, weight
from mta.types import Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mta.config.model import Config
    from mta.policy.admission import Flow

__all__ = ["TOO_OLD", "Pacing", "targets"]

LOOK = 1.0
TOO_OLD = Reply(451, "4.3.2", "the queue for this recipient is too long just now, try again later")


def targets(config: Config) -> dict[str, float]:
    """Return the target of each queue that has one: the smallest of its channels'."""
    found: dict[str, float] = {}
    for channel in config.channels:
        if channel.target_age > 0:
            found[channel.queue] = min(channel.target_age, found.get(channel.queue, 1e9))
    return found


class Pacing:
    """What queues ask just now."""

    def __init__(self, config: Config) -> None:
        self._runtime = config.runtime
        self._targets = targets(config)
        self._flows: dict[str, list[Flow]] = {}
        self._ages: dict[str, float] = {}
        self._looked = -LOOK

    def look(self, now: float) -> None:
        """Take in what delivers tell, if it is time."""
        if not self._targets or 0.0 <= now - self._looked < LOOK:
            return
        self._looked = now
        self._flows = read_flows(self._runtime, self._targets, now)
        ages = {queue: predicted_age(flows) for queue, flows in self._flows.items()}
        self._ages = {queue: age for queue, age in ages.items() if age > 0}

    def watched(self, queues: Iterable[str]) -> list[str]:
        """Return those of ``queues`` that have a target."""
        return [queue for queue in queues if queue in self._targets] if self._targets else []

    def pace(self, queues: Iterable[str], rate: Callable[[str], float]) -> Pace:
        """Return what a recipient on ``queues`` meets; ``rate`` tells what its client brings."""
        if not self._ages:
            return Pace()
        found = [self._pace(queue, rate) for queue in queues if queue in self._ages]
        return Pace(
            max((pace.pause for pace in found), default=0.0), any(pace.refused for pace in found)
        )

    def _pace(self, queue: str, rate: Callable[[str], float]) -> Pace:
        drain = sum([flow.drain for flow in self._flows[queue] if flow.drain > 0])
        return admit(self._ages[queue], self._targets[queue], weight(rate(queue), drain))
