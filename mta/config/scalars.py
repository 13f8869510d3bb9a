"""Scalars of mta.yaml: numbers, sizes, times, names, paths, each read from its text.

A reader returns the value or raises ValueError with a reason for the person who
typed the text.  places.py has those of hosts and addresses, words.py the table
of all.

Units    Sizes octets, times float seconds.

Invariants, each a property in tests/config/test_scalars.py
    W1   What spell_size and spell_time write, ``size`` and ``time`` read back.
    W2   No reader raises anything but ValueError, or returns a control character.
    W3   A number is read in plain decimal form only: no sign, no leading zero,
         no exponent, no underscore, no sexagesimal.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = [
    "NAME",
    "RATE",
    "SIZE",
    "TIME",
    "authors",
    "directory",
    "integer",
    "mailbox",
    "members",
    "name",
    "number",
    "option_name",
    "owner",
    "path",
    "printable",
    "rate",
    "size",
    "some_size",
    "some_time",
    "spell_size",
    "spell_time",
    "time",
    "yes_or_no",
]

SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
YES = {"yes": True, "true": True, "no": False, "false": False}

_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?")
SIZE = re.compile(r"(0|[1-9][0-9]{0,11})(KiB|MiB|GiB|TiB)?")
TIME = re.compile(r"(0|[1-9][0-9]{0,8})([smhdw])|0")
RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})([smhdw])")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


def printable(text: str) -> str:
    """Any text of one line."""
    if not text:
        raise ValueError("is empty")
    if text.isascii() and text.isprintable():
        return text
    for character in text:
        if character < " " or "\x7f" <= character < "\xa0" or character in "\u2028\u2029":
            raise ValueError(f"holds the control character U+{ord(character):04X}")
        if "\ud800" <= character <= "\udfff":
            raise ValueError("holds half of a surrogate pair")
    return text


def integer(least: int, most: int) -> Callable[[str], int]:
    """Make the reader of a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError("is not a whole number in plain decimal digits")
        if not least <= int(text) <= most:
            raise ValueError(f"must lie between {least} and {most}")
        return int(text)

    return read


def number(least: float, most: float) -> Callable[[str], float]:
    """Make the reader of a decimal number from ``least`` to ``most``."""

    def read(text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise ValueError('is not a number in plain decimal form, as "2" or "1.5"')
        if not least <= float(text) <= most:
            raise ValueError(f"must lie between {least:g} and {most:g}")
        return float(text)

    return read


def size(text: str) -> int:
    """Octets: "1000", "512KiB", "10MiB"."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise ValueError('is not a size, as "1000", "512KiB" or "10MiB"')
    return int(match[1]) * SIZES[match[2] or ""]


def some_size(text: str) -> int:
    """A size that is not 0."""
    if size(text) == 0:
        raise ValueError("must be more than 0")
    return size(text)


def spell_size(octets: int) -> str:
    """Write ``octets`` in the largest unit that divides it."""
    for unit, factor in reversed(SIZES.items()):
        if octets % factor == 0 and octets:
            return f"{octets // factor}{unit}"
    return "0"


def time(text: str) -> float:
    """Seconds: "30s", "15m", "2h", "5d", "1w"; a bare 0 needs no unit."""
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError('is not a time with its unit, as "30s", "15m", "2h", "5d" or "1w"')
    return float(int(match[1] or "0") * TIMES[match[2] or "s"])


def some_time(text: str) -> float:
    """A time that is not 0."""
    if time(text) <= 0:
        raise ValueError("must be more than 0")
    return time(text)


def spell_time(seconds: int) -> str:
    """Write whole ``seconds`` in the largest unit that divides them."""
    for unit, factor in reversed(TIMES.items()):
        if seconds % factor == 0 and seconds:
            return f"{seconds // factor}{unit}"
    return "0"


def name(text: str) -> str:
    """A channel, queue or user name: it becomes part of paths and logs."""
    if not NAME.fullmatch(text):
        raise ValueError("is not a name: lower-case letters, digits, - and _, at most 64")
    return text


def option_name(text: str) -> str:
    """The name of a channel program's own option."""
    if not _OPTION.fullmatch(text):
        raise ValueError("is not an option name: letters, digits, . - and _, at most 64")
    return text


def path(text: str) -> str:
    """A path; what it is relative to, the reader of the file knows."""
    if len(printable(text).encode()) > 1000:
        raise ValueError("is too long for a path")
    return text


def directory(text: str) -> str:
    """A path of a directory on this machine."""
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise ValueError("is not a directory: no other kind of spool is available yet")
    return path(text)


def _template(text: str, allowed: tuple[str, ...], required: str = "") -> str:
    found = [match[1] for match in _BRACES.finditer(printable(text))]
    if any(name not in allowed for name in found):
        known = " and ".join(f"{{{name}}}" for name in allowed)
        raise ValueError(f"may hold {known} and no other braces")
    if required and required not in found:
        raise ValueError(f"must hold {{{required}}}")
    return text


def mailbox(text: str) -> tuple[str, str]:
    """Where mail is put: "maildir:mail/{user}/" or "mbox:/var/mail/{user}"."""
    kind, colon, where = text.partition(":")
    if not colon or kind not in ("maildir", "mbox") or not where:
        raise ValueError("is not a mailbox, as maildir:mail/{user}/ or mbox:mail/{user}")
    return kind, path(_template(where, ("user",), "user"))


def members(text: str) -> str:
    """The path of a list's members, with {list} for its name and {domain} for its domain."""
    return path(_template(text, ("list", "domain"), "list"))


def owner(text: str) -> str:
    """The address that a list's mail comes from; may hold {list} and {domain}."""
    if text.count("@") > 1 or any(c in " ,<>" for c in text):
        raise ValueError("is not an address, as postmaster@example.org or owner-{list}@example.org")
    return _template(text, ("list", "domain"))


def rate(text: str) -> tuple[int, float]:
    """So many in a time, as 100/1m: the number, and the seconds."""
    found = RATE.fullmatch(text)
    if found is None:
        raise ValueError("is no rate: write how many in how long, as 100/1m")
    return int(found[1]), float(found[2]) * TIMES[found[3]]


def authors(text: str) -> str:
    """Some reverse-paths: "<>", "@domain", "@.suffix", or an address with "*" for any text."""
    lower = printable(text).lower()
    local, at, domain = lower.rpartition("@")
    fine = at and domain.strip(".") and not any(c in " ,<>" for c in lower)
    if lower != "<>" and not (fine and (local or "*" not in domain)):
        raise ValueError("is none of news@example.org, news-*@example.org, @example.org, <>")
    return lower


def yes_or_no(text: str) -> bool:
    """Read yes or no; true and false say the same."""
    if text not in YES:
        raise ValueError("is neither yes nor no")
    return YES[text]
