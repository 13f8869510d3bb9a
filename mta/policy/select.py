"""Which of the queued messages a deliver looks at (-t, -o), and in what order (-s).

Units    Hours on the command line, wall-clock seconds here.  Ages count from
         the message's arrival, which its id carries: no file is opened to know it.

Invariants, each a property in tests/policy/test_select.py
    L1   With -t h a message is chosen only if younger than h; with -o h only if
         older; with both, only if both hold; with neither, always.
    L2   A message chosen by -o h stays chosen as it ages; one chosen by -t h
         is never chosen again once it has been too old.
"""

from __future__ import annotations

from mta.values import frozen

__all__ = ["ALL_AGES", "Ages", "Bounds"]


@frozen
class Bounds:
    """Arrival times strictly between these are chosen; None is no bound."""

    newer_than: float | None = None
    older_than: float | None = None

    def holds(self, arrived: float) -> bool:
        """Tell whether a message that arrived at ``arrived`` is chosen."""
        if self.newer_than is not None and arrived <= self.newer_than:
            return False
        return self.older_than is None or arrived < self.older_than


ALL_AGES = Bounds()


@frozen
class Ages:
    """The flags: ``younger`` is -t, ``older`` is -o, both seconds or None."""

    younger: float | None = None
    older: float | None = None

    def at(self, now: float) -> Bounds:
        """Return the arrival times that these ages mean at ``now``; ALL_AGES itself if any does."""
        if self.younger is None and self.older is None:
            return ALL_AGES
        return Bounds(
            None if self.younger is None else now - self.younger,
            None if self.older is None else now - self.older,
        )
