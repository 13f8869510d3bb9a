"""Fates: what a reply means for whom, as literal tables.

The scope says whom a reply is about, and so what deliver does with the rest:
a RECIPIENT is refused alone, a MESSAGE with all its recipients, and a HOST
that will not talk is left in peace for a while.  Whatever is about a HOST is
a deferral, even a 5yz: "554 no service here" may be true for an hour, and it
says nothing about a recipient.

Source   RFC 5321 s4.2.1, s4.3.2, s4.5.3.1.10 (552 for 452); RFC 3463; RFC 2034;
         LMTP: RFC 2033 s4.2.

Invariants, each a property in tests/smtp/test_fates.py
    F1   An outcome of scope HOST is a deferral, and so is any lost connection's; one
         that is lost while a message is sent is about the message.
    F2   Otherwise the reply's first digit is kept, and its status agrees with it.
"""

from __future__ import annotations

from mta.smtp.grammar import WireReply, enhanced_status
from mta.smtp.states import (
    AUTH,
    BANNER,
    BDAT,
    BODY,
    DATA,
    EHLO,
    FINAL,
    GREETED,
    HELO,
    LHLO,
    MAIL,
    QUIT,
    RCPT,
    READY,
    RSET,
    STARTTLS,
    TLS,
    State,
)
from mta.types import HOST, MESSAGE, RECIPIENT, Outcome, Reply, Scope

__all__ = ["LOST", "SCOPES", "lost", "of_one", "outcome", "protocol_error"]

# (what the reply answers, its first digit) → whom it is about.
SCOPES: dict[tuple[State, int], Scope] = {
    (BANNER, 4): HOST,
    (BANNER, 5): HOST,
    (EHLO, 4): HOST,
    (EHLO, 5): HOST,
    (HELO, 4): HOST,
    (HELO, 5): HOST,
    (LHLO, 4): HOST,
    (LHLO, 5): HOST,
    (STARTTLS, 4): HOST,
    (STARTTLS, 5): HOST,
    (AUTH, 4): HOST,
    (AUTH, 5): HOST,
    (MAIL, 4): MESSAGE,
    (MAIL, 5): MESSAGE,
    (RCPT, 4): RECIPIENT,
    (RCPT, 5): RECIPIENT,
    (DATA, 4): MESSAGE,
    (DATA, 5): MESSAGE,
    (FINAL, 2): MESSAGE,
    (FINAL, 4): MESSAGE,
    (FINAL, 5): MESSAGE,
    (BDAT, 2): MESSAGE,
    (BDAT, 4): MESSAGE,
    (BDAT, 5): MESSAGE,
    (RSET, 4): HOST,
    (RSET, 5): HOST,
}

# Subject and detail of RFC 3463 where the server gives none: by what the reply
# answers and its code, then by code alone, then "0.0".
_STATUS_AT: dict[tuple[State, int], str] = {
    (RCPT, 550): "1.1",
    (RCPT, 450): "2.0",
    (RCPT, 551): "1.6",
    (RCPT, 552): "2.2",
    (RCPT, 553): "1.3",
    (MAIL, 552): "3.4",
    (MAIL, 553): "1.7",
    (FINAL, 552): "3.4",
    (BDAT, 552): "3.4",
    (AUTH, 454): "7.0",
}
_STATUS: dict[int, str] = {
    421: "3.2",
    451: "3.0",
    452: "3.1",
    500: "5.2",
    501: "5.4",
    502: "5.1",
    503: "5.1",
    504: "5.4",
    530: "7.0",
    535: "7.8",
    555: "5.4",
}

# Where a connection was lost → what we say of it; the reader sees "…: reason".
LOST: dict[State, str] = {
    BANNER: "no greeting",
    EHLO: "no reply to EHLO",
    HELO: "no reply to HELO",
    LHLO: "no reply to LHLO",
    GREETED: "connection lost after the greeting",
    STARTTLS: "no reply to STARTTLS",
    TLS: "no end of the TLS handshake",
    AUTH: "no reply to AUTH",
    READY: "connection lost between messages",
    MAIL: "no reply to MAIL",
    RCPT: "no reply to RCPT",
    DATA: "no reply to DATA",
    FINAL: "no reply to the end of data, so the message may arrive twice",
    BDAT: "no reply to BDAT, so the message may arrive twice",
    RSET: "no reply to RSET",
    QUIT: "no reply to QUIT",
}


def outcome(phase: State, reply: WireReply, accepted: bool = False) -> Outcome:
    """Return what ``reply`` to ``phase`` means; ``accepted``: an earlier RCPT was."""
    code, severity = reply.code, reply.severity
    status = enhanced_status(reply)
    if phase == RCPT and code == 552 and accepted and status in ("", "5.5.3"):
        return Outcome(Reply(452, "4.5.3", reply.text()), RECIPIENT)  # too many recipients
    scope = HOST if code == 421 else SCOPES[phase, severity]
    if not status:
        detail = _STATUS_AT.get((phase, code)) or _STATUS.get(code, "0.0")
        status = f"{severity}.{detail}"
    if scope == HOST and severity == 5:
        text = f"in reply to {phase.upper()}: {code} {status} {reply.text()}"
        return Outcome(Reply(421, "4" + status[1:], text[:500]), HOST)
    return Outcome(Reply(code, status, reply.text()), scope)


def of_one(outcome: Outcome) -> Outcome:
    """Return the outcome of a reply after the dot that is about one recipient (LMTP)."""
    return outcome if outcome.scope == HOST else Outcome(outcome.reply, RECIPIENT)


def lost(phase: State, reason: str) -> Outcome:
    """Return the deferral of a connection that ended in ``phase`` before its time."""
    text = f"{LOST.get(phase, 'connection lost while sending the message')}: {reason}"
    # A host that took the envelope is alive: were it buried, one message at which it
    # breaks would keep all others from it.
    scope = MESSAGE if phase in (BODY, FINAL, BDAT) else HOST
    return Outcome(Reply(421, "4.4.2", text), scope)


def protocol_error(phase: State, reason: str) -> Outcome:
    """Return the deferral for a server that does not speak SMTP."""
    return Outcome(Reply(421, "4.5.0", f"protocol error in {phase}: {reason}"[:500]), HOST)
