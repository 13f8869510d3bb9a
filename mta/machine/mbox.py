"""Appending to an mbox: locked against everyone, whole or not at all.

Source   mbox(5), RFC 4155; locks as Debian's policy wants them: fcntl first,
         then the dot lock.  A lock is never broken for its age: whoever left it
         behind is for the administrator to judge, and the mail waits.
Units    ``now`` seconds since the epoch; ``patience`` seconds.

Invariants, each a property in tests/machine/test_mbox.py
    O1   What was in the file stays, octet for octet, whatever happens.
    O2   When append raises, the file has its old length, and no lock of ours is left.
    O3   Each message appended is found again whole by a reader that goes by From_ lines.
    O4   Nothing but a regular file with one link, not reached by a symbolic link, is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from mta.errors import PosthouseError
from mta.machine.body import as_lf

__all__ = ["BusyError", "append", "from_line", "quoted"]

_PAUSE = 0.1
_FROM = b"\nFrom "
_OPEN = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class BusyError(PosthouseError):
    """Another program holds the lock of the mailbox."""


def from_line(reverse_path: object, now: float) -> bytes:
    """Return the From_ line of a message that came ``now``."""
    who = str(reverse_path).replace(" ", "_") or "MAILER-DAEMON"
    return f"From {who} {time.asctime(time.gmtime(now))}\n".encode()


def quoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` with ">" before each line that begins "From ", and with a last LF."""
    held, skip, last = b"\n", 1, b"\n"  # as if a line had ended just before
    for piece in pieces:
        data = held + piece
        last = data[-1:] or last
        kept = next((n for n in range(5, 0, -1) if data.endswith(_FROM[:n])), 0)
        ready, held = data[: len(data) - kept], data[len(data) - kept :]
        if ready:
            yield ready.replace(_FROM, b"\n>From ")[skip:]
            skip = 0
    yield held[skip:]
    if last != b"\n":
        yield b"\n"


def append(path: str, from_: bytes, header: bytes, body: BinaryIO, patience: float = 0.0) -> int:
    """Append a message to the mbox ``path``; return the offset it begins at.

    Raises BusyError if it stays locked for ``patience`` seconds, OSError for
    what the machine refuses; the file is as it was then.
    """
    give_up = time.monotonic() + patience
    fd = _open(path)
    try:
        _lock(fd, path, give_up)
        with _dot_lock(path, give_up):
            if not os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False)):
                raise BusyError(f"{path} was replaced while we waited for its lock")
            return _append(fd, from_ + header, body)
    finally:
        os.close(fd)  # which gives the fcntl lock back


def _open(path: str) -> int:
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        _sync_directory(path)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(fd)
        raise OSError(errno.EPERM, "not a regular file with one name", path)
    return fd


def _sync_directory(path: str) -> None:
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(fd: int, path: str, give_up: float) -> None:
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        _pause(path, give_up)


def _pause(path: str, give_up: float) -> None:
    if time.monotonic() >= give_up:
        raise BusyError(f"{path} is locked by another program")
    time.sleep(_PAUSE)


@contextlib.contextmanager
def _dot_lock(path: str, give_up: float) -> Iterator[None]:
    """Hold PATH.lock; do without where we may not write into the directory."""
    lock = path + ".lock"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            fd = os.open(lock, flags, 0o600)
            break
        except FileExistsError:
            _pause(path, give_up)
        except PermissionError:
            yield
            return
    try:
        with contextlib.suppress(OSError):  # the lock holds, whatever is written in it
            os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)
        os.unlink(lock)


def _append(fd: int, beginning: bytes, body: BinaryIO) -> int:
    length = os.fstat(fd).st_size
    try:
        with os.fdopen(os.dup(fd), "ab") as file:
            if length and os.pread(fd, 1, length - 1) != b"\n":
                file.write(b"\n\n")  # someone broke off: his rest is not our From_ line's line
            file.write(beginning)
            for octets in quoted(as_lf(body)):
                file.write(octets)
            file.write(b"\n")
        os.fsync(fd)
    except BaseException:
        os.ftruncate(fd, length)
        os.fsync(fd)
        raise
    return length
