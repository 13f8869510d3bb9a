"""Data: a message body as it goes between 354 and the final dot, or behind BDAT.

Every octet of every message passes here, so all of it is done by C loops over
whole chunks.  The body on the spool has CRLF line ends and nothing else; that
is checked once more before an octet goes out, because a bare CR or LF that we
emit can end the message early for a lenient server (SMTP smuggling).

Source   Transparency: RFC 5321 s4.5.2.  Line ends: s2.3.8.  BDAT: RFC 3030 s2, with
         which alone a body may be binary (s3).  Smuggling:
         CVE-2023-51764, -51765, -51766.
State    A Stuffer is one message: how its octets so far end.

Invariants, each a property in tests/smtp/test_data.py
    B1   unstuff(stuffed) is the body, with CRLF added at its end if it had none.
    B2   However the body is split, the same octets come out.
    B3   CRLF.CRLF comes once, at the very end; no CR without LF, no LF without CR.
    B4   whole(body) is what the server has of it after DATA, and refuses what Stuffer refuses.
"""

from __future__ import annotations

from mta.errors import LocalProtocolError

__all__ = ["Raw", "Stuffer", "unstuff", "whole"]


class Stuffer:
    """Dot-stuffing of one body, chunk by chunk."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the virtual line end before the first line

    def feed(self, chunk: bytes) -> bytes:
        """Return ``chunk`` as it goes on the wire.

        Raises LocalProtocolError for a bare CR or LF; nothing of the chunk is
        to be sent then, nor the final dot.
        """
        if not chunk:
            return b""
        torn = self._tail.endswith(b"\r")  # a CRLF that lies across the border
        pairs = chunk.count(b"\r\n")
        open_end = chunk.endswith(b"\r")
        if (
            torn != (chunk[0] == 10 and torn)
            or chunk.count(b"\n") != pairs + torn
            or chunk.count(b"\r") != pairs + open_end
        ):
            raise LocalProtocolError("a bare CR or LF in a message body")
        stuffed = chunk
        if chunk.rfind(b"\n.") >= 0:  # half the price of the replacement, which is seldom due
            stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        if self._tail == b"\r\n" and chunk[0] == 46:
            stuffed = b"." + stuffed
        elif torn and chunk.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = chunk[-2:] if len(chunk) > 1 else self._tail[-1:] + chunk
        return stuffed

    def end(self) -> bytes:
        """Return what ends the message: CRLF if the body lacks it, and the final dot."""
        if self._tail.endswith(b"\r"):
            raise LocalProtocolError("a bare CR or LF in a message body")
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


class Raw:
    """A binary body behind BDAT: every octet as it is, and no end but its length."""

    def feed(self, chunk: bytes) -> bytes:
        """Return ``chunk``."""
        return chunk

    def end(self) -> bytes:
        """Return nothing."""
        return b""


def whole(body: bytes) -> bytes:
    """Return a body of lines as it goes behind BDAT: with CRLF at its end, not stuffed.

    Raises LocalProtocolError for a bare CR or LF, which the next server on the
    way might meet in a DATA.
    """
    pairs = body.count(b"\r\n")
    if body.count(b"\n") != pairs or body.count(b"\r") != pairs:
        raise LocalProtocolError("a bare CR or LF in a message body")
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


def unstuff(wire: bytes) -> bytes:
    """Return the body of a whole stuffed message, without the final dot.

    Raises ValueError if ``wire`` is not one message that ends in CRLF.CRLF.
    """
    framed = b"\r\n" + wire
    if framed.find(b"\r\n.\r\n") != len(framed) - 5:
        raise ValueError("not one message ended by CRLF.CRLF")
    return framed[:-3].replace(b"\r\n.", b"\r\n")[2:]
