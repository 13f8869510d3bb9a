"""Pauses: a channel with trouble of its own is left alone for a while, longer each time.

Units    Wall-clock seconds.
"""

from __future__ import annotations

__all__ = ["Pauses"]

LONGEST = 60.0
DOUBLINGS = 6


class Pauses:
    """The pauses of one lane."""

    def __init__(self) -> None:
        """Begin without any."""
        self.until = 0.0
        self._troubles = 0

    def at(self, now: float) -> float:
        """Return until when the channel is left alone, 0.0 if it is not.

        A clock that was put back makes no pause longer than the longest.
        """
        self.until = min(self.until, now + LONGEST)
        return self.until if self.until > now else 0.0

    def over(self) -> None:
        """The channel did its work: the next pause is short again."""
        self._troubles = 0

    def begin(self, now: float) -> None:
        """Leave the channel alone for a second, twice as long each time, a minute at most."""
        if self.until <= now:
            self.until = now + min(LONGEST, 2.0**self._troubles)
            self._troubles = min(self._troubles + 1, DOUBLINGS)
