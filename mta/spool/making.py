"""Making bodies and jobs from records, once or again.

A message whose segment is new has no files: they are made without looking.
Of an older segment (after intake itself died, or the disk was full) each file is looked for first,
and after a power cut, which can tear files that nobody synced, each is
compared with the record.
"""

from __future__ import annotations

import errno
import time
import zlib

from mta.spool import layout
from mta.spool.entry import Settlement, decode, encode_lines
from mta.spool.frames import HEAD_OCTETS, read_frame
from mta.spool.layout import JobName
from mta.spool.marks import Finished, read_marks
from mta.spool.places import check_places
from mta.types import DELIVERED, Outcome, Reply
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mta.spool.frames import Closing
    from mta.spool.spool import Spool

    Read = Callable[[int, int], bytes]  # size, offset -> octets of the segment

__all__ = ["Maker"]

FILE_LIMIT = 1 << 25
MARKED = Outcome(Reply(250, "2.0.0", "finished before a crash"))


class Maker:
    """Makes files for one intake."""

    def __init__(self, spool: Spool, trusting: bool) -> None:
        """``trusting``: no power cut since the last intake, so files that are there are whole."""
        self.trusting = trusting
        self._spool = spool
        self._fs = spool.fs
        self._new: set[str] = set()  # segments of which nothing has been made before
        self._read: dict[str, tuple[int, Finished]] = {}  # of the others: how far, and what it said

    def learn(self, segment: str, new: bool) -> None:
        """Note a segment, ``new`` if its done file was not there.

        After a power cut that proves nothing: the done file may be what was lost.
        """
        if new and self.trusting:
            self._new.add(segment)

    def forget(self, segment: str) -> None:
        """Note that a segment is gone."""
        self._new.discard(segment)
        self._read.pop(segment, None)

    def name(self, path: str) -> JobName | None:
        """Return the job that a record calls ``path``.

        One of a place whose link is gone goes to the first place.
        """
        queue, _, file = path.partition("/")
        name = JobName.parse(queue, file)
        if name is not None and name.place and name.place not in self._spool.places(queue):
            return replace(name, place=0)
        return name

    def _marks(self, segment: str) -> Finished:
        """Return what is marked of a segment by now; of its file only what is new is read."""
        at, finished = self._read.get(segment, (0, {}))
        fd = self._fs.open(f"done/{segment}")
        try:
            data = self._fs.read(fd, FILE_LIMIT, at)
        finally:
            self._fs.close(fd)
        whole = data.rfind(b"\n") + 1
        self._read[segment] = at + whole, read_marks(data[:whole], finished)
        return finished

    def make(
        self, closing: Closing, read: Read, pieces: Sequence[tuple[int, int]], segment: str
    ) -> tuple[list[JobName], bool]:
        """Make a message's files; return its jobs that are not finished, and whether it is new.

        ``pieces`` are where the B frames of its body lie in the segment that ``read`` reads.
        """
        files = [(name, octets) for path, octets in closing.files if (name := self.name(path))]
        if segment in self._new:
            self._new.discard(segment)  # until all is made: what a full disk stops is half there
            if closing.body_at < 0:
                self._body(closing, read, pieces, look=False)
            for name, octets in files:
                self._job(name, octets)
            self._new.add(segment)
            return [name for name, _ in files], True
        return self._again(closing, files, read, pieces, segment)

    def _again(
        self,
        closing: Closing,
        files: list[tuple[JobName, bytes]],
        read: Read,
        pieces: Sequence[tuple[int, int]],
        segment: str,
    ) -> tuple[list[JobName], bool]:
        """Make what is missing or torn of a message that may have been made before."""
        there = {name.key: self._present(name) for name, _ in files}
        # A job file is removed after it is marked: marks read now know of every
        # file that was missing then.
        finished = self._marks(segment)
        waiting = [(n, o) for n, o in files if finished.get(n.key, ()) is not None]
        missing = [(n, o) for n, o in waiting if not there[n.key]]
        if not self.trusting:
            self._fs.unlink(layout.body_path(closing.id) + ".done")  # may know more than marks
        if closing.body_at < 0 and (missing or (waiting and not self.trusting)):
            self._body(closing, read, pieces, look=True)
        for name, octets in missing:
            self._fs.unlink(name.path)
            marked = finished.get(name.key) or set()
            self._job(name, octets + _marked_lines(octets, marked))
        self._drop(files, waiting, closing)
        return [name for name, _ in waiting], len(missing) == len(files)

    def _present(self, name: JobName) -> bool:
        """Tell whether a job's file is there and whole.

        After a power cut a file may have lost lines that done/ still has, so
        none is believed: it is made again, with what is marked.
        """
        return self.trusting and self._spool.peek(name) is not None

    def _drop(
        self,
        files: list[tuple[JobName, bytes]],
        waiting: list[tuple[JobName, bytes]],
        closing: Closing,
    ) -> None:
        """Remove finished jobs that a crash left, or brought back."""
        left = {name.key for name, _ in waiting}
        for name, _ in files:
            if name.key not in left:
                self._spool.remove(name, len(closing.files))

    def _body(
        self, closing: Closing, read: Read, pieces: Sequence[tuple[int, int]], look: bool
    ) -> None:
        path = layout.body_path(closing.id)
        if look:
            if self._whole(path, closing):
                return
            self._fs.unlink(path)
        target = self._create(path)
        try:
            for start, end in pieces:
                data = start + HEAD_OCTETS
                self._fs.write(target, read(end - data, data))
        finally:
            self._fs.close(target)

    def _whole(self, path: str, closing: Closing) -> bool:
        """Tell whether a body is there with the record's length and checksum."""
        try:
            fd = self._fs.open(path)
        except FileNotFoundError:
            return False
        try:
            at = checksum = 0
            while data := self._fs.read(fd, 1 << 17, at):
                checksum = zlib.crc32(data, checksum)
                at += len(data)
        finally:
            self._fs.close(fd)
        return at == closing.size and checksum == closing.checksum

    def _job(self, name: JobName, octets: bytes) -> None:
        fd = self._create(name.path)
        try:
            self._fs.write(fd, octets)
        finally:
            self._fs.close(fd)

    def _create(self, path: str) -> int:
        """Create a file, and the directories above it where they are missing."""
        try:
            return self._fs.create(path)
        except FileNotFoundError:
            parts = path.split("/")[:-1]
            for depth in range(len(parts)):
                self._fs.mkdir("/".join(parts[: depth + 1]))
            return self._fs.create(path)

    def sync(self, waiting: Iterable[tuple[JobName, int]], read: Read) -> None:
        """Make the files of waiting jobs durable, and every directory on the way to them.

        With each name comes where its body's frame begins in the segment that
        ``read`` reads, or -1: a body that has no file gets one now.  SpoolError if a
        place of the queues is not there.
        """
        directories: dict[str, None] = {}
        bodies: dict[str, None] = {}
        for name, body_at in waiting:
            if body_at >= 0 and layout.body_path(name.id) not in bodies:
                self._body_from(name, body_at, read)
            if self._sync_file(name.path):
                bodies[layout.body_path(name.id)] = None
                directories[name.directory] = None
                directories[layout.place_path(name.queue, name.place)] = None
            elif name.place:
                check_places(self._fs)  # finished, and not on a disk that is away
        for body in bodies:
            self._sync_file(body)
            self._sync_file(body + ".done")
            directories[body.rpartition("/")[0]] = None
        self.sync_directories([*directories, *(["msg", ""] if directories else [])])

    def _body_from(self, name: JobName, body_at: int, read: Read) -> None:
        """Make the file of a body that lies in the segment; a torn one is made again."""
        found = read_frame(read, body_at)
        if found is None:
            raise OSError(errno.EIO, "a damaged frame in the journal", name.key)
        path = layout.body_path(name.id)
        try:
            fd = self._fs.open(path)
        except FileNotFoundError:
            pass
        else:
            same = self._fs.read(fd, len(found.data) + 1, 0) == found.data
            self._fs.close(fd)
            if same:
                return
            self._fs.unlink(path)
        fd = self._create(path)
        try:
            self._fs.write(fd, found.data)
        finally:
            self._fs.close(fd)

    def sync_directories(self, directories: Iterable[str]) -> None:
        """Sync what entries changed; a directory that is gone needs none."""
        for directory in directories:
            try:
                self._fs.sync_directory(directory)
            except FileNotFoundError:
                pass

    def _sync_file(self, path: str) -> bool:
        try:
            fd = self._fs.open(path)
        except FileNotFoundError:
            return False  # finished meanwhile, or there is none
        try:
            self._fs.sync(fd)
        finally:
            self._fs.close(fd)
        return True


def _marked_lines(octets: bytes, recipients: set[int]) -> bytes:
    """Return the lines that a job file has lost: recipients that were final already."""
    entry = decode(octets)
    if entry is None or not recipients:
        return b""
    now = time.time()
    settled = [Settlement(index, DELIVERED, now, 0.0, MARKED) for index in sorted(recipients)]
    return encode_lines(settled, 1)
