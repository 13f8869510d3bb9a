"""Relays: which of several smart hosts gets the next message, by weight among the healthy.

A relay that failed is left alone for a while, twice as long after each failure
on end, then it is probed: one message goes there, and only when a connection
came of it the rest follows.  When none is healthy, the one whose time comes
first is asked anyway, so that mail moves as soon as one of them does.

Source   The choice is "smooth weighted round robin": each turn adds its weight to
         each healthy relay's credit, the richest pays the sum of all and is chosen.
Units    Seconds of the caller's monotonic clock.
State    Credits and failures; lost on exit.

Invariants, each a property in tests/machine/test_relays.py
    L1   Among relays that are healthy all along, the numbers chosen are as the
         weights: exactly, over as many choices as the sum of the weights.
    L2   While any relay is untried that is healthy, or due for its probe, no other is chosen.
    L3   A relay that failed gets one message when its time is over, and no other
         before that one has told.
    L4   A relay is not chosen twice for one message.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BACK_OFF", "BACK_OFF_MAX", "Relays"]

BACK_OFF = 10.0
BACK_OFF_MAX = 300.0


class _Health:
    """What is known of one relay."""

    __slots__ = ("credit", "failures", "probing", "until", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.credit = 0
        self.failures = 0  # on end
        self.until = 0.0  # left alone before
        self.probing = False


class Relays:
    """The relays of one channel, by their index."""

    def __init__(self, weights: Sequence[int], scale: float = 1.0) -> None:
        """``scale`` is of all times; tests make them short."""
        self._all = [_Health(weight) for weight in weights]
        self._scale = scale

    def choose(self, now: float, tried: int = 0) -> int | None:
        """Return the relay for a message, None if all are in ``tried``, a sum of 1 << index."""
        best = -1
        total = 0
        for index, relay in enumerate(self._all):
            if tried >> index & 1 or (relay.failures and (relay.probing or now < relay.until)):
                continue
            total += relay.weight
            relay.credit += relay.weight
            if best < 0 or relay.credit > self._all[best].credit:
                best = index
        if best < 0:
            return self._first_to_return(tried)
        chosen = self._all[best]
        chosen.credit -= total
        chosen.probing = chosen.failures > 0
        return best

    def worked(self, index: int) -> None:
        """A connection to the relay was had."""
        relay = self._all[index]
        relay.failures, relay.probing, relay.until = 0, False, 0.0

    def failed(self, index: int, now: float) -> None:
        """No connection to the relay could be had."""
        relay = self._all[index]
        back_off = min(BACK_OFF_MAX, BACK_OFF * 2.0 ** min(relay.failures, 10))
        relay.failures += 1
        relay.probing = False
        relay.credit = 0
        relay.until = now + back_off * self._scale

    def _first_to_return(self, tried: int) -> int | None:
        untried = [index for index in range(len(self._all)) if not tried >> index & 1]
        return min(untried, key=lambda index: self._all[index].until, default=None)
