"""A letter: the octets of one message on their way from the session to a draft.

On mx and lmtp they go through as they come: the header is only watched until
its end (hops, fields, size), and our Received field put before it.  On submission
the header is completed where a field is missing.  Return-Path is for who delivers.

Source   RFC 5321 s4.4 (trace), s6.3 (loops); RFC 6409 s8 (fields added at
         submission: Date, Message-ID, From).  A header ends before the first
         line that cannot be part of one (RFC 5322 s2.2); a body without any header
         gets the blank line that ours needs (RFC 5322 s2.1).
Units    Octets with CRLF line ends; with BINARYMIME, anything after the header.
State    One message: its header until that is whole, then only its draft; on mx and
         lmtp at most HELD octets of the header.

Invariants, each a property in tests/smtpd/test_letter.py
    LT1  On mx the draft is the Received field and the octets that came, however split.
    LT2  On submission nothing that came is changed or moved; fields are added only
         above the first and below the last.
    LT3  After a refusal nothing more is kept, and the draft is gone.
    LT4  On mx no more of a header is held than HELD octets and one chunk.
"""

from __future__ import annotations

import re

from mta.errors import SpoolError
from mta.headers import MAX_FIELDS, Header, HeaderError
from mta.types import Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.config.model import Limits
    from mta.spool.journal import Draft

__all__ = ["FULL", "HELD", "TROUBLE", "Letter"]

HELD = 1 << 15  # octets of a header in transit that wait for its end
FULL = Reply(452, "4.3.1", "insufficient system storage")
TROUBLE = Reply(451, "4.3.0", "local error in processing, try again later")

# A line end before a line that cannot belong to a header: empty, or neither
# folded nor begun with a field's name (RFC 5322 s3.6.8, with the space of s4.5).
_END = re.compile(rb"\n(?![ \t]|[!-9;-~]{1,1000}[ \t]*:)")
_FIELD = re.compile(rb"[!-9;-~]{1,1000}[ \t]*:")
_RECEIVED = re.compile(rb"(?i)(?:\A|\n)received[ \t]*:")
_SEEN = 1000  # octets within which a line shows whether it begins a field
_LONG = b"\nx:"  # stands for the part of a line that was let go: a field's, as it was

if TYPE_CHECKING:
    Missing = Callable[[Header], Sequence[str]]


class Letter:
    """One message coming in; feed() its octets, then look at ``refusal``."""

    __slots__ = (
        *("_fields", "_gone", "_head", "_hops", "_limits", "_missing", "_skip", "_trace"),
        *("draft", "refusal"),
    )

    def __init__(self, draft: Draft, trace: bytes, limits: Limits, missing: Missing | None) -> None:
        """Write to ``draft``, below the field ``trace``.

        ``missing`` tells which fields a submitted header lacks; None for mail in transit.
        """
        self.draft = draft
        self.refusal: Reply | None = None
        self._trace = trace
        self._limits = limits
        self._missing = missing
        self._head: bytes | bytearray | None = b""  # what is held of the header; None: it is whole
        self._skip = 0  # how many octets of _head stand for what was let go
        self._gone = self._fields = self._hops = 0  # octets let go; and what was seen in them

    def feed(self, octets: bytes) -> None:
        """Take more of the message; ``refusal`` is set when it is refused."""
        if self.refusal is not None:
            return
        try:
            if self._head is not None:
                self._header(octets)
            else:
                self._write(octets)
        except SpoolError as error:
            self.refuse(trouble(error))

    def end(self) -> None:
        """There is no more; what is held of the header is all there is."""
        head = self._head
        if head is not None and self.refusal is None:
            try:
                self._complete(bytes(head), len(head))
            except SpoolError as error:
                self.refuse(trouble(error))

    def refuse(self, reply: Reply) -> None:
        """Keep nothing; what still comes is thrown away."""
        if self.refusal is None:
            self.refusal = reply
        self._head = None
        self.draft.abort()

    def _write(self, octets: bytes) -> None:
        self.draft.write(octets)

    def _header(self, octets: bytes) -> None:
        held = self._head
        start = max(0, len(held) - _SEEN) if held else 0
        head: bytes | bytearray = octets
        if held:
            head = held if isinstance(held, bytearray) else bytearray(held)
            head += octets
        end = _header_end(head, start, begun=self._gone > 0)
        if end >= 0:
            self._complete(bytes(head), end)
        elif self._gone + len(head) - self._skip > self._limits.header_size:
            self._refuse_size()
        elif self._missing is None and len(head) > HELD:
            self._let_go(head)
        else:
            self._head = head

    def _let_go(self, head: bytes | bytearray) -> None:
        """Write what cannot hold the header's end; keep the line that has begun (LT4)."""
        cut = head.rfind(b"\n")
        long = len(head) - cut > _SEEN  # the line shows by now that it is the header's
        if long:
            cut = len(head)
        if cut > self._skip and self._sound(head, cut):
            self._write((b"" if self._gone else self._trace) + bytes(head[self._skip : cut]))
            self._gone += cut - self._skip
            self._skip = len(_LONG) if long else 0
            self._head = bytearray(_LONG if long else head[cut:])

    def _sound(self, head: bytes | bytearray, end: int) -> bool:
        """Count what ``head[:end]`` has, and refuse a header with too much of it."""
        start = 1 if self._skip else 0  # of _LONG the line end was counted before
        lines = head.count(b"\n", start, end)
        folds = head.count(b"\n ", start, end) + head.count(b"\n\t", start, end)
        self._fields += lines - folds
        self._hops += len(_RECEIVED.findall(head, 0, end))
        if self._gone + end - self._skip > self._limits.header_size:
            self._refuse_size()
        elif self._fields > MAX_FIELDS:
            self.refuse(Reply(554, "5.6.0", f"the header has more than {MAX_FIELDS} fields"))
        elif self._hops > self._limits.hops:
            text = f"mail loop: more than {self._limits.hops} Received fields"
            self.refuse(Reply(554, "5.4.6", text))
        return self.refusal is None

    def _refuse_size(self) -> None:
        limit = self._limits.header_size
        self.refuse(Reply(552, "5.3.4", f"the header is larger than {limit} octets"))

    def _complete(self, head: bytes, end: int) -> None:
        """The header is ``head[:end]``: check it, and begin the draft."""
        self._head = None
        if not self._sound(head, end):
            return
        if self._missing is not None:
            self._submitted(self._missing, head, end)
        elif self._gone:
            self._write(head[self._skip :])
        else:
            bare = end == 0 and not head.startswith(b"\r\n")
            self._write(self._trace + (b"\r\n" if bare else b"") + head)

    def _submitted(self, missing: Missing, head: bytes, end: int) -> None:
        header = Header()
        try:
            header.feed(head[:end].replace(b"\r\n", b"\n"))
            header.end()
        except HeaderError as error:
            self.refuse(Reply(error.code, error.status, str(error)))
            return
        body = head[end + 2 :] if head.startswith(b"\r\n", end) else head[end:]
        above = [self._trace.decode().removesuffix("\r\n")]
        self._write(header.octets(above, missing(header)) + body)


def _header_end(head: bytes | bytearray, start: int, begun: bool) -> int:
    """Return where the header ends that ``head`` begins with; -1 if that is not seen yet.

    Only whole lines are judged, and one without end that is longer than any name.
    ``begun``: its first line was seen before.
    """
    if not begun and not _plausible(head):
        return 0
    last = head.rfind(b"\n")
    if last >= 0:
        found = _END.search(head, start, last)
        if found is None and len(head) - last > _SEEN:
            found = _END.match(head, last)
        if found is not None:
            return found.end()
    return -1


def _plausible(head: bytes | bytearray) -> bool:
    """Whether the first line can begin a header, as far as it has come."""
    if b"\n" not in head[:_SEEN] and len(head) < _SEEN:
        return True
    return _FIELD.match(head) is not None


def trouble(error: SpoolError) -> Reply:
    """Return what a client is told of ``error``: a full disk has a reply of its own."""
    return FULL if "No space left" in str(error) or "quota" in str(error) else TROUBLE
