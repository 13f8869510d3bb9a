"""Who holds files' locks, told by the kernel: asking takes no lock and disturbs nobody.

The kernel's table is read once for many files: with a thousand locks in it that takes
milliseconds.

Source   proc(5), /proc/locks.  Where it does not say, nobody is said to hold a lock.
"""

from __future__ import annotations

import os

__all__ = ["Holders"]


class Holders:
    """The flocks that were held when this was made."""

    def __init__(self, table: str = "/proc/locks") -> None:
        self._pids: dict[str, int] = {}
        try:
            with open(table, encoding="ascii") as file:
                lines = file.read().splitlines()
        except (OSError, ValueError):
            return
        for line in lines:
            words = line.split()
            if len(words) == 8 and words[1] == "FLOCK" and words[4].isdecimal():
                self._pids.setdefault(words[5], int(words[4]))

    def of(self, path: str) -> int:
        """Return the pid that held the lock of the file ``path``; 0 if none is known to."""
        try:
            status = os.stat(path)
        except OSError:
            return 0
        major, minor = os.major(status.st_dev), os.minor(status.st_dev)
        return self._pids.get(f"{major:02x}:{minor:02x}:{status.st_ino}", 0)
