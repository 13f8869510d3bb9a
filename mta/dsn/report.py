"""The DSN: a message that tells an author, readably, what was not delivered and why.

Three parts, as RFC 3464 wants them: a text for people, message/delivery-status
for programs, and the header of the message it is about.  Octets out, CRLF, as
the spool keeps them; the caller sends it with the null reverse-path.

Source   RFC 3464; RFC 3462 s1 (multipart/report); RFC 6533 where an address is
         not ASCII; RFC 3834 s5 (Auto-Submitted: auto-replied).

Invariants, each a property in tests/dsn/test_report.py
    F1   The stdlib's email parser finds the three parts, one group of fields a
         recipient, and the original's header octet for octet.
    F2   Whatever a remote host said, every line is CRLF-ended, holds no control
         character, and none of the report's own is over 998 octets.
    F3   It is labelled 8bit iff it holds an octet over 127.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mta.dsn.status import suited
from mta.types import Mailbox, Outcome, Reply
from mta.values import frozen

__all__ = ["HEADER_LIMIT", "Failure", "Notice", "date", "header_of", "report"]

HEADER_LIMIT = 65536  # octets of the original's header that a report carries
_FOLD = 76  # characters of a line, where words allow it
_WORD = 900  # octets of a word that is left whole
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PREAMBLE = b"This is a delivery status notification in MIME format (RFC 3464).\r\n"


@frozen
class Failure:
    """One recipient that failed: ``relay`` is who said so ("" = this machine), ``at`` when."""

    mailbox: Mailbox
    original: Mailbox | None
    outcome: Outcome
    relay: str
    at: float


@frozen
class Notice:
    """A DSN's circumstances; ``boundary`` a fresh random word, ``header`` ends with CRLF."""

    hostname: str
    to: Mailbox
    message_id: str  # of the message it is about, as the queue calls it
    arrived: float
    now: float
    boundary: str
    header: bytes


def date(at: float) -> str:
    """Return ``at`` as RFC 5322 writes it, in UTC."""
    t = datetime.fromtimestamp(int(at), UTC)
    return f"{_DAYS[t.weekday()]}, {t.day} {_MONTHS[t.month - 1]} {t.year} {t:%H:%M:%S} +0000"


def header_of(start: bytes) -> bytes:
    """Return the header block in ``start``, the first octets of a body, cut at HEADER_LIMIT.

    Whole lines only; without the empty line that ends it.
    """
    start = start[:HEADER_LIMIT]
    if start.startswith(b"\r\n"):
        return b""
    end = start.find(b"\r\n\r\n")
    return start[: (end if end >= 0 else start.rfind(b"\r\n")) + 2] if b"\r\n" in start else b""


def _words(text: str) -> list[str]:
    """Return the words of ``text``, one that no line could hold in pieces."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    words = []
    for word in clean.split():
        step = len(word) if len(word.encode()) <= _WORD else _WORD // 4
        words += [word[i : i + step] for i in range(0, len(word), step)]
    return words


def _line(text: str, indent: str = "") -> bytes:
    """Return ``text`` as one clean line, folded at spaces where it is long."""
    lines: list[str] = []
    for word in _words(text):
        if lines and len(lines[-1]) + len(word) < _FOLD:
            lines[-1] += " " + word
        else:
            lines.append((indent or " ") + word if lines else indent + word)
    return "\r\n".join(lines).encode() + b"\r\n"


def _address(mailbox: Mailbox) -> str:
    text = str(mailbox)
    return f"{'rfc822' if text.isascii() else 'utf-8'}; {text}"


def _said(failure: Failure) -> str:
    reply = Reply.clean(str(failure.outcome.reply), 700)
    if not failure.relay:
        return reply
    return f"{Reply.clean(failure.relay, 255)} said: {reply}"


def _human(notice: Notice, failures: tuple[Failure, ...]) -> bytes:
    out = [
        _line(f"This is the mail system at {notice.hostname}."),
        b"\r\n",
        _line("Your message could not be delivered to the recipients named below."),
        _line("It will not be tried again.  The header of your message follows this report."),
    ]
    for failure in failures:
        alias = f" (by way of <{failure.original}>)" if failure.original is not None else ""
        out += [b"\r\n", _line(f"<{failure.mailbox}>{alias}:"), _line(_said(failure), "    ")]
    return b"".join(out)


def _fields(failure: Failure) -> bytes:
    fields = []
    if failure.original is not None:
        fields.append(f"Original-Recipient: {_address(failure.original)}")
    fields += [
        f"Final-Recipient: {_address(failure.mailbox)}",
        "Action: failed",
        f"Status: {suited(failure.outcome.reply)}",
    ]
    if failure.relay:
        host = Reply.clean(failure.relay, 255).split("[")[0].split(" ")[0]
        fields.append(f"Remote-MTA: dns; {host or failure.relay}")
    # RFC 3464 s2.3.6: "smtp" is for what a server said; the rest is our own finding.
    kind = "smtp" if failure.relay else "x-posthouse"
    fields += [
        f"Diagnostic-Code: {kind}; {Reply.clean(str(failure.outcome.reply), 700)}",
        f"Last-Attempt-Date: {date(failure.at)}",
    ]
    return b"\r\n" + b"".join(map(_line, fields))


def _status(notice: Notice, failures: tuple[Failure, ...]) -> bytes:
    about = [
        f"Reporting-MTA: dns; {notice.hostname}",
        f"X-Posthouse-Queue-ID: {notice.message_id}",
        f"Arrival-Date: {date(notice.arrived)}",
    ]
    return b"".join(map(_line, about)) + b"".join(map(_fields, failures))


def _part(kind: str, content: bytes) -> bytes:
    encoding = "7bit" if content.isascii() else "8bit"
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content


def _parts(notice: Notice, failures: tuple[Failure, ...]) -> list[bytes]:
    human, status, header = _human(notice, failures), _status(notice, failures), notice.header
    charset = "us-ascii" if human.isascii() else "utf-8"
    status_kind = "delivery-status" if status.isascii() else "global-delivery-status"
    return [
        _part(f"text/plain; charset={charset}", human),
        _part(f"message/{status_kind}", status),
        _part("text/rfc822-headers", header),
    ]


def report(notice: Notice, failures: tuple[Failure, ...]) -> bytes:
    """Return the whole DSN about ``failures`` (at least one).

    ValueError if the boundary occurs in what it carries: make another.
    """
    parts = _parts(notice, failures)
    mark = b"--" + notice.boundary.encode()
    if any(mark in part for part in parts):
        raise ValueError("the boundary occurs in the message")
    encoding = "7bit" if all(p.isascii() for p in parts) and str(notice.to).isascii() else "8bit"
    kind = f'multipart/report; report-type=delivery-status; boundary="{notice.boundary}"'
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{notice.hostname}>",
        f"To: <{notice.to}>",
        "Subject: Your message could not be delivered",
        f"Date: {date(notice.now)}",
        f"Message-ID: <{notice.boundary}@{notice.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f"Content-Type: {kind}",
        f"Content-Transfer-Encoding: {encoding}",
    ]
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return b"".join(map(_line, head)) + b"\r\n" + _PREAMBLE + b"\r\n" + body
