"""The DSN: a message that tells an author, readably, what became of a message and why.

Three parts, as RFC 3464 wants them: a text for people, message/delivery-status
for programs, and the message it is about, or its header.  Octets out, CRLF, as
the spool keeps them; the caller sends it with the null reverse-path.

Source   RFC 3464; RFC 3461 s6 (what was asked for); RFC 3462 s1
         (multipart/report); RFC 6533 where an address or a header is not
         ASCII; RFC 3834 s5 (Auto-Submitted: auto-replied).

Invariants, each a property in tests/dsn/test_report.py
    F1   The stdlib's email parser finds the three parts, one group of fields a
         recipient, and the original's header octet for octet.
    F2   Whatever a remote host said, every line is CRLF-ended, holds no control
         character, and none of the report's own is over 998 octets.
    F3   It is labelled 8bit iff it holds an octet over 127.
    F4   A message that is returned whole is there octet for octet.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mta.dsn.status import suited
from mta.types import Mailbox, Outcome, Reply
from mta.values import frozen

__all__ = [
    "DELIVERED",
    "FAILED",
    "HEADER_LIMIT",
    "RELAYED",
    "Group",
    "Notice",
    "date",
    "header_of",
    "report",
]

# The actions of RFC 3464 s2.3.3 that we take.
FAILED = "failed"
DELIVERED = "delivered"
RELAYED = "relayed"  # to a system that reports nothing more

HEADER_LIMIT = 65536  # octets of the original's header that a report carries
_FOLD = 76  # characters of a line, where words allow it
_WORD = 900  # octets of a word that is left whole
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PREAMBLE = b"This is a delivery status notification in MIME format (RFC 3464).\r\n"


@frozen
class Group:
    """One recipient: ``relay`` is who said so ("" = this machine), ``at`` when.

    ``orcpt`` is the ORCPT that came with it, decoded, or "".
    """

    mailbox: Mailbox
    original: Mailbox | None
    outcome: Outcome
    relay: str
    at: float
    action: str = FAILED
    orcpt: str = ""


@frozen
class Notice:
    """A DSN's circumstances; ``boundary`` is a fresh random word.

    ``quoted`` is the header of the message it is about, or all of it if
    ``whole``, and ends with CRLF; ``envid`` its ENVID, decoded, or "".
    """

    hostname: str
    to: Mailbox
    message_id: str  # of the message it is about, as the queue calls it
    arrived: float
    now: float
    boundary: str
    quoted: bytes
    envid: str = ""
    whole: bool = False


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


def _line(text: str, indent: str = "", hang: str = " ") -> bytes:
    """Return ``text`` as one clean line, folded at spaces where it is long.

    What is folded begins with ``indent``, or else with ``hang``.
    """
    lines: list[str] = []
    for word in _words(text):
        if lines and len(lines[-1]) + len(word) < _FOLD:
            lines[-1] += " " + word
        else:
            lines.append((indent or hang) + word if lines else indent + word)
    return "\r\n".join(lines).encode() + b"\r\n"


def _address(mailbox: Mailbox) -> str:
    text = str(mailbox)
    return f"{'rfc822' if text.isascii() else 'utf-8'}; {text}"


def _said(group: Group) -> str:
    reply = Reply.clean(str(group.outcome.reply), 700)
    if not group.relay:
        return reply
    return f"{Reply.clean(group.relay, 255)} said: {reply}"


# What a person is told, by action; the DSN's subject is that of the first there is.
_HUMAN = {
    FAILED: (
        "Your message could not be delivered",
        (
            "Your message could not be delivered to the recipients named below. "
            "It will not be tried again."
        ),
    ),
    DELIVERED: (
        "Your message was delivered",
        "As you asked to be told: your message was delivered to the recipients named below.",
    ),
    RELAYED: (
        "Your message was passed on",
        (
            "As you asked to be told: your message was passed on for the recipients named below, "
            "to a system that does not report what becomes of it."
        ),
    ),
}


def _human(notice: Notice, groups: tuple[Group, ...]) -> bytes:
    what = "message" if notice.whole else "header of your message"
    out = [_line(f"This is the mail system at {notice.hostname}.")]
    for action, (_, text) in _HUMAN.items():
        those = [group for group in groups if group.action == action]
        if not those:
            continue
        out += [b"\r\n", _line(text, hang="")]
        for group in those:
            alias = f" (by way of <{group.original}>)" if group.original is not None else ""
            out += [b"\r\n", _line(f"<{group.mailbox}>{alias}:"), _line(_said(group), "    ")]
    return b"".join([*out, b"\r\n", _line(f"The {what} follows this report.")])


def _original(group: Group) -> str:
    """Return the address as its author gave it, with its type; "" if that is the final one."""
    if group.orcpt:
        kind, _, address = group.orcpt.partition(";")
        return f"{kind}; {address}"
    return "" if group.original is None else _address(group.original)


def _fields(group: Group) -> bytes:
    original, reply = _original(group), group.outcome.reply
    fields = [f"Original-Recipient: {original}"] if original else []
    fields += [
        f"Final-Recipient: {_address(group.mailbox)}",
        f"Action: {group.action}",
        f"Status: {suited(reply)}",
    ]
    if group.relay:
        host = Reply.clean(group.relay, 255).split("[")[0].split(" ")[0]
        fields.append(f"Remote-MTA: dns; {host or group.relay}")
    # RFC 3464 s2.3.6: "smtp" is for what a server said; the rest is our own finding.
    kind = "smtp" if group.relay else "x-posthouse"
    fields += [
        f"Diagnostic-Code: {kind}; {Reply.clean(str(reply), 700)}",
        f"Last-Attempt-Date: {date(group.at)}",
    ]
    return b"\r\n" + b"".join(map(_line, fields))


def _status(notice: Notice, groups: tuple[Group, ...]) -> bytes:
    about = [f"Original-Envelope-Id: {notice.envid}"] if notice.envid else []
    about += [
        f"Reporting-MTA: dns; {notice.hostname}",
        f"X-Posthouse-Queue-ID: {notice.message_id}",
        f"Arrival-Date: {date(notice.arrived)}",
    ]
    return b"".join(map(_line, about)) + b"".join(map(_fields, groups))


def _quoted_kind(notice: Notice) -> str:
    """Return the type of the third part; RFC 6533 has others for a header in UTF-8."""
    header = header_of(notice.quoted) if notice.whole else notice.quoted
    try:
        beyond_ascii = not header.decode().isascii()
    except UnicodeDecodeError:
        beyond_ascii = False
    if notice.whole:
        return "message/global" if beyond_ascii else "message/rfc822"
    return "message/global-headers" if beyond_ascii else "text/rfc822-headers"


def _part(kind: str, content: bytes) -> bytes:
    encoding = "7bit" if content.isascii() else "8bit"
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content


def _parts(notice: Notice, groups: tuple[Group, ...]) -> list[bytes]:
    human, status = _human(notice, groups), _status(notice, groups)
    charset = "us-ascii" if human.isascii() else "utf-8"
    status_kind = "delivery-status" if status.isascii() else "global-delivery-status"
    return [
        _part(f"text/plain; charset={charset}", human),
        _part(f"message/{status_kind}", status),
        _part(_quoted_kind(notice), notice.quoted),
    ]


def report(notice: Notice, groups: tuple[Group, ...]) -> bytes:
    """Return the whole DSN about ``groups`` (at least one).

    ValueError if the boundary occurs in what it carries: make another.
    """
    parts = _parts(notice, groups)
    mark = b"--" + notice.boundary.encode()
    if any(mark in part for part in parts):
        raise ValueError("the boundary occurs in the message")
    encoding = "7bit" if all(p.isascii() for p in parts) and str(notice.to).isascii() else "8bit"
    kind = f'multipart/report; report-type=delivery-status; boundary="{notice.boundary}"'
    actions = {group.action for group in groups}
    subject = next(subject for action, (subject, _) in _HUMAN.items() if action in actions)
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{notice.hostname}>",
        f"To: <{notice.to}>",
        f"Subject: {subject}",
        f"Date: {date(notice.now)}",
        f"Message-ID: <{notice.boundary}@{notice.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f"Content-Type: {kind}",
        f"Content-Transfer-Encoding: {encoding}",
    ]
    pieces = [b"".join(map(_line, head)), b"\r\n", _PREAMBLE, b"\r\n"]
    for part in parts:
        pieces += [mark, b"\r\n", part, b"\r\n"]
    return b"".join([*pieces, mark, b"--\r\n"])
