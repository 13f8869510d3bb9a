"""What is in the journal only: accepted mail that no intake has made jobs of yet.

For those who look: mailq, ``mta queue``, ``mta why``.  Nothing is changed, and
bodies are not read.  At most SHOWN jobs are told, the oldest segments first.
"""

from __future__ import annotations

from itertools import islice

from mta.spool.entry import decode
from mta.spool.frames import HEAD_OCTETS, MESSAGE, Closing, frame_length, read_frame
from mta.spool.layout import JobName
from mta.spool.marks import read_marks
from mta.types import PENDING, Outcome, Reply
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mta.spool.entry import Entry
    from mta.spool.marks import Finished
    from mta.spool.spool import Spool

__all__ = ["SHOWN", "untaken"]

SHOWN = 10_000
MARKS_LIMIT = 1 << 26
TEXT = "accepted; it is in the journal, and intake has not come to it yet"
WHY = Outcome(Reply(451, "4.3.2", TEXT))


def _any(_name: JobName) -> bool:
    return True


def untaken(spool: Spool, wanted: Callable[[JobName], bool] = _any) -> list[tuple[JobName, Entry]]:
    """Return the jobs that are in the journal only and ``wanted``, in order of arrival."""
    found: list[tuple[JobName, Entry]] = []
    for segment in sorted(spool.fs.list("journal")):
        try:
            found += _of_segment(spool, segment, SHOWN - len(found), wanted)
        except OSError:
            continue  # removed while we look: all of it is finished, or in the queues
    return sorted(found, key=lambda pair: (pair[0].id, pair[0].number))


def _of_segment(
    spool: Spool, segment: str, most: int, wanted: Callable[[JobName], bool]
) -> list[tuple[JobName, Entry]]:
    before = _marks(spool, segment)
    fd = spool.fs.open(f"journal/{segment}")
    try:
        found = list(islice(_without_files(spool, fd, before, wanted), most))
    finally:
        spool.fs.close(fd)
    # What has ended meanwhile was marked before its file went.
    marks = _marks(spool, segment) if found else {}
    return [(name, entry) for name, entry in found if marks.get(name.key, ()) is not None]


def _without_files(
    spool: Spool, fd: int, marks: Finished, wanted: Callable[[JobName], bool]
) -> Iterator[tuple[JobName, Entry]]:
    """Yield the jobs of a segment that are wanted, not marked, and have no file."""
    for closing in _closings(spool, fd):
        for path, octets in closing.files:
            queue, _, file = path.partition("/")
            name = JobName.parse(queue, file)
            if name is None or not wanted(name) or marks.get(name.key, ()) is None:
                continue
            entry = decode(octets)
            if entry is not None and spool.peek(name) is None:
                yield name, _waiting(entry)


def _closings(spool: Spool, fd: int) -> Iterator[Closing]:
    """Yield the records of a segment; of bodies only the heads of their frames are read."""
    at = 0
    while True:
        head = spool.fs.read(fd, HEAD_OCTETS, at)
        length = frame_length(head)
        if length < 0:
            return
        if head[:1] == MESSAGE:
            frame = read_frame(lambda size, offset: spool.fs.read(fd, size, offset), at)
            if frame is None:
                return
            yield Closing.decode(frame.data)
        at += HEAD_OCTETS + length


def _marks(spool: Spool, segment: str) -> Finished:
    try:
        fd = spool.fs.open(f"done/{segment}")
    except FileNotFoundError:
        return {}
    try:
        return read_marks(spool.fs.read(fd, MARKS_LIMIT, 0))
    finally:
        spool.fs.close(fd)


def _waiting(entry: Entry) -> Entry:
    """Return ``entry`` with the reason why it waits."""
    states = tuple(replace(s, outcome=WHY) if s.state == PENDING else s for s in entry.states)
    return replace(entry, states=states)
