"""Grammar: reply lines as they come in, command lines as they go out.

A reply is foreign text: it is bounded before it is stored and cleaned before
anyone sees it.  A command is ours: it is checked once, here, so that no
address can ever smuggle a second command into the session.

Source   Reply: RFC 5321 s4.2 and s4.2.1; size limits s4.5.3.1.5.  Enhanced
         status: RFC 3463 s2, RFC 2034 s4.  Paths: RFC 5321 s4.1.2, RFC 6531 s3.3.
Units    LINE_MAX and REPLY_MAX are octets, LINES_MAX lines.
State    A ReplyReader holds at most one incomplete reply and what came after it.

Invariants, each a property in tests/smtp/test_grammar.py
    G1   However the octets are split, the same replies come out.
    G2   Whatever the octets, feed and next raise nothing but RemoteProtocolError,
         and an unfinished reply never holds more than REPLY_MAX + LINE_MAX octets.
    G3   A command is one line: CRLF at its end, and no other control character.
"""

from __future__ import annotations

import re

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import Mailbox, Reply, ReversePath
from mta.values import frozen

__all__ = [
    "LINES_MAX",
    "LINE_MAX",
    "REPLY_MAX",
    "ReplyReader",
    "WireReply",
    "command",
    "enhanced_status",
    "mail_command",
    "rcpt_command",
]

LINE_MAX = 2048  # RFC 5321 allows 512; real servers are longer-winded
REPLY_MAX = 8192
LINES_MAX = 100

# Reply-line = Reply-code [ SP / "-" textstring ] CRLF.  A lone LF is taken as a
# line end here, as every client does: a reply ends no message.
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\n]*?))?\r?\n")
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: +|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@frozen
class WireReply:
    """A reply as it came: ``code`` 200 to 599 and the text of each of its lines, unclean."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def severity(self) -> int:
        """The first digit of the code: 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    def text(self) -> str:
        """Return all lines as one clean line, without the enhanced status codes."""
        parts = [line.decode("utf-8", "replace") for line in self.lines]
        joined = " ".join([_STATUS.sub("", part, count=1) if part else "" for part in parts])
        return Reply.clean(joined)


def enhanced_status(reply: WireReply) -> str:
    """Return the RFC 3463 status in the reply's last line, "" if absent or contradicting it."""
    found = _STATUS.match(reply.lines[-1].decode("latin-1"))
    if found is None or int(found[1]) != reply.severity:
        return ""
    return f"{found[1]}.{int(found[2])}.{int(found[3])}"


class ReplyReader:
    """Octets of the server → replies, one at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._code = b""
        self._lines: list[bytes] = []
        self._octets = 0

    @property
    def pending(self) -> bool:
        """True if octets have come that no reply returned by next() accounts for."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> None:
        """Add what the server sent; of any length, split anywhere."""
        self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> WireReply | None:
        """Return the next whole reply, None if more octets are needed.

        Raises RemoteProtocolError for what is no reply, or too long a one.
        """
        while found := _LINE.match(self._buffer):
            code, separator, text = found.groups()
            self._buffer = self._buffer[found.end() :]
            if not self._lines:
                self._code = code
            self._octets += found.end()
            self._check(code, found.end())
            self._lines.append(text or b"")
            if separator != b"-":
                reply = WireReply(int(code), tuple(self._lines))
                self._lines, self._octets = [], 0
                return reply
        if b"\n" in self._buffer:
            line = self._buffer.partition(b"\n")[0].decode("latin-1")
            raise RemoteProtocolError(f"not a reply: {Reply.clean(line, 60)!r}")
        if len(self._buffer) > LINE_MAX:
            raise RemoteProtocolError(f"a reply line of more than {LINE_MAX} octets")
        return None

    def _check(self, code: bytes, length: int) -> None:
        if code != self._code:
            raise RemoteProtocolError("the lines of a reply differ in their code")
        if length > LINE_MAX:
            raise RemoteProtocolError(f"a reply line of more than {LINE_MAX} octets")
        if self._octets > REPLY_MAX:
            raise RemoteProtocolError(f"a reply of more than {REPLY_MAX} octets")
        if len(self._lines) >= LINES_MAX:
            raise RemoteProtocolError(f"a reply of more than {LINES_MAX} lines")


def command(text: str) -> bytes:
    """Return ``text`` as a command line; LocalProtocolError if it holds a control character."""
    if not text.isprintable() and _CONTROL.search(text):
        raise LocalProtocolError("a control character in an SMTP command")
    try:
        return text.encode() + b"\r\n"
    except UnicodeEncodeError:
        raise LocalProtocolError("a lone surrogate in an SMTP command") from None


def mail_command(path: ReversePath, parameters: str = "") -> bytes:
    """Return the MAIL command; ``parameters`` begins with a space if there are any."""
    return command(f"MAIL FROM:<{path}>{parameters}")


def rcpt_command(mailbox: Mailbox, parameters: str = "") -> bytes:
    """Return the RCPT command for one recipient."""
    return command(f"RCPT TO:<{mailbox}>{parameters}")
