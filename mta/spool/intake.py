"""Intake: what has been accepted becomes bodies and jobs.

One process at a time holds the intake lock, follows the segments of the
journal, and makes from each record job files in q.QUEUE/, unsynced, and of a
large body its file in msg/; a small body stays in its segment.  Mail that is
delivered at once never costs another sync, nor a copy.

There is no second path for bad days: after a crash the same loop reads the
segments that are left, skips what done/ marks, and makes whatever is missing
or torn again.  Until it has caught up once since the machine started, no job
may be claimed (``Spool.ready``).

A segment goes when its writer is gone and each of its jobs is finished, or,
at a checkpoint, when those that still wait have files, bodies too, that are synced.

Invariants, each a property in tests/spool/test_schedules.py
    S2   All jobs of a message are accepted together, or none.
    S3   msg/ and q.* are made from the journal; what a crash takes from them is
         made again before any of those jobs can be claimed.
    S4   A segment is removed only when each of its messages is finished, or
         checkpointed: body, jobs and directories synced.
"""

from __future__ import annotations

import time

from mta.errors import SpoolError
from mta.spool import layout
from mta.spool.entry import Envelope, decode_envelope, mode_of
from mta.spool.frames import BODY, MESSAGE, SEGMENT, Closing, read_frame
from mta.spool.layout import JobName
from mta.spool.making import Maker
from mta.spool.marks import read_marks
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.spool.fs import Fs
    from mta.spool.journal import Synced
    from mta.spool.spool import Spool

__all__ = ["Intake", "take_in", "try_lock"]

CHECKPOINT_AGE = 30.0  # seconds that a complete segment waits for its mail to be delivered
CHECKPOINT_SEGMENTS = 1000  # complete segments beyond which the oldest are not waited for
CHECKPOINT_OCTETS = 1 << 28  # octets of complete segments, likewise
CHECKPOINT_SLICE = 200  # jobs synced by one call: new mail does not wait for old
MARKS_LIMIT = 1 << 26
WINDOW = 1 << 18  # octets of a segment read at a time


def try_lock(spool: Spool) -> int | None:
    """Take the intake lock; return the descriptor that holds it, or None if another has it."""
    try:
        fd = spool.fs.open("intake.lock", append=True)
    except FileNotFoundError:
        try:
            fd = spool.fs.create("intake.lock")
        except FileExistsError:
            fd = spool.fs.open("intake.lock", append=True)
    if spool.fs.lock(fd):
        return fd
    spool.fs.close(fd)
    return None


class _Followed:
    """A segment on its way from the journal to the queue."""

    def __init__(self, name: str, fd: int, now: float) -> None:
        self.name = name
        self.fd = fd
        self.offset = 0  # where the next message begins
        self.told = 0  # how far its writer said that it is synced
        self.complete_since = 0.0  # when its writer was first seen gone; 0 while it lives
        # Jobs made or found and not marked yet: name, and where the body's frame begins.
        self.jobs: dict[str, tuple[JobName, int]] = {}
        self.directories: set[str] = set()  # where its jobs lie or lay
        self.marked = 0  # octets of the done file read
        self.pinned = False  # a sync of its jobs failed: it stays until all are finished
        self.begun = now


class _Window:
    """Reads a segment in large pieces: small frames cost no system call each."""

    def __init__(self, fs: Fs, fd: int) -> None:
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


class Intake:
    """The queue's side of the journal; holds the intake lock as long as it lives."""

    def __init__(
        self,
        spool: Spool,
        on_jobs: Callable[[list[JobName]], None],
        on_message: Callable[[Envelope], None],
        clock: Callable[[], float] = time.time,
        rings: Callable[[str, str], bool] = lambda queue, mode: True,
    ) -> None:
        """Follow the journal of ``spool``, under the intake lock that the caller holds.

        ``on_jobs`` is told the jobs of each step, to wake delivers; only those of which
        ``rings`` says so, by their queue and by what mode their message asks for;
        ``on_message`` the envelope of each message that is new, to log it.
        """
        self._spool = spool
        self._fs = spool.fs
        self._clock = clock
        self._on_jobs = on_jobs
        self._on_message = on_message
        self._rings = rings
        self._followed: dict[str, _Followed] = {}
        self._surveyed = False
        self._named = False  # whether this step has synced the names in journal/
        self._maker = Maker(spool, trusting=spool.ready)

    def told(self, synced: Synced) -> None:
        """Note how far a writer has synced a segment."""
        followed = self._followed.get(synced.segment)
        if followed is None:
            try:
                followed = self._follow(synced.segment)
            except OSError:
                return  # the next survey finds it, and says what the disk says
        if followed is not None:
            followed.told = max(followed.told, synced.offset)

    def step(self, survey: bool = True) -> int:
        """Take in what has been accepted; return how many messages.

        With ``survey`` the journal is listed, which finds segments that no
        wake-up named, and writers that are gone.  SpoolError if the disk fails:
        what was not taken in is taken in by a later step.
        """
        self._named = False
        try:
            if survey:
                self._survey()
            taken = [self._take(followed) for followed in list(self._followed.values())]
            if survey:
                self._spool.mark_ready()
                self._maker.trusting = True
        except OSError as error:
            raise SpoolError(f"intake: {error.strerror}: {error.filename or ''}") from error
        return sum(taken)

    def _survey(self) -> None:
        segments = self._fs.list("journal")
        if not self._surveyed:
            for name in set(self._fs.list("done")).difference(segments):
                if layout.valid_id(name):
                    self._fs.unlink(f"done/{name}")  # an intake died between the two removals
            self._surveyed = True
        for name in sorted(segments):
            if name not in self._followed:
                self._follow(name)
        for followed in self._followed.values():
            if not followed.complete_since and self._fs.lock(followed.fd):
                followed.complete_since = self._clock()

    def _follow(self, name: str) -> _Followed | None:
        """Begin to follow a segment; its done file is made before its first job."""
        if not layout.valid_id(name):
            return None
        try:
            fd = self._fs.open(f"journal/{name}")
        except FileNotFoundError:
            return None
        try:
            self._fs.close(self._fs.create(f"done/{name}"))
            self._maker.learn(name, new=True)
        except FileExistsError:
            self._maker.learn(name, new=False)
        except OSError:
            self._fs.close(fd)
            raise
        followed = self._followed[name] = _Followed(name, fd, self._clock())
        return followed

    def _take(self, followed: _Followed) -> int:
        """Make the messages that stand whole and synced in one segment."""
        size = self._fs.stat(followed.fd)[0]
        if size <= followed.offset:
            return 0
        if followed.told <= followed.offset or (followed.complete_since and followed.told < size):
            # No wake-up spoke of these octets: their writer may have died before
            # its sync.  What is delivered must first have been accepted.
            self._fs.sync(followed.fd)
            if not self._named:
                self._fs.sync_directory("journal")
                self._named = True
            followed.told = size
        return self._read(followed, min(size, followed.told))

    def _read(self, followed: _Followed, limit: int) -> int:
        at, taken, made = followed.offset, 0, []
        pieces: list[tuple[int, int]] = []
        window = _Window(self._fs, followed.fd)
        while at < limit:
            frame = read_frame(window.read, at)
            if frame is None:
                break
            if frame.kind == BODY:
                pieces.append((at, frame.end))
            elif frame.kind == MESSAGE:
                try:
                    made += self._make(followed, window, pieces, frame.data)
                except OSError:
                    self._on_jobs(made)  # those before it are not made again
                    raise
                taken += 1
            if frame.kind in (MESSAGE, SEGMENT):
                pieces = []
                followed.offset = frame.end
            at = frame.end
        if followed.complete_since and at < limit:
            self._set_aside(followed, at, limit)
        if made:
            self._on_jobs(made)
        return taken

    def _make(
        self, followed: _Followed, window: _Window, pieces: list[tuple[int, int]], data: bytes
    ) -> list[JobName]:
        closing = Closing.decode(data)
        jobs, new = self._maker.make(closing, window.read, pieces, followed.name)
        for job in jobs:
            followed.jobs[job.key] = (job, closing.body_at)
        for path, _ in closing.files:  # of finished jobs, too: see _remove
            name = self._maker.name(path)
            followed.directories.update([] if name is None else [name.directory])
        if new:
            self._on_message(decode_envelope(closing.files[0][1]))
        mode = mode_of(closing.files[0][1])
        return [job for job in jobs if self._rings(job.queue, mode)]

    def _set_aside(self, followed: _Followed, at: int, limit: int) -> None:
        """Keep what follows the last whole frame of a complete segment, unless it is one tear.

        A writer that was killed leaves one torn record, of which nobody was
        told; anything after that is damage to accepted mail.
        """
        rest = self._fs.read(followed.fd, limit - at, at)
        if b"\nM " in rest[1:]:
            path = f"bad/journal.{followed.name}"
            self._fs.unlink(path)
            fd = self._fs.create(path)
            try:
                self._fs.write(fd, rest)
                self._fs.sync(fd)
            finally:
                self._fs.close(fd)
            self._fs.sync_directory("bad")
        followed.offset = limit

    def checkpoint(self, at_once: bool = False) -> int:
        """Remove segments that nothing needs any more; return how many complete ones are left.

        Those older than CHECKPOINT_AGE, the oldest beyond CHECKPOINT_SEGMENTS and
        CHECKPOINT_OCTETS, and with ``at_once`` all, go after a sync of what still
        waits, in slices.  SpoolError if the disk fails: the segments stay.
        """
        complete = [f for f in self._followed.values() if f.complete_since]
        octets = sum(f.offset for f in complete)
        slice_left = CHECKPOINT_SLICE
        finished = []
        try:
            for number, followed in enumerate(complete):
                self._read_marks(followed)
                due = (
                    at_once
                    or self._clock() - followed.complete_since >= CHECKPOINT_AGE
                    or len(complete) - number > CHECKPOINT_SEGMENTS
                    or octets > CHECKPOINT_OCTETS
                )
                if due and not followed.pinned and (at_once or slice_left > 0):
                    slice_left -= self._sync_waiting(followed, None if at_once else slice_left)
                if not followed.jobs:
                    octets -= followed.offset
                    finished.append(followed)
            self._remove(finished)
        except OSError as error:
            raise SpoolError(f"checkpoint: {error.strerror}: {error.filename or ''}") from error
        return len(complete) - len(finished)

    def _sync_waiting(self, followed: _Followed, most: int | None) -> int:
        """Sync up to ``most`` of a segment's waiting jobs; return how many."""
        waiting = list(followed.jobs.values())[:most]
        try:
            self._maker.sync(waiting, _Window(self._fs, followed.fd).read)
        except OSError:
            # S10: the kernel may have dropped those pages, and the next sync would not say so.
            followed.pinned = True
            raise
        for name, _ in waiting:
            del followed.jobs[name.key]
        return len(waiting)

    def _read_marks(self, followed: _Followed) -> None:
        fd = self._fs.open(f"done/{followed.name}")
        try:
            data = self._fs.read(fd, MARKS_LIMIT, followed.marked)
        finally:
            self._fs.close(fd)
        whole = data[: data.rfind(b"\n") + 1]
        followed.marked += len(whole)
        for key, recipients in read_marks(whole).items():
            if recipients is None:
                followed.jobs.pop(key, None)

    def _remove(self, finished: list[_Followed]) -> None:
        """Remove segments, then their marks; one sync of each directory serves all.

        The marks may go only when the removal of the jobs they speak of is on
        the disk: otherwise a power cut would bring finished jobs back.
        """
        if not finished:
            return
        self._maker.sync_directories(set().union(*(f.directories for f in finished)))
        for followed in finished:
            self._fs.unlink(f"journal/{followed.name}")
        self._fs.sync_directory("journal")
        for followed in finished:
            self._fs.unlink(f"done/{followed.name}")
            self._fs.close(followed.fd)
            self._maker.forget(followed.name)
            del self._followed[followed.name]

    def close(self) -> None:
        """Stop following; the lock is the caller's to give away."""
        for followed in self._followed.values():
            self._fs.close(followed.fd)
        self._followed = {}


def take_in(spool: Spool, on_message: Callable[[Envelope], None] = lambda envelope: None) -> bool:
    """Take in all that has been accepted, if no intake runs; tell whether we could.

    What a one-shot deliver does first.  SpoolError if the disk fails.
    """
    lock = try_lock(spool)
    if lock is None:
        return False
    intake = Intake(spool, lambda names: None, on_message)
    try:
        while intake.step():
            pass
        intake.checkpoint()
    finally:
        intake.close()
        spool.fs.close(lock)
    return True
