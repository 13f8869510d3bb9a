"""A job in one process's hands: its body is opened, and what became of it is settled, here.

Invariants, each a property in tests/spool/test_schedules.py
    S6   Only the holder of a job's lock settles it.
    S7   A failed recipient is settled only when its DSN has been accepted.
    S8   Finished work is marked before its job file is removed.
"""

from __future__ import annotations

from mta.errors import SpoolError
from mta.spool import layout
from mta.spool.entry import encode_lines, encode_note
from mta.spool.marks import mark_line
from mta.types import FAILED, FINAL
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.spool.layout import JobName
    from mta.spool.spool import Spool
    from mta.spool.states import Entry, Note, Settlement

__all__ = ["Claim"]


class Claim:
    """A job in this process's hands, until it is settled or released."""

    def __init__(self, spool: Spool, fd: int, name: JobName, entry: Entry, torn: bool) -> None:
        """Hold the locked descriptor ``fd``; ``torn`` if the file's last line has no end."""
        self.name = name
        self.entry = entry
        self.message_gone = False  # whether settle() finished the message's last job
        self._spool = spool
        self._fd = fd
        self._torn = torn
        self._final: set[int] = set()  # recipients that settle() has made final

    def open_body(self) -> int:
        """Return a new descriptor of the body, with an offset of its own.

        Of a body that is still in the journal it is a copy in memory, at most
        ``journal.MEMORY`` octets; else the file.  SpoolError if there is none:
        the message waits for a person or for recovery.
        """
        fs = self._spool.fs
        try:
            data = self._spool.body_in_journal(self.entry)
            return fs.open(layout.body_path(self.name.id)) if data is None else fs.memory(data)
        except OSError as error:
            raise SpoolError(f"no body for {self.name.key}: {error.strerror}") from error

    def settle(self, settlements: Sequence[Settlement], told: str = "", channel: str = "") -> bool:
        """Note what an attempt made of some recipients; return whether the job is finished.

        ``channel`` is who made it, "" for the job's own.
        ``told`` is the id of the DSN that was accepted for the failed ones, or
        "-" where none is owed; SpoolError if a recipient failed and it is "".
        It may be called for some recipients, then for others.
        The job stays claimed until release(), finished or not.
        """
        if self._fd < 0:
            raise SpoolError(f"{self.name.key}: it was given back")
        if not told and any(s.state == FAILED for s in settlements):
            raise SpoolError(f"{self.name.key}: a failure without its DSN")
        final = {s.index for s in settlements if s.state in FINAL}
        over = final | self._final
        finished = all(recipient.index in over for recipient, _ in self.entry.pending)
        segment = self.entry.segment
        try:
            marked = bool(final) and self._spool.marks.write(
                segment, mark_line(self.name, None if finished else final)
            )
            if not (finished and marked):
                self._append(encode_lines(settlements, self._attempts(channel), channel))
            if final and not marked:
                self._settle_file(finished)  # after its checkpoint the file alone counts
            elif finished:
                self._remove()
            if marked:
                self._spool.marks.note(segment, self.name)
        except OSError as error:
            raise SpoolError(f"cannot settle {self.name.path}: {error.strerror}") from error
        self._final = over
        return finished

    def _settle_file(self, finished: bool) -> None:
        """Make the file's last lines durable, and only then remove a finished job.

        A message's only job leaves both to the next sync_marks(), with its lock:
        the caller need not wait for the disk.
        """
        alone = finished and self.entry.envelope.jobs == 1
        if alone and self._spool.ending.add(self._fd, self.name):
            self._fd = -1
            self.message_gone = True
            return
        self._spool.fs.sync(self._fd)
        if finished:
            self._remove()

    def _remove(self) -> None:
        self.message_gone = self._spool.remove(self.name, self.entry.envelope.jobs)

    def note(self, note: Note) -> None:
        """Append a note to the job's file.  SpoolError if the disk does not take it.

        It is durable once the job has had its checkpoint; a power cut before may undo it.
        """
        try:
            self._append(encode_note(note))
            if not self._spool.marks.has(self.entry.segment):
                self._spool.fs.sync(self._fd)
        except OSError as error:
            raise SpoolError(f"cannot note on {self.name.path}: {error.strerror}") from error

    def _attempts(self, channel: str) -> dict[int, int]:
        """Count the attempt by recipients: each has a schedule of its own on each channel."""
        pairs = zip(self.entry.job.recipients, self.entry.states, strict=True)
        return {r.index: state.seen_by(channel).attempts + 1 for r, state in pairs}

    def _append(self, lines: bytes) -> None:
        torn, self._torn = self._torn, True  # until all of it is written
        self._spool.fs.write(self._fd, b"\n" + lines if torn else lines)
        self._torn = False

    def release(self) -> None:
        """Give the job back; no error if it was given back before."""
        if self._fd >= 0:
            self._spool.fs.close(self._fd)
            self._fd = -1
