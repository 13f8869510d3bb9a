"""A segment on its way from the journal to the queue, read as far as it is synced.

Units    Offsets are octets from the segment's beginning.
"""

from __future__ import annotations

from mta.spool.frames import BODY, HEAD_OCTETS, MESSAGE, Closing, read_frame
from mta.spool.line import Record
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.spool.fs import Fs
    from mta.spool.layout import JobName
    from mta.spool.line import Line

__all__ = ["Followed", "Window"]

WINDOW = 1 << 18  # octets of a segment read at a time
SLICE = 64  # messages that are read before other segments have their turn
PASSED = 100_000  # messages of a segment that may stand in line, or be gone, before their turn


class Window:
    """Reads a segment in large pieces: small frames cost no system call each."""

    def __init__(self, fs: Fs, fd: int) -> None:
        """Read the file behind ``fd``."""
        self._fs = fs
        self._fd = fd
        self._data = b""
        self._begin = 0

    def read(self, size: int, offset: int) -> bytes:
        """Return ``size`` octets at ``offset``; fewer only at the end of the file."""
        at = offset - self._begin
        if at < 0 or at + size > len(self._data):
            self._data = self._fs.read(self._fd, max(size, WINDOW), offset)
            self._begin, at = offset, 0
        return self._data[at : at + size]


class Reader:
    """Goes through the messages of a segment, one after the other."""

    def __init__(self, fs: Fs, fd: int) -> None:
        """Begin at the beginning of the file behind ``fd``."""
        self._fs = fs
        self._fd = fd
        self._window: Window | None = None
        self.at = 0  # up to where frames are read
        self.pieces: list[tuple[int, int]] = []  # B frames of the message that is begun
        self.torn = False  # whether next() met what is no whole frame

    def next(self, limit: int) -> tuple[int, Record] | None:
        """Return where the next message ends, and its record (of no segment yet).

        None if no whole one stands before ``limit``: what ends behind it is not synced yet.
        """
        self.torn = False
        if self._window is None:
            self._window = Window(self._fs, self._fd)
        while self.at < limit:
            frame = read_frame(self._window.read, self.at)
            if frame is None or frame.end > limit:
                self.torn = True
                break
            self.at = frame.end
            if frame.kind == BODY:
                self.pieces.append((frame.end - HEAD_OCTETS - len(frame.data), frame.end))
                continue
            pieces, self.pieces = tuple(self.pieces), []
            if frame.kind == MESSAGE:
                return frame.end, Record(Closing.decode(frame.data), pieces, len(frame.data))
        self.rest()
        return None

    def rest(self) -> None:
        """Keep nothing of what was read: there may be thousands of segments."""
        self._window = None

    def skip_to(self, other: Reader) -> None:
        """Go on where ``other`` is."""
        self.at, self.pieces = other.at, list(other.pieces)


class Followed:
    """One segment, and what intake knows of it.

    It is read in order as far as the line has room; beyond that only messages are taken
    out of it that may pass, and the first reading comes to the others in its time.
    """

    def __init__(self, fs: Fs, name: str, fd: int) -> None:
        """Follow the segment ``name``, open for reading as ``fd``."""
        self._fs = fs
        self.name = name
        self.fd = fd
        self.limit = 0  # up to where it may be read now
        self.told = 0  # how far its writer said that it is synced
        self.complete_since = 0.0  # when its writer was first seen gone; 0 while it lives
        self.turn = self.scouted = 0  # when it was read, and looked at, in turns of all
        self.in_line = 0  # messages read whose jobs are not made yet
        # Jobs made or found and not marked yet: name, and where the body's frame begins.
        self.jobs: dict[str, tuple[JobName, int]] = {}
        self.over: set[str] = set()  # those of them that are marked, but whose files may be there
        self.directories: set[str] = set()  # where its jobs lie or lay
        self.marked = 0  # octets of the done file read
        self.pinned = False  # a sync of its jobs failed: it stays until all are finished
        self._reader = Reader(fs, fd)
        self._scout = Reader(fs, fd)
        self._passed: set[int] = set()  # ends of messages that stand before where it is read
        self._ended = False  # complete, and read to its end

    @property
    def taken(self) -> bool:
        """Whether all that it will ever hold has become jobs."""
        return self._ended and not self.in_line

    @property
    def offset(self) -> int:
        """Up to where it is read."""
        return self._reader.at

    @property
    def unread(self) -> bool:
        """Whether there is more that may be read now."""
        return self._reader.at < self.limit

    @property
    def unseen(self) -> bool:
        """Whether there is more that nobody has looked at for who may pass."""
        return max(self._scout.at, self._reader.at) < self.limit

    def allow(self, sync_name: Callable[[], None]) -> None:
        """See how far it may be read now; what nobody said was synced, sync.

        ``sync_name`` syncs the names in journal/.
        """
        if self._ended:
            return
        size, at = self._fs.stat(self.fd)[0], self._reader.at
        if size > at and (self.told <= at or (self.complete_since and self.told < size)):
            # No wake-up spoke of these octets: their writer may have died before
            # its sync.  What is delivered must first have been accepted.
            self._fs.sync(self.fd)
            sync_name()
            self.told = size
        self.limit = min(size, self.told)
        self._look_for_end()

    def read(self, line: Line) -> None:
        """Let the next messages join the line, SLICE at most, and none when it is full."""
        for _ in range(SLICE):
            if line.full:
                self._reader.rest()
                return
            found = self._reader.next(self.limit)
            if found is None:
                break
            end, record = found
            if end in self._passed:
                self._passed.discard(end)
            else:
                line.join(record, self)
                self.in_line += 1
        if self._reader.torn:  # it may be under way, or else what is left is for bad/
            if self.complete_since:
                self._set_aside(self._reader.at, self.limit)
            self.limit = self.told = self._reader.at  # what is written since is not synced
        self._reader.rest()
        self._look_for_end()

    def look_ahead(self, line: Line) -> int:
        """Let those of the next messages join that may pass a full line; return how many it saw."""
        if self._scout.at < self._reader.at:
            self._scout.skip_to(self._reader)
        for seen in range(SLICE):
            found = self._scout.next(self.limit)
            if found is None:
                return seen
            end, record = found
            if len(self._passed) < PASSED and line.let_pass(record, self):
                self._passed.add(end)
                self.in_line += 1
        self._scout.rest()
        return SLICE

    def _look_for_end(self) -> None:
        self._ended = bool(self.complete_since) and not self.unread

    def _set_aside(self, at: int, limit: int) -> None:
        """Keep what follows the last whole frame of a complete segment, unless it is one tear.

        A writer that was killed leaves one torn record, of which nobody was
        told; anything after that is damage to accepted mail.
        """
        rest = self._fs.read(self.fd, limit - at, at)
        if b"\nM " not in rest[1:]:
            return
        path = f"bad/journal.{self.name}"
        self._fs.unlink(path)
        fd = self._fs.create(path)
        try:
            self._fs.write(fd, rest)
            self._fs.sync(fd)
        finally:
            self._fs.close(fd)
        self._fs.sync_directory("bad")
