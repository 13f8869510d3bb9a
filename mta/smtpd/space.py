"""Space: whether the spool's disk has room for one more message.

Asked before a body is let in, so that a full disk refuses (452 4.3.1) what it
could not hold; what is left serves those who deliver and make room.

Units    Octets.  The disk is looked at once in LOOK seconds at most.

Invariants, each a test in tests/smtpd/test_space.py
    SP1  No message is let in that would leave less than the reserve of octets or inodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["RESERVE", "RESERVE_INODES", "Space"]

LOOK = 1.0
RESERVE = 32 << 20
RESERVE_INODES = 1000


class Space:
    """The room on the disk that ``path`` lies on."""

    def __init__(self, path: str, look: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self._path = path
        self._look = look
        self._looked = -LOOK
        self._free = 0
        self._inodes = 0

    def has(self, octets: int, now: float) -> bool:
        """Whether a message of ``octets`` may come; yes where the disk does not tell."""
        if not 0.0 <= now - self._looked < LOOK:
            self._looked = now
            try:
                found = self._look(self._path)
            except OSError:
                return True  # the write will tell
            self._free = found.f_bavail * found.f_frsize
            # Some file systems make inodes as they need them, and say 0 of 0.
            self._inodes = found.f_favail if found.f_files else RESERVE_INODES
        return self._free - octets >= RESERVE and self._inodes >= RESERVE_INODES
