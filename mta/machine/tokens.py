"""Tokens that all delivers of a machine share: a small file in which each lane notes what it holds.

A lane takes tokens in batches, a few microseconds under a lock that nobody waits
for; between two exchanges it starts jobs on what it has.  It keeps what it used
lately, unless others go short.

    RUNTIME/tokens   64 octets: a mark, how many rows are in use, and a count that
                     moves when somebody goes short; then rows of 16 octets: a
                     channel's checksum, what the lane holds, what it could use

Source   fcntl(2), open file description locks: the kernel drops them when the
         process dies, however it does, and no child inherits them past its exec.
Units    Monotonic seconds, which all processes of a machine share.
State    The file; losing it while delivers run lets each count for itself.

Invariants, each a test in tests/machine/test_tokens.py
    TK1  Whatever lanes, processes and deaths there are, the tokens held never are
         more than a pool has.
    TK2  What a dead process held is free again within LOOK seconds of asking.
    TK3  Nothing here waits: an exchange that finds the file locked is put off.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from contextlib import suppress

from mta.errors import SpoolError
from mta.policy.tokens import Holder, allowance
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOOK", "Purse", "Tokens"]

ROWS = 1024  # lanes on one machine; more of them get no tokens
TURN = 0.5  # how long what does not come out even stays with the same lanes
LOOK = 1.0  # between looks for the dead
QUICK = 0.002  # between exchanges that gave what was asked
SLOW = 0.02  # and after one that did not
SPARE = 0.05  # how long a token is kept that is not used

_MARK = b"phtok 1\n"
_HEAD = struct.Struct("=8sII")
_ROW = struct.Struct("=IIII")  # channel, have, want, nothing
_ROWS_AT = 64
_FLOCK = struct.Struct("hhqqi4x")
_SET = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)


class Tokens:
    """The file, as one deliver uses it."""

    def __init__(self, runtime: str, limit: int, limits: Mapping[str, int]) -> None:
        """``limit`` is of all jobs in flight, 0 is none; ``limits`` are those of channels.

        SpoolError if the file cannot be used.
        """
        self._path = f"{runtime}/tokens"
        self.limit = limit or None
        self.limits = {_number(name): most for name, most in limits.items()}
        self._own: set[int] = set()
        self._looked = -LOOK
        try:
            os.makedirs(runtime, mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # root may be here
            self._fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise SpoolError(f"cannot use {self._path}: {error.strerror}") from error

    def purse(self, channel: str) -> Purse:
        """Return what a lane of ``channel`` keeps its tokens in."""
        return Purse(self, _number(channel))

    def _lock(self, at: int, kind: int = fcntl.F_WRLCK) -> bool:
        """Take or give back the lock on one octet, without waiting."""
        try:
            fcntl.fcntl(self._fd, _SET, _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _used(self) -> int:
        head = os.pread(self._fd, _HEAD.size, 0)
        if len(head) < _HEAD.size or head[:8] != _MARK:
            return 0
        return min(int(_HEAD.unpack(head)[1]), ROWS)

    def enter(self) -> int:
        """Find a row for a lane, and keep it locked; -1 if there is none just now."""
        if not self._lock(0):
            return -1
        try:
            used = self._used()
            for row in range(ROWS):
                at = _ROWS_AT + row * _ROW.size
                if row in self._own or not self._lock(at):
                    continue
                os.pwrite(self._fd, bytes(_ROW.size), at)
                if row >= used:
                    os.pwrite(self._fd, _HEAD.pack(_MARK, row + 1, 0), 0)
                self._own.add(row)
                return row
            return -1
        except OSError:
            return -1  # the disk has no room even for this: later, perhaps
        finally:
            self._lock(0, fcntl.F_UNLCK)

    def leave(self, row: int) -> None:
        """Give back a row with all that is in it."""
        at = _ROWS_AT + row * _ROW.size
        with suppress(OSError):  # who looks for the dead clears it then
            os.pwrite(self._fd, bytes(_ROW.size), at)
        self._own.discard(row)
        self._lock(at, fcntl.F_UNLCK)

    def hunger(self) -> bytes:
        """Return what changes when a lane goes short of tokens."""
        return os.pread(self._fd, 4, 12)

    def exchange(
        self, row: int, pool: int, have: int, busy: int, want: int, mono: float
    ) -> tuple[int, int] | None:
        """Note what a lane wants; return how many it may use and how many it holds now.

        It holds ``busy`` at least, if it held so many.  None if the file is
        locked just now, or the disk fails.
        """
        if not self._lock(0):
            return None
        try:
            if mono >= self._looked + LOOK:
                self._looked = mono
                self._clear_dead()
            holders, me = self._holders(row, Holder(pool, have, max(have, want)))
            holders[me] = Holder(pool, have, max(want, min(have, busy)))
            may = allowance(holders, me, self.limits, self.limit, int(mono // TURN))
            held = max(may, min(have, busy))
            os.pwrite(self._fd, _ROW.pack(pool, held, want, 0), _ROWS_AT + row * _ROW.size)
            if may < want:
                count = int.from_bytes(self.hunger(), "little")
                os.pwrite(self._fd, struct.pack("=I", (count + 1) & 0xFFFFFFFF), 12)
            return may, held
        except OSError:
            return None
        finally:
            self._lock(0, fcntl.F_UNLCK)

    def _holders(self, row: int, mine: Holder) -> tuple[list[Holder], int]:
        """Return all lanes that hold or want tokens, ours among them, and where it stands."""
        octets = os.pread(self._fd, self._used() * _ROW.size, _ROWS_AT)
        octets = octets[: len(octets) - len(octets) % _ROW.size]
        holders: list[Holder] = []
        me = 0
        for number, (pool, have, want, _) in enumerate(_ROW.iter_unpack(octets)):
            if number == row:
                me = len(holders)
                holders.append(mine)
            elif have or want:
                holders.append(Holder(pool, have, max(have, want)))
        return holders, me

    def _clear_dead(self) -> None:
        """Free what processes held that are no more: nobody holds their rows' locks."""
        used = self._used()
        octets = os.pread(self._fd, used * _ROW.size, _ROWS_AT)
        for row in range(len(octets) // _ROW.size):
            at = _ROWS_AT + row * _ROW.size
            empty = not any(octets[row * _ROW.size : (row + 1) * _ROW.size])
            if empty or row in self._own or not self._lock(at):
                continue
            os.pwrite(self._fd, bytes(_ROW.size), at)
            self._lock(at, fcntl.F_UNLCK)

    def close(self) -> None:
        """Give everything back."""
        for row in tuple(self._own):
            self.leave(row)
        os.close(self._fd)


class Purse:
    """The tokens of one lane: ``may`` is how many jobs it may have in flight."""

    def __init__(self, tokens: Tokens, pool: int) -> None:
        """Hold nothing yet."""
        self.may = 0
        self._tokens = tokens
        self._pool = pool
        self._row = tokens.enter()
        self._have = 0
        self._want = 0
        self._used = 0.0
        self._next = 0.0
        self._seen = b""

    def ask(self, busy: int, want: int, mono: float) -> None:
        """Say how many jobs are in flight, and how many could be; ``may`` is right afterwards."""
        self._want = want
        if want >= self.may:
            self._used = mono
        if mono < self._next or not self._is_news(busy, want, mono):
            return
        if self._row < 0:
            self._row = self._tokens.enter()
        self._next = mono + SLOW
        if self._row < 0:
            return
        self._seen = self._tokens.hunger()
        got = self._tokens.exchange(self._row, self._pool, self._have, busy, want, mono)
        if got is not None:
            self.may, self._have = got
            if self.may >= want:
                self._next = mono + QUICK
                self._used = mono
            else:
                self._seen = self._tokens.hunger()

    def _is_news(self, busy: int, want: int, mono: float) -> bool:
        if want > self.may or self._have > max(self.may, busy):
            return True
        if want < self.may and mono >= self._used + SPARE:
            return True
        return self.may > 0 and self._tokens.hunger() != self._seen

    def due(self, mono: float) -> float | None:
        """Return when to ask again though nothing happens (monotonic); None if there is no need."""
        if self._want > self.may:
            return max(self._next, mono)
        return max(self._next, self._used + SPARE) if self._have > self._want else None

    def close(self) -> None:
        """Give all back: the lane has ended."""
        if self._row >= 0:
            self._tokens.leave(self._row)
        self._row, self.may, self._have = -1, 0, 0


def _number(channel: str) -> int:
    return zlib.crc32(channel.encode())
