"""Intake: what has been accepted becomes bodies and jobs.

One process at a time holds the intake lock, follows the segments of the
journal, and makes from each record job files in q.QUEUE/, unsynced, and of a
large body its file in msg/; a small body stays in its segment.  Mail that is
delivered at once never costs another sync, nor a copy.

What has been read stands in line (line.py) until its jobs are made, a batch at a time,
so that a flood holds up nobody else's mail.

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
from mta.policy.order import HORIZON, Order
from mta.spool import layout
from mta.spool.entry import Envelope, decode_envelope, mode_of
from mta.spool.following import Followed, Window
from mta.spool.layout import JobName
from mta.spool.line import Line
from mta.spool.making import Maker
from mta.spool.marks import read_marks
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mta.spool.journal import Synced
    from mta.spool.line import Record
    from mta.spool.spool import Spool

__all__ = ["Intake", "take_in", "try_lock"]

CHECKPOINT_AGE = 30.0  # seconds that a complete segment waits for its mail to be delivered
CHECKPOINT_SEGMENTS = 1000  # complete segments beyond which the oldest are not waited for
CHECKPOINT_OCTETS = 1 << 28  # octets of complete segments, likewise
CHECKPOINT_SLICE = 200  # jobs synced by one call: new mail does not wait for old
FOLLOWED = 10_000  # segments that a survey finds; each has a descriptor, half of ours at most
PUT_OFF = HORIZON  # behind all that has come by then; only what comes in a flood later passes, too
AHEAD = 256  # messages that are looked at in a step while the line is full
MARKS_LIMIT = 1 << 26
BATCH = 64  # messages, or jobs, that are made before delivers are told of them


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


class Intake:
    """The queue's side of the journal; holds the intake lock as long as it lives."""

    def __init__(
        self,
        spool: Spool,
        on_jobs: Callable[[list[JobName]], None],
        on_message: Callable[[Envelope], None],
        clock: Callable[[], float] = time.time,
        rings: Callable[[str, str], bool] = lambda queue, mode: True,
        order: Order | None = None,
    ) -> None:
        """Follow the journal of ``spool``, under the intake lock that the caller holds.

        ``on_jobs`` is told the jobs of each step, to wake delivers; only those of which
        ``rings`` says so, by their queue and by what mode their message asks for;
        ``on_message`` the envelope of each message that is new, to log it.  ``order`` says
        whose jobs are made first where more has come than can be made at once.
        """
        self._spool = spool
        self._fs = spool.fs
        self._clock = clock
        self._on_jobs = on_jobs
        self._on_message = on_message
        self._rings = rings
        self._followed: dict[str, Followed] = {}
        self._surveyed = False
        self._room = min(FOLLOWED, spool.fs.descriptors() // 2)
        self._more = False  # whether the last survey has seen segments that found no room
        self._named = False  # whether this step has synced the names in journal/
        self._maker = Maker(spool, trusting=spool.ready)
        self._line = Line(Order() if order is None else order)
        self._turns = 0

    @property
    def waiting(self) -> int:
        """How many messages stand in line; more may stand behind them in the journal."""
        return len(self._line)

    @property
    def behind(self) -> bool:
        """Whether more could be taken in at once."""
        return bool(self._line) or any(f.unread for f in self._followed.values())

    @property
    def crowded(self) -> bool:
        """Whether segments wait until others are removed, and there are such as can be."""
        return self._more and any(f.complete_since for f in self._followed.values())

    def told(self, synced: Synced) -> None:
        """Note how far a writer has synced a segment."""
        followed = self._followed.get(synced.segment)
        if followed is None:
            if len(self._followed) >= self._room + self._room // 2:
                return  # new mail has room that old segments have not, but no more
            try:
                followed = self._follow(synced.segment)
            except OSError:
                return  # the next survey finds it, and says what the disk says
        if followed is not None:
            followed.told = max(followed.told, synced.offset)

    def step(self, survey: bool = True, most: int = BATCH) -> int:
        """Take in what has been accepted, about ``most`` messages; return how many.

        With ``survey`` the journal is listed, which finds segments that no
        wake-up named, as many as there is room for, and writers that are gone.  Before the
        first of them has ended all that is followed is taken in.  SpoolError if the disk
        fails: what was not taken in is taken in by a later step.
        """
        self._named = False
        try:
            if survey:
                self._survey()
            for followed in self._followed.values():
                followed.allow(self._sync_names)
            self._fill()
            if self._line.full and self._maker.trusting:
                self._look_ahead()
            taken = self._make_some(most)
            while self.behind and not self._maker.trusting:
                self._fill()
                taken += self._make_some(most)
            if survey and not self._more:
                self._spool.mark_ready()
                self._maker.trusting = True
        except OSError as error:
            raise SpoolError(f"intake: {error.strerror}: {error.filename or ''}") from error
        return taken

    def catch_up(self) -> int:
        """Take in all that is there; return how many messages.  SpoolError if the disk fails.

        Where no segment can be let go just now, those behind are for a later pass.
        """
        taken = 0
        while (count := self.step()) or self.crowded:
            taken += count
            if not count:
                before = len(self._followed)
                self.checkpoint(at_once=True)  # makes room for those behind
                if len(self._followed) == before:
                    break
        return taken

    def _sync_names(self) -> None:
        """Sync the names of segments, once a step."""
        if not self._named:
            self._fs.sync_directory("journal")
            self._named = True

    def _fill(self) -> None:
        """Read on, a slice of each segment in turn, until all is read or the line is full."""
        while reading := [f for f in self._followed.values() if f.unread]:
            for followed in sorted(reading, key=lambda each: each.turn):
                if self._line.full:
                    return
                self._turns += 1
                followed.turn = self._turns
                followed.read(self._line)

    def _look_ahead(self) -> None:
        """Look for who may pass, at AHEAD messages, a slice of each segment in turn."""
        seen = 0
        unseen = [followed for followed in self._followed.values() if followed.unseen]
        while unseen and seen < AHEAD:
            followed = min(unseen, key=lambda each: each.scouted)
            self._turns += 1
            followed.scouted = self._turns
            found = followed.look_ahead(self._line)
            seen += found
            if not (found and followed.unseen):
                unseen.remove(followed)

    def _make_some(self, most: int) -> int:
        """Make the jobs of those who stand first in line; return of how many messages.

        Those whose jobs cannot be made, perhaps those of one queue, keep back no others.
        """
        made: list[JobName] = []
        taken = failed = 0
        trouble: OSError | None = None
        while taken + failed < most and len(made) < BATCH and (first := self._line.first):
            try:
                made += self._make(*first)
            except OSError as error:
                trouble, failed = trouble or error, failed + 1
                self._line.put_off()
                continue
            self._line.leave()
            taken += 1
        self._line.put_back(self._clock() + PUT_OFF)
        if made:
            self._on_jobs(made)  # also where the disk fails: they are not made again
        if trouble is not None:
            raise trouble
        return taken

    def _survey(self) -> None:
        segments = self._fs.list("journal")
        if not self._surveyed:
            for name in set(self._fs.list("done")).difference(segments):
                if layout.valid_id(name):
                    self._fs.unlink(f"done/{name}")  # an intake died between the two removals
            self._surveyed = True
        self._more = False
        for name in sorted(segments):
            if name not in self._followed:
                if len(self._followed) >= self._room:
                    self._more = True
                    break
                self._follow(name)
        for followed in self._followed.values():
            if not followed.complete_since and self._fs.lock(followed.fd):
                followed.complete_since = self._clock()

    def _follow(self, name: str) -> Followed | None:
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
        followed = self._followed[name] = Followed(self._fs, name, fd)
        return followed

    def _make(self, record: Record, followed: Followed) -> list[JobName]:
        """Make a message's jobs; return those of which delivers are told."""
        closing = record.closing
        read = Window(self._fs, followed.fd).read
        jobs, new = self._maker.make(closing, read, record.pieces, followed.name)
        for job in jobs:
            followed.jobs[job.key] = (job, closing.body_at)
        names: Iterable[JobName | None] = jobs
        if len(jobs) < len(closing.files):  # of finished jobs, too: see _remove
            names = [self._maker.name(path) for path, _ in closing.files]
        followed.directories.update([name.directory for name in names if name is not None])
        if new:
            self._on_message(decode_envelope(closing.files[0][1]))
        mode = mode_of(closing.files[0][1])
        return [job for job in jobs if self._rings(job.queue, mode)]

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
                if followed.taken and not followed.jobs:
                    octets -= followed.offset
                    finished.append(followed)
            self._remove(finished)
        except OSError as error:
            raise SpoolError(f"checkpoint: {error.strerror}: {error.filename or ''}") from error
        return len(complete) - len(finished)

    def _sync_waiting(self, followed: Followed, most: int | None) -> int:
        """Sync up to ``most`` of a segment's waiting jobs; return how many."""
        waiting = [job for key, job in followed.jobs.items() if key not in followed.over][:most]
        try:
            self._maker.sync(waiting, Window(self._fs, followed.fd).read)
        except OSError:
            # S10: the kernel may have dropped those pages, and the next sync would not say so.
            followed.pinned = True
            raise
        for name, _ in waiting:
            del followed.jobs[name.key]
        return len(waiting)

    def _read_marks(self, followed: Followed) -> None:
        fd = self._fs.open(f"done/{followed.name}")
        try:
            data = self._fs.read(fd, MARKS_LIMIT, followed.marked)
        finally:
            self._fs.close(fd)
        whole = data[: data.rfind(b"\n") + 1]
        followed.marked += len(whole)
        finished = [key for key, left in read_marks(whole).items() if left is None]
        followed.over.update([key for key in finished if key in followed.jobs])
        for key in [key for key in followed.over if self._spool.bury(followed.jobs[key][0])]:
            followed.over.discard(key)
            del followed.jobs[key]

    def _remove(self, finished: list[Followed]) -> None:
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
        intake.catch_up()
        intake.checkpoint()
    finally:
        intake.close()
        spool.fs.close(lock)
    return True
