"""Marks of finished work: what recovery must not deliver again.

done/SEGMENT is made by intake before it makes the first job of that segment,
and removed after it.  Each line is a job, "ID.N;", or some of its recipients,
"ID.N:0,3;".  Lines are appended in one write each and synced in groups.  A power cut may
leave the beginning of one, and what is appended then ends it: only the sign at its end
tells that "ID.1:2" is not what was left of another job or recipient.

A mark that finds no done/SEGMENT belongs to a job after its checkpoint: its own
file holds its state then, and is synced instead.

Invariants, each a property in tests/spool/test_marks.py
    MK1  Wherever marks were cut off, and whatever was appended then: what is read as
         finished was marked, and all that was marked whole is read.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mta.spool.fs import Fs
    from mta.spool.layout import JobName

__all__ = ["Finished", "Marks", "mark_line", "read_marks"]

ENDING = 100  # jobs whose removal waits for a sync; beyond, whoever settles waits itself
OPEN_MARKS = 64  # descriptors of done files kept; one-shot submits have a segment each

if TYPE_CHECKING:
    Finished = dict[str, set[int] | None]  # job key -> recipients, or None for the whole job
else:
    Finished = dict


def mark_line(name: JobName, recipients: Iterable[int] | None = None) -> bytes:
    """Return the mark of a whole job, or of some of its recipients.

    It begins with a line end of its own: the mark before it may be torn.
    """
    if recipients is None:
        return f"\n{name.key};\n".encode()
    return f"\n{name.key}:{','.join(map(str, sorted(recipients)))};\n".encode()


def read_marks(data: bytes, known_before: Finished | None = None) -> Finished:
    """Return what whole lines of a done file say; what is not whole is no mark.

    What it says is added to ``known_before``, what the lines before it said, if given.
    """
    finished: Finished = {} if known_before is None else known_before
    for line in data.split(b"\n")[:-1]:
        if line[-1:] != b";":
            continue
        key, colon, indexes = line[:-1].decode("ascii", "replace").partition(":")
        if not colon:
            finished[key] = None
        elif finished.get(key, ()) is not None:
            known = finished.setdefault(key, set())
            assert known is not None
            known.update(int(i) for i in indexes.split(",") if i.isdecimal())
    return finished


class Ending:
    """Jobs after their checkpoint that are finished, but for a sync and the removal.

    add() belongs to one thread; sync() may run in another, one at a time.
    """

    def __init__(self, fs: Fs, remove: Callable[[JobName], None]) -> None:
        """Sync below ``fs``; ``remove`` removes a job's file and body."""
        self._fs = fs
        self._remove = remove
        self._jobs: list[tuple[int, JobName]] = []

    @property
    def waiting(self) -> bool:
        """Whether sync() has anything to do."""
        return bool(self._jobs)

    def add(self, fd: int, name: JobName) -> bool:
        """Take over a job's locked descriptor, unless too many wait already."""
        if len(self._jobs) >= ENDING:
            return False
        self._jobs.append((fd, name))
        return True

    def sync(self) -> None:
        """Sync each file, then remove it, then give its lock away.

        A file whose sync fails is left, with its lines, to whoever claims it next.
        """
        while self._jobs:
            fd, name = self._jobs[0]
            try:
                self._fs.sync(fd)
                self._remove(name)
            finally:
                self._fs.close(fd)
                del self._jobs[0]


class Marks:
    """The done files that this process appends to.

    write() and note() belong to one thread; sync() may run in another, one at a time.
    """

    def __init__(self, fs: Fs) -> None:
        """Append below ``fs``."""
        self._fs = fs
        self._open: dict[str, int] = {}
        self._dirty: dict[str, set[str]] = {}  # segment -> directories of the jobs marked in it
        self._syncing: dict[str, set[str]] = {}
        self._named: set[str] = set()  # segments whose done file's name is on the disk
        self._gone: list[str] = []  # segments whose done file sync() found removed

    def write(self, segment: str, line: bytes) -> bool:
        """Append ``line`` if the segment still has a done file; tell whether it has."""
        marked = self.has(segment)
        if marked:
            self._fs.write(self._open[segment], line)
        return marked

    def has(self, segment: str) -> bool:
        """Tell whether the segment still has a done file: its jobs had no checkpoint yet."""
        fd = self._descriptor(segment)
        return fd >= 0 and self._fs.stat(fd)[1] > 0  # ours may outlive its name

    def note(self, segment: str, name: JobName) -> None:
        """Have the next sync() make durable what write() wrote about ``name``.

        To be called when its file has been removed: a sync in between would miss that.
        """
        self._dirty.setdefault(segment, set()).add(name.directory)

    def _descriptor(self, segment: str) -> int:
        """Return the descriptor of a segment's done file, or -1 if there is none any more."""
        self._tidy()
        fd = self._open.get(segment, -1)
        if fd < 0:
            try:
                fd = self._fs.open(f"done/{segment}", append=True)
            except FileNotFoundError:
                return -1
            self._open[segment] = fd
        return fd

    def _tidy(self) -> None:
        """Close what is gone, and when many are open those with nothing to sync."""
        unused = [s for s in self._gone if s not in self._dirty]
        self._gone = [s for s in self._gone if s in self._dirty]
        if len(self._open) > OPEN_MARKS:
            busy = (self._dirty, self._syncing)
            unused += [s for s in self._open if not any(s in b for b in busy)]
        for segment in unused:
            fd = self._open.pop(segment, -1)
            if fd >= 0:
                self._fs.close(fd)

    def close(self) -> None:
        """Give all descriptors away."""
        for fd in self._open.values():
            self._fs.close(fd)
        self._open = {}

    @property
    def unsynced(self) -> bool:
        """Whether sync() has anything to do."""
        return bool(self._dirty)

    def sync(self) -> None:
        """Make all that was noted durable.

        A done file that intake removed meanwhile is no mark any more: then the
        directories, from which those jobs' files are gone, are synced.
        """
        self._syncing, self._dirty = self._dirty, {}
        directories: set[str] = set()
        if not self._named.issuperset(self._syncing):
            named = set(self._open)
            self._fs.sync_directory("done")
            self._named = named
        for segment, marked in self._syncing.items():
            fd = self._open[segment]
            self._fs.sync(fd)
            if self._fs.stat(fd)[1] == 0:
                self._gone.append(segment)
                directories |= marked
        self._syncing = {}
        for directory in directories:
            try:
                self._fs.sync_directory(directory)
            except FileNotFoundError:
                pass  # empty and removed
