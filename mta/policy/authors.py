"""Authors: what is special about mail of some reverse-paths, by the list ``senders`` of mta.yaml.

A pattern is "<>" for the null reverse-path, "@domain", "@.suffix" for all domains
below it, or an address in which each "*" stands for any text; the first row one
of whose patterns fits counts.

Invariants, each a property in tests/policy/test_authors.py
    B1   A pattern without "*" fits just the address it spells, whatever its case; a "*"
         more never makes it fit less.
    B2   find() is the first row that has a pattern that fits, None if there is none.
"""

from __future__ import annotations

from mta.types import NULL_PATH
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol, TypeVar

    from mta.types import ReversePath

    class Row(Protocol):
        """A row of the list, whatever else it says."""

        @property
        def match(self) -> tuple[str, ...]:
            """Its patterns."""

    R = TypeVar("R", bound=Row)

__all__ = ["DISCARD", "FAILURES", "POSTMASTER", "RETURN", "find", "fits"]

# What is done with failures: told to the author, told to nobody, told to the postmaster.
RETURN, DISCARD, POSTMASTER = "return", "discard", "postmaster"
FAILURES = (RETURN, DISCARD, POSTMASTER)


def fits(pattern: str, path: ReversePath) -> bool:
    """Tell whether ``path`` is what ``pattern``, in lower case, means."""
    if path is NULL_PATH or pattern == "<>":
        return path is NULL_PATH and pattern == "<>"
    local, _, domain = str(path).lower().rpartition("@")
    if pattern.startswith("@."):
        return domain.endswith(pattern[1:])
    if pattern.startswith("@"):
        return domain == pattern[1:]
    return _like(pattern.split("*"), f"{local}@{domain}")


def _like(parts: list[str], text: str) -> bool:
    """Tell whether ``text`` is ``parts`` with any text between them."""
    if len(parts) == 1:
        return text == parts[0]
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    text = text[len(first) : len(text) - len(last)]
    for part in middle:
        _, found, text = text.partition(part) if part else ("", " ", text)
        if not found:
            return False
    return True


def find(rows: Iterable[R], path: ReversePath) -> R | None:
    """Return the first of ``rows`` that is about ``path``."""
    for row in rows:
        if any(fits(pattern, path) for pattern in row.match):
            return row
    return None
