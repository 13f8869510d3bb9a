"""The queue's side of the spool: what waits, whose it is, and what became of it.

A job belongs to whoever holds the lock of its file.  A deliver claims a job,
opens its body, and settles it: the outcome of each recipient is appended to
the job file, and a job whose recipients are all final is marked as finished,
then removed, and with a message's last job its body.

Finished work is marked in done/SEGMENT as long as that segment is in the
journal, so that recovery does not deliver it again.  Once intake has made a
checkpoint the segment is gone and the job's own file is what counts: then its
last lines are synced before it is removed.

Invariants, each a property in tests/spool/test_schedules.py
    S5   A recipient's state is the last whole line about it in its job file.
    S6   Only the holder of a job's lock settles it.
    S7   A failed recipient is settled only when its DSN has been accepted.
    S8   Finished work is marked before its job file is removed.
    S9   A body's file is removed when its last job is, and never before.
"""

from __future__ import annotations

from mta.errors import SpoolError
from mta.spool import layout, names
from mta.spool.claim import Claim
from mta.spool.entry import Entry, decode
from mta.spool.founding import prepare
from mta.spool.frames import HEAD_OCTETS, read_frame
from mta.spool.fs import Fs
from mta.spool.journal import Writer
from mta.spool.layout import JobName
from mta.spool.marks import Ending, Marks
from mta.spool.places import Places, prepare_places
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mta.spool.places import Paths

__all__ = ["Claim", "Spool"]

JOB_LIMIT = 1 << 25  # octets of a job file that are read: more is no job file


class Spool:
    """A spool below one directory.  One object a process; not shared between threads."""

    def __init__(self, fs: Fs) -> None:
        """Use Spool.open(); this is for tests with a disk of their own."""
        self.fs = fs
        self.marks = Marks(fs)
        self.ending = Ending(fs, self._end)
        self._ready = False

    @classmethod
    def open(
        cls, root: str, fs: Fs | None = None, paths: Paths | None = None, *, alike: bool = False
    ) -> Spool:
        """Open the spool below ``root``; make it if there is none.

        Who makes or takes jobs gives the ``paths`` of queues on other disks: then all
        places are checked, and new ones made.  ``alike``: what root makes in another's
        spool is to be his.  SpoolError if it is of another version, or cannot be read
        or made.
        """
        fs = fs or Fs(root, alike=alike)
        try:
            prepare(fs, root)
        except OSError as error:
            raise SpoolError(f"cannot use the spool {root}: {error.strerror}") from error
        if paths is not None:
            prepare_places(fs, paths)
        return cls(fs)

    def writer(self, paths: Paths | None = None) -> Writer:
        """Return this process's way in; ``paths`` are those of queues on other disks."""
        return Writer(self.fs, places=Places(self.fs, paths or {}))

    @property
    def ready(self) -> bool:
        """Whether recovery has run since the machine started: before that no job may be claimed."""
        if not self._ready:
            boots = self._read_all("boot").decode("ascii", "replace").split("\n")
            self._ready = self.fs.boot() in boots
        return self._ready

    def mark_ready(self) -> None:
        """Note that recovery has run since the machine started."""
        if not self.ready:
            try:
                fd = self.fs.open("boot", append=True)
            except FileNotFoundError:
                fd = self.fs.create("boot")
            try:
                self.fs.write(fd, f"\n{self.fs.boot()}\n".encode())
            finally:
                self.fs.close(fd)
            self._ready = True

    def queues(self) -> list[str]:
        """Return the names of all queues that ever held a job, sorted."""
        return names.queues(self.fs)

    def places(self, queue: str) -> list[int]:
        """Return the places of ``queue`` that there are, in order; 0 is its own directory."""
        return names.places(self.fs, queue)

    def hours(self, queue: str) -> dict[str, list[int]]:
        """Return the hours that ``queue`` has directories of, with the places that have them."""
        return names.hours(self.fs, queue)

    def names(
        self,
        queue: str,
        *,
        newer_than: float | None = None,
        older_than: float | None = None,
        ordered: bool = True,
        sort_limit: int = 0,
    ) -> Iterator[list[JobName]]:
        """Yield the jobs of ``queue`` that arrived after ``newer_than`` and before ``older_than``.

        Lists of at most names.LISTED, some of them empty, the oldest hour first;
        within an hour in order of arrival, or in directory order unless ``ordered``.
        Of an hour with more than ``sort_limit`` jobs, if that is not 0, each list
        is in order by itself.  OSError, when all else has been given, for an hour that
        cannot be read.
        """
        limit = sort_limit if ordered else None
        return names.walk(self.fs, queue, newer_than, older_than, limit)

    def names_for(self, queue: str, host: str) -> Iterator[list[JobName]]:
        """Yield the jobs of ``queue`` for the host of that word, the oldest hour first."""
        return names.walk_host(self.fs, queue, host)

    def count(self, queue: str) -> tuple[int, OSError | None]:
        """Return how many jobs ``queue`` has, and what kept a part of it from being read."""
        return names.count(self.fs, queue)

    def find(self, word: str) -> list[JobName]:
        """Return the jobs that message "ID" still has, or the one "ID.N"; none for no id.

        SpoolError if a queue cannot be read.
        """
        try:
            return names.find(self.fs, word)
        except OSError as error:
            raise SpoolError(f"cannot look for {word}: {_told(error)}") from error

    def peek(self, name: JobName) -> Entry | None:
        """Return what a job's file says, without claiming it; None if it is gone or not whole."""
        return decode(self._read_all(name.path))

    def claim(self, name: JobName) -> Claim | None:
        """Take a job; None if it is gone, not whole, finished, or in another's hands.

        SpoolError if recovery has not run since the machine started.
        """
        if not self.ready:
            raise SpoolError("the spool has not been recovered since the machine started")
        try:
            fd = self.fs.open(name.path, append=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SpoolError(f"cannot open {name.path}: {error.strerror}") from error
        claim = None
        try:
            claim = self._claim(fd, name)
        except OSError as error:
            raise SpoolError(f"cannot take {name.path}: {error.strerror}") from error
        finally:
            if claim is None:
                self.fs.close(fd)
        return claim

    def body_in_journal(self, entry: Entry) -> bytes | None:
        """Return a body that is still in its segment; None if it is a file by now."""
        if entry.body_at < 0:
            return None
        try:
            fd = self.fs.open(f"journal/{entry.segment}")
        except FileNotFoundError:
            return None
        try:
            piece = self.fs.read(fd, HEAD_OCTETS + entry.envelope.size, entry.body_at)
        finally:
            self.fs.close(fd)
        found = read_frame(lambda size, offset: piece[offset : offset + size], 0)
        return None if found is None else found.data

    def _claim(self, fd: int, name: JobName) -> Claim | None:
        if not self.fs.lock(fd):
            return None
        size, links = self.fs.stat(fd)
        if links == 0:
            return None  # finished between our open and our lock
        data = self.fs.read(fd, min(size, JOB_LIMIT), 0)
        entry = decode(data)
        if entry is None:
            return None
        if not entry.pending:
            self.remove(name, entry.envelope.jobs)  # whoever settled it died before this
            return None
        return Claim(self, fd, name, entry, torn=not data.endswith(b"\n"))

    def bury(self, name: JobName) -> bool:
        """Return whether the file of a job that is marked as finished is gone.

        Whoever marked it may have been killed before it removed the file, which still
        says that the job waits: then it is removed here.  Not while its lock is held.
        """
        try:
            fd = self.fs.open(name.path, append=True)
        except FileNotFoundError:
            return True
        try:
            if not self.fs.lock(fd):
                return False
            size, links = self.fs.stat(fd)
            if links:
                entry = decode(self.fs.read(fd, min(size, JOB_LIMIT), 0))
                if entry is None:
                    self.fs.unlink(name.path)  # torn; its body goes as an orphan
                else:
                    self.remove(name, entry.envelope.jobs)
        finally:
            self.fs.close(fd)
        return True

    def remove(self, name: JobName, jobs: int) -> bool:
        """Remove a finished job's file, under its lock; with the last of ``jobs``, the body.

        Return whether it was the last.
        """
        self.fs.unlink(name.path)
        body = layout.body_path(name.id)
        if jobs > 1 and not self._last_of(name, body + ".done", jobs):
            return False
        self.fs.unlink(body)
        if jobs > 1:
            self.fs.unlink(body + ".done")
        return True

    def _end(self, name: JobName) -> None:
        self.remove(name, 1)

    def _last_of(self, name: JobName, path: str, jobs: int) -> bool:
        """Append our number to the message's finished jobs; tell whether all are there.

        Two who finish at the same moment may both see the last: removing twice is harmless.
        """
        fd = self._open_count(path)
        try:
            self.fs.write(fd, b"\n%d;\n" % name.number)
            data = self.fs.read(fd, self.fs.stat(fd)[0], 0)
        finally:
            self.fs.close(fd)
        # A power cut may have left anything in a file that nobody synced: "1" of "\n11;\n", too.
        lines = [line[:-1] for line in data.split(b"\n") if line[-1:] == b";"]
        numbers = {int(line) for line in lines if line.isdigit()}
        return len([number for number in numbers if number < jobs]) >= jobs

    def _open_count(self, path: str) -> int:
        try:
            return self.fs.open(path, append=True)
        except FileNotFoundError:
            self.fs.mkdir(path.rpartition("/")[0])  # the body may have no file yet
            try:
                return self.fs.create(path)
            except FileExistsError:
                return self.fs.open(path, append=True)

    @property
    def unsynced(self) -> bool:
        """Whether something was settled that a power cut could still undo."""
        return self.marks.unsynced or self.ending.waiting

    def sync_marks(self) -> None:
        """Make what was settled durable; call it within ``settle_sync`` (0.1 s) of a settle.

        It may run in another thread than the rest, one call at a time.  SpoolError
        if the disk fails: then a power cut may bring back what was settled.
        """
        try:
            self.marks.sync()
            self.ending.sync()
        except OSError as error:
            raise SpoolError(f"cannot sync what was settled: {error.strerror}") from error

    def close(self) -> None:
        """Sync what was settled, and give all descriptors away.  SpoolError as sync_marks()."""
        self.sync_marks()
        self.marks.close()

    def keep(self, claim: Claim, why: str, about: Sequence[str] = ()) -> str:
        """Copy a claimed message to bad/, synced, for a person; return its path in the spool.

        ``why`` and a line ``about`` each recipient stand before its header.
        """
        path = f"bad/{claim.name.key}"
        self.fs.unlink(path)  # of an earlier try that a crash cut short
        source, target = claim.open_body(), self.fs.create(path)
        try:
            said = [
                f"X-Posthouse-Kept: {why}",
                *(f"X-Posthouse-Recipient: {line}" for line in about),
            ]
            self.fs.write(target, "".join(line + "\r\n" for line in said).encode())
            at = 0
            while data := self.fs.read(source, 1 << 16, at):
                self.fs.write(target, data)
                at += len(data)
            self.fs.sync(target)
            self.fs.sync_directory("bad")
        except OSError as error:
            raise SpoolError(f"cannot keep {path}: {error.strerror}") from error
        finally:
            self.fs.close(source)
            self.fs.close(target)
        return path

    def _read_all(self, path: str) -> bytes:
        try:
            fd = self.fs.open(path)
        except OSError:
            return b""
        try:
            return self.fs.read(fd, JOB_LIMIT, 0)
        finally:
            self.fs.close(fd)


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
