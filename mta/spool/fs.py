"""The system calls that the spool makes, and no others, behind one small class.

Tests put a disk in its place that forgets what was not synced
(tests/spool/disk.py).  Paths are relative to the spool's root.

An ext4 without a journal looks past every inode that was removed in the last
minutes before it gives one away, group by group: in one busy directory that
comes to half a millisecond for each new file.  There, after spread(), job files
are made in directories that lie far from each other, and linked to where they
belong.

Errors   OSError, as the system gives it: the rooms above decide what it means.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from itertools import islice

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Fs"]

NURSERIES = 64  # directories to make files in; each lies in a block group of its own
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # ioctl_iflags(2)
_TOPDIR = 0x00020000  # FS_TOPDIR_FL: what is below is to be spread over the disk

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class Fs:
    """The file system below one spool."""

    def __init__(self, root: str, *, alike: bool = False) -> None:
        """Work below ``root``, which need not exist yet.

        ``alike``: who owns the spool does all the work in it, so that what root makes
        there is his throughout.
        """
        self._root = root + "/"
        self.alike = alike
        self._nurseries: list[str] = []
        self._turn = 0
        self._elsewhere: set[str] = set()  # queues and places on another file system
        self._anothers: bool | None = None  # whether the spool is not root's

    def make_root(self) -> None:
        """Make the spool's own directory, and those above it."""
        os.makedirs(self._root, mode=DIRECTORY_MODE, exist_ok=True)

    @property
    def anothers(self) -> bool:
        """Whether we are root, and the spool is another user's."""
        if os.geteuid() != 0:
            return False
        if self._anothers is None:
            self._anothers = os.stat(self._root).st_uid != 0
        return self._anothers

    def create(self, path: str) -> int:
        """Make a file that must not exist yet; return a descriptor that appends to it."""
        if self._nurseries and path[:2] == "q." and path.partition("/")[0] not in self._elsewhere:
            return self._create_far(path)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._root + path, flags, FILE_MODE)
        if self.anothers:
            self._give_alike(path, fd)
        return fd

    def _give_alike(self, path: str, fd: int) -> None:
        """As root in another's spool: what is new belongs to whom its directory belongs to.

        What a deliver as root keeps below directories of its own stays root's; what root
        adds to the journal, or to the queues of a deliver that is no root, that one can use.
        """
        owner = os.stat(os.path.dirname(self._root + path))
        os.fchown(fd, owner.st_uid, owner.st_gid)

    def _create_far(self, path: str) -> int:
        """Make a file in the nursery whose turn it is, and give it its name."""
        self._turn = (self._turn + 1) % len(self._nurseries)
        near = self._nurseries[self._turn] + path.rpartition("/")[2]
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(near, flags, FILE_MODE)
        except FileNotFoundError:  # somebody has tidied up: do without
            self._nurseries = []
            return self.create(path)
        try:
            os.link(near, self._root + path)
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EXDEV:
                raise
            self._elsewhere.add(path.partition("/")[0])  # a mount of its own: do without
            return self.create(path)
        finally:
            os.unlink(near)
        if self.anothers:
            self._give_alike(path, fd)
        return fd

    def spread(self) -> bool:
        """From now on make job files far apart, where that pays; return whether it does.

        For the one process that makes them: what an earlier one left half made goes.
        """
        if not _seeks_long(self._root):
            return False
        self.mkdir("new")
        fd = os.open(self._root + "new", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            (flags,) = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _TOPDIR))
        except OSError:
            return False
        finally:
            os.close(fd)
        found = []
        for number in range(NURSERIES):
            self.mkdir(f"new/{number:02x}")
            for name in self.list(f"new/{number:02x}"):
                self.unlink(f"new/{number:02x}/{name}")
            found.append(f"{self._root}new/{number:02x}/")
        self._nurseries = found
        return True

    def open(self, path: str, append: bool = False) -> int:
        """Open an existing file to read, or to read and append."""
        flags = os.O_RDWR | os.O_APPEND if append else os.O_RDONLY
        return os.open(self._root + path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)

    def write(self, fd: int, data: bytes) -> None:
        """Append all of ``data``, in one call where the system takes it in one."""
        done = os.write(fd, data)
        while done < len(data):  # a short write: a signal, or a disk that is nearly full
            done += os.write(fd, data[done:])

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to ``size`` octets at ``offset``; fewer only at the end of the file."""
        return os.pread(fd, size, offset)

    def sync(self, fd: int) -> None:
        """Put a file's octets and size on the disk."""
        os.fdatasync(fd)

    def sync_directory(self, path: str) -> None:
        """Put a directory's entries on the disk; "" is the spool itself."""
        fd = os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file back; only what nobody was promised may be cut."""
        os.ftruncate(fd, size)

    def stat(self, fd: int) -> tuple[int, int]:
        """Return a file's size in octets, and how many names it has (0: removed)."""
        status = os.fstat(fd)
        return status.st_size, status.st_nlink

    def lock(self, fd: int) -> bool:
        """Take the file's lock without waiting; the kernel drops it with the descriptor."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self, fd: int) -> None:
        """Close a descriptor, and drop its lock."""
        os.close(fd)

    def unlink(self, path: str) -> None:
        """Remove a name; no error if it is gone already."""
        try:
            os.unlink(self._root + path)
        except FileNotFoundError:
            pass

    def lists(self, path: str, size: int) -> Iterator[list[str]]:
        """Yield the names in a directory, at most ``size`` at a time, in no order."""
        try:
            scan = os.scandir(self._root + path)
        except FileNotFoundError:
            return
        with scan as entries:
            while names := [entry.name for entry in islice(entries, size)]:
                yield names

    def list(self, path: str) -> list[str]:
        """Return the names in a directory, in no order; none if there is no such directory."""
        try:
            return os.listdir(self._root + path)
        except FileNotFoundError:
            return []

    def give(self, path: str) -> None:
        """As root, give what was made to the spool's owner: who accepts mail may be no root."""
        owner = os.stat(self._root)
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(self._root + path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def owner(self, path: str) -> tuple[int, int]:
        """Return whose a file or directory is, and its permission bits; "" is the root."""
        status = os.stat(self._root + path, follow_symlinks=path.count("/") == 0)
        return status.st_uid, status.st_mode & 0o7777

    def is_file(self, path: str) -> bool:
        """Tell whether what is there is an ordinary file, and no link to one."""
        return stat.S_ISREG(os.lstat(self._root + path).st_mode)

    def is_directory(self, path: str) -> bool:
        """Tell whether there is a directory, or a link that leads to one; "" is the root."""
        return os.path.isdir(self._root + path)

    def readlink(self, path: str) -> str:
        """Return where a link leads; "" if there is none, or it is no link."""
        try:
            return os.readlink(self._root + path)
        except OSError:
            return ""

    def symlink(self, target: str, path: str) -> None:
        """Make a link that leads to ``target``; nothing may be there yet."""
        os.symlink(target, self._root + path)

    def link(self, path: str, other: str) -> None:
        """Give a file another name, which must be free."""
        os.link(self._root + path, self._root + other)

    def rename(self, path: str, other: str) -> None:
        """Give a file another name, and whatever had it none."""
        os.rename(self._root + path, self._root + other)

    def random(self) -> str:
        """Return sixteen signs that nobody else gets."""
        return os.urandom(8).hex()

    def mkdir(self, path: str) -> None:
        """Make a directory; no error if it is there."""
        try:
            os.mkdir(self._root + path, DIRECTORY_MODE)
        except FileExistsError:
            return
        hours = path[:2] == "q." and "/" in path
        if (hours or self.alike) and self.anothers:
            # Else what root's deliver keeps below directories of its own stays root's.
            fd = os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                self._give_alike(path, fd)
            finally:
                os.close(fd)

    def rmdir(self, path: str) -> None:
        """Remove a directory if it is empty; no error if it is not, or is gone."""
        try:
            os.rmdir(self._root + path)
        except OSError:
            pass

    def memory(self, data: bytes) -> int:
        """Return a descriptor of a nameless file that holds ``data``, at its beginning."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("body", os.MFD_CLOEXEC)
        else:
            import tempfile  # late: elsewhere than on Linux

            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        done = 0
        while done < len(data):  # pwrite leaves the offset at the beginning
            done += os.pwrite(fd, data[done:] if done else data, done)
        return fd

    def descriptors(self) -> int:
        """Return how many descriptors this process may have open."""
        limit = os.sysconf("SC_OPEN_MAX")
        return limit if limit > 0 else 1024

    def boot(self) -> str:
        """Return what changes when the machine starts anew: since then no cache was lost."""
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return "unknown"


def _seeks_long(root: str) -> bool:
    """Whether ``root`` lies on an ext4 that has no journal; False where that cannot be told."""
    try:
        device = os.stat(root).st_dev
        name = os.path.basename(
            os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        )
        journals = os.listdir("/proc/fs/jbd2") if os.path.isdir("/proc/fs/jbd2") else []
        journaled = any(journal.rpartition("-")[0] == name for journal in journals)
        return os.path.isdir(f"/proc/fs/ext4/{name}") and not journaled
    except OSError:
        return False
