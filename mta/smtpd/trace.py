"""The Received field of a message that came over a connection.

Source   RFC 5321 s4.4 (the field), s4.1.3 (literals); protocol types of RFC 3848 and
         RFC 6531 s4.3.  Of who logged in only that somebody did (the "A"), not
         who: that is for the log.
Units    Octets with CRLF line ends.

Invariants, each a test in tests/smtpd/test_trace.py
    TR1  Whatever the client says, the field is one field: no octet of HELO or of
         an address begins a line or ends a comment.
"""

from __future__ import annotations

import time

from mta.headers import date_time
from mta.types import Mailbox
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.machine.tls import TlsFacts

__all__ = ["Stamp", "protocol", "received", "tls_comment", "where_from"]

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._[]:")


def protocol(*, lmtp: bool, esmtp: bool, secured: bool, login: bool, utf8: bool) -> str:
    """Return the ``with`` type of a session: SMTP, ESMTPSA, UTF8LMTPS and so on."""
    if not esmtp and not lmtp:
        return "SMTP"  # HELO: it has no extensions to speak of
    kind = ("UTF8LMTP" if utf8 else "LMTP") if lmtp else ("UTF8SMTP" if utf8 else "ESMTP")
    return kind + ("S" if secured else "") + ("A" if login else "")


def where_from(helo: str, name: str, address: str) -> str:
    """Return ``HELO (NAME [ADDRESS])``: what the client says it is, and what we know of it."""
    said = helo if helo and len(helo) <= 255 and _NAME.issuperset(helo) else "unknown"
    if not address:
        return f"{said} (local socket)"
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    known = name if name and _NAME.issuperset(name) else "unknown"
    return f"{said} ({known} {literal})"


def tls_comment(facts: TlsFacts) -> str:
    """Return what Postfix's readers know: (using TLSv1.3 with cipher … (256 bits))."""
    return f"(using {facts.protocol} with cipher {facts.cipher} ({facts.bits} bits))"


def received(
    origin: str, tls: str, hostname: str, kind: str, ident: str, only: Mailbox | None, date: str
) -> bytes:
    """Return the field; ``only`` is the recipient where there is but one.

    With several it would tell each of the others (RFC 5321 s7.2).
    """
    lines = [f"Received: from {origin}"]
    if tls:
        lines.append(tls)
    given = ""
    if only is not None:
        path = str(only)
        if path.isprintable() and (path.isascii() or kind.startswith("UTF8")):
            given = f"\r\n\tfor <{path}>"
    lines.append(f"by {hostname} (Posthouse) with {kind} id {ident}{given}; {date}")
    return "\r\n\t".join(lines).encode() + b"\r\n"


class Stamp:
    """The date of now as RFC 5322 s3.3 has it, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def date(self, now: float) -> str:
        """Return the date of ``now``, seconds since the epoch."""
        second = int(now)
        if second != self._second:
            moment = time.localtime(second)
            self._second, self._text = second, date_time(moment, moment.tm_gmtoff)
        return self._text
