"""Cleaning: bodies that no job needs any more, and hours that are empty.

A deliver that is killed between the removal of a job and of its body leaves an
orphan; so does a power cut.  Orphans cost room, never mail.  Only the holder of
the intake lock cleans: nobody else makes bodies, so none is on its way to a job.

The work comes in SHARDS slices, one directory of msg/ each, so that a queue of
a million needs neither a long pause nor a list of itself.
"""

from __future__ import annotations

from mta.spool import layout
from mta.spool.layout import JobName
from mta.spool.places import check_places
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.spool.spool import Spool

__all__ = ["SHARDS", "clean"]

SHARDS = 256
LISTED = 2000  # names of an hour at a time


def clean(spool: Spool, shard: int, before: float, *, act: bool = True) -> int:
    """Remove the orphans of slice ``shard`` that arrived before ``before``; return how many.

    Without ``act`` they are counted only.

    To be called under the intake lock, after a step that took in everything.
    SpoolError if a place of the queues is not there: then nothing is removed.
    With slice 0 the empty directories of past hours are removed too.
    """
    directory = f"msg/{shard:02x}"
    old: dict[str, list[str]] = {}  # id -> its files
    for file in spool.fs.list(directory):
        message_id = file.partition(".")[0]
        if layout.valid_id(message_id) and layout.arrived(message_id) < before:
            old.setdefault(message_id, []).append(file)
    wanted = _with_jobs(spool, old)
    if old.keys() - wanted:
        check_places(spool.fs)  # a disk that is away has no jobs to show, and is no reason
    for message_id in old.keys() - wanted if act else ():
        for file in old[message_id]:
            spool.fs.unlink(f"{directory}/{file}")
    if shard == 0 and act:
        _remove_empty_hours(spool, layout.hour_of(before))
    return len(old.keys() - wanted)


def _with_jobs(spool: Spool, ids: dict[str, list[str]]) -> set[str]:
    """Return those of ``ids`` that have a job; job names are read an hour at a time."""
    found = set()
    for hour in sorted({layout.hour(i) for i in ids}):
        for queue in spool.queues():
            for place in spool.places(queue):
                path = f"{layout.place_path(queue, place)}/{hour}"
                for files in spool.fs.lists(path, LISTED):
                    for file in files:
                        name = JobName.parse(queue, f"{hour}/{file}")
                        if name is not None and name.id in ids:
                            found.add(name.id)
    return found


def _remove_empty_hours(spool: Spool, before: str) -> None:
    for queue in spool.queues():
        for hour, places in spool.hours(queue).items():
            for place in places if hour < before else ():
                spool.fs.rmdir(f"{layout.place_path(queue, place)}/{hour}")
