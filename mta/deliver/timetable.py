"""When each lane sweeps its queue: its channel's interval, or deliver's -T, and when it is hungry.

Units    Monotonic seconds.

Invariants, each a test in tests/deliver/test_timetable.py
    TT1  A lane sweeps when its interval has passed since its last sweep began, whatever
         the others do.
    TT2  A lane that could not hold all it read sweeps again once it has room, from the
         oldest that it could not hold: what it has looked at before waits for the interval.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.deliver.lane import Lane

__all__ = ["Timetable"]


class Timetable:
    """The next sweeps of the lanes of one deliver."""

    def __init__(self, lanes: Sequence[Lane], interval: float) -> None:
        """``interval`` is for channels that have none of their own."""
        self._lanes = lanes
        self._interval = interval
        self._next: dict[str, float] = {}

    def begin(self, lane: Lane, mono: float) -> None:
        """Have ``lane`` sweep now."""
        self._next[lane.channel.name] = mono + (lane.channel.interval or self._interval)
        lane.sweep()

    def left(self, queue: str, mono: float) -> float:
        """Return the seconds until a lane of ``queue`` sweeps next."""
        times = [self._next.get(n, 0.0) - mono for n in self._names(queue)]
        return max(0.0, min(times, default=0.0))

    def _names(self, queue: str) -> list[str]:
        return [lane.channel.name for lane in self._lanes if lane.channel.queue == queue]

    def hurry(self, queue: str | None = None) -> None:
        """Let the lanes of ``queue``, or all, sweep at the next tick."""
        for lane in self._lanes:
            if queue in (None, lane.channel.queue):
                self._next.pop(lane.channel.name, None)

    def tick(self, mono: float) -> None:
        """Have those lanes sweep whose time has come."""
        for lane in self._lanes:
            if mono >= self._next.get(lane.channel.name, 0.0):
                self.begin(lane, mono)
            elif lane.index.hungry:
                lane.sweep(lane.index.missed_at)
