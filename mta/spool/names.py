"""Listing: the jobs of a queue in order of arrival, read from names alone, over all its places.

No file is opened, and only directories of hours are read that can hold what is asked
for.  A queue that is too long to be held is read a list at a time.

Invariants, each a property in tests/spool/test_names.py
    NA1  Each job of the hours and ages asked for is given once.
    NA2  Names are in order of arrival, but for hours that have more than the limit:
         there each list is.
    NA3  No list has more than LISTED names.
    NA4  An hour that cannot be read keeps no other from being read; when all is given,
         the first trouble is raised.
    NA5  Of an hour as many lists are read as one may, and the oldest names in them are
         given, whatever the hour holds.
    NA6  What is counted is what a walk gives, and what is given of a host is what a walk
         gives of it; other names cost no more than a look.
"""

from __future__ import annotations

from heapq import nsmallest
from operator import itemgetter

from mta.spool import layout
from mta.spool.layout import JobName, place_path, valid_id
from mta.spool.places import split
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mta.spool.fs import Fs

__all__ = [
    "count",
    "find",
    "for_hosts",
    "hours",
    "of_message",
    "places",
    "queues",
    "walk",
    "walk_host",
]

LISTED = 500  # names in one list: what a sweep takes at a time, 5 ms


def queues(fs: Fs) -> list[str]:
    """Return the names of all queues that ever held a job, sorted."""
    return sorted({split(name)[0] for name in fs.list("") if name.startswith("q.")})


def places(fs: Fs, queue: str) -> list[int]:
    """Return the places of ``queue``, in order; 0 is its own directory."""
    found = {split(name)[1] for name in fs.list("") if name.startswith(f"q.{queue},")}
    return sorted(found | {0})


def hours(fs: Fs, queue: str) -> dict[str, list[int]]:
    """Return the hours that ``queue`` has directories of, with the places that have them."""
    found: dict[str, list[int]] = {}
    for place in places(fs, queue):
        for hour in fs.list(place_path(queue, place)):
            if hour.isdecimal():
                found.setdefault(hour, []).append(place)
    return found


def walk(
    fs: Fs,
    queue: str,
    newer_than: float | None,
    older_than: float | None,
    sort_limit: int | None,
) -> Iterator[list[JobName]]:
    """Yield the names that Spool.names() promises; OSError at the end for what was not read.

    ``sort_limit`` 0 sorts hours of any length, None sorts none.
    """
    first = layout.hour_of(newer_than) if newer_than is not None else ""
    last = layout.hour_of(older_than) if older_than is not None else "~"
    limit = 1 if sort_limit is None else sort_limit
    trouble: OSError | None = None
    for hour, there in sorted(hours(fs, queue).items()):
        if not first <= hour <= last:
            continue
        try:
            for files in _gathered(fs, queue, hour, there, limit):
                if sort_limit is not None:
                    files.sort(key=itemgetter(0))
                for at in range(0, max(1, len(files)), LISTED):
                    yield _parse(queue, hour, files[at : at + LISTED], newer_than, older_than)
        except OSError as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble


def _gathered(
    fs: Fs, queue: str, hour: str, there: list[int], limit: int
) -> Iterator[list[tuple[str, int]]]:
    """Yield the files of an hour, each with its place: all at once, or from ``limit`` on as read.

    Empty lists between them let who asked do something else.
    """
    gathered: list[tuple[str, int]] = []
    for place in there:
        for files in fs.lists(f"{place_path(queue, place)}/{hour}", LISTED):
            gathered += [(file, place) for file in files]
            if limit and len(gathered) > limit:
                yield gathered
                gathered, limit = [], 1
            else:
                yield []
    if gathered:
        yield gathered


def find(fs: Fs, word: str) -> list[JobName]:
    """Return the jobs of message "ID", or the one called "ID.N"; none for what is no id."""
    message_id, dot, number = word.partition(".")
    if not valid_id(message_id):
        return []
    found = [name for names in of_message(fs, message_id) for name in names]
    found = [name for name in found if not dot or str(name.number) == number]
    return sorted(found, key=lambda name: name.number)


def of_message(fs: Fs, message_id: str) -> Iterator[list[JobName]]:
    """Yield the jobs of message "ID" as they are come upon; who has enough reads no further."""
    hour = layout.hour(message_id)
    for queue in queues(fs):
        for place in places(fs, queue):
            for files in fs.lists(f"{place_path(queue, place)}/{hour}", LISTED):
                mine = [(file, place) for file in files if file.startswith(message_id)]
                if mine:
                    yield _parse(queue, hour, mine, None, None)


def for_hosts(
    fs: Fs,
    queue: str,
    hour: str,
    there: list[int],
    hosts: set[str] | None,
    most: int,
    over: Callable[[], bool],
) -> tuple[list[JobName], int, bool]:
    """Return the oldest jobs of an hour for ``hosts`` (words of names), and how many there are.

    None is all hosts.  Names are chosen by how they end before anything is made of them:
    an hour may hold a million.  The last is whether it was read to its end; ``over`` is
    asked before each further list.
    """
    ends = ("",) if hosts is None else tuple([f".{host}" for host in hosts])
    found: list[tuple[str, int]] = []
    lists = (
        (f, place)
        for place in there
        for f in fs.lists(f"{place_path(queue, place)}/{hour}", LISTED)
    )
    whole = True
    for number, (files, place) in enumerate(lists):
        if number and over():
            whole = False
            break
        found += [(file, place) for file in files if file.endswith(ends)]
    first = sorted(found) if len(found) <= most else nsmallest(most, found)
    names = _parse(queue, hour, first, None, None)
    names = [name for name in names if hosts is None or name.host in hosts]
    return names, len(names) + len(found) - len(first), whole


def walk_host(fs: Fs, queue: str, host: str) -> Iterator[list[JobName]]:
    """Yield the jobs for ``host`` (as names have it), an hour at a time; else as walk()."""
    trouble: OSError | None = None
    for hour, there in sorted(hours(fs, queue).items()):
        try:
            files = [
                (file, place)
                for place in there
                for file in fs.list(f"{place_path(queue, place)}/{hour}")
                if file.endswith(host)
            ]
        except OSError as error:
            trouble = trouble or error
            continue
        names = _parse(queue, hour, sorted(files), None, None)
        yield [name for name in names if name.host == host]
    if trouble is not None:
        raise trouble


def count(fs: Fs, queue: str) -> tuple[int, OSError | None]:
    """Return how many jobs a queue has, and what kept a part of it from being read."""
    found, trouble = 0, None
    try:
        for hour, there in hours(fs, queue).items():
            for place in there:
                try:
                    files = fs.list(f"{place_path(queue, place)}/{hour}")
                except OSError as error:
                    trouble = trouble or error
                    continue
                found += sum([file[16:17] == "." and valid_id(file[:16]) for file in files])
    except OSError as error:
        trouble = error
    return found, trouble


def _parse(
    queue: str,
    hour: str,
    files: list[tuple[str, int]],
    newer_than: float | None,
    older_than: float | None,
) -> list[JobName]:
    names = []
    for file, place in files:
        where = f"{place},{hour}" if place else hour
        name = JobName.parse(queue, f"{where}/{file}")
        if name is None:
            continue
        if newer_than is not None and layout.arrived(name.id) <= newer_than:
            continue
        if older_than is not None and layout.arrived(name.id) >= older_than:
            continue
        names.append(name)
    return names
