"""The pace of ``submit --protocol``: who brings much for a queue that grows old is slowed.

One client, who is served by a process of his own and waits in it; see pacing.py.

Units    Times are float seconds on the monotonic clock; rates jobs a second.
State    What this client brought in this minute and the one before, by queue.

Invariants, each a test in tests/test_submit_pace.py
    SP1  A message is kept waiting MOST seconds at most, however many its recipients.
    SP2  Beyond the target a recipient is refused with 451, without a pause.
"""

from __future__ import annotations

import time

from mta.pacing import TOO_OLD, Pacing
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config
    from mta.route.router import Routed
    from mta.types import Reply

__all__ = ["Pacer"]

_WINDOW = 60.0
PLACES = 10_000  # queues and hosts of one message that are told apart


class Pacer:
    """Asked for each recipient; forget() between messages."""

    def __init__(
        self,
        config: Config,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pacing = Pacing(config)
        self._now = now
        self._sleep = sleep
        self._counts: dict[str, tuple[int, int, int]] = {}  # minute, in it, in the one before
        self.forget()

    def forget(self) -> None:
        """Begin a new message."""
        self._paced = 0.0
        self._places: set[tuple[str, str]] = set()

    def recipient(self, routed: Routed) -> Reply | None:
        """Wait as long as the queues of a recipient ask for, or return the refusal."""
        pacing, now = self._pacing, self._now()
        queues = pacing.watched(dict.fromkeys([target.queue for target in routed.targets]))
        if not queues:
            return None
        pacing.look(now)
        for target in routed.targets:
            place = (target.queue, target.host)
            if place[0] in queues and place not in self._places:
                self._count(place[0], now)
                if len(self._places) < PLACES:
                    self._places.add(place)
        pace = pacing.pace(queues, lambda queue: self._rate(queue, now))
        if pace.refused:
            return TOO_OLD
        pause = max(0.0, pace.pause - self._paced)
        if pause:
            self._paced += pause
            self._sleep(pause)
        return None

    def _known(self, queue: str, minute: int) -> tuple[int, int]:
        """Return what was counted in ``minute`` and in the one before."""
        then, count, before = self._counts.get(queue, (minute, 0, 0))
        if then != minute:
            return 0, count if then == minute - 1 else 0
        return count, before

    def _count(self, queue: str, now: float) -> None:
        minute = int(now // _WINDOW)
        count, before = self._known(queue, minute)
        self._counts[queue] = minute, count + 1, before

    def _rate(self, queue: str, now: float) -> float:
        count, before = self._known(queue, int(now // _WINDOW))
        return (count + before * (1.0 - now % _WINDOW / _WINDOW)) / _WINDOW
