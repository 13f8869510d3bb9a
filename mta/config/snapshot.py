"""The parsed configuration beside mta.yaml, so that a one-shot ``submit`` need not parse YAML.

``.mta.yaml.snapshot`` holds the whole Config as plain tuples, with a signature
of every file that it came from.  It is a cache: whatever is wrong with it, the
files are parsed again, and deleting it costs nothing but time.

Format   MAGIC, CRC-32 of the rest (4 octets), then marshal of
         (versions, path, node name, signatures, flattened Config).
Trust    Read only when it is a regular file that belongs to root, to us or to
         the owner of mta.yaml, and nobody else may write it.
Racing   A file edited within a clock tick of being read keeps its signature.
         So a snapshot counts only if it is a second younger than the last
         change of each file; until then every start parses, and writes anew.

Invariants, each a property in tests/config/test_snapshot.py
    N1   read() returns what parsing now would return, or None.
    N2   read() and write() raise nothing, whatever lies at the snapshot's path.
    N3   One octet changed anywhere makes read() return None.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import zlib

from mta import __version__
from mta.config.model import flatten, rebuild
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import Config

    Signature = tuple[int, ...]
    Signed = tuple[tuple[str, Signature], ...]

__all__ = ["read", "signature", "snapshot_path", "write"]

MAGIC = b"posthouse configuration 1\n"
MARGIN = 1_000_000_000  # nanoseconds by which a snapshot must be younger than what it holds
MAX_OCTETS = 256 << 20

_VERSIONS = (__version__, sys.version)
# What turns text into a Config: a change of these outdates every snapshot.
_CODE = (
    *("build.py", "files.py", "model.py", "validate.py", "schema.py", "channel_keys.py"),
    *("kinds.py", "words.py", "scalars.py", "places.py"),
)


def snapshot_path(path: str) -> str:
    """Return where the snapshot of the configuration file ``path`` lies."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.snapshot"


def signature(status: os.stat_result) -> Signature:
    """Return what changes when a file is replaced, written, or its mode or owner changed."""
    s = status
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _code() -> tuple[str, ...]:
    folder = __file__.rpartition("/")[0]
    return tuple([f"{folder}/{name}" for name in _CODE])


def read(path: str) -> Config | None:
    """Return the snapshot of ``path``, an absolute path, or None if there is no current one."""
    try:
        fd = os.open(
            snapshot_path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not _trusted(status, os.stat(path).st_uid) or status.st_size > MAX_OCTETS:
            return None
        octets = os.read(fd, status.st_size)
        head = len(MAGIC) + 4
        sum_read = int.from_bytes(octets[len(MAGIC) : head], "big")
        if octets[: len(MAGIC)] != MAGIC or zlib.crc32(octets[head:]) != sum_read:
            return None
        versions, of, node, signed, flat = marshal.loads(octets[head:])
        if (versions, of, node) != (_VERSIONS, path, os.uname().nodename):
            return None
        return rebuild(flat) if _current(signed, status) else None
    except (OSError, EOFError, ValueError, TypeError, OverflowError, MemoryError):
        return None
    finally:
        os.close(fd)


def _trusted(status: os.stat_result, owner: int) -> bool:
    ours = status.st_uid in (0, os.geteuid(), owner)
    return stat.S_ISREG(status.st_mode) and ours and not status.st_mode & 0o022


def _current(signed: Signed, snapshot: os.stat_result) -> bool:
    """Whether each file is as it was read, and had been at rest for a while then."""
    latest = snapshot.st_mtime_ns - MARGIN
    for path, then in signed:
        now = os.stat(path)
        if signature(now) != then or now.st_ctime_ns > latest:
            return False
    return True


def write(config: Config, signed: Signed) -> None:
    """Store ``config``, made from the files ``signed``; do nothing where that is not permitted."""
    target = snapshot_path(config.path)
    draft = f"{target}.{os.getpid()}"
    try:
        code = tuple([(path, signature(os.stat(path))) for path in _code()])
        packed = (_VERSIONS, config.path, os.uname().nodename, signed + code, flatten(config))
        body = marshal.dumps(packed)
        octets = MAGIC + zlib.crc32(body).to_bytes(4, "big") + body
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o600)
    except (OSError, ValueError):
        return
    try:
        try:
            whole = os.write(fd, octets) == len(octets)
            os.fchmod(fd, _mode([path for path, _ in signed], os.fstat(fd).st_gid))
        finally:
            os.close(fd)
        if whole:
            os.rename(draft, target)
            return
    except OSError:
        pass
    _discard(draft)


def _mode(paths: list[str], group: int) -> int:
    """Let nobody read the snapshot who may not read all the files that it repeats."""
    mode = 0o644
    for path in paths:
        status = os.stat(path)
        mode &= status.st_mode
        if status.st_gid != group and not status.st_mode & stat.S_IROTH:
            mode &= ~stat.S_IRGRP
    return mode & 0o644 | stat.S_IRUSR | stat.S_IWUSR


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
