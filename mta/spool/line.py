"""The line of accepted messages whose jobs have still to be made.

The journal holds them in the order in which they came.  Where more comes than can be
made at once, a campaign of one author would stand before the letter of another until
the last of its jobs is made, before any deliver can say whose turn it is.  So intake
reads ahead, and makes first what the order of a channel would send first: mail of
others before the later messages of a flood, and normal mail before bulk.

A line that is full reads no further, and yet lets pass who has little in it: else whoever
comes behind LIMIT octets of somebody's flood would wait for all of them.

Units    octets: about what records take in memory.
State    Records of twice LIMIT octets and one more at most; the authors among them.

Invariants, each a property in tests/spool/test_line.py
    LI1  What joins leaves once, and the first is whose place is the lowest.
    LI2  A single message of another author goes before a flood as urgent as it, but for what
         came earlier: one, and one more for each second that it came later.  Bulk
         stands behind normal mail by the order's delay.
    LI3  A line is full at LIMIT octets; at twice LIMIT nobody passes any more.
    LI4  A full line lets pass those who have fewer than FEW in it, and nobody else.
    LI5  Who steps aside keeps nobody back, and is in line again when put back.
"""

from __future__ import annotations

from heapq import heappop, heappush

from mta.policy.order import Order
from mta.spool.layout import JobName, arrived
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from mta.spool.following import Followed
    from mta.spool.frames import Closing

__all__ = ["LIMIT", "Line", "Record"]

LIMIT = 1 << 23  # some 8,000 messages to one recipient each
FEW = 32  # messages of one author and class
EACH = 700  # octets that a record takes beside what its M frame holds


@frozen
class Record:
    """A message that stands whole and synced in a segment.

    ``pieces`` are where the B frames of its body lie; ``octets`` is the length of its M frame.
    """

    closing: Closing
    pieces: tuple[tuple[int, int], ...]
    octets: int


class Line:
    """Records, each at its place."""

    def __init__(self, order: Order) -> None:
        """Give places by ``order``."""
        self._order = order
        self._heap: list[tuple[float, int, Record, Followed, str]] = []
        self._late: list[tuple[float, int, Record, Followed, str]] = []  # put off
        self._counts: dict[str, int] = {}  # by author and class
        self._serial = 0
        self._octets = 0

    def __len__(self) -> int:
        return len(self._heap) + len(self._late)

    @property
    def full(self) -> bool:
        """Whether no more is to join."""
        return self._octets >= LIMIT

    def join(self, record: Record, segment: Followed) -> None:
        """Take in ``record``, of ``segment``."""
        self._join(record, segment, *self._stand(record.closing))

    def let_pass(self, record: Record, segment: Followed) -> bool:
        """Take in ``record`` though the line is full, if its author has little in it."""
        place, author = self._stand(record.closing)
        passes = self._counts.get(author, 0) < FEW and self._octets < 2 * LIMIT
        if passes:
            self._join(record, segment, place, author)
        return passes

    def _join(self, record: Record, segment: Followed, place: float, author: str) -> None:
        place = self._order.enter(author, place)
        self._serial += 1
        heappush(self._heap, (place, self._serial, record, segment, author))
        self._counts[author] = self._counts.get(author, 0) + 1
        self._octets += EACH + record.octets

    def _stand(self, closing: Closing) -> tuple[float, str]:
        """Return where a message stands, its author aside, and whose it is."""
        queue, _, file = closing.files[0][0].partition("/") if closing.files else ("", "", "")
        name = JobName.parse(queue, file)
        if name is None:
            return 0.0, ""  # no job's name of ours: to be done with
        return self._order.place(arrived(name.id), name.kind, 0, 1, 0), name.flood

    @property
    def first(self) -> tuple[Record, Followed] | None:
        """Who is to go, and the segment; None if nobody stands in line."""
        return self._heap[0][2:4] if self._heap else None

    def leave(self) -> None:
        """Let the first go: its jobs are made."""
        _, _, record, segment, author = heappop(self._heap)
        self._order.leave(author)
        self._counts[author] -= 1
        if not self._counts[author]:
            del self._counts[author]
        self._octets -= EACH + record.octets
        segment.in_line -= 1

    def put_off(self) -> None:
        """Let the first step aside until put_back()."""
        self._late.append(heappop(self._heap))

    def put_back(self, place: float) -> None:
        """Let those who stepped aside stand at ``place``, in the order in which they joined."""
        for _, serial, record, segment, author in self._late:
            heappush(self._heap, (place, serial, record, segment, author))
        self._late = []
