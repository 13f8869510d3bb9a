"""Founding: a new spool is laid out; one of another version, or that lacks a part, is refused.

Any of its parts may be a mount of its own, or a link to a directory on another
disk.  A part that is not there would pass for an empty one, and what it holds for
finished work: so it is looked for before anything else is done.
"""

from __future__ import annotations

import time

from mta.errors import SpoolError
from mta.spool import layout
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.spool.fs import Fs

__all__ = ["prepare"]

LAYOUT = ("journal", "done", "msg", "bad")
MOUNTED = "lost+found"  # what the root of an ext4 holds from the beginning


def prepare(fs: Fs, root: str) -> None:
    """Check the version of a spool, or make a new one where there is none yet."""
    try:
        fd = fs.open("version")
    except FileNotFoundError:
        _make(fs, root)
        return
    try:
        version = fs.read(fd, 100, 0)
        for _ in range(200):
            if version.endswith(b"\n"):
                break
            time.sleep(0.01)  # another process makes the spool at this moment
            version = fs.read(fd, 100, 0)
    finally:
        fs.close(fd)
    if version != layout.VERSION.encode():
        said = version.split(b"\n")[0].decode("ascii", "replace")
        raise SpoolError(
            f"the spool {root} is of version {said!r}, and this program reads only "
            f"{layout.VERSION.strip()!r}: empty it with the program that wrote it"
        )
    _find_parts(fs, root)


def _find_parts(fs: Fs, root: str) -> None:
    for part in LAYOUT:
        if not fs.is_directory(part):
            raise SpoolError(f"{root}/{part} is missing, or leads nowhere: is its disk mounted?")


def _make(fs: Fs, root: str) -> None:
    fs.make_root()
    known = (*LAYOUT, "version", MOUNTED)
    there = fs.list("")
    strange = [n for n in there if n not in known and n[0] != "."]
    if strange and "version" not in there:  # with it, another process has made it meanwhile
        raise SpoolError(f"{root} is not empty, and is no spool: it holds {sorted(strange)[0]!r}")
    for directory in LAYOUT:
        fs.mkdir(directory)  # no error where somebody has put a mount or a link
    _find_parts(fs, root)
    for directory in LAYOUT:
        fs.give(directory)
    try:
        fd = fs.create("version")
    except FileExistsError:
        return  # another process makes it at this moment
    fs.give("version")
    fs.write(fd, layout.VERSION.encode())
    fs.sync(fd)
    fs.close(fd)
    fs.sync_directory("")
