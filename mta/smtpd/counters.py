"""Counters: how many connections there are, and what each client did in the last minute.

All workers see all counts, and none waits for another: the master makes one
piece of memory in which every worker has a region of its own.  It writes only
there, and reads the sum of all regions.

A client is a bucket, found by a keyed hash of its address (IPv4 whole, IPv6 its
first 64 bits, which one customer has).  There are two rows of buckets with
different hashes, and the smaller count of the two holds, so that a client is
charged for another only if both collide; nobody can aim, since nobody outside
knows the key.

Units    Times are float seconds on the machine's monotonic clock, the same for
         all workers.  A rate is per minute: what this minute had, and of the one
         before the part that a window of a minute still covers.
State    Cells of 32 bits.  A region whose worker died is cleared by the master.

Invariants, each a test in tests/smtpd/test_counters.py
    CN1  The connections of all workers add up, in all and by client; whoever
         leaves is counted no more.
    CN2  What was added less than a minute ago counts in full or less, never more;
         what was added two minutes ago counts no more.
    CN3  Clearing a worker's region takes away its counts and no others.
"""

from __future__ import annotations

import ipaddress
import mmap
import os
from hashlib import blake2b

__all__ = ["AUTH_FAILURES", "CONNECTIONS", "FLOW", "MESSAGES", "RECIPIENTS", "Counters", "Key"]

CONNECTIONS, MESSAGES, RECIPIENTS, AUTH_FAILURES, FLOW = range(5)

_KINDS = 5
_MINUTE, _NOW, _BEFORE = 1, 2, 2 + _KINDS  # cells of a bucket; the first is its connections
_BUCKET = 2 + 2 * _KINDS
_BUCKETS = 4096  # a row
_HEAD = 64  # octets before the regions: the key
_SECOND, _ACCEPTED = 1, 2  # cells of a region: what was accepted in which second
_HEADING = 4  # cells before the buckets; the first is the worker's connections
_REGION = _HEADING + 2 * _BUCKETS * _BUCKET
_WINDOW = 60.0

Key = tuple[int, int]  # where a client's buckets begin in each region; (0, 0) is nobody
NOBODY: Key = (0, 0)


class Counters:
    """The shared counts, as one worker (``slot``) sees them."""

    def __init__(self, fd: int, slots: int, slot: int) -> None:
        """Use the memory behind ``fd``, which create() made for ``slots`` workers."""
        self._map = mmap.mmap(fd, _HEAD + 4 * _REGION * slots)
        self._key = self._map[:32]
        self._cells = memoryview(self._map)[_HEAD:].cast("I")
        self._bases = [_REGION * n for n in range(slots)]
        self._own = self._bases[slot]

    @staticmethod
    def create(slots: int) -> int:
        """Return a descriptor of new memory for ``slots`` workers."""
        fd = os.memfd_create("smtpd counters", os.MFD_CLOEXEC)
        os.ftruncate(fd, _HEAD + 4 * _REGION * slots)
        os.pwrite(fd, os.urandom(32), 0)
        return fd

    @property
    def secret(self) -> bytes:
        """32 octets that all workers share and nobody else knows."""
        return self._key

    def key(self, address: str) -> Key:
        """Return the key of the client at ``address``; of none ("") nothing is counted."""
        if not address:
            return NOBODY
        return self._find(ipaddress.ip_address(address).packed[:8])

    def flow_key(self, queue: str, address: str) -> Key:
        """Return the key of what the client at ``address`` brings for ``queue``.

        All clients of Unix sockets ("") are one.
        """
        packed = ipaddress.ip_address(address).packed[:8] if address else b""
        return self._find(queue.encode() + b"\0" + packed)

    def _find(self, name: bytes) -> Key:
        digest = blake2b(name, digest_size=8, key=self._key).digest()
        first = int.from_bytes(digest[:4], "little") % _BUCKETS
        second = int.from_bytes(digest[4:], "little") % _BUCKETS
        return _HEADING + first * _BUCKET, _HEADING + (_BUCKETS + second) * _BUCKET

    def enter(self, key: Key) -> None:
        """Count a connection."""
        cells, own = self._cells, self._own
        cells[own] += 1
        if key[0]:
            cells[own + key[0]] += 1
            cells[own + key[1]] += 1

    def leave(self, key: Key) -> None:
        """Count it no more."""
        cells, own = self._cells, self._own
        for at in (own, own + key[0], own + key[1]) if key[0] else (own,):
            if cells[at]:
                cells[at] -= 1

    def total(self) -> int:
        """Return how many connections all workers have."""
        cells = self._cells
        return sum([cells[base] for base in self._bases])

    def connections(self, key: Key) -> int:
        """Return how many connections a client has, at all workers."""
        if not key[0]:
            return 0
        cells, (first, second) = self._cells, key
        return min(
            sum([cells[base + first] for base in self._bases]),
            sum([cells[base + second] for base in self._bases]),
        )

    def add(self, key: Key, kind: int, now: float) -> None:
        """Count one more of ``kind`` for a client."""
        minute = int(now // _WINDOW) + 1  # 0 is a bucket that was never used
        for at in key if key[0] else ():
            cells, base = self._cells, self._own + at
            then = cells[base + _MINUTE]
            if then != minute:
                for k in range(_KINDS):
                    was = cells[base + _NOW + k] if then == minute - 1 else 0
                    cells[base + _BEFORE + k], cells[base + _NOW + k] = was, 0
                cells[base + _MINUTE] = minute
            cells[base + _NOW + kind] += 1

    def rate(self, key: Key, kind: int, now: float) -> float:
        """Return how many of ``kind`` a client had within the last minute."""
        if not key[0]:
            return 0.0
        return min(self._rate(key[0], kind, now), self._rate(key[1], kind, now))

    def _rate(self, at: int, kind: int, now: float) -> float:
        cells, minute = self._cells, int(now // _WINDOW) + 1
        left = 1.0 - now % _WINDOW / _WINDOW  # of the minute before, what the window still covers
        total = 0.0
        for base in self._bases:
            bucket = base + at
            then = cells[bucket + _MINUTE]
            if then == minute:
                total += cells[bucket + _NOW + kind] + left * cells[bucket + _BEFORE + kind]
            elif then == minute - 1:
                total += left * cells[bucket + _NOW + kind]
        return total

    def accept(self, most: int, now: float) -> float:
        """Count one connection more if no more than ``most`` were accepted in this second.

        Returns 0.0 if so, else how long it is until the next second.
        """
        cells, own, second = self._cells, self._own, int(now) + 1  # 0 is never
        taken = [cells[base + _ACCEPTED] for base in self._bases if cells[base + _SECOND] == second]
        if sum(taken) >= most:
            return second - now
        if cells[own + _SECOND] != second:
            cells[own + _SECOND], cells[own + _ACCEPTED] = second, 0
        cells[own + _ACCEPTED] += 1
        return 0.0

    def clear(self, slot: int) -> None:
        """Forget what the worker in ``slot`` counted: it is dead."""
        base = self._bases[slot]
        octets = memoryview(self._map)
        start = _HEAD + 4 * base
        octets[start : start + 4 * _REGION] = bytes(4 * _REGION)
        octets.release()
