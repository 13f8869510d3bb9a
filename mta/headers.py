"""The header of a message as octets: read once, edited by splices, never written anew.

A signature over a header breaks when a program parses the fields and prints
them again, so this module only finds where each field begins and ends.  What we
add goes above the first field (trace) or below the last one (fields that were
missing); what ``-t`` must hide is cut out whole.

Source   RFC 5322 s2.1 (lines), s2.2 (fields), s3.6; RFC 5321 s4.4 (trace), s6.3 (loops);
         RFC 6409 s8 (fields that may be added at submission).
Units    Text inside this module is octets with LF line ends, in which a CR is a
         lone CR (``LineEnds`` makes it so); what leaves it for the spool has CRLF.
State    ``LineEnds``, ``DotText`` and ``Header`` each hold one message's place.

Invariants, each a property in tests/test_headers.py
    H1   However the input is split, the octets that come out are the same.
    H2   What leaves has no CR without LF, no LF without CR, and ends with CRLF
         unless it is empty.
    H3   Input with only LF or only CRLF line ends comes back when CRLF is turned
         into LF; a missing last line end is added.
    H4   The fields one after another, and the body, are the text that was given.
    H5   Dot-stuffed text comes out as it was before it was stuffed.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "MAX_FIELDS",
    "MAX_HEADER_OCTETS",
    "MAX_RECEIVED",
    "DotText",
    "Header",
    "HeaderError",
    "LineEnds",
    "Normaliser",
    "date_time",
    "encoded_phrase",
    "received",
    "wire",
]

MAX_HEADER_OCTETS = 1 << 20
MAX_FIELDS = 10_000
MAX_RECEIVED = 100

_NAME = bytes(c for c in range(33, 127) if c != ord(":"))
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_QUOTED = frozenset('()<>[]:;@\\,."')  # RFC 5322 s3.2.3: what a phrase cannot hold unquoted
_START = 1000  # octets within which a line shows whether it begins a field


class HeaderError(ValueError):
    """A header that is refused; ``code``, ``status`` and text are those of the reply."""

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class LineEnds:
    """Any line ends in, LF out.  A CR that stays in what comes out is a lone CR.

    A run of CRs counts as one: text that was converted twice ends its lines
    with CR CR LF, and must not gain an empty line, least of all in its header.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take octets, return text; a CR at the very end waits for what follows it."""
        if not self._held and b"\r" not in chunk:
            return chunk
        data = self._held + chunk
        while b"\r\r" in data:
            data = data.replace(b"\r\r", b"\r")
        self._held = data[-1:] if data.endswith(b"\r") else b""
        return data[: len(data) - len(self._held)].replace(b"\r\n", b"\n")

    def end(self) -> bytes:
        """Return what was held back: a lone CR, or nothing."""
        held, self._held = self._held, b""
        return held


def wire(text: bytes) -> bytes:
    """Return body ``text`` with CRLF line ends; a lone CR ends a line too."""
    if b"\r" in text:
        text = text.replace(b"\r", b"\n")
    return text.replace(b"\n", b"\r\n")


class Normaliser:
    """Octets with any line ends in, octets with CRLF line ends out, chunk by chunk."""

    def __init__(self) -> None:
        self._ends = LineEnds()
        self._open = False

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk; return what can be told of it already."""
        return self._note(wire(self._ends.feed(chunk)))

    def end(self) -> bytes:
        """Return the rest, with the last line ended."""
        rest = self._note(wire(self._ends.end()))
        return rest + b"\r\n" if self._open else rest

    def _note(self, octets: bytes) -> bytes:
        if octets:
            self._open = not octets.endswith(b"\n")
        return octets


class DotText:
    """Text (LF line ends) up to a line that is a lone dot; keeps count across chunks.

    With ``stuffed``, a line that begins with a dot loses that dot.
    """

    def __init__(self, stuffed: bool) -> None:
        self._stuffed = stuffed
        self._tail = b"\n"  # what has not left yet; the first one only marks the line's start
        self._skip = 1  # octets of _tail that were never in the input
        self.ended = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (text, what follows the line with the dot); ``ended`` tells if it came."""
        data = self._tail + data
        at = data.find(b"\n.\n")
        self.ended = at >= 0
        rest = data[at + 3 :] if self.ended else b""
        keep = len(data)
        if self.ended:
            data, keep = data[: at + 1], at + 1
        elif data.endswith(b"\n."):
            keep -= 2
        elif data.endswith(b"\n"):
            keep -= 1
        self._tail, text = data[keep:], data[:keep]
        if self._stuffed and b"\n." in text:
            text = text.replace(b"\n.", b"\n")
        if not text:
            return b"", rest
        skip, self._skip = self._skip, 0
        return text[skip:], rest

    def end(self) -> bytes:
        """End of file without the dot: return what was held back, a last "." taken for it."""
        tail, skip = self._tail, self._skip
        self._tail, self._skip = b"", 0
        if tail == b"\n.":
            self.ended = True
            tail = b"\n"
        return tail[skip:]


class Header:
    """The header of one message, fed as text (LF line ends) until ``complete``.

    Afterwards ``fields`` holds (name in lower case, the field's octets with its
    line ends), in order, and ``rest`` the text of the body that was fed along.
    The header ends at the first empty line, or before the first line that
    cannot be part of one.  A first line ``From `` (mbox) is dropped.
    """

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.mbox_line = b""
        self.rest = b""
        self._text = bytearray()
        self._field = -1  # where the field begins that may still be continued
        self._line = 0  # where the first line begins that has not been looked at
        self._name = b""
        self._searched = 0

    def feed(self, text: bytes) -> bool:
        """Take more text; return True once the header is whole.

        Raises HeaderError: 552 5.3.4 over 1 MiB, 554 5.6.0 over 10,000 fields.
        """
        self._text += text
        while not self.complete:
            end = self._text.find(b"\n", max(self._line, self._searched)) + 1
            if not end:
                self._searched = len(self._text)
                self._check_unfinished()
                break
            self._look_at(self._line, end)
        return self.complete

    def end(self) -> None:
        """There is no more text: what is held is the last line."""
        if not self.complete and self._line < len(self._text):
            self._look_at(self._line, len(self._text))
        if not self.complete:
            self._finish(self._line, self._line)

    def _check_unfinished(self) -> None:
        """Decide over a last line without end as soon as it shows what it is.

        The decision is the one that the whole line would get (H1).
        """
        start = bytes(self._text[self._line : self._line + _START])
        if len(start) < _START:
            return
        if not self._part_of_header(start):
            self._finish(self._line, self._line)
        elif len(self._text) > MAX_HEADER_OCTETS:
            raise _too_large()

    def _part_of_header(self, line: bytes) -> bool:
        return bool(_field_name(line)) or (line[0] in b" \t" and self._field >= 0)

    def _look_at(self, start: int, end: int) -> None:
        line = bytes(self._text[start:end])
        if line == b"\n":
            self._finish(start, end)
        elif self._part_of_header(line):
            if end > MAX_HEADER_OCTETS:
                raise _too_large()
            if line[0] not in b" \t":
                self._begin_field(_field_name(line), start)
            self._line = end
        elif start == 0 and end <= _START and line.startswith(b"From "):
            self.mbox_line, self._line = line, end
        else:
            self._finish(start, start)

    def _begin_field(self, name: bytes, start: int) -> None:
        self._close_field(start)
        if len(self.fields) >= MAX_FIELDS:
            raise HeaderError(554, "5.6.0", f"the header has more than {MAX_FIELDS} fields")
        self._field, self._name = start, name

    def _close_field(self, end: int) -> None:
        if self._field >= 0:
            self.fields.append((self._name, bytes(self._text[self._field : end])))
            self._field = -1

    def _finish(self, end: int, body: int) -> None:
        self._close_field(end)
        self.rest = bytes(self._text[body:])
        self._text = bytearray()
        self.complete = True

    def has(self, name: bytes) -> bool:
        """Tell if a field of this lower-case ``name`` is there."""
        return any(n == name for n, _ in self.fields)

    def count(self, name: bytes) -> int:
        """Count the fields of this lower-case ``name``."""
        return sum(n == name for n, _ in self.fields)

    def values(self, names: Collection[bytes]) -> list[bytes]:
        """Return what stands behind the colon in each field so named, in order, still folded."""
        return [f.partition(b":")[2] for n, f in self.fields if n in names]

    def check_loop(self) -> None:
        """Raise HeaderError 554 5.4.6 when the message has passed too many hosts."""
        if self.count(b"received") > MAX_RECEIVED:
            text = f"mail loop: more than {MAX_RECEIVED} Received fields"
            raise HeaderError(554, "5.4.6", text)

    def octets(
        self, above: Iterable[str] = (), below: Iterable[str] = (), without: Collection[bytes] = ()
    ) -> bytes:
        """Return the header for the spool, blank line included, CRLF line ends.

        ``above`` and ``below`` are fields to add, each without its last line
        end (CRLF and a tab where it is folded); ``without`` names fields to
        leave out, in lower case.  A lone CR becomes a space: no octet of a
        value can begin a field of its own.
        """
        kept = b"".join([f for n, f in self.fields if n not in without])
        if kept and not kept.endswith(b"\n"):
            kept += b"\n"
        kept = kept.replace(b"\r", b" ").replace(b"\n", b"\r\n")
        return b"".join([_joined(above), kept, _joined(below), b"\r\n"])


def _too_large() -> HeaderError:
    return HeaderError(552, "5.3.4", f"the header is larger than {MAX_HEADER_OCTETS} octets")


def _joined(fields: Iterable[str]) -> bytes:
    return b"".join([f.encode() + b"\r\n" for f in fields])


def _field_name(line: bytes) -> bytes:
    """Return the lower-case name of the field that begins with ``line``, or b"" if none does."""
    name, colon, _ = line[:_START].partition(b":")
    name = name.rstrip(b" \t")  # RFC 5322 s4.5: obsolete, but met
    return name.lower() if colon and name and not name.translate(None, _NAME) else b""


def received(hostname: str, ident: str, date: str, *, origin: str, protocol: str = "local") -> str:
    """Return a Received field (RFC 5321 s4.4) without its last line end.

    ``origin`` is a comment such as "from userid 1000".  ValueError if any part
    holds a control character: a field is never made of more lines than it shows.
    """
    first = f"Received: by {hostname} (Posthouse) with {protocol} id {ident}"
    second = f"({origin}); {date}"
    if not (first + second).isprintable():
        raise ValueError("a control character in a trace field")
    return f"{first}\r\n\t{second}"


def date_time(moment: Sequence[int], offset: int) -> str:
    """Return the RFC 5322 s3.3 date of ``moment``, which lies ``offset`` seconds east of UTC.

    ``moment`` is what time.localtime gives: year, month, day, hour, minute,
    second, day of the week (Monday 0).
    """
    year, month, day, hour, minute, second, weekday = moment[:7]
    sign = "-" if offset < 0 else "+"
    east = abs(offset) // 60
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{second:02} {sign}{east // 60:02}{east % 60:02}"
    )


def encoded_phrase(name: str) -> str:
    """Return a person's ``name`` as an RFC 5322 phrase: plain, quoted, or as encoded words.

    ValueError for a name with control characters.
    """
    if not name.isprintable():
        raise ValueError("a control character in the full name")
    if not name.isascii():
        return _encoded_words(name)
    if _QUOTED.isdisjoint(name) and "=?" not in name:
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _encoded_words(name: str) -> str:
    """Encode by RFC 2047: words of at most 75 octets that never split a character."""
    from binascii import b2a_base64

    words, part = [], b""
    for piece in [*(c.encode() for c in name), b""]:
        if part and (not piece or len(part) + len(piece) > 45):
            words.append(f"=?utf-8?b?{b2a_base64(part, newline=False).decode()}?=")
            part = b""
        part += piece
    return " ".join(words)
