"""What the driver's answers do to a session, by what they answer; and how chunks end.

Source   RFC 5321 s4.1.1.4 and s4.2.5 (the reply to the end of data closes the transaction);
         BDAT: RFC 3030 s2: a refused chunk is read, then answered; LMTP: RFC 2033 s4.2,
         s4.3 (the last chunk has a reply for each recipient, refused or not); AUTH: RFC 4954 s4.
"""

from __future__ import annotations

from mta.errors import LocalProtocolError
from mta.smtp.receive import ChunkReader, DataReader
from mta.smtp.server_events import Chunk, DataEnd, Event, Reset
from mta.smtp.server_replies import GO_AHEAD, wire
from mta.smtp.server_session import Session
from mta.smtp.server_states import BDAT, DATA, MAIL, RCPT, READY, TLS
from mta.types import Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ANSWERS", "chunk_end", "finish"]

_RESET = Reset()
DEAD = 10  # recipients more refused than accepted, before a refusal is an error


def _mail(session: Session, reply: Reply) -> None:
    if reply.code < 300:
        session.state = MAIL
    else:
        session.forget_transaction()
    session.say(reply)


def _rcpt(session: Session, reply: Reply) -> None:
    if reply.code < 300:
        session.accepted += 1
        session.state = RCPT
        session.out.append(wire(reply))
        return
    # A list has its dead addresses; only who guesses has many more of them than others.
    session.refused += reply.code >= 500
    if session.refused > session.accepted + DEAD:
        session.say(reply)
    else:
        session.out.append(wire(reply))


def _data(session: Session, reply: Reply) -> None:
    if reply.code >= 400:
        session.say(reply)
        return
    terms = session.terms
    session.body = DataReader(terms.message_size, terms.lenient)
    session.state = DATA
    session.out.append(wire(reply if reply.code == 354 else GO_AHEAD))


def _bdat(session: Session, reply: Reply) -> None:
    """The chunk comes in any case; it is answered behind its last octet."""
    if reply.code >= 400:
        session.refusal = wire(reply)
        return
    terms = session.terms
    session.body = ChunkReader(terms.message_size, terms.lenient, session.binary)


def _end(session: Session, reply: Reply) -> None:
    finish(session, [reply] * (session.accepted if session.terms.service == "lmtp" else 1))


def finish(session: Session, replies: Sequence[Reply]) -> None:
    """Close the transaction with its final reply, or replies."""
    positive = any(reply.code < 300 for reply in replies)
    if positive:
        session.errors = session.junk = 0
    session.out += [wire(reply) for reply in replies]
    session.forget_transaction()
    session.state = READY
    if any(reply.code == 421 for reply in replies):
        session.end("refused")
    elif not positive and replies[0].code >= 500:
        session.count_error()


def _tls(session: Session, reply: Reply) -> None:
    session.say(reply)
    if reply.code < 300:
        session.state = TLS


def _auth(session: Session, reply: Reply) -> None:
    if reply.code < 300 and not session.authenticated:
        raise LocalProtocolError("AUTH is granted to nobody")
    session.state = READY
    session.say(reply)


def _etrn(session: Session, reply: Reply) -> None:
    session.say(reply)


def _xclient(session: Session, reply: Reply) -> None:
    if reply.code >= 300:
        session.say(reply)
        return
    session.start_over()
    session.greet()


# what the answer is due to → what it does
ANSWERS: dict[str, Callable[[Session, Reply], None]] = {
    "mail": _mail,
    "rcpt": _rcpt,
    "data": _data,
    "bdat": _bdat,
    "end": _end,
    "tls": _tls,
    "auth": _auth,
    "etrn": _etrn,
    "xclient": _xclient,
}


def chunk_end(session: Session) -> Event | None:
    """Do what the end of a chunk asks for."""
    if session.refusal:
        refusal, session.refusal = session.refusal, b""
        opened = session.after in (RCPT, BDAT)
        if opened and session.last and session.terms.service == "lmtp":
            refusal *= session.accepted
        session.state = READY if opened else session.after
        if opened:
            session.forget_transaction()
        session.say_octets(refusal)
        return _RESET if opened else None
    body = session.body
    assert isinstance(body, ChunkReader)
    if not session.last:
        session.state = BDAT
        session.say_fixed("chunk")
        return None
    if not body.ended:
        piece = body.end()
        if piece:
            return Chunk(piece)
    session.due = "end"
    return DataEnd(body.fault)
