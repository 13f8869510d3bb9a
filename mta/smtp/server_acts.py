"""What each command of a client does, once it has come in its turn.

An act takes the session and the line.  It returns the reply, an event (having set what
an answer is due to, if one is), or None when it has queued its reply itself.

Source   RFC 5321 s4.1.1 and s3; HELO and EHLO end a transaction: s4.1.4; SIZE: RFC 1870 s6;
         STARTTLS: RFC 3207 s4; AUTH: RFC 4954 s4; BDAT: RFC 3030 s2; LMTP: RFC 2033 s4.
"""

from __future__ import annotations

from mta.smtp import commands
from mta.smtp.server_events import DataBegin, Event, Reset, StartTls
from mta.smtp.server_replies import FIXED, offer, wire
from mta.smtp.server_session import Session
from mta.smtp.server_states import CHUNK, RCPT, READY, SEQUENCE, START
from mta.types import Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ACTS", "ALONE", "JUNK", "Said", "senseless"]

Said = Event | Reply | bytes | None

ALONE = frozenset((b"DATA", b"RSET", b"QUIT", b"STARTTLS"))  # they have no argument
JUNK = frozenset((b"EHLO", b"HELO", b"LHLO", b"NOOP", b"RSET", b"VRFY", b"EXPN", b"HELP"))

_OBSOLETE = frozenset((b"SEND", b"SOML", b"SAML", b"TURN", b"ATRN"))
_HTTP = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
_HTTP_VERBS = frozenset(_HTTP)

_CONSUMED_MAX = 1 << 26  # a refused chunk is read to its end, if that is not too far
_RESET, _DATA_BEGIN, _START_TLS = Reset(), DataBegin(), StartTls()

_RCPT_OFFERED = frozenset(commands.RCPT_WORDS)
_NOTHING: frozenset[str] = frozenset()
# (is AUTH offered, is the session secured) → the parameters of MAIL that it knows
_MAIL_OFFERED = {
    (auth, secured): frozenset(commands.MAIL_WORDS)
    - ({"AUTH"} if not auth else set())
    - ({"REQUIRETLS"} if not secured else set())
    for auth in (False, True)
    for secured in (False, True)
}


def _hello(session: Session, text: str) -> Said:
    verb = text[:4].upper()
    lmtp = session.terms.service == "lmtp"
    if lmtp != (verb == "LHLO"):
        return FIXED["lhlo" if lmtp else "ehlo"]
    name = commands.hello(text)
    if isinstance(name, Reply):
        return name
    session.client_name = name
    session.esmtp = verb != "HELO"
    if session.esmtp:
        session.out.append(offer(session.terms, session.secured))
    else:
        session.out.append(f"250 {session.terms.hostname}\r\n".encode("ascii", "replace"))
    return _reset(session)


def _reset(session: Session) -> Said:
    """Close the transaction that may be open, and be ready for the next."""
    opened = session.state not in (START, READY)
    session.state = READY
    session.forget_transaction()
    return _RESET if opened else None


def _rset(session: Session, text: str) -> Said:
    session.say_fixed("ok")
    return _reset(session) if session.state != START else None


def _quit(session: Session, text: str) -> Said:
    session.say_fixed("bye")
    session.end("quit")
    return None


def _noop(session: Session, text: str) -> Said:
    return FIXED["ok"]


def _vrfy(session: Session, text: str) -> Said:
    return FIXED["vrfy" if text[4:].strip() else "argument"]


def _expn(session: Session, text: str) -> Said:
    return FIXED["expn"]


def _help(session: Session, text: str) -> Said:
    return FIXED["help"]


def _mail(session: Session, text: str) -> Said:
    terms = session.terms
    if terms.auth_required and not session.authenticated:
        return FIXED["auth first" if session.secured or not terms.tls else "tls first"]
    offered = _NOTHING
    if session.esmtp:
        offered = _MAIL_OFFERED[terms.mechanisms != (), session.secured]
    said = commands.mail(text, offered)
    if isinstance(said, Reply):
        return said
    parameters = said.parameters
    if parameters.size is not None and 0 < terms.message_size < parameters.size:
        return FIXED["size"]
    session.utf8 = parameters.smtputf8
    session.binary = parameters.body == "BINARYMIME"
    session.due = "mail"
    return said


def _rcpt(session: Session, text: str) -> Said:
    if 0 < session.terms.recipients <= session.accepted:
        return FIXED["recipients"]
    said = commands.rcpt(text, _RCPT_OFFERED if session.esmtp else _NOTHING, session.utf8)
    if isinstance(said, Reply):
        return said
    session.due = "rcpt"
    return said


def _data(session: Session, text: str) -> Said:
    if session.binary:
        return FIXED["binary"]
    session.due = "data"
    return _DATA_BEGIN


def _bdat(session: Session, text: str) -> Said:
    said = commands.chunk(text)
    if isinstance(said, Reply):
        session.say(said)
        session.end("protocol")
        return None
    size, last = said
    limit = session.terms.message_size
    met = SEQUENCE[session.state, b"BDAT"]
    bounded = limit > 0 or met is not None
    if size >= 1 << 63 or (bounded and size > limit + _CONSUMED_MAX):
        session.turn_away("size")
        return None
    session.left, session.last, session.after, session.state = size, last, session.state, CHUNK
    if met is not None:
        session.refusal = wire(met)
    elif limit and session.total + size > limit:
        session.refusal = FIXED["size"]
    else:
        session.total += size
        if session.after == RCPT:
            session.due = "bdat"
            return _DATA_BEGIN
    return None


def _starttls(session: Session, text: str) -> Said:
    if session.secured:
        return FIXED["tls again"]
    if not session.terms.tls:
        return FIXED["not offered"]
    session.due = "tls"
    return _START_TLS


def _auth(session: Session, text: str) -> Said:
    if not session.terms.mechanisms:
        return FIXED["not offered"]
    if session.authenticated:
        return FIXED["auth again"]
    if not session.secured:
        return FIXED["auth in the clear"]
    said = commands.auth(text)
    if isinstance(said, Reply):
        return said
    if said.mechanism not in session.terms.mechanisms:
        return FIXED["no mechanism"]
    session.due = "auth"
    return said


def _etrn(session: Session, text: str) -> Said:
    if not session.terms.etrn:
        return FIXED["not offered"]
    said = commands.etrn(text)
    if isinstance(said, Reply):
        return said
    session.due = "etrn"
    return said


def _xclient(session: Session, text: str) -> Said:
    if not session.terms.xclient:
        return FIXED["not offered"]
    said = commands.xclient(text)
    if isinstance(said, Reply):
        return said
    session.due = "xclient"
    return said


def senseless(session: Session, verb: bytes) -> Said:
    """Refuse a verb that is not in ACTS, or has an argument and may have none."""
    if verb in _HTTP_VERBS:
        session.turn_away("http")
        return None
    if verb in ALONE:
        return FIXED["no argument"]
    return FIXED["obsolete" if verb in _OBSOLETE else "unknown"]


ACTS: dict[bytes, Callable[[Session, str], Said]] = {
    b"EHLO": _hello,
    b"HELO": _hello,
    b"LHLO": _hello,
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _data,
    b"BDAT": _bdat,
    b"RSET": _rset,
    b"NOOP": _noop,
    b"QUIT": _quit,
    b"VRFY": _vrfy,
    b"EXPN": _expn,
    b"HELP": _help,
    b"STARTTLS": _starttls,
    b"AUTH": _auth,
    b"ETRN": _etrn,
    b"XCLIENT": _xclient,
}
