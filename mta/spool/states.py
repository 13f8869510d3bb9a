"""What a job file holds, as values: envelope, job, where each recipient stands, notes.

Source   spool(5); entry.py reads and writes them.
Units    Times are float seconds since the epoch, sizes octets.

Invariants, each a property in tests/spool/test_entry.py
    E6   seen_by() gives each channel the state that its own attempts alone made.
"""

from __future__ import annotations

from mta.types import FINAL, NORMAL, PENDING
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from mta.types import Job, Kind, Outcome, Recipient, ReversePath, State

__all__ = [
    "DUE",
    "HOLD",
    "RELEASE",
    "WARNED",
    "Entry",
    "Envelope",
    "Note",
    "RecipientState",
    "Settlement",
]

HOLD, RELEASE, DUE, WARNED = "hold", "release", "due", "warned"


@frozen
class Envelope:
    """What all jobs of one message share.

    ``size`` is octets of the body; ``jobs`` and ``recipients`` count those of
    the whole message; ``origin`` says for the log where it came from.  ``ret``
    ("FULL", "HDRS" or "") and ``envid`` are as RFC 3461 has them, decoded;
    ``requiretls`` is RFC 8689's; ``binary`` says that the body is BINARYMIME (RFC 3030):
    CR and LF may stand alone in it.  ``kind``, ``precedence``, ``expires``, ``mode``
    and ``pinned`` are those of types.Wishes, decided.
    """

    id: str
    reverse_path: ReversePath
    size: int
    eight_bit: bool = False
    smtputf8: bool = False
    origin: str = ""
    jobs: int = 1
    recipients: int = 1
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    binary: bool = False
    kind: Kind | str = NORMAL
    precedence: int = 0
    expires: float = 0.0
    mode: str = ""
    pinned: bool = False


@frozen
class Note:
    """What was noted on a job: HOLD, RELEASE, DUE or WARNED, when, by whom, and why."""

    word: str
    at: float
    who: str
    text: str = ""


@frozen
class RecipientState:
    """Where one recipient stands; ``last`` and ``retry_at`` are 0 before the first attempt.

    ``channel`` is "" where the job's own made the last attempt; ``others`` is where
    other channels of the queue left it.
    """

    state: State = PENDING
    attempts: int = 0
    last: float = 0.0
    retry_at: float = 0.0
    outcome: Outcome | None = None
    channel: str = ""
    others: tuple[RecipientState, ...] = ()

    def seen_by(self, channel: str) -> RecipientState:
        """Return the state that the attempts of ``channel`` ("" = the job's own) alone made."""
        if self.channel == channel or self.state == PENDING:
            return self
        for other in self.others:
            if other.channel == channel:
                return other
        return RecipientState()

    @property
    def final(self) -> bool:
        """Delivered and failed are final."""
        return self.state in FINAL


@frozen
class Settlement:
    """What an attempt at ``at`` made of the recipient ``index``; ``retry_at`` if deferred."""

    index: int
    state: State
    at: float
    retry_at: float
    outcome: Outcome


@frozen
class Entry:
    """A job as its file has it; ``states`` runs parallel to ``job.recipients``.

    ``body_at`` is where the frame of the body begins in ``segment``, or -1 if
    the body has been a file from the beginning.
    """

    envelope: Envelope
    job: Job
    segment: str
    body_at: int
    states: tuple[RecipientState, ...]
    notes: tuple[Note, ...] = ()

    def note(self, word: str) -> Note | None:
        """Return the note that stands for ``word``; of HOLD None once it is released."""
        for note in self.notes:
            if note.word == word:
                return note
        return None

    @property
    def held(self) -> Note | None:
        """The note that holds the job back, if one does."""
        return self.note(HOLD) if self.notes else None

    def own(self, channel: str) -> str:
        """Return ``channel`` as attempt lines have it: "" for the job's own."""
        return "" if channel == self.job.channel else channel

    @property
    def pending(self) -> tuple[tuple[Recipient, RecipientState], ...]:
        """The recipients that are not final yet."""
        pairs = zip(self.job.recipients, self.states, strict=True)
        return tuple([pair for pair in pairs if pair[1].state not in FINAL])
