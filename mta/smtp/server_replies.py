"""Replies: what the listener says, and how a Reply goes on the wire.

Source   Reply lines: RFC 5321 s4.2, s4.5.3.1.5 (512 octets).  Enhanced status: RFC 2034 s4,
         in every 2yz, 4yz and 5yz but for greetings and EHLO.  EHLO's lines: RFC 5321
         s4.1.1.1; SIZE: RFC 1870; LIMITS: RFC 9422; REQUIRETLS: RFC 8689.

Invariants, each a property in tests/smtp/test_server_replies.py
    Y1   Whatever the Reply, its lines are printable ASCII of at most 512 octets, end
         with CRLF, and begin with one code; only the last has a space behind it.
    Y2   EHLO offers STARTTLS only in the clear, AUTH and REQUIRETLS only when secured.
"""

from __future__ import annotations

from functools import lru_cache

from mta.smtp.commands import XCLIENT_NAMES
from mta.types import Reply
from mta.values import frozen

__all__ = [
    "FAULTS",
    "FIXED",
    "GO_AHEAD",
    "START_TLS",
    "TAKEN",
    "Terms",
    "challenge",
    "greeting",
    "offer",
    "wire",
]

TEXT_MAX = 480  # of a line: what 512 leaves for code, status and CRLF


@frozen
class Terms:
    """What a listener offers, and its limits; one value for all its sessions.

    ``message_size``, ``recipients`` (of a transaction) and ``errors`` (of a session) 0:
    no limit.  ``lenient``: a bare CR or LF in a body becomes CRLF instead of a refusal.
    ``secured``: TLS has been there since the first octet.
    """

    hostname: str
    service: str = "mx"
    message_size: int = 0
    recipients: int = 1000
    command_line: int = 12288
    errors: int = 20
    tls: bool = False
    mechanisms: tuple[str, ...] = ()
    lenient: bool = False
    etrn: bool = False
    xclient: bool = False
    auth_required: bool = False
    secured: bool = False


# What a driver says as it stands.
GO_AHEAD = Reply(354, "", "go ahead; end with a dot on a line of its own")
START_TLS = Reply(220, "2.0.0", "ready for TLS")
TAKEN = Reply(250, "2.0.0", "taken")
# A fault of the body → the reply to its end.
FAULTS: dict[str, Reply] = {
    "bare": Reply(550, "5.6.0", "a CR or LF stands alone in the message"),
    "size": Reply(552, "5.3.4", "the message is larger than this server takes"),
}


def wire(reply: Reply) -> bytes:
    """Return ``reply`` as it is sent; more than one line if its text is long."""
    text = reply.text
    if len(text) > TEXT_MAX or not (text.isascii() and text.isprintable()):
        return _long(reply)
    status = reply.status
    return f"{reply.code} {status}{' ' if status else ''}{text}\r\n".encode("ascii")


def _long(reply: Reply) -> bytes:
    # UTF-8 in a reply would need the client's consent (RFC 6531 s3.7.4).
    left = Reply.clean(reply.text, 2000).encode("ascii", "replace").decode("ascii")
    status = f"{reply.status} " if reply.status else ""
    lines = [left[at : at + TEXT_MAX] for at in range(0, len(left), TEXT_MAX)] or [""]
    last = len(lines) - 1
    marks = ["-" if at < last else " " for at in range(len(lines))]
    parts = [f"{reply.code}{m}{status}{t}\r\n" for m, t in zip(marks, lines, strict=True)]
    return "".join(parts).encode("ascii")


# What the engine says by itself, as it goes out.
FIXED: dict[str, bytes] = {
    name: wire(Reply(code, status, text))
    for name, code, status, text in (
        ("ok", 250, "2.0.0", "ok"),
        ("bye", 221, "2.0.0", "bye"),
        ("vrfy", 252, "2.0.0", "not verified; send mail to try"),
        ("expn", 502, "5.7.0", "lists are not shown"),
        ("help", 214, "2.0.0", "see RFC 5321"),
        ("too long", 500, "5.5.2", "the line is too long"),
        ("unknown", 500, "5.5.2", "not a command"),
        ("obsolete", 502, "5.5.1", "not implemented"),
        ("not offered", 502, "5.5.1", "not offered here"),
        ("http", 554, "5.7.0", "this is not a web server"),
        ("early", 554, "5.5.0", "octets before the go-ahead"),
        ("early tls", 554, "5.5.1", "octets behind STARTTLS"),
        ("no argument", 501, "5.5.4", "no argument is due"),
        ("argument", 501, "5.5.4", "an argument is due"),
        ("lhlo", 500, "5.5.1", "this is LMTP: greet with LHLO"),
        ("ehlo", 500, "5.5.1", "this is SMTP: greet with EHLO"),
        ("no size", 501, "5.5.4", "syntax: BDAT size [LAST]"),
        ("auth first", 530, "5.7.0", "authentication is required"),
        ("tls first", 530, "5.7.0", "STARTTLS comes first"),
        ("auth in the clear", 538, "5.7.11", "only behind TLS"),
        ("auth again", 503, "5.5.1", "authenticated already"),
        ("tls again", 503, "5.5.1", "TLS is there already"),
        ("no mechanism", 504, "5.5.4", "this mechanism is not offered"),
        ("auth line", 500, "5.5.6", "the line is too long"),
        ("size", 552, "5.3.4", "the message is larger than this server takes"),
        ("recipients", 452, "4.5.3", "too many recipients"),
        ("binary", 503, "5.5.1", "BINARYMIME goes by BDAT"),
        ("chunk", 250, "2.0.0", "chunk taken"),
        ("errors", 421, "4.7.0", "too many errors"),
    )
}


def greeting(terms: Terms) -> bytes:
    """Return the 220 that opens a session."""
    kind = "LMTP" if terms.service == "lmtp" else "ESMTP"
    return f"220 {terms.hostname} {kind} Posthouse\r\n".encode("ascii", "replace")


def challenge(octets: bytes) -> bytes:
    """Return the 334 of one SASL challenge (RFC 4954 s4)."""
    from binascii import b2a_base64

    return b"334 " + b2a_base64(octets, newline=False) + b"\r\n"


@lru_cache(maxsize=64)
def offer(terms: Terms, secured: bool) -> bytes:
    """Return the positive reply to EHLO or LHLO."""
    lines = [
        terms.hostname,
        "PIPELINING",
        f"SIZE {terms.message_size}" if terms.message_size else "SIZE",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "BINARYMIME",
    ]
    if terms.recipients:
        lines.append(f"LIMITS RCPTMAX={terms.recipients}")
    if terms.tls and not secured:
        lines.append("STARTTLS")
    if terms.mechanisms and secured:
        lines.append(f"AUTH {' '.join(terms.mechanisms)}")
    if secured:
        lines.append("REQUIRETLS")
    if terms.etrn:
        lines.append("ETRN")
    if terms.xclient:
        lines.append(f"XCLIENT {' '.join(XCLIENT_NAMES)}")
    text = "".join([f"250-{line}\r\n" for line in lines[:-1]]) + f"250 {lines[-1]}\r\n"
    return text.encode("ascii", "replace")
