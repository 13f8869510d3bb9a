"""What lies in the queues: one pass that checkque, mailq, ``mta queue`` and ``mta status`` share.

Every job file is read at most once, and none that its name rules out; none is locked
or changed, and memory does not grow with the queue: the queues are merged as they are read.

Units    Times are float seconds since the epoch, sizes octets.

Invariants, each a property in tests/test_listing.py
    Q1   Jobs come in order of arrival over all queues; the jobs of a message together.
    Q2   A job that goes while we look is passed over; nothing is raised.
"""

from __future__ import annotations

import heapq
import json
import time
from itertools import groupby

from mta.machine.logline import printable
from mta.spool.layout import arrived, host_word
from mta.spool.spool import Spool
from mta.spool.untaken import untaken
from mta.types import NullPath
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from mta.spool.entry import Entry
    from mta.spool.layout import JobName
    from mta.types import ReversePath

__all__ = ["Wanted", "jobs", "lines", "messages", "path_text", "record"]


@frozen
class Wanted:
    """Which jobs to show; "" and () want all."""

    queues: tuple[str, ...] = ()
    host: str = ""
    deferred: bool = False

    def has(self, entry: Entry) -> bool:
        """Tell whether ``entry`` is wanted."""
        if self.host and entry.job.host != self.host:
            return False
        return not self.deferred or any(state.attempts for _, state in entry.pending)


def _names(spool: Spool, queue: str, host: str) -> Iterator[JobName]:
    for names in spool.names_for(queue, host_word(host)) if host else spool.names(queue):
        yield from names


EVERYTHING = Wanted()


def jobs(spool: Spool, wanted: Wanted = EVERYTHING) -> Iterator[Entry]:
    """Yield the jobs that wait and are wanted, the oldest first; those in the journal, too."""
    queues = wanted.queues or tuple(spool.queues())
    journal = [(n, e) for n, e in untaken(spool) if not wanted.queues or n.queue in queues]
    streams: list[Iterable[tuple[JobName, Entry | None]]] = [journal]
    streams += [((name, None) for name in _names(spool, queue, wanted.host)) for queue in queues]
    last = None
    for name, known in heapq.merge(*streams, key=lambda pair: (pair[0].id, pair[0].number)):
        entry = known or spool.peek(name)
        if entry is not None and entry.pending and wanted.has(entry) and name.key != last:
            last = name.key  # a job that is taken in while we look is there twice
            yield entry


def messages(entries: Iterable[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Yield each message's id and its jobs, of jobs in order of arrival."""
    for message_id, group in groupby(entries, key=lambda entry: entry.envelope.id):
        yield message_id, list(group)


def path_text(path: ReversePath) -> str:
    """Return a reverse-path as queue listings show it: Postfix's readers know MAILER-DAEMON."""
    return "MAILER-DAEMON" if isinstance(path, NullPath) else str(path)


def record(entry: Entry) -> dict[str, Any]:
    """Return a job for a program."""
    job, envelope, held = entry.job, entry.envelope, entry.held
    return {
        "id": envelope.id,
        "number": job.number,
        "queue": job.queue,
        "channel": job.channel,
        "host": job.host,
        "arrived": arrived(envelope.id),
        "size": envelope.size,
        "from": str(job.reverse_path),
        "origin": envelope.origin,
        "held": None if held is None else {"by": held.who, "since": held.at, "text": held.text},
        "recipients": [
            {
                "to": str(recipient.mailbox),
                "state": state.state,
                "attempts": state.attempts,
                "last": state.last,
                "retry_at": state.retry_at,
                "reason": str(state.outcome.reply) if state.outcome is not None else "",
            }
            for recipient, state in entry.pending
        ],
    }


def lines(root: str, wanted: Wanted, now: float, *, as_json: bool = False) -> Iterator[str]:
    """Yield the wanted jobs of the spool at ``root``, a line for each recipient; or as JSON."""
    for entry in jobs(Spool.open(root), wanted):
        if as_json:
            yield json.dumps(record(entry))
            continue
        job = entry.job
        head = f"{entry.envelope.id} {job.queue} {job.channel} {job.host or '-'}"
        for recipient, state in entry.pending:
            due = "due" if state.retry_at <= now else f"until {time.ctime(state.retry_at)}"
            due = due if entry.held is None else f"held by {entry.held.who}"
            reason = f": {state.outcome.reply}" if state.outcome is not None else ""
            yield printable(f"{head} {recipient.mailbox} {state.state} {due}{reason}")
