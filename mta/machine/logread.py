"""The event log read back: the events about one message, and a file of lines as it grows.

Source   DIR/events.jsonl and DIR/events.jsonl.1, as mta-log(5) describes them.

Invariants, each a property in tests/machine/test_logread.py
    E1   A line that is not whole, or not ours, is passed over; nothing is raised.
    E2   A follower misses no line of a file that is renamed and made anew.
"""

from __future__ import annotations

import json
import os

from mta.machine.log import EVENTS_FILE
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Event = dict[str, Any]

__all__ = ["Follower", "parse_event", "read_events"]

_CHUNK = 1 << 20


def parse_event(line: bytes) -> Event | None:
    """Return the event on a line of the log; None if it is not whole, or not ours."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    named = isinstance(event, dict) and isinstance(event.get("event"), str)
    return event if named and isinstance(event.get("time"), str) else None


def read_events(directory: str, about: str = "") -> Iterator[Event]:
    """Yield the events in which the word ``about`` occurs, the rotated file's first."""
    word = about.encode()
    for name in (f"{EVENTS_FILE}.1", EVENTS_FILE):
        try:
            with open(os.path.join(directory, name), "rb") as file:
                for line in file:
                    if word in line and (event := parse_event(line)) is not None:
                        yield event
        except FileNotFoundError:
            continue


class Follower:
    """Follows a file of lines as it grows, is renamed, and is made again."""

    def __init__(self, path: str, *, back: int = 0) -> None:
        """Begin at the end of ``path``, or up to ``back`` lines before it; it need not exist."""
        self._path = path
        self._rest = b""
        self._file = self._open()
        if self._file is not None:
            self._file.seek(_start_of_last(self._file, back))

    def _open(self) -> Any:
        try:
            return open(self._path, "rb")
        except FileNotFoundError:
            return None

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last call."""
        data = self._rest
        while True:
            # asked before reading: what was written before the rename is in the old file
            moved = self._moved()
            if self._file is not None:
                data += self._file.read()
            if not moved:
                break
            if self._file is not None:
                self._file.close()
            self._file = self._open()
            if self._file is None:
                break
        *whole, self._rest = data.split(b"\n")
        return whole

    def _moved(self) -> bool:
        """Whether the name leads to another file than the one that is open."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False  # renamed, and not made again yet: the old one may still grow
        return self._file is None or not os.path.samestat(there, os.fstat(self._file.fileno()))


def _start_of_last(file: Any, lines: int) -> int:
    """Return the offset of the last ``lines`` lines of ``file``, within its last mebibyte."""
    size: int = file.seek(0, os.SEEK_END)
    if not lines:
        return size
    start = max(0, size - _CHUNK)
    file.seek(start)
    data = file.read(size - start)
    at = len(data)
    for _ in range(lines + 1):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return start
    return start + at + 1
