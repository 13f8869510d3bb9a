"""Credentials: user and password for smart hosts, from a file that is read again when it changes.

    # host[:port]  user  password      the password is the rest of its line
    smtp.example.net:587  posthouse  secret word

A line with a port is for that port alone, and goes before one without.  The
first line for a place counts.

Units    The file is looked at once in LOOK seconds at most.
State    What the file said when it could last be used.

Invariants, each a test in tests/machine/test_credentials.py
    J1   A file that others than its owner and group may read or change is not used.
    J2   A file that cannot be used any more leaves what it said in force, and is
         warned of once for each change.
    J3   No text of a line gets into an error: it may be a password.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

from mta.machine.net import UNIX, numeric, parse_endpoint

__all__ = ["Credentials"]

LOOK = 1.0
SIZE_MAX = 1 << 20

Stamp = tuple[int, int, int, int]
Pairs = dict[tuple[str, int], tuple[str, str]]  # (host, port or 0) → user and password


class Credentials:
    """The credentials file of one channel."""

    def __init__(
        self,
        path: str,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``path`` "" means that there is none; ``warn`` hears why a changed file is not used."""
        self._path, self._warn, self._clock = path, warn, clock
        self._looked = -LOOK
        self._stamp: Stamp | None = None
        self._pairs: Pairs | None = None

    def find(self, host: str, port: int) -> tuple[str, str] | None:
        """Return user and password for ``host`` at ``port``, None if the file names no such place.

        Raises ValueError, with the reason, if the file could never be used yet.
        """
        if not self._path:
            return None
        now = self._clock()
        if now - self._looked >= LOOK or self._pairs is None:
            self._looked = now
            self._look()
        pairs = self._pairs or {}
        if not host.startswith(UNIX):
            host = numeric(host) or host.lower()
        return pairs.get((host, port)) or pairs.get((host, 0))

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if self._pairs is not None and stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._pairs = _read(self._path)
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or error
            if self._pairs is None:
                raise ValueError(f"{self._path}: {why}") from None
            self._warn(f"{self._path}: {why}; what it said before stays in force")


def _stamp(path: str) -> Stamp | None:
    """Return what tells one state of the file from another, None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


def _read(path: str) -> Pairs:
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            raise ValueError("everybody may read or change this file; chmod o-rw it")
        octets = file.read(SIZE_MAX + 1)
    if len(octets) > SIZE_MAX:
        raise ValueError(f"more than {SIZE_MAX} octets")
    pairs: Pairs = {}
    for number, line in enumerate(octets.split(b"\n"), 1):
        words = line.strip().split(None, 2)
        if not words or words[0].startswith(b"#"):
            continue
        if len(words) < 3:
            raise ValueError(f"line {number} is not host, user and password")
        try:
            place, user, password = [word.decode() for word in words]
            endpoint = parse_endpoint(place, 0)
        except ValueError:
            raise ValueError(f"line {number} is not host[:port], user and password") from None
        pairs.setdefault((endpoint.host, endpoint.port), (user, password))
    return pairs
