"""Receiving: the body of a message as it comes, by DATA or by BDAT.

Every octet of every message passes here, so all of it is done by C loops over
whole chunks.  What comes out has CRLF line ends and nothing else (save for
BINARYMIME, which goes through untouched), and ends with CRLF unless it is
empty: a BDAT body without a last line end gets one, as DATA gives it one.

Data ends at CRLF.CRLF, and nowhere else.  A bare CR or LF is what SMTP smuggling
is made of.  Strict readers remember it as a fault and give nothing more; lenient
ones make CRLF of each, and a dot behind it is content.  After a fault the same
scanner goes on to the end, so that discarded octets are never commands.

Source   Transparency: RFC 5321 s4.5.2.  End of data and line ends: s4.1.1.4, s2.3.8.
         SIZE counts what is left after unstuffing: RFC 1870 s3.  BDAT: RFC 3030 s2.
Units    ``limit`` is octets; 0: none.
State    A reader is one message: at most four octets, and how many may still come.

Invariants, each a property in tests/smtp/test_receive.py
    R1   However the octets are split, the same body, fault and rest come out.
    R2   Data ends at the first CRLF.CRLF (or at .CRLF at its very start), and only there.
    R3   Without a fault: what Stuffer sent is what comes out.
    R4   What comes out has no bare CR or LF, and is empty or ends with CRLF.
    R5   Strict: a bare CR or LF anywhere is the fault "bare".  Lenient: never.
    R6   Never more than ``limit`` octets come out; what would be more is the fault "size",
         unless it is "bare" as well.
"""

from __future__ import annotations

import re

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    Fault = Literal["", "bare", "size"]
else:
    Fault = str

__all__ = ["BARE", "SIZE", "ChunkReader", "DataReader", "Fault"]

BARE: Fault = "bare"
SIZE: Fault = "size"

_END = b"\r\n.\r\n"
_DOT = b"\r\n."
_HELD = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")  # each beginning of _END, longest first
_LAST = b"\r\n."
_LINE_END = re.compile(rb"\r\n?|\n")
_UNLIMITED = 1 << 62


def _has_bare(piece: bytes) -> bool:
    pairs = piece.count(b"\r\n")
    return piece.count(b"\n") != pairs or piece.count(b"\r") != pairs


class DataReader:
    """One body after 354: feed() until ``ended``; then ``rest`` is what came behind it."""

    __slots__ = ("_begun", "_carry", "_lenient", "_room", "ended", "fault", "rest")

    def __init__(self, limit: int = 0, lenient: bool = False) -> None:
        self.ended = False
        self.fault: Fault = ""
        self.rest = b""
        self._carry = b"\r\n"  # the virtual line end before the first line
        self._begun = False
        self._lenient = lenient
        self._room = limit or _UNLIMITED

    def feed(self, octets: bytes) -> bytes:
        """Return what ``octets`` add to the body; b"" after a fault."""
        if not octets:
            return b""
        # What may be the beginning of the end is held back, so that every CRLF and
        # every dot behind one lies whole in one piece.
        work = self._carry + octets
        dot = work.find(_DOT)  # most bodies have no other line with a dot than the last
        end = work.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            self.rest = work[end + 5 :]
            self._carry = b""
            piece = work[: end + 2]
        else:
            held = b""
            if work[-1] in _LAST:
                held = next((held for held in _HELD if work.endswith(held)), b"")
            self._carry = held
            piece = work[: -len(held)] if held else work
        if self.fault == BARE or not piece:
            return b""
        if 0 <= dot != end:
            piece = piece.replace(_DOT, b"\r\n")
        if not self._begun:
            self._begun = True
            piece = piece[2:]
        if _has_bare(piece):
            if not self._lenient:
                self.fault = BARE
                return b""
            piece = _LINE_END.sub(b"\r\n", piece)
        self._room -= len(piece)
        if self._room >= 0:
            return piece
        self.fault = SIZE
        return b""


class ChunkReader:
    """One body in chunks: feed() each piece of each chunk, end() after the last."""

    __slots__ = ("_binary", "_carry", "_complete", "_lenient", "_room", "ended", "fault")

    def __init__(self, limit: int = 0, lenient: bool = False, binary: bool = False) -> None:
        self.ended = False
        self.fault: Fault = ""
        self._carry = b""
        self._complete = True  # does what came out so far end with CRLF?
        self._lenient = lenient
        self._binary = binary
        self._room = limit or _UNLIMITED

    def feed(self, octets: bytes) -> bytes:
        """Return what ``octets`` add to the body; b"" after a fault."""
        if self.fault == BARE:
            return b""
        if self._binary:
            return self._within(octets)
        work = self._carry + octets if self._carry else octets
        self._carry = b"\r" if work.endswith(b"\r") else b""
        piece = work[:-1] if self._carry else work
        if not piece:
            return b""
        if _has_bare(piece):
            if not self._lenient:
                self.fault = BARE
                return b""
            piece = _LINE_END.sub(b"\r\n", piece)
        self._complete = piece.endswith(b"\r\n")
        return self._within(piece)

    def end(self) -> bytes:
        """Return what is still missing of the body: its last line end, perhaps."""
        self.ended = True
        if self._carry and not self._lenient:
            self.fault = BARE
        if self.fault or self._binary or (self._complete and not self._carry):
            return b""
        return self._within(b"\r\n")

    def _within(self, piece: bytes) -> bytes:
        self._room -= len(piece)
        if self._room >= 0:
            return piece
        self.fault = SIZE
        return b""
