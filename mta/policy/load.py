"""The load average's say: work as usual, work less, or only queue.

Source   sendmail's QueueLA and DelayLA; ``load:`` of mta.yaml(5).
Units    One-minute load averages; a threshold of 0 is off.
State    One Gate in one process: the level it is in, so that a load that
         wavers around a threshold does not make deliver stop and start.

Invariants, each a property in tests/policy/test_load.py
    G1   A load at or above a threshold that is on puts the gate at least there.
    G2   A level is left only when the load has fallen below EASE of its threshold.
    G3   A smaller load never leads to a stricter level than a greater one would.
"""

from __future__ import annotations

from mta.values import frozen

__all__ = ["DELAY", "EASE", "QUEUE_ONLY", "RUN", "Gate", "Thresholds"]

RUN, DELAY, QUEUE_ONLY = 0, 1, 2  # in order of strictness
EASE = 0.8  # a level ends when the load is below this part of what began it


@frozen
class Thresholds:
    """Where each level begins."""

    delay: float = 0.0
    queue_only: float = 0.0


class Gate:
    """Remembers the level; ask ``level``, tell it loads by ``note``."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._steps = ((QUEUE_ONLY, thresholds.queue_only), (DELAY, thresholds.delay))
        self.level = RUN

    @property
    def watching(self) -> bool:
        """Whether any threshold is on; if not, nobody need measure the load."""
        return any(begins > 0 for _, begins in self._steps)

    def note(self, load: float) -> int:
        """Take a measurement of the load; return the level now in force."""
        for level, begins in self._steps:
            ends = begins * EASE if self.level >= level else begins
            if begins > 0 and load >= ends:
                self.level = level
                return level
        self.level = RUN
        return RUN
