"""How urgent a message says it is: the fields Precedence and Priority of its header.

``precedence`` is sendmail's class number, ``kind`` what queues go by: urgent
before normal before bulk.

Source   sendmail's Precedence table (op s5.8: special-delivery 100, first-class 0,
         list -30, bulk -60, junk -100); Priority: RFC 2156 s2.2 (urgent, normal,
         non-urgent), which sendmail's Timeout.queuereturn and queuewarn go by, too.

Invariants, each a property in tests/test_rank.py
    N1   Whatever the octets, there is an answer; what is not understood is normal.
    N2   Only the header counts: what stands behind its end changes nothing.
"""

from __future__ import annotations

from mta.types import BULK, NORMAL, URGENT
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from mta.types import Kind, Wishes

__all__ = ["PRECEDENCE", "chosen", "kind_of", "rank"]

PRECEDENCE = {
    b"special-delivery": 100,
    b"first-class": 0,
    b"list": -30,
    b"bulk": -60,
    b"junk": -100,
}
_PRIORITY: dict[bytes, Kind] = {b"urgent": URGENT, b"normal": NORMAL, b"non-urgent": BULK}
_OF_KIND: dict[str, int] = {URGENT: 100, NORMAL: 0, BULK: -60}
_WORD = 40  # octets within which the word stands


def rank(start: bytes) -> tuple[int, Kind]:
    """Return precedence and kind by ``start``, the first octets of a message."""
    end = start.find(b"\r\n\r\n")
    header = b"\n" + (start if end < 0 else start[: end + 2]).lower()
    precedence = PRECEDENCE.get(_word(header, b"\nprecedence:"), 0)
    kind = _PRIORITY.get(_word(header, b"\npriority:"))
    return precedence, kind or kind_of(precedence)


def kind_of(precedence: int) -> Kind:
    """Return the kind of a message that says nothing but its precedence."""
    return URGENT if precedence > 0 else BULK if precedence < 0 else NORMAL


def chosen(wishes: Wishes, kind: Kind | str) -> Wishes:
    """Return ``wishes`` with the class ``kind`` and its precedence, unless they name one."""
    if not kind or wishes.kind:
        return wishes
    return replace(wishes, kind=kind, precedence=_OF_KIND[kind])


def _word(header: bytes, name: bytes) -> bytes:
    """Return the value of the first field ``name``, if it is short and stands on one line."""
    at = header.find(name)
    if at < 0:
        return b""
    at += len(name)
    return header[at : at + _WORD].partition(b"\r\n")[0].strip(b" \t")
