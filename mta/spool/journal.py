"""Writers: each process that accepts mail appends to segments of its own.

begin() gives a draft; the draft takes the body in pieces; commit() appends one
record and syncs it.  Only when commit() has returned may anyone be told 250.

A draft holds up to MEMORY octets of body; a larger body streams into a segment
that this message has for itself, so that frames of two messages never mix and
no body is ever whole in memory.

A writer holds the lock of each segment that it may still append to: a segment
whose lock is free is complete.

Invariants, each a property in tests/spool/test_journal.py or test_spool_machine.py
    J1   (S1) When commit() returns, the record stands whole in a synced segment
         whose name is synced in journal/.
    J2   (S10) After a failed sync nothing more is appended to that segment: it
         is cut back to what was synced, and the next commit begins a new one.
    J3   An aborted draft, and a commit that raised, leave nothing that intake
         would deliver, while the machine stays up.
"""

from __future__ import annotations

import time
import zlib

from mta.errors import SpoolError
from mta.rank import rank
from mta.spool import layout
from mta.spool.entry import Envelope, encode
from mta.spool.frames import BODY, MESSAGE, SEGMENT, Closing, frame, heading
from mta.spool.places import Places
from mta.types import PLAIN
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.spool.fs import Fs
    from mta.types import Job, ReversePath, Wishes

__all__ = ["Draft", "Synced", "Writer"]

MEMORY = 1 << 17  # octets of body that a draft keeps before it takes a segment of its own
START = 1 << 15  # octets in which a header says how urgent it is
PIECE = 1 << 18  # octets of a B frame; what a draft holds fits into one
SEGMENT_LIMIT = 1 << 24  # octets; the next message begins a new segment
SEGMENT_AGE = 60.0  # seconds; so that intake can drop segments of a slow writer, too


@frozen
class Synced:
    """How far a segment is synced: what a wake-up tells intake."""

    segment: str
    offset: int


class _Segment:
    """A segment that this process may append to, under its lock."""

    def __init__(self, fs: Fs, now: float) -> None:
        """Create, lock and begin a segment; OSError if that cannot be."""
        self._fs = fs
        self.begun = now
        self.name, self.fd = self._create(now)
        self.size = 0
        self.synced = 0
        self._named = False  # whether journal/ is known to hold our name after a crash
        try:
            self.append(frame(SEGMENT, self.name.encode()))
        except OSError:
            self.remove()
            raise

    def _create(self, now: float) -> tuple[str, int]:
        while True:
            name = layout.new_id(now)
            fd = self._fs.create(f"journal/{name}")
            # Between create and lock intake may take it for an abandoned one and
            # remove it: then it has no name any more, and we begin another.
            if self._fs.lock(fd) and self._fs.stat(fd)[1] > 0:
                return name, fd
            self._fs.close(fd)

    def append(self, data: bytes) -> None:
        self._fs.write(self.fd, data)
        self.size += len(data)

    def sync(self) -> None:
        """Make what was appended, and the segment's name, durable."""
        self._fs.sync(self.fd)
        if not self._named:
            self._fs.sync_directory("journal")
            self._named = True

    def end(self) -> None:
        """Append no more; give the lock away."""
        self._fs.close(self.fd)

    def cut(self) -> None:
        """Take back what is not synced, as far as a failing disk lets us; then end."""
        try:
            self._fs.truncate(self.fd, self.synced)
        except OSError:
            pass  # nobody was told 250: intake may then deliver it, never lose it
        self.end()

    def remove(self) -> None:
        """Remove a segment that nothing was promised of, as far as a failing disk lets us."""
        try:
            self._fs.unlink(f"journal/{self.name}")
        except OSError:
            pass  # it holds no whole record: intake lets it go
        self.end()


class Draft:
    """A message on its way in: an id, and a body that is not accepted yet.

    The body's octets are RFC 5322 with CRLF line ends, as SMTP's DATA carries
    them but without dot-stuffing; no bare CR or LF may be written, save to a
    draft that is committed as ``binary``.
    """

    def __init__(self, fs: Fs, now: float, ident: str = "") -> None:
        """Begin a message that arrives at ``now``; ``ident`` if it has an id already."""
        self.id = ident or layout.new_id(now)
        self.size = 0
        self.eight_bit = False
        self._fs = fs
        self._now = now
        self._pieces: list[bytes] = []
        self._held = 0
        self._checksum = 0
        self._own: _Segment | None = None
        self._begun = b""  # the first octets of a body that is not held any more

    def write(self, data: bytes) -> None:
        """Add ``data`` to the body.  SpoolError if the disk does not take it."""
        self.size += len(data)
        if not self.eight_bit and not data.isascii():
            self.eight_bit = True
        self._pieces.append(data)
        self._held += len(data)
        if self._held > MEMORY:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._own is None:
                self._begun = self.start()
                self._own = _Segment(self._fs, self._now)
            for data in self._frames(self._take()):
                self._own.append(data)
        except OSError as error:
            raise SpoolError(f"cannot write the journal: {error.strerror}") from error

    def start(self) -> bytes:
        """Return the first octets of the body, with its header but for the longest ones."""
        if self._begun:
            return self._begun
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0][:START] if self._pieces else b""

    def _take(self) -> bytes:
        """Return what is held, and hold nothing."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._held = [], 0
        return body

    def _frames(self, body: bytes) -> list[bytes]:
        """Return ``body``, a part of the whole, as B frames."""
        self._checksum = zlib.crc32(body, self._checksum)
        return [frame(BODY, body[at : at + PIECE]) for at in range(0, len(body), PIECE)]

    def _closing(
        self, segment: str, body_at: int, envelope: Envelope, jobs: Sequence[Job], places: Places
    ) -> bytes:
        """Return the M frame that accepts this draft for ``jobs``."""
        when = layout.hour(self.id)
        files = []
        for job in jobs:
            tag = layout.tag(envelope.kind, self.size, len(job.recipients), job.reverse_path)
            host = layout.host_word(job.host)
            place = places.of(job.queue, self.id, self._now)
            name = layout.JobName(job.queue, when, self.id, job.number, host, tag, place)
            files.append((f"{job.queue}/{name.file}", encode(envelope, job, segment, body_at)))
        return frame(
            MESSAGE, Closing(self.id, self.size, self._checksum, body_at, tuple(files)).encode()
        )

    def into(
        self,
        shared: Callable[[], _Segment],
        envelope: Envelope,
        jobs: Sequence[Job],
        places: Places,
    ) -> _Segment:
        """Append the record to this draft's own segment, or else to ``shared()``, in one write."""
        segment = self._own or shared()
        body, body_at = self._take(), -1
        if self._own is None and 0 < len(body) <= PIECE:
            body_at = segment.size
            head, self._checksum = heading(BODY, body)
            frames = [head, body]
        else:
            frames = self._frames(body)
        frames.append(self._closing(segment.name, body_at, envelope, jobs, places))
        segment.append(b"".join(frames))
        self._own = None
        return segment

    def abort(self) -> None:
        """Forget this message; no error if it was committed or aborted before."""
        self._pieces, self._held = [], 0
        own, self._own = self._own, None
        if own is not None:
            own.remove()


if TYPE_CHECKING:
    Batch = list[tuple[_Segment, int]]  # segments appended to, and their sizes then


class Writer:
    """The one way into the spool for one process.  Not shared between threads."""

    def __init__(
        self, fs: Fs, clock: Callable[[], float] = time.time, places: Places | None = None
    ) -> None:
        """Write to the journal below ``fs``; ``clock`` gives the time of arrival.

        ``places`` says where job files are to lie; else each queue has one place.
        """
        self._fs = fs
        self._places = places or Places(fs, {})
        self._clock = clock
        self._segment: _Segment | None = None
        self._dirty: Batch = []
        self._under_way: set[_Segment] = set()  # of batches that are being synced
        self._broken: set[_Segment] = set()  # of those, what is to be cut when that is over

    def begin(self, again: str = "") -> Draft:
        """Begin a message; ``again``: it arrived when the message of that id did."""
        ident = layout.id_again(again) if again else ""
        return Draft(self._fs, self._clock(), ident)

    def commit(
        self,
        draft: Draft,
        jobs: Sequence[Job],
        reverse_path: ReversePath,
        wishes: Wishes = PLAIN,
    ) -> str:
        """Accept ``draft`` for ``jobs`` and return its id; durable when it returns.

        SpoolError if it could not be made durable: then nothing is accepted, and
        the draft is gone.
        """
        self.append(draft, jobs, reverse_path, wishes)
        self.sync()
        return draft.id

    def append(
        self,
        draft: Draft,
        jobs: Sequence[Job],
        reverse_path: ReversePath,
        wishes: Wishes = PLAIN,
    ) -> None:
        """Append ``draft`` to the journal; it is accepted when sync() has returned."""
        if not jobs:
            raise ValueError("a message without jobs")
        recipients = sum(len(job.recipients) for job in jobs)
        precedence, kind = wishes.precedence, wishes.kind
        if precedence is None or not kind:
            said, meant = rank(draft.start())
            precedence = said if precedence is None else precedence
            kind = kind or meant
        envelope = Envelope(
            draft.id,
            reverse_path,
            draft.size,
            draft.eight_bit,
            wishes.smtputf8,
            wishes.origin,
            len(jobs),
            recipients,
            wishes.ret,
            wishes.envid,
            wishes.requiretls,
            wishes.binary,
            kind,
            precedence,
            wishes.expires,
            wishes.mode,
            wishes.pinned,
        )
        try:
            segment = draft.into(self._shared, envelope, jobs, self._places)
        except OSError as error:
            draft.abort()
            self.fail([])
            raise SpoolError(f"cannot write the journal: {error.strerror}") from error
        self._dirty.append((segment, segment.size))

    def _shared(self) -> _Segment:
        """Return the segment for ordinary messages: the present one, or a new one."""
        now = self._clock()
        held = self._segment
        if held is not None and not (
            held.size < SEGMENT_LIMIT and 0 <= now - held.begun < SEGMENT_AGE
        ):
            self._segment = None
            self._end_unused([held])
        if self._segment is None:
            self._segment = _Segment(self._fs, now)
        return self._segment

    def sync(self) -> list[Synced]:
        """Make all that was appended durable; return how far each segment now is.

        SpoolError if that failed: nothing appended since the last sync is accepted.
        """
        batch = self.take()
        try:
            synced = self.sync_batch(batch)
        except OSError as error:
            self.fail(batch)
            raise SpoolError(f"cannot sync the journal: {error.strerror}") from error
        self.settle(batch)
        return synced

    def take(self) -> Batch:
        """Return what was appended and not synced yet; the caller syncs it."""
        batch, self._dirty = self._dirty, []
        self._under_way.update([segment for segment, _ in batch])
        return batch

    @staticmethod
    def sync_batch(batch: Batch) -> list[Synced]:
        """Sync what take() gave: the one part of a commit that another thread may run."""
        size = dict(batch)
        for segment in size:
            segment.sync()
        for segment, octets in size.items():  # only now: all of it is accepted, or nothing
            segment.synced = max(segment.synced, octets)
        return [Synced(segment.name, octets) for segment, octets in size.items()]

    def settle(self, batch: Batch) -> None:
        """Note that sync_batch() has returned."""
        segments = {segment for segment, _ in batch}
        self._under_way -= segments
        for segment in segments & self._broken:
            segment.cut()
        unbroken = [segment for segment, _ in batch if segment not in self._broken]
        self._broken -= segments
        self._end_unused(unbroken)

    def _end_unused(self, segments: Sequence[_Segment]) -> None:
        """End those segments that nothing more is appended to and nothing is unsynced in."""
        waiting = {segment for segment, _ in self._dirty} | self._under_way
        for segment in dict.fromkeys(segments):
            if segment is not self._segment and segment not in waiting:
                segment.end()

    def fail(self, batch: Batch) -> None:
        """Close every segment that holds unsynced octets: the kernel may have dropped them.

        One that is being synced in another thread is cut when that is over: what
        that sync has made durable is promised.
        """
        segments = {segment for segment, _ in [*batch, *self._dirty]} | self._broken
        if self._segment is not None:
            segments.add(self._segment)
        self._under_way -= {segment for segment, _ in batch}
        self._broken = segments & self._under_way
        for segment in segments - self._broken:
            segment.cut()
        self._segment, self._dirty = None, []

    def close(self) -> None:
        """Give the segment away: intake may finish with it."""
        if self._segment is not None:
            self._segment.end()
            self._segment = None
