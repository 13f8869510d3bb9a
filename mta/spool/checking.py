"""The spool check: what in the queues is not as it should be, found hour by hour.

Nothing is changed here.  A finding says whether its file can be set aside in bad/
without losing anything that was accepted; all else is left for a person to decide.

Invariants, each a property in tests/spool/test_checking.py
    CK1  Of a sound spool nothing is found, whatever state its jobs are in.
    CK2  What can be set aside is never a job that can still be delivered: its name is no
         job's and it holds none, or it is not whole and its message has no body.
"""

from __future__ import annotations

import errno

from mta.spool import layout
from mta.spool.entry import decode
from mta.spool.layout import JobName, place_path
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mta.spool.entry import Entry
    from mta.spool.fs import Fs
    from mta.spool.spool import Spool

__all__ = ["Finding", "check", "set_aside"]

LISTED = 2000  # names of an hour at a time
AHEAD = 2 * 3600.0  # seconds: hours later than that are of a wrong clock
JOB_LIMIT = 1 << 25  # octets: more is no job file
PIECE = 1 << 16  # octets copied at a time
MARK = "spool"  # in a place on another disk


@frozen
class Finding:
    """One thing that is wrong: ``path`` below the spool; ``needless``: it may be set aside."""

    path: str
    text: str
    needless: bool = False


def check(spool: Spool, now: float, *, alone: bool) -> Iterator[Finding | None]:
    """Yield what is wrong, and None after each file that is sound: who asks may rest there.

    ``alone``: the caller holds the intake lock, and has taken in everything; without it a
    file that is not whole may be on its way.
    """
    owner = spool.fs.owner("")
    for queue in spool.queues():
        for place in spool.places(queue):
            directory = place_path(queue, place)
            for hour in sorted(spool.fs.list(directory)):
                path = f"{directory}/{hour}"
                if not (len(hour) == len(layout.hour_of(0)) and hour.isdecimal()):
                    if not (place and hour == MARK):
                        yield Finding(path, "is no hour of a queue")
                    continue
                if hour > layout.hour_of(now + AHEAD):
                    yield Finding(path, "is an hour to come: was the clock wrong?")
                if spool.fs.readlink(path):  # whoever could make it may mean to lead root astray
                    yield Finding(path, "is a link")
                    continue
                yield _private(spool, path, owner)
                for files in spool.fs.lists(path, LISTED):
                    for file in sorted(files):
                        yield _private(spool, f"{path}/{file}", owner)
                        yield _file(spool, queue, place, hour, file, alone)


def _private(spool: Spool, path: str, owner: tuple[int, int]) -> Finding | None:
    """Find whether others than the spool's owner and root may look at ``path``, or own it."""
    try:
        user, mode = spool.fs.owner(path)
    except OSError:
        return None  # finished while we look
    if user not in (owner[0], 0):  # a deliver that runs as root makes what is root's
        return Finding(path, f"belongs to user {user}, the spool to user {owner[0]}")
    return Finding(path, f"may be read by others: mode {mode:04o}") if mode & 0o077 else None


def _file(
    spool: Spool, queue: str, place: int, hour: str, file: str, alone: bool
) -> Finding | None:
    path = f"{place_path(queue, place)}/{hour}/{file}"
    try:
        if not spool.fs.is_file(path):
            return Finding(path, "is no file")
        fd = spool.fs.open(path)
        try:
            data = spool.fs.read(fd, min(spool.fs.stat(fd)[0], JOB_LIMIT), 0)
        finally:
            spool.fs.close(fd)
    except FileNotFoundError:
        return None  # finished while we look
    except OSError as error:
        return Finding(path, f"cannot be read: {error.strerror}")
    name = JobName.parse(queue, f"{place},{hour}/{file}" if place else f"{hour}/{file}")
    text, needless = _verdict(spool, name, decode(data), hour, alone)
    return Finding(path, text, needless) if text else None


def _verdict(
    spool: Spool, name: JobName | None, entry: Entry | None, hour: str, alone: bool
) -> tuple[str, bool]:
    """Return what is wrong with a file of this name that says this, "" if nothing is."""
    if name is None:
        text = "its name is no job's"
        return (text, True) if entry is None else (f"{text}, though it holds one", False)
    if not layout.valid_id(name.id) or layout.hour(name.id) != hour:
        return "does not belong to this hour", False
    if entry is None:
        bodiless = alone and not _is_there(spool, layout.body_path(name.id))
        text = f"is not whole{', and its message has no body' if bodiless else ''}"
        return text if alone else "", bodiless
    job = entry.job
    if (entry.envelope.id, job.number, job.queue) != (name.id, name.number, name.queue):
        return "is the file of another job", False
    bodies = layout.body_path(name.id), f"journal/{entry.segment}"
    if entry.pending and not any(_is_there(spool, path) for path in bodies):
        return "its message has no body" if spool.peek(name) is not None else "", False
    return "", False


def _is_there(spool: Spool, path: str) -> bool:
    try:
        spool.fs.close(spool.fs.open(path))
    except OSError:
        return False
    return True


def set_aside(spool: Spool, finding: Finding) -> str:
    """Move what is needless to bad/, durably; return its path there.  OSError if that fails.

    Root moves nothing in another user's spool, who could have it move anything anywhere.
    """
    if spool.fs.anothers:
        raise PermissionError(errno.EPERM, "the spool is another user's", finding.path)
    path = "bad/" + finding.path.replace("/", ".")
    try:
        spool.fs.rename(finding.path, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(spool.fs, finding.path, path)  # it lies in a place on another disk
        spool.fs.sync_directory("bad")
        spool.fs.unlink(finding.path)
    spool.fs.sync_directory("bad")
    return path


def _copy(fs: Fs, source: str, target: str) -> None:
    fs.unlink(target)  # of an earlier try that a crash cut short
    taken = fs.open(source)
    try:
        made = fs.create(target)
        try:
            at = 0
            while data := fs.read(taken, PIECE, at):
                fs.write(made, data)
                at += len(data)
            fs.sync(made)
        finally:
            fs.close(made)
    finally:
        fs.close(taken)
