"""What a lint finds, and what it may ask the machine."""

from __future__ import annotations

from collections.abc import Callable

from mta.values import frozen

__all__ = ["Facts", "Finding"]


@frozen
class Finding:
    """One remark; ``line`` is one of mta.yaml, or None; ``severity`` "error" or "warning"."""

    line: int | None
    severity: str
    text: str


def _no_directory(path: str) -> int:
    return -1


@frozen
class Facts:
    """What the configuration does not say itself.

    ``spool_system`` is the file system's type, "" if unknown; the devices are
    st_dev of the spool and of the log directory, or of the nearest directory
    above that exists.  The first two functions are those that a Router asks;
    ``exists`` tells whether there is a file, ``pressure`` whether the kernel
    measures it (PSI), ``device`` the st_dev of a directory, -1 if there is none.
    """

    spool_system: str
    spool_device: int
    log_device: int
    known_user: Callable[[str], bool]
    read_include: Callable[[str], str]
    exists: Callable[[str], bool]
    pressure: bool = True
    device: Callable[[str], int] = _no_directory
