"""A disk that forgets: the double of ``mta.spool.fs.Fs`` for crash tests.

``Disk`` holds what is in the cache and what is on the medium.  At a power cut
any subset of what was not synced survives: writes (whole, cut, or as zeros of
the right size) and directory entries, each by itself.  ``Process`` is one
process's view, with its descriptors and locks; kill() takes those away, and a
fuse kills it in the middle of its n-th system call.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from random import Random


class Killed(BaseException):
    """The process has died here."""


class File:
    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.pending: list[tuple[int, bytes]] = []
        self.links = 1
        self.locked_by: object = None

    def sync(self) -> None:
        """Put on the medium what is pending; what a failed sync dropped never gets there."""
        medium = bytearray(self.durable)
        for offset, data in self.pending:
            medium.extend(bytes(max(0, offset + len(data) - len(medium))))
            medium[offset : offset + len(data)] = data
        self.durable, self.pending = bytes(medium[: len(self.data)]), []

    def cut_power(self, random: Random) -> None:
        medium = bytearray(self.durable)
        for offset, written in self.pending:
            fate = random.choice(["kept", "lost", "zeros", "part"])
            if fate == "lost":
                continue
            data = bytes(len(written)) if fate == "zeros" else written
            if fate == "part":
                data = written[: random.randrange(len(written) + 1)]
            medium.extend(bytes(max(0, offset + len(data) - len(medium))))
            medium[offset : offset + len(data)] = data
        self.data, self.durable, self.pending = medium, bytes(medium), []
        self.links = 1
        self.locked_by = None


class Directory:
    def __init__(self) -> None:
        self.entries: dict[str, File | Directory] = {}
        self.durable: dict[str, File | Directory] = {}
        self.pending: list[tuple[str, File | Directory | None]] = []

    def set(self, name: str, node: File | Directory | None) -> None:
        if node is None:
            del self.entries[name]
        else:
            self.entries[name] = node
        self.pending.append((name, node))

    def sync(self) -> None:
        self.durable, self.pending = dict(self.entries), []

    def cut_power(self, random: Random) -> None:
        for name, node in self.pending:
            if random.random() < 0.5:
                if node is None:
                    self.durable.pop(name, None)
                else:
                    self.durable[name] = node
        self.entries, self.pending = dict(self.durable), []
        for node in self.entries.values():
            node.cut_power(random)


class Disk:
    def __init__(self) -> None:
        self.root = Directory()
        self.boots = 0

    def find(self, path: str) -> File | Directory:
        node: File | Directory = self.root
        for part in path.split("/") if path else []:
            if not isinstance(node, Directory):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            if part not in node.entries:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            node = node.entries[part]
        return node

    def parent(self, path: str) -> tuple[Directory, str]:
        directory, _, name = path.rpartition("/")
        node = self.find(directory)
        assert isinstance(node, Directory)
        return node, name

    def cut_power(self, random: Random) -> None:
        self.root.cut_power(random)
        self.boots += 1

    def paths(self, node: Directory | None = None, above: str = "") -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name, child in (node or self.root).entries.items():
            if isinstance(child, Directory):
                found |= self.paths(child, f"{above}{name}/")
            else:
                found[above + name] = bytes(child.data)
        return found


class Process:
    """One process's file system; has the methods of Fs."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.files: dict[int, File] = {}
        self._numbers = itertools.count(3)
        self.fuse: int | None = None  # system calls left to live
        self.fail_syncs = 0  # how many syncs of files fail with EIO
        self.calls = 0

    def kill(self) -> None:
        for file in self.files.values():
            if isinstance(file.locked_by, tuple) and file.locked_by[0] is self:
                file.locked_by = None
        self.files = {}
        self.fuse = None

    def _call(self) -> None:
        self.calls += 1
        if self.fuse is not None:
            if self.fuse == 0:
                raise Killed
            self.fuse -= 1

    def _file(self, path: str) -> File:
        node = self.disk.find(path)
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return node

    def _descriptor(self, file: File) -> int:
        fd = next(self._numbers)
        self.files[fd] = file
        return fd

    def create(self, path: str) -> int:
        self._call()
        directory, name = self.disk.parent(path)
        if name in directory.entries:
            raise FileExistsError(errno.EEXIST, "exists", path)
        file = File()
        directory.set(name, file)
        return self._descriptor(file)

    def open(self, path: str, append: bool = False) -> int:
        self._call()
        return self._descriptor(self._file(path))

    def write(self, fd: int, data: bytes) -> None:
        file = self.files[fd]
        if self.fuse == 0 and data:  # killed within the call: a prefix may be written
            data = data[: len(data) // 2]
            self._append(file, data)
            raise Killed
        self._call()
        self._append(file, data)

    def _append(self, file: File, data: bytes) -> None:
        file.pending.append((len(file.data), bytes(data)))
        file.data += data

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self.files[fd].data[offset : offset + size])

    def sync(self, fd: int) -> None:
        self._call()
        file = self.files[fd]
        if self.fail_syncs:
            self.fail_syncs -= 1
            file.pending = []  # the kernel takes the pages for clean: they never reach the disk
            raise OSError(errno.EIO, "input/output error")
        file.sync()

    def sync_directory(self, path: str) -> None:
        self._call()
        node = self.disk.find(path)
        assert isinstance(node, Directory)
        node.sync()

    def truncate(self, fd: int, size: int) -> None:
        self._call()
        file = self.files[fd]
        file.data = file.data[:size]
        file.pending = [(o, d) for o, d in file.pending if o + len(d) <= size]

    def stat(self, fd: int) -> tuple[int, int]:
        file = self.files[fd]
        return len(file.data), file.links

    def lock(self, fd: int) -> bool:
        self._call()
        file = self.files[fd]
        if file.locked_by not in (None, (self, fd)):
            return False  # flock belongs to an open: another one of this process does not share it
        file.locked_by = (self, fd)
        return True

    def close(self, fd: int) -> None:
        file = self.files.pop(fd)
        if file.locked_by == (self, fd):
            file.locked_by = None

    def unlink(self, path: str) -> None:
        self._call()
        try:
            directory, name = self.disk.parent(path)
            file = directory.entries[name]
        except (FileNotFoundError, KeyError):
            return
        assert isinstance(file, File)
        file.links -= 1
        directory.set(name, None)

    def rename(self, old: str, new: str) -> None:
        self._call()
        (source, before), (target, after) = self.disk.parent(old), self.disk.parent(new)
        file = source.entries[before]
        replaced = target.entries.get(after)
        if isinstance(replaced, File):
            replaced.links -= 1
        source.set(before, None)
        target.set(after, file)

    def lists(self, path: str, size: int) -> Iterator[list[str]]:
        names = self.list(path)
        for at in range(0, len(names), size):
            yield names[at : at + size]

    def list(self, path: str) -> list[str]:
        try:
            node = self.disk.find(path)
        except FileNotFoundError:
            return []
        assert isinstance(node, Directory)
        return list(node.entries)

    def mkdir(self, path: str) -> None:
        self._call()
        directory, name = self.disk.parent(path)
        if name not in directory.entries:
            directory.set(name, Directory())

    def give(self, path: str) -> None:
        """Give nothing: this disk has no owners."""

    def rmdir(self, path: str) -> None:
        self._call()
        try:
            directory, name = self.disk.parent(path)
            node = directory.entries[name]
        except (FileNotFoundError, KeyError):
            return
        if isinstance(node, Directory) and not node.entries:
            directory.set(name, None)

    def memory(self, data: bytes) -> int:
        file = File()
        file.data = bytearray(data)
        return self._descriptor(file)

    def descriptors(self) -> int:
        return 1000

    def boot(self) -> str:
        return f"boot-{self.disk.boots}"
