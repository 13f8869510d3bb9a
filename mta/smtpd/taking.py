"""Taking a message: what MAIL, RCPT and DATA of one session meet, up to the commit.

Source   RFC 5321 s3.3, s4.1.1; RFC 6409 s4.3 (authentication required); RFC 2033
         s4.2 (LMTP: a reply for each recipient; ours are alike).
State    None; a session's is in session.py, a message's in transaction.py.

Invariants, each a test in tests/smtpd/test_taking.py
    TK1  250 to a message is said only after its commit has returned; whatever fails
         before that is a 4yz or 5yz, and nothing is accepted.
    TK2  Recipients are verified at RCPT: who does not exist, or is not for us to
         relay to, is refused there.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mta.pacing import TOO_OLD
from mta.smtp.server_replies import FAULTS, GO_AHEAD
from mta.smtpd import replies
from mta.smtpd.counters import MESSAGES, RECIPIENTS
from mta.smtpd.letter import FULL, Letter
from mta.smtpd.policy import SUBMITS
from mta.smtpd.trace import received, tls_comment, where_from
from mta.smtpd.transaction import Transaction
from mta.types import Reply

if TYPE_CHECKING:
    from mta.smtp.commands import MailFrom, RcptTo
    from mta.smtp.server_events import Chunk, DataBegin, DataEnd
    from mta.smtpd.hall import Hall
    from mta.smtpd.session import Session

__all__ = ["WORDS", "chunk", "data", "data_end", "mail", "rcpt"]

WORDS = ("mail", "rcpt", "data")  # what the log counts
_MAIL, _RCPT, _DATA = range(3)


def mail(session: Session, hall: Hall, event: MailFrom) -> None:
    """Open a transaction, once the client's name is known or a second has passed."""
    if session.naming is None:
        _mail(session, hall, event)
        return

    def answer(_: object) -> None:
        if not session.over:
            _mail(session, hall, event)
            session.go_on()

    session.busy = True
    session.naming.add_done_callback(answer)


def _mail(session: Session, hall: Hall, event: MailFrom) -> None:
    reply = _may_begin(session, hall, event)
    session.count(_MAIL, reply is replies.MAIL_OK)
    if reply is replies.MAIL_OK:
        session.open = Transaction(event.path, event.parameters)
    else:
        session.rejected("MAIL", reply, event.path)
    session.server.answer(reply)


def _may_begin(session: Session, hall: Hall, event: MailFrom) -> Reply:
    if session.port.service in SUBMITS and not (session.relay or session.login):
        return replies.AUTH_FIRST
    if hall.strain.refusing:
        return replies.LOAD_LATER
    limit, now = hall.config.limits.message_rate, time.monotonic()
    if limit:
        if hall.counters.rate(session.key, MESSAGES, now) >= limit:
            return replies.MESSAGE_RATE
        hall.counters.add(session.key, MESSAGES, now)
    size = event.parameters.size
    return replies.MAIL_OK if not size or hall.space.has(size, now) else FULL


def rcpt(session: Session, hall: Hall, event: RcptTo) -> None:
    """Take a recipient, or say why not; perhaps after a pause, which its queue asks for."""
    t = session.open
    assert t is not None
    reply, pause = _recipient(session, hall, t, event)
    if pause > 0:
        session.later(pause, lambda: _answer_rcpt(session, t, event, reply))
    else:
        _answer_rcpt(session, t, event, reply)


def _answer_rcpt(session: Session, t: Transaction, event: RcptTo, reply: Reply) -> None:
    session.count(_RCPT, reply is replies.RCPT_OK)
    if reply is not replies.RCPT_OK:
        session.rejected("RCPT", reply, t.reverse_path, str(event.mailbox))
    session.server.answer(reply)


def _recipient(session: Session, hall: Hall, t: Transaction, event: RcptTo) -> tuple[Reply, float]:
    limit, now = hall.config.limits.recipient_rate, time.monotonic()
    if limit:
        if hall.counters.rate(session.key, RECIPIENTS, now) >= limit:
            return replies.RECIPIENT_RATE, 0.0
        hall.counters.add(session.key, RECIPIENTS, now)
    may_relay = session.relay or session.login != ""
    found = hall.access.recipient(session.port.service, may_relay, event.mailbox)
    if isinstance(found, Reply):
        return found, 0.0
    pace = hall.strain.recipient(session.address, t, found, now)
    if pace.refused:
        return TOO_OLD, 0.0
    if found.left_out:
        hall.left_out(found)
    t.add(found, event.parameters.notify, event.parameters.orcpt)
    return replies.RCPT_OK, pace.pause


def data(session: Session, hall: Hall, _: DataBegin) -> None:
    """Let the body come, if there is room for it."""
    t, now = session.open, time.monotonic()
    assert t is not None
    if hall.space.has(t.parameters.size or 0, now):
        t.letter = _letter(session, hall, t)
        session.octets, session.marked = 0, now
        session.server.answer(GO_AHEAD)
        return
    session.count(_DATA, False)
    session.rejected("DATA", FULL, t.reverse_path)
    session.server.answer(FULL)


def _letter(session: Session, hall: Hall, t: Transaction) -> Letter:
    draft, date, config = hall.group.begin(), hall.date(), hall.config
    origin = where_from(session.helo or session.server.client_name, session.name, session.address)
    tls = "" if session.facts is None else tls_comment(session.facts)
    kind = session.protocol(t.parameters.smtputf8)
    only = t.routed[0].mailbox if len(t.routed) == 1 else None
    trace = received(origin, tls, config.hostname, kind, draft.id, only, date)
    missing = None
    if session.port.service in SUBMITS:
        missing = t.missing(draft.id, config.hostname, date)
    return Letter(draft, trace, config.limits, missing)


def chunk(session: Session, _: Hall, event: Chunk) -> None:
    """Take octets of the body."""
    t = session.open
    session.octets += len(event.octets)
    if t is not None and t.letter is not None:
        t.letter.feed(event.octets)


def data_end(session: Session, hall: Hall, event: DataEnd) -> None:
    """The body is whole: commit it, or refuse it."""
    t, session.marked = session.open, 0.0
    assert t is not None
    assert t.letter is not None
    refusal = FAULTS.get(event.fault)
    if refusal is None:
        t.letter.end()
        refusal = t.letter.refusal
    if refusal is None:
        session.wait(asyncio.get_running_loop().create_task(_commit(session, hall, t)))
    else:
        _answer(session, t, refusal)


async def _commit(session: Session, hall: Hall, t: Transaction) -> None:
    """Commit the message and answer; the client may be gone by then."""
    reply = await hall.commit(t, _origin(session))
    _answer(session, t, reply)
    session.go_on()


def _answer(session: Session, t: Transaction, reply: Reply) -> None:
    session.count(_DATA, reply.positive)
    if not reply.positive:
        session.rejected("END-OF-MESSAGE", reply, t.reverse_path)
    session.forget()
    session.server.answer(reply)


def _origin(session: Session) -> str:
    """Return what the log says of where the message came from, in Postfix's words."""
    if not session.login:
        return f"client={session.client}"
    mechanism = session.exchange.mechanism if session.exchange is not None else "XCLIENT"
    return f"client={session.client}, sasl_method={mechanism}, sasl_username={session.login}"
