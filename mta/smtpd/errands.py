"""Errands: ETRN, and XCLIENT from those who may speak for others.

Source   RFC 1985 s5 (ETRN); Postfix's XCLIENT_README (attributes; a session that
         begins anew).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mta.smtpd import replies
from mta.smtpd.policy import canonical
from mta.types import Reply

if TYPE_CHECKING:
    from mta.smtp.commands import Etrn, Xclient
    from mta.smtpd.hall import Hall
    from mta.smtpd.session import Session

__all__ = ["etrn", "xclient"]

UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")


def etrn(session: Session, hall: Hall, event: Etrn) -> None:
    """Have what waits for a relay domain tried now."""
    queue = hall.access.served(event.domain)
    if not queue:
        session.rejected("ETRN", replies.ETRN_DENIED)
        session.server.answer(replies.ETRN_DENIED)
    elif hall.wake_host(queue, event.domain):
        session.server.answer(replies.ETRN_OK)
    else:
        session.server.answer(replies.ETRN_NONE)


def xclient(session: Session, hall: Hall, event: Xclient) -> None:
    """Give the session another client's identity: rights are those of the given address."""
    given = {name: _meant(value) for name, value in event.attributes}
    address = session.address
    if "ADDR" in given:
        said = given["ADDR"]
        address = canonical(said[5:] if said[:5].upper() == "IPV6:" else said)
        if said and not address:
            session.server.answer(replies.XCLIENT_BAD)
            return
    session.server.answer(replies.XCLIENT_OK)
    session.address = address
    session.key = hall.counters.key(address)
    session.relay = hall.access.rights(session.port.service, address).relay
    if session.naming is not None and ("NAME" in given or "ADDR" in given):
        session.naming.cancel()
    session.name = given.get("NAME", "" if "ADDR" in given else session.name)
    session.helo = given.get("HELO", session.helo)
    session.login = session.server.authenticated = given.get("LOGIN", "")


def _meant(value: str) -> str:
    return "" if value.upper() in UNKNOWN else Reply.clean(value, 300)
