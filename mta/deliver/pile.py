"""Names by host, each host's in its line, with bounds that leave room for other hosts.

A host may hold half of what is still free.  When nothing is free, a host that
has little still finds room: the host with the longest line loses its latter half.

Invariants, each a property in tests/deliver/test_pile.py
    PI1  However much is added, there are never more names than the limit.
    PI2  A host with few names finds room while another has more than MANY.
    PI3  What is dropped stands behind all that its host keeps.
    PI4  Lines are looked through for the longest only if one has got longer since that
         did not help: a sweep asks for room once for each name that it finds.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from mta.spool.layout import JobName
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mta.types import Host

__all__ = ["LEAST", "MANY", "Item", "Pile"]

LEAST = 64  # names that any host may hold, however full the pile is
MANY = 8  # names of a host, from which on it gives some up for others

Item = tuple[float, int, JobName]  # place in line, and among equals; the name


class Pile:
    """Names of hosts."""

    def __init__(self, limit: int) -> None:
        """Hold ``limit`` names at most."""
        self.lines: dict[Host, list[Item]] = {}  # heaps
        self.count = 0
        self._limit = limit
        self._most = 0  # no line is longer; that all are shorter, only make_room() finds out

    def fits(self, host: Host) -> bool:
        """Tell whether a name of ``host`` may come in, if there is room or can be made."""
        line = self.lines.get(host)
        if line is None:
            return True
        return len(line) < max(LEAST, (self._limit - self.count) // 2)

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return self.count >= self._limit

    def add(self, item: Item) -> bool:
        """Take in a name for which there is room; return whether it is its host's first."""
        host = item[2].host
        line = self.lines.get(host)
        if line is None:
            line = self.lines[host] = []
        heappush(line, item)
        self.count += 1
        self._most = max(self._most, len(line))
        return line[0] is item

    def pop(self, host: Host) -> Item:
        """Take out the first name of ``host``."""
        line = self.lines[host]
        item = heappop(line)
        if not line:
            del self.lines[host]
        self.count -= 1
        return item

    def take(self, host: Host) -> list[Item]:
        """Take out all names of ``host``."""
        line = self.lines.pop(host, [])
        self.count -= len(line)
        return line

    def give(self, host: Host, items: list[Item]) -> list[Item]:
        """Take in names of ``host`` as far as there is room; return the others."""
        if not items:
            return items
        free = self._limit - self.count
        if free < len(items):
            items.sort()
        kept, others = items[:free], items[free:]
        if kept:
            line = self.lines.setdefault(host, [])
            line.extend(kept)
            heapify(line)
            self.count += len(kept)
            self._most = max(self._most, len(line))
        return others

    def make_room(self, host: Host) -> Iterable[Item]:
        """Drop the latter half of the longest line, if it is long enough; return what went."""
        enough = max(MANY, 2 * len(self.lines.get(host, ())))
        if self._most <= enough or len(self.lines) > self._limit // MANY:
            return ()  # so many hosts that hardly any can have MANY: not worth a look
        line = max(self.lines.values(), key=len, default=[])
        self._most = len(line)
        if len(line) <= enough:
            return ()
        line.sort()
        kept = (len(line) + 1) // 2
        dropped = line[kept:]
        del line[kept:]
        self.count -= len(dropped)
        return dropped
