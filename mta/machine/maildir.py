"""Delivery into a Maildir: whole, on the disk, and under a name of its own, or not at all.

Source   maildir(5) by D. J. Bernstein; O_NOFOLLOW below the mail root, so that
         nobody who can write into a mailbox leads us elsewhere.
Units    ``now`` float seconds since the epoch.
State    A counter in this process, which makes names unique within one microsecond.

Invariants, each a property in tests/machine/test_maildir.py
    L1   When deliver returns, new/ holds the message whole, it and its name are synced.
    L2   When deliver raises, new/ is as it was, and nothing of ours stays in tmp/.
    L3   Whatever lies in tmp/, new/ or cur/ is neither changed nor in the way.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from typing import BinaryIO

from mta.machine.body import as_is, as_lf
from mta.values import frozen

__all__ = ["Place", "deliver", "owner_of", "unique_name"]

_COUNTER = itertools.count(1)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_LINK = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)


@frozen
class Place:
    """A mailbox below the mail root: ``root`` must exist, what is ``below`` it is made."""

    root: str
    below: str

    @property
    def path(self) -> str:
        """The whole path."""
        return os.path.join(self.root, self.below)

    @property
    def steps(self) -> tuple[str, ...]:
        """The names below the root, in order; ValueError if one of them is "..", or none is."""
        steps = tuple([step for step in self.below.split("/") if step not in ("", ".")])
        if not steps or ".." in steps:
            raise ValueError(f"not a mailbox below {self.root}: {self.below!r}")
        return steps


def unique_name(now: float, pid: int, host: str) -> str:
    """Return a name that no other delivery gets: time, microsecond, process, counter, host."""
    second = int(now)
    micro = int((now - second) * 1e6)
    safe = host.replace("/", "\\057").replace(":", "\\072") or "localhost"
    return f"{second}.M{micro}P{pid}Q{next(_COUNTER)}.{safe}"


@contextlib.contextmanager
def _opened(place: Place, *, make: bool) -> Iterator[int]:
    """Open the directory, making what is missing below the root; the root is followed."""
    fd = os.open(place.root, _DIRECTORY)
    try:
        for step in place.steps:
            below = _enter(fd, step, make)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _enter(fd: int, step: str, make: bool) -> int:
    try:
        return os.open(step, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):  # another delivery was first
        os.mkdir(step, 0o700, dir_fd=fd)
    below = os.open(step, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
    os.fsync(fd)
    return below


def owner_of(place: Place) -> tuple[int, int]:
    """Return the user and group id of the deepest directory of ``place`` that exists."""
    fd = os.open(place.root, _DIRECTORY)
    try:
        for step in place.steps:
            try:
                below = os.open(step, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError):
                break
            os.close(fd)
            fd = below
        found = os.fstat(fd)
        return found.st_uid, found.st_gid
    finally:
        os.close(fd)


def deliver(
    place: Place, header: bytes, body: BinaryIO, now: float, host: str, *, raw: bool = False
) -> str:
    """Write ``header`` and ``body`` as a new message of the Maildir; return its name.

    ``raw``: the body octet for octet, and the header with CRLF, too.
    Raises OSError, and then nothing was delivered (but see L2: should syncing
    new/ fail after all else went well, the message may be seen there twice).
    """
    name = unique_name(now, os.getpid(), host)
    with _opened(place, make=True) as maildir:
        folders = {folder: _enter(maildir, folder, True) for folder in ("tmp", "new", "cur")}
        try:
            _write(folders["tmp"], name, header, body, raw)
            try:
                _publish(folders["tmp"], folders["new"], name)
            except OSError:
                os.unlink(name, dir_fd=folders["tmp"])
                raise
            os.fsync(folders["new"])
        finally:
            for fd in folders.values():
                os.close(fd)
    return name


def _write(tmp: int, name: str, header: bytes, body: BinaryIO, raw: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=tmp)
    try:
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(header.replace(b"\n", b"\r\n") if raw else header)
                for octets in as_is(body) if raw else as_lf(body):
                    file.write(octets)
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(name, dir_fd=tmp)
        raise


def _publish(tmp: int, new: int, name: str) -> None:
    try:
        os.rename(name, name, src_dir_fd=tmp, dst_dir_fd=new)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        os.link(name, name, src_dir_fd=tmp, dst_dir_fd=new, follow_symlinks=False)
        os.unlink(name, dir_fd=tmp)
