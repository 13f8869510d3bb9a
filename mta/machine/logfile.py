"""A log file that many processes append whole lines to; it survives rotation and a full disk.

What is promised of it stands in ``mta.machine.log``, which writes through it.

State    One buffer and one descriptor.
"""

from __future__ import annotations

import os
import time

from mta.machine.ownership import give
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LogFile"]

_FLUSH_OCTETS = 64 * 1024
_KEEP_OCTETS = 1024 * 1024


class LogFile:
    """An append-only file of lines."""

    def __init__(self, path: str, write: Callable[[int, bytes], int] = os.write) -> None:
        """Append to ``path``, which is made when there is something to write."""
        self.path = path
        self.lost = 0
        self.reason = ""
        self._write = write
        self._fd = -1
        self._lines: list[bytes] = []
        self._size = 0
        self._checked = 0.0

    def add(self, line: str) -> bool:
        """Buffer ``line``; True when it is time to flush.  Drops it when too much waits."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._size + len(data) > _KEEP_OCTETS:
            self.lost += 1
            return False
        self._lines.append(data)
        self._size += len(data)
        return self._size >= _FLUSH_OCTETS

    def flush(self) -> bool:
        """Write what waits; False if the machine would not have it (see ``reason``)."""
        if not self._lines:
            return True
        try:
            self._open()
            data = b"".join(self._lines)
            written = self._write(self._fd, data)
        except OSError as error:
            self.reason = error.strerror or str(error)
            return False
        if written == len(data):
            self._lines, self._size = [], 0
            return True
        self._keep_from(data, written)
        self.reason = "the disk is full"
        return False

    def _keep_from(self, data: bytes, written: int) -> None:
        """Keep what follows octet ``written``, the line that was cut there in whole (L3)."""
        start = data.rfind(b"\n", 0, written) + 1
        rest = data[start:]
        self._lines = [rest] if start == written else [b"\n" + rest]
        self._size = len(self._lines[0])

    def _open(self) -> None:
        """Open the file, or open it again if its name now leads elsewhere; asks once a second."""
        now = time.monotonic()
        if self._fd >= 0 and now - self._checked < 1.0:
            return
        self._checked = now
        if self._fd >= 0:
            try:
                if os.path.samestat(os.stat(self.path), os.fstat(self._fd)):
                    return
            except FileNotFoundError:
                pass
            self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        new = not os.path.exists(self.path)
        try:
            self._fd = os.open(self.path, flags, 0o640)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._fd = os.open(self.path, flags, 0o640)
        if new:
            give(self.path)

    def trouble(self) -> str:
        """Open the file, and make its directory; return why that cannot be, "" if it can."""
        try:
            self._open()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
