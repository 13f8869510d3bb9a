"""A walk over all queues: the jobs that a filter means, in slices, however many wait.

Units    Times are float seconds since the epoch.

Invariants, each a property in tests/control/test_program.py
    W1   What is found is what the filter holds for, each once; with ids or ages only
         the directories of those hours are read.
    W2   A job whose name says enough is not opened.
    W3   What is meant and has no file yet is counted, and told of.
"""

from __future__ import annotations

from mta.policy.filters import Shown
from mta.spool.layout import arrived
from mta.spool.untaken import untaken
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mta.policy.filters import Filter
    from mta.spool.entry import Entry
    from mta.spool.layout import JobName
    from mta.spool.spool import Spool

__all__ = ["find", "shown", "untaken_of"]

SORTED = 50_000  # jobs of one hour beyond which its lists are in order each by itself


def shown(name: JobName, entry: Entry) -> Shown:
    """Return what a filter asks about a job."""
    job, envelope, pending = entry.job, entry.envelope, entry.pending
    return Shown(
        name.key,
        name.queue,
        job.channel,
        job.host,
        arrived(name.id),
        envelope.size,
        envelope.kind,
        job.reverse_path,
        tuple([recipient.mailbox for recipient, _ in pending]),
        tuple([str(s.outcome.reply) for _, s in pending if s.outcome is not None]),
        any(s.attempts for _, s in pending),
        entry.held is not None,
    )


def find(spool: Spool, wanted: Filter, now: float) -> Iterator[JobName]:
    """Yield the jobs that are meant, queue by queue, the oldest first but for crowded hours."""
    for name in _names(spool, wanted, now):
        told = wanted.glance(name, arrived(name.id), now)
        if told is None:
            entry = spool.peek(name)
            told = (
                entry is not None and bool(entry.pending) and wanted.holds(shown(name, entry), now)
            )
        if told:
            yield name


def untaken_of(spool: Spool, wanted: Filter, now: float) -> int:
    """Return how many jobs that are meant stand in the journal still, for an intake that is behind.

    Of very many only the oldest are counted.
    """

    def may(name: JobName) -> bool:
        return wanted.glance(name, arrived(name.id), now) is not False

    meant = [wanted.holds(shown(name, entry), now) for name, entry in untaken(spool, may)]
    return sum(meant)


def _names(spool: Spool, wanted: Filter, now: float) -> Iterator[JobName]:
    if wanted.ids:
        for message_id in dict.fromkeys(word.partition(".")[0] for word in wanted.ids):
            yield from spool.find(message_id)
        return
    newer = None if wanted.newer is None else now - wanted.newer
    older = None if wanted.older is None else now - wanted.older
    for queue in wanted.queues or spool.queues():
        for names in spool.names(queue, newer_than=newer, older_than=older, sort_limit=SORTED):
            yield from names
