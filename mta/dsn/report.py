"""The DSN: a message that tells an author, readably, what became of a message and why.

Three parts, as RFC 3464 wants them: a text for people, message/delivery-status
for programs, and the message it is about, or its header.  Octets out, CRLF, as
the spool keeps them; the caller sends it with the null reverse-path.  The words
for people are a site's, or those of the house: see wording.py.

Source   RFC 3464; RFC 3461 s6 (what was asked for); RFC 6522 (multipart/report);
         RFC 6533 where an address or a header is not ASCII; RFC 2047 for a
         subject that is not; RFC 3834 s5 (Auto-Submitted: auto-replied).

Invariants, each a property in tests/dsn/test_report.py
    F1   The stdlib's email parser finds the three parts, one group of fields a
         recipient, and the original's header octet for octet.
    F2   Whatever a remote host said, every line is CRLF-ended, holds no control
         character, and none of the report's own is over 998 octets.
    F3   It is labelled 8bit iff it holds an octet over 127.
    F4   A message that is returned whole is there octet for octet.
    F5   Every group's address and every sentence that its class has stand in the part
         for people; of a delayed one also until when it will be tried.
"""

from __future__ import annotations

from binascii import b2a_base64
from datetime import UTC, datetime

from mta.dsn.classes import classify
from mta.dsn.status import suited
from mta.dsn.wording import ACTIONS, HOUSE, fill
from mta.types import Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DELAYED",
    "DELIVERED",
    "EXPANDED",
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
DELAYED = "delayed"
DELIVERED = "delivered"
RELAYED = "relayed"  # to a system that reports nothing more
EXPANDED = "expanded"  # arrived at an address that stands for several

HEADER_LIMIT = 65536  # octets of the original's header that a report carries
_FOLD = 76  # characters of a line, where words allow it
_WORD = 900  # octets of a word that is left whole
_ENCODED = 42  # octets in an encoded word: as base64 under the 75 signs of RFC 2047 s2
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PREAMBLE = b"This is a delivery status notification in MIME format (RFC 3464).\r\n"


@frozen
class Group:
    """One recipient: ``relay`` is who said so ("" = this machine), ``at`` when (0.0 = never tried).

    ``orcpt`` is the ORCPT that came with it, decoded, or ""; ``until`` is how long
    what is delayed will be tried, 0.0 if that is not known.
    """

    mailbox: Mailbox
    original: Mailbox | None
    outcome: Outcome
    relay: str
    at: float
    action: str = FAILED
    orcpt: str = ""
    until: float = 0.0


@frozen
class Notice:
    """A DSN's circumstances; ``boundary`` is a fresh random word.

    ``quoted`` is the header of the message it is about, or all of it if
    ``whole``, and ends with CRLF; ``envid`` its ENVID, decoded, or "".  ``why``
    is "", or what kept it from its author: then the postmaster is told.
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
    why: str = ""


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


def _places(notice: Notice) -> dict[str, str]:
    """Return what stands in the places that every section has, and some have."""
    header = f"header of {'the' if notice.why else 'your'} message"
    return {
        "hostname": notice.hostname,
        "id": notice.message_id,
        "arrived": date(notice.arrived),
        "now": date(notice.now),
        "to": str(notice.to),
        "postmaster": f"postmaster@{notice.hostname}",
        "quoted": "message" if notice.whole else header,
        "why": notice.why,
    }


def _section(words: Mapping[str, str], name: str, values: Mapping[str, str]) -> list[str]:
    return fill(words.get(name, HOUSE[name]), values)


def _recipient(words: Mapping[str, str], group: Group, places: Mapping[str, str]) -> list[str]:
    """Return the lines about one recipient."""
    reply, name = group.outcome.reply, classify(group.outcome.reply)
    values = {
        **places,
        "recipient": str(group.mailbox),
        "via": f" (by way of <{group.original}>)" if group.original is not None else "",
        "said": _said(group),
        "status": suited(reply),
        "class": name,
        "sentence": "",
        "until": "",
    }
    if name:
        values["sentence"] = " ".join(_section(words, f"class {name}", values))
    if group.action == DELAYED and group.until:
        values["until"] = date(group.until)
        values["until"] = " ".join(_section(words, "until", values))
    return _section(words, "recipient", values)


def _human(notice: Notice, groups: tuple[Group, ...], words: Mapping[str, str]) -> bytes:
    places = _places(notice)
    lines = _section(words, "opening", places)
    if notice.why:
        lines += ["", *_section(words, "postmaster", places)]
    for action in ACTIONS:
        those = [group for group in groups if group.action == action]
        if those:
            lines += ["", *_section(words, action, places)]
        for group in those:
            lines += ["", *_recipient(words, group, places)]
    lines += ["", *_section(words, "closing", places)]
    return b"".join(map(_text, lines))


def _text(line: str) -> bytes:
    """Return one line of the text for people, folded where it is long."""
    bare = line.lstrip(" ")
    return _line(bare, " " * min(len(line) - len(bare), _FOLD // 2), hang="")


def _subject(notice: Notice, groups: tuple[Group, ...], words: Mapping[str, str]) -> list[bytes]:
    """Return the subject's field: that of the first action there is, and encoded if need be."""
    actions = {group.action for group in groups}
    kind = "postmaster" if notice.why else next(a for a in ACTIONS if a in actions)
    text = " ".join(_words(" ".join(_section(words, f"subject {kind}", _places(notice)))))
    if text.isascii():
        return [_line(f"Subject: {text}")]
    pieces = [b""]
    for sign in text:
        if len(pieces[-1]) + len(sign.encode()) > _ENCODED:
            pieces.append(b"")
        pieces[-1] += sign.encode()
    coded = [b"=?utf-8?b?" + b2a_base64(piece, newline=False) + b"?=" for piece in pieces]
    return [b"Subject: " + b"\r\n ".join(coded) + b"\r\n"]


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
    ]
    if group.at:
        fields.append(f"Last-Attempt-Date: {date(group.at)}")
    if group.action == DELAYED and group.until:
        fields.append(f"Will-Retry-Until: {date(group.until)}")
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


def _parts(notice: Notice, groups: tuple[Group, ...], words: Mapping[str, str]) -> list[bytes]:
    human, status = _human(notice, groups, words), _status(notice, groups)
    charset = "us-ascii" if human.isascii() else "utf-8"
    status_kind = "delivery-status" if status.isascii() else "global-delivery-status"
    return [
        _part(f"text/plain; charset={charset}", human),
        _part(f"message/{status_kind}", status),
        _part(_quoted_kind(notice), notice.quoted),
    ]


def report(notice: Notice, groups: tuple[Group, ...], words: Mapping[str, str] = HOUSE) -> bytes:
    """Return the whole DSN about ``groups`` (at least one), in ``words`` of wording.parse().

    ValueError if the boundary occurs in what it carries: make another.
    """
    parts = _parts(notice, groups, words)
    mark = b"--" + notice.boundary.encode()
    if any(mark in part for part in parts):
        raise ValueError("the boundary occurs in the message")
    encoding = "7bit" if all(p.isascii() for p in parts) and str(notice.to).isascii() else "8bit"
    kind = f'multipart/report; report-type=delivery-status; boundary="{notice.boundary}"'
    addressed = [
        f"From: Mail Delivery System <MAILER-DAEMON@{notice.hostname}>",
        f"To: <{notice.to}>",
    ]
    head = [
        f"Date: {date(notice.now)}",
        f"Message-ID: <{notice.boundary}@{notice.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f"Content-Type: {kind}",
        f"Content-Transfer-Encoding: {encoding}",
    ]
    pieces = [*map(_line, addressed), *_subject(notice, groups, words), *map(_line, head)]
    pieces += [b"\r\n", _PREAMBLE, b"\r\n"]
    for part in parts:
        pieces += [mark, b"\r\n", part, b"\r\n"]
    return b"".join([*pieces, mark, b"--\r\n"])
