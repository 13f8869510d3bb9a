"""A job file: the envelope, closed by a checksum, then one line for each attempt.

    posthouse job 1
    id 0F2J…          from a@example.test     size 4096     flags 8bitmime
    origin …          jobs 1                  recipients 1  segment …    body 42
    number 0
    queue smtp        channel smtp            host mx.example.test   hop %
    to 0 bob@mx.example.test % %
    end 1A2B3C4D
    = 0 deferred 1794550000.123456 1794550300.000000 1 451 4.4.1 host connection refused

(one field a line; shown closer here).  Words are quoted as in ``mta.words``.
Where a DSN was asked for in another way than usual (RFC 3461), a line
``dsn RET ENVID`` stands before the recipients, and two more words, NOTIFY and
ORCPT, on a recipient's line.

Invariants, each a property in tests/spool/test_entry.py
    E1   decode(encode(envelope, job)) gives the envelope and the job back.
    E2   A torn file is None, never a wrong Entry: every proper prefix of the
         envelope, and every changed octet in it, is refused.
    E3   A recipient's state is the last whole line about it (S5): cutting the
         file anywhere after the envelope gives the state before the cut line.
    E4   One recipient with addresses of ordinary length takes under 512 octets.
"""

from __future__ import annotations

import zlib

from mta.types import (
    DEFERRED,
    DELIVERED,
    FAILED,
    FINAL,
    NULL_PATH,
    PENDING,
    Job,
    Mailbox,
    NullPath,
    Outcome,
    Recipient,
    Reply,
)
from mta.values import TYPE_CHECKING, frozen
from mta.words import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mta.types import ReversePath, State

__all__ = [
    "Entry",
    "Envelope",
    "RecipientState",
    "Settlement",
    "decode",
    "decode_envelope",
    "encode",
    "encode_lines",
]

MAGIC = "posthouse job 1"
FIELDS = (
    *("id", "from", "return", "size", "flags", "origin", "jobs", "recipients"),
    *("segment", "body", "number", "queue", "channel", "host", "hop"),
)
FLAGS = ("8bitmime", "smtputf8", "requiretls", "binarymime")
STATES: tuple[State, ...] = (DEFERRED, DELIVERED, FAILED)


@frozen
class Envelope:
    """What all jobs of one message share.

    ``size`` is octets of the body; ``jobs`` and ``recipients`` count those of
    the whole message; ``origin`` says for the log where it came from.  ``ret``
    ("FULL", "HDRS" or "") and ``envid`` are as RFC 3461 has them, decoded;
    ``requiretls`` is RFC 8689's; ``binary`` says that the body is BINARYMIME (RFC 3030):
    CR and LF may stand alone in it.
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


@frozen
class RecipientState:
    """Where one recipient stands; ``last`` and ``retry_at`` are 0 before the first attempt."""

    state: State = PENDING
    attempts: int = 0
    last: float = 0.0
    retry_at: float = 0.0
    outcome: Outcome | None = None

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

    @property
    def pending(self) -> tuple[tuple[Recipient, RecipientState], ...]:
        """The recipients that are not final yet."""
        pairs = zip(self.job.recipients, self.states, strict=True)
        return tuple((r, s) for r, s in pairs if not s.final)


def _address(word: str) -> Mailbox:
    """Read back a mailbox that encode() wrote: local part and domain, each quoted."""
    local, _, domain = word.rpartition("@")
    return Mailbox(unquote(local), unquote(domain))


def _word(mailbox: Mailbox) -> str:
    return f"{quote(mailbox.local)}@{quote(mailbox.domain)}"


def _path(word: str) -> ReversePath:
    return NULL_PATH if word == "%" else _address(word)


def _path_word(path: ReversePath) -> str:
    return "%" if isinstance(path, NullPath) else _word(path)


def encode(envelope: Envelope, job: Job, segment: str, body_at: int = -1) -> bytes:
    """Return the file of a job that nobody has tried yet."""
    needs = (envelope.eight_bit, envelope.smtputf8, envelope.requiretls, envelope.binary)
    flags = [name for name, needed in zip(FLAGS, needs, strict=True) if needed]
    lines = [
        MAGIC,
        f"id {envelope.id}",
        f"from {_path_word(envelope.reverse_path)}",
        f"return {_path_word(job.reverse_path)}",
        f"size {envelope.size}",
        f"flags {','.join(flags) or '-'}",
        f"origin {quote(envelope.origin)}",
        f"jobs {envelope.jobs}",
        f"recipients {envelope.recipients}",
        f"segment {segment}",
        f"body {body_at}",
        f"number {job.number}",
        f"queue {job.queue}",
        f"channel {job.channel}",
        f"host {quote(job.host)}",
        f"hop {quote(job.next_hop)}",
    ]
    if envelope.ret or envelope.envid:
        lines.append(f"dsn {quote(envelope.ret)} {quote(envelope.envid)}")
    for r in job.recipients:
        original = "%" if r.original is None else _word(r.original)
        asked = f" {quote(r.notify)} {quote(r.orcpt)}" if r.notify or r.orcpt else ""
        lines.append(f"to {r.index} {_word(r.mailbox)} {quote(r.action)} {original}{asked}")
    text = "\n".join(lines).encode() + b"\n"
    return text + b"end %08X\n" % zlib.crc32(text)


def encode_lines(settlements: Iterable[Settlement], attempts: int) -> bytes:
    """Return the lines that an attempt appends; ``attempts`` counts it."""
    out = []
    for s in settlements:
        reply = s.outcome.reply
        out.append(
            f"= {s.index} {s.state} {s.at:.6f} {s.retry_at:.6f} {attempts} {reply.code} "
            f"{reply.status} {s.outcome.scope} {Reply.clean(reply.text)}\n"
        )
    return "".join(out).encode()


def decode(data: bytes) -> Entry | None:
    """Return what a job file says; None if it is not whole."""
    end = data.find(b"\nend ") + 1
    if end == 0 or data[end : end + 13] != b"end %08X\n" % zlib.crc32(data[:end]):
        return None
    try:
        return _decode(data[:end].decode(), data[end + 13 :])
    except (ValueError, IndexError):
        return None


def decode_envelope(data: bytes) -> Envelope:
    """Return the envelope of a job file that is known to be whole."""
    lines = data.decode().split("\n")
    return _envelope(_fields(lines), _asked(lines))


def _fields(lines: list[str]) -> list[str]:
    """Return the values of the fields, which stand in the order of FIELDS."""
    if lines[0] != MAGIC:
        raise ValueError("no job file")
    pairs = [line.partition(" ") for line in lines[1 : 1 + len(FIELDS)]]
    if tuple([name for name, _, _ in pairs]) != FIELDS:
        raise ValueError("a job file of another kind")
    return [value for _, _, value in pairs]


def _asked(lines: list[str]) -> list[str]:
    """Return the words of the ``dsn`` line, or [] if there is none."""
    words = lines[1 + len(FIELDS)].split(" ")
    return words[1:] if words[0] == "dsn" else []


def _envelope(value: list[str], asked: list[str]) -> Envelope:
    flags = value[4].split(",")
    ret, envid = asked or ("", "")
    return Envelope(
        value[0],
        _path(value[1]),
        int(value[3]),
        "8bitmime" in flags,
        "smtputf8" in flags,
        unquote(value[5]),
        int(value[6]),
        int(value[7]),
        unquote(ret),
        unquote(envid),
        "requiretls" in flags,
        "binarymime" in flags,
    )


def _decode(head: str, tail: bytes) -> Entry | None:
    lines = head.split("\n")
    value, asked = _fields(lines), _asked(lines)
    recipients = [_recipient(line) for line in lines[1 + len(FIELDS) + bool(asked) : -1]]
    job = Job(
        int(value[10]),
        value[11],
        value[12],
        unquote(value[13]),
        unquote(value[14]),
        _path(value[2]),
        tuple(recipients),
    )
    return Entry(_envelope(value, asked), job, value[8], int(value[9]), _states(recipients, tail))


def _recipient(line: str) -> Recipient:
    _, index, mailbox, action, original, *asked = line.split(" ")
    was = None if original == "%" else _address(original)
    if not asked:
        return Recipient(int(index), _address(mailbox), unquote(action), was)
    notify, orcpt = asked
    to, do = _address(mailbox), unquote(action)
    return Recipient(int(index), to, do, was, unquote(notify), unquote(orcpt))


def _states(recipients: list[Recipient], tail: bytes) -> tuple[RecipientState, ...]:
    """Apply the attempts' lines in order; a line that is not whole is no line (S5)."""
    states = {r.index: RecipientState() for r in recipients}
    if tail:
        for line in tail.split(b"\n")[:-1]:
            told = _line(line)
            if told is not None and told[0] in states and not states[told[0]].final:
                states[told[0]] = told[1]
    return tuple(states.values())


def _line(line: bytes) -> tuple[int, RecipientState] | None:
    try:
        sign, index, state, at, retry_at, attempts, code, status, scope, text = line.decode().split(
            " ", 9
        )
        if sign != "=" or state not in STATES or "\0" in text:
            return None
        outcome = Outcome(Reply(int(code), status, text), scope)  # type: ignore[arg-type]
        known = STATES[STATES.index(state)]
        return int(index), RecipientState(known, int(attempts), float(at), float(retry_at), outcome)
    except ValueError:
        return None
