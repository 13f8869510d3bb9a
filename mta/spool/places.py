"""Places: the job files of a queue on several disks.

Where mta.yaml names ``paths`` for a queue, its jobs lie in directories there, each
known to the spool by a link: SPOOL/q.QUEUE,1 leads to PATH/q.QUEUE, and so on.
The link keeps its number for ever; SPOOL/q.QUEUE itself is place 0.  Which place
a message's jobs go to is chosen by its id when it is accepted, by weight, and
stands in its record.  A path that mta.yaml names no more gets no new jobs, and
those that lie there are served like all others.

A file PATH/q.QUEUE/spool bears the spool's identity.  A link that leads to a
directory without it is an error: most likely the disk is not mounted, and what
looks like an empty queue is none.

Invariants, each a property in tests/spool/test_places.py
    PL1  One message's jobs in one queue share a place; places get jobs by weight.
    PL2  Preparing twice, or by several at once, gives each path one link, and a link
         its number for good.
    PL3  A place without this spool's mark is refused, and nothing is made there.
    PL4  A job is made, found, listed in order of arrival and removed in any place.
"""

from __future__ import annotations

import zlib

from mta.errors import SpoolError
from mta.spool.fs import Fs
from mta.spool.layout import place_path
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Paths = Mapping[str, Sequence[tuple[str, int]]]  # queue → (path, weight); "" is place 0

__all__ = ["Places", "check_places", "prepare_places", "split"]

MARK = "spool"
IDENTITY = "identity"
MOST = 99  # places of a queue
RECHECK = 5.0  # seconds between looks for links that are not made yet


def split(name: str) -> tuple[str, int]:
    """Return queue and place of a directory's name below the spool: "q.smtp,2"."""
    queue, comma, place = name.removeprefix("q.").partition(",")
    return queue, int(place) if comma and place.isdecimal() else 0


class Places:
    """Chooses, for one writer, the place of each job that it accepts."""

    def __init__(self, fs: Fs, paths: Paths) -> None:
        """Choose among ``paths``; only places whose link has been made get jobs."""
        self._fs = fs
        self._paths = paths
        self._chosen: dict[str, list[int]] = {}  # queue → its places, each as often as its weight
        self._whole = not paths
        self._looked = float("-inf")

    def of(self, queue: str, message_id: str, now: float) -> int:
        """Return the place in ``queue`` of the jobs of a message that arrives at ``now``."""
        if queue not in self._paths:
            return 0
        if not self._whole and not 0 <= now - self._looked < RECHECK:
            self._looked = now
            self._look()
        places = self._chosen.get(queue)
        return places[zlib.crc32(message_id.encode()) % len(places)] if places else 0

    def _look(self) -> None:
        found = _links(self._fs)
        self._whole = True
        for queue, paths in self._paths.items():
            wheel: list[int] = []
            for path, weight in paths:
                place = found.get((queue, _target(queue, path)), 0) if path else 0
                if place or not path:
                    wheel += [place] * weight
                else:
                    self._whole = False
            self._chosen[queue] = wheel


def _target(queue: str, path: str) -> str:
    return f"{path}/q.{queue}"


def _links(fs: Fs) -> dict[tuple[str, str], int]:
    """Return the place of each queue and directory that is linked."""
    found = {}
    for name in fs.list(""):
        queue, place = split(name)
        target = fs.readlink(name) if place and name.startswith("q.") else ""
        if target:
            found[queue, target] = place
    return found


def prepare_places(fs: Fs, paths: Paths) -> None:
    """Check every place of the spool, and make those of ``paths`` that are new.

    SpoolError for one that lacks the mark, and for a path that is no directory: paths
    themselves are never made, since each may be a disk that is not mounted.
    """
    known = _links(fs)
    if not known and not any(path for rows in paths.values() for path, _ in rows):
        return
    try:
        mark = _identity(fs)
        _check_all(fs, known, mark)
        for queue, rows in paths.items():
            for path, _ in rows:
                if path and (queue, _target(queue, path)) not in known:
                    _make(fs, queue, path, mark)
    except OSError as error:
        raise SpoolError(f"places of the queues: {error.strerror}: {error.filename}") from error


def check_places(fs: Fs) -> None:
    """Check that every place of the spool is there.  SpoolError for one that is not."""
    known = _links(fs)
    if known:
        _check_all(fs, known, _read(fs, IDENTITY))


def _check_all(fs: Fs, known: Mapping[tuple[str, str], int], mark: bytes) -> None:
    for (queue, target), place in sorted(known.items()):
        _check(fs, place_path(queue, place), target, mark)


def _identity(fs: Fs) -> bytes:
    """Return what marks the places of this spool; made once, and durable before it is used."""
    text = _read(fs, IDENTITY)
    if text.endswith(b"\n"):
        return text
    draft = f"{IDENTITY}.{fs.random()}"
    fd = fs.create(draft)
    try:
        fs.write(fd, fs.random().encode() + b"\n")
        fs.sync(fd)
    finally:
        fs.close(fd)
    try:
        fs.link(draft, IDENTITY)
    except FileExistsError:
        pass  # another process was faster: his counts
    fs.unlink(draft)
    fs.sync_directory("")
    return _read(fs, IDENTITY)


def _read(fs: Fs, path: str) -> bytes:
    try:
        fd = fs.open(path)
    except FileNotFoundError:
        return b""
    try:
        return fs.read(fd, 100, 0)
    finally:
        fs.close(fd)


def _check(fs: Fs, link: str, target: str, mark: bytes) -> None:
    """Raise SpoolError unless a link leads to a place of this spool."""
    if not mark or _read(fs, f"{link}/{MARK}") != mark:
        raise SpoolError(
            f"{link} leads to {target}, where the mark of this spool is missing: is its disk "
            f"mounted?  If it is lost with the jobs on it, remove the link"
        )


def _make(fs: Fs, queue: str, path: str, mark: bytes) -> None:
    """Make a new place: directory, mark, and only when both are durable the link."""
    disk, folder = Fs(path, alike=fs.alike), f"q.{queue}"
    if not disk.is_directory(""):
        raise SpoolError(f"paths of the queue {queue}: there is no directory {path}")
    disk.mkdir(folder)
    found = _read(disk, f"{folder}/{MARK}")
    if found != mark:
        if found.endswith(b"\n"):
            raise SpoolError(f"{path}/{folder} belongs to another spool")
        _sign(disk, folder, mark)
    disk.sync_directory(folder)
    disk.sync_directory("")
    _link(fs, queue, f"{path}/{folder}")


def _sign(disk: Fs, folder: str, mark: bytes) -> None:
    """Leave the mark; one that a crash has torn is made again."""
    draft = f"{folder}/{MARK}.{disk.random()}"
    fd = disk.create(draft)
    try:
        disk.write(fd, mark)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(draft, f"{folder}/{MARK}")


def _link(fs: Fs, queue: str, target: str) -> None:
    for place in range(1, MOST + 1):
        link = place_path(queue, place)
        try:
            fs.symlink(target, link)
        except FileExistsError:
            if fs.readlink(link) != target:
                continue
        fs.sync_directory("")
        return
    raise SpoolError(f"the queue {queue} has more than {MOST} places")
