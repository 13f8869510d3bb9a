"""Addresses out of header fields, for ``-t``: the one place where a header names recipients.

A list of its own, because a header address is not an envelope address: it has
display names, comments, groups and folds.  This only finds where each address
stands; whether it is one, ``address.parse_mailbox`` decides.  What cannot be
told apart is returned as it stands, so that it is refused by name rather than
sent to somebody else.

Source   RFC 5322 s3.4, s3.2.2 (comments), s4.4 (white space around dots and "@").
         Encoded words (RFC 2047 s5) are never decoded: they are not addresses.

Invariants, each a property in tests/test_addresslist.py
    A1   Time is linear in the octets given.
    A2   A mailbox written with any display name, comments and folds is found as itself.
    A3   No text inside quotes, comments or an encoded word becomes an address.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["header_recipients", "split_addresses"]

_ORIGINAL = (b"to", b"cc", b"bcc")
_RESENT = (b"resent-to", b"resent-cc", b"resent-bcc")
_SPECIAL = frozenset('"(<>[,;:\\ \t\r\n')
_WHITE = frozenset(" \t\r\n")


def header_recipients(fields: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Return the addresses of To, Cc and Bcc, or, if any Resent- field is there, of those only.

    ``fields`` are those of ``headers.Header``.
    """
    resent = any(name.startswith(b"resent-") for name, _ in fields)
    names = _RESENT if resent else _ORIGINAL
    found = []
    for name, field in fields:
        if name in names:
            value = field.partition(b":")[2]
            found += split_addresses(value.decode("utf-8", "backslashreplace"))
    return found


def split_addresses(value: str) -> list[str]:
    """Return each address of a header field's value, without display names and comments."""
    return _List(value).read()


class _List:
    """One pass over a value: tokens are gathered until a comma, a semicolon or the end."""

    def __init__(self, value: str) -> None:
        self._value = value
        self._found: list[str] = []
        self._start = 0  # where the address at hand begins
        self._words: list[str] = []
        self._angle: str | None = None
        self._broken = False

    def read(self) -> list[str]:
        value, at = self._value, 0
        while at < len(value):
            sign = value[at]
            if sign in ",;":
                self._close(at)
                at += 1
                self._start = at
            elif sign == ":" and self._angle is None:  # the name of a group ends
                at += 1
                self._words, self._start = [], at
            elif sign == "<":
                at = self._read_angle(at)
            elif sign == ">":
                self._broken = True
                at += 1
            else:
                at = self._read_word(at, self._words)
        self._close(at)
        return self._found

    def _read_angle(self, at: int) -> int:
        self._broken = self._broken or self._angle is not None
        inside: list[str] = []
        at += 1
        while at < len(self._value) and self._value[at] not in "<>":
            if self._value[at] in ",;:":  # a source route, which parse_mailbox knows
                inside.append(self._value[at])
                at += 1
            else:
                at = self._read_word(at, inside)
        self._angle = _text(inside)
        if at >= len(self._value) or self._value[at] == "<":
            self._broken = True
        return at + 1

    def _read_word(self, at: int, words: list[str]) -> int:
        """Read one token that begins at ``at``; return where the next one begins."""
        value, sign = self._value, self._value[at]
        if sign in _WHITE:
            words.append(" ")
            return at + 1
        if sign == "(":
            words.append(" ")
            return self._skip_comment(at)
        if sign in '"[':
            end = self._closing(at, '"' if sign == '"' else "]")
        elif sign == "\\":
            end = min(at + 2, len(value))
        else:
            end = at + 1
            while end < len(value) and value[end] not in _SPECIAL:
                end += 1
        words.append(value[at:end])
        return end

    def _closing(self, at: int, sign: str) -> int:
        value, end = self._value, at + 1
        while end < len(value):
            if value[end] == sign:
                return end + 1
            end += 2 if value[end] == "\\" else 1
        self._broken = True
        return len(value)

    def _skip_comment(self, at: int) -> int:
        value, depth = self._value, 0
        while at < len(value):
            sign = value[at]
            depth += (sign == "(") - (sign == ")")
            at += 2 if sign == "\\" else 1
            if not depth:
                return at
        self._broken = True
        return len(value)

    def _close(self, end: int) -> None:
        if self._broken:
            self._found.append(" ".join(self._value[self._start : end].split()))
        elif self._angle is not None:
            self._found.append(self._angle)
        elif text := _text(self._words):
            self._found.append(text)
        self._words, self._angle, self._broken = [], None, False


def _text(words: list[str]) -> str:
    """Join tokens; white space is dropped at the ends and beside "." and "@", else kept as one."""
    out: list[str] = []
    white = False
    for word in words:
        if word == " ":
            white = True
            continue
        joined = not out or out[-1][-1] in ".@," or word[0] in ".@,"
        out.append(word if joined or not white else " " + word)
        white = False
    return "".join(out)
