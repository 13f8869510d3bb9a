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
ORCPT, on a recipient's line; a message that is not normal has a line
``way KIND PRECEDENCE EXPIRES MODE`` there.

An attempt of another channel than the job's own begins with ``=CHANNEL``: to each
channel its own schedule.  A line ``! WORD AT WHO TEXT`` is a note: ``hold`` and
``release``, ``due`` (try it now), ``warned`` (its author was told of the delay).

Invariants, each a property in tests/spool/test_entry.py
    E1   decode(encode(envelope, job)) gives the envelope and the job back.
    E2   A torn file is None, never a wrong Entry: every proper prefix of the
         envelope, and every changed octet in it, is refused.
    E3   A recipient's state is the last whole line about it (S5): cutting the
         file anywhere after the envelope gives the state before the cut line.
    E4   One recipient with addresses of ordinary length takes under 512 octets.
    E5   Of the notes of a word the last whole one counts; ``hold`` and ``release`` are one word.
"""

from __future__ import annotations

import zlib

from mta.spool.states import (
    DUE,
    HOLD,
    RELEASE,
    WARNED,
    Entry,
    Envelope,
    Note,
    RecipientState,
    Settlement,
)
from mta.types import (
    DEFERRED,
    DELIVERED,
    FAILED,
    NORMAL,
    NULL_PATH,
    PENDING,
    Job,
    Mailbox,
    NullPath,
    Outcome,
    Recipient,
    Reply,
)
from mta.values import TYPE_CHECKING, replace
from mta.words import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mta.types import ReversePath, State

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
    "decode",
    "decode_envelope",
    "encode",
    "encode_lines",
    "encode_note",
    "mode_of",
]

MAGIC = "posthouse job 1"
FIELDS = (
    *("id", "from", "return", "size", "flags", "origin", "jobs", "recipients"),
    *("segment", "body", "number", "queue", "channel", "host", "hop"),
)
FLAGS = ("8bitmime", "smtputf8", "requiretls", "binarymime", "pinned")
STATES: tuple[State, ...] = (DEFERRED, DELIVERED, FAILED)
_NOTES = {HOLD: HOLD, RELEASE: HOLD, DUE: DUE, WARNED: WARNED}  # which word replaces which


_NEW = RecipientState()
_USUAL = (NORMAL, 0, 0.0, "")


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
    e = envelope
    needs = (e.eight_bit, e.smtputf8, e.requiretls, e.binary, e.pinned)
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
    way = (envelope.kind, envelope.precedence, envelope.expires, envelope.mode)
    if way != _USUAL:
        lines.append(f"way {way[0]} {way[1]} {way[2]:.6f} {quote(way[3])}")
    for r in job.recipients:
        original = "%" if r.original is None else _word(r.original)
        asked = f" {quote(r.notify)} {quote(r.orcpt)}" if r.notify or r.orcpt else ""
        lines.append(f"to {r.index} {_word(r.mailbox)} {quote(r.action)} {original}{asked}")
    text = "\n".join(lines).encode() + b"\n"
    return text + b"end %08X\n" % zlib.crc32(text)


def encode_note(note: Note) -> bytes:
    """Return the line of a note."""
    text = Reply.clean(note.text)
    return f"! {note.word} {note.at:.6f} {quote(note.who)} {text}\n".encode()


def encode_lines(
    settlements: Iterable[Settlement], attempts: int | Mapping[int, int], channel: str = ""
) -> bytes:
    """Return the lines that an attempt appends; ``attempts`` counts it, for all or by recipient.

    ``channel`` is who made it, "" for the job's own.
    """
    out = []
    for s in settlements:
        reply, count = s.outcome.reply, attempts if isinstance(attempts, int) else attempts[s.index]
        out.append(
            f"={channel} {s.index} {s.state} {s.at:.6f} {s.retry_at:.6f} {count} {reply.code} "
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
    return _envelope(_fields(lines), *_optional(lines)[:2])


def mode_of(data: bytes) -> str:
    """Return the mode that a job file's message asks for; of most it is "", at no cost."""
    return decode_envelope(data).mode if b"\nway " in data else ""


def _fields(lines: list[str]) -> list[str]:
    """Return the values of the fields, which stand in the order of FIELDS."""
    if lines[0] != MAGIC:
        raise ValueError("no job file")
    pairs = [line.partition(" ") for line in lines[1 : 1 + len(FIELDS)]]
    if tuple([name for name, _, _ in pairs]) != FIELDS:
        raise ValueError("a job file of another kind")
    return [value for _, _, value in pairs]


def _optional(lines: list[str]) -> tuple[list[str], list[str], int]:
    """Return the words of the lines ``dsn`` and ``way``, [] where there is none, and what follows.

    That is the number of the first line behind them.
    """
    found: dict[str, list[str]] = {}
    at = 1 + len(FIELDS)
    for name in ("dsn", "way"):
        words = lines[at].split(" ")
        if words[0] == name:
            found[name] = words[1:]
            at += 1
    return found.get("dsn", []), found.get("way", []), at


def _envelope(value: list[str], asked: list[str], way: list[str]) -> Envelope:
    flags = value[4].split(",")
    ret, envid = asked or ("", "")
    kind, precedence, expires, mode = way or (NORMAL, "0", "0", "%")
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
        kind,
        int(precedence),
        float(expires),
        unquote(mode),
        "pinned" in flags,
    )


def _decode(head: str, tail: bytes) -> Entry | None:
    lines = head.split("\n")
    value, (asked, way, begin) = _fields(lines), _optional(lines)
    recipients = [_recipient(line) for line in lines[begin:-1]]
    job = Job(
        int(value[10]),
        value[11],
        value[12],
        unquote(value[13]),
        unquote(value[14]),
        _path(value[2]),
        tuple(recipients),
    )
    envelope = _envelope(value, asked, way)
    return Entry(envelope, job, value[8], int(value[9]), *_after(recipients, tail))


def _recipient(line: str) -> Recipient:
    _, index, mailbox, action, original, *asked = line.split(" ")
    was = None if original == "%" else _address(original)
    if not asked:
        return Recipient(int(index), _address(mailbox), unquote(action), was)
    notify, orcpt = asked
    to, do = _address(mailbox), unquote(action)
    return Recipient(int(index), to, do, was, unquote(notify), unquote(orcpt))


def _after(
    recipients: list[Recipient], tail: bytes
) -> tuple[tuple[RecipientState, ...], tuple[Note, ...]]:
    """Apply the lines behind the envelope in order; one that is not whole is no line (S5)."""
    states = {r.index: _NEW for r in recipients}
    notes: dict[str, Note] = {}
    if tail:
        for line in tail.split(b"\n")[:-1]:
            if line[:1] == b"!":
                note = _note(line)
                if note is not None:
                    notes[_NOTES[note.word]] = note
                continue
            told = _line(line)
            if told is not None and told[0] in states and not states[told[0]].final:
                states[told[0]] = _follows(states[told[0]], told[1])
    return tuple(states.values()), tuple(notes.values())


def _follows(before: RecipientState, state: RecipientState) -> RecipientState:
    """Return ``state`` with what it must remember of ``before``: another channel's last attempt."""
    if before.state == PENDING or (before.channel == state.channel and not before.others):
        return state
    others = {other.channel: other for other in before.others}
    others[before.channel] = replace(before, others=())
    others.pop(state.channel, None)
    return replace(state, others=tuple(others.values()))


def _note(line: bytes) -> Note | None:
    try:
        _, word, at, who, text = line.decode().split(" ", 4)
        return Note(word, float(at), unquote(who), text) if word in _NOTES else None
    except ValueError:
        return None


def _line(line: bytes) -> tuple[int, RecipientState] | None:
    try:
        sign, index, state, at, retry_at, attempts, code, status, scope, text = line.decode().split(
            " ", 9
        )
        if sign[:1] != "=" or state not in STATES or "\0" in text:
            return None
        outcome = Outcome(Reply(int(code), status, text), scope)  # type: ignore[arg-type]
        known = STATES[STATES.index(state)]
        times = float(at), float(retry_at)
        return int(index), RecipientState(known, int(attempts), *times, outcome, sign[1:])
    except ValueError:
        return None
