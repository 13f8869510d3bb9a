"""Splitting: from the targets of a message to the jobs its queues hold.

A job is one message for one host on one channel, so that a host that is slow or
dead keeps nobody else's mail; ``max_recipients`` of the channel bounds it.

Invariants, each a property in tests/route/test_split.py
    R14  Every target is in exactly one job, as its recipient; a target that
         says the same mailbox and action as an earlier one is that recipient.
    R15  All recipients of a job share queue, channel, host, next hop and
         reverse-path, and are at most max_recipients of the channel.
    R16  Indexes are 0.. in the order of the targets, numbers 0.. in the order
         of the jobs; recipients of a job keep the order of the targets.
    R17  The null reverse-path stays null: an alias's owner never replaces it.
"""

from __future__ import annotations

from mta.types import NULL_PATH, Job, Recipient
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mta.route.router import Target
    from mta.types import Host, ReversePath

    Key = tuple[str, str, Host, str, ReversePath]  # queue, channel, host, next hop, reverse-path

__all__ = ["make_jobs"]


def make_jobs(
    targets: Sequence[Target], reverse_path: ReversePath, max_recipients: Mapping[str, int]
) -> tuple[Job, ...]:
    """Return the jobs for ``targets``, in the order in which their hosts first appear.

    ``max_recipients`` is by channel name; a channel it does not name has no limit.
    """
    groups: dict[Key, list[Recipient]] = {}
    seen: set[tuple[str, str, str]] = set()  # local part, domain, action
    for target in targets:
        mailbox = target.mailbox
        # Our own users' names have no case; another host's may (RFC 5321 s2.4).
        local = mailbox.local if target.host else mailbox.local.lower()
        if (same := (local, mailbox.domain, target.action)) in seen:
            continue
        path = reverse_path
        if target.reverse_path is not None and reverse_path != NULL_PATH:
            path = target.reverse_path
        key = (target.queue, target.channel, target.host, target.next_hop, path)
        recipient = Recipient(len(seen), mailbox, target.action, target.original)
        seen.add(same)
        groups.setdefault(key, []).append(recipient)
    jobs: list[Job] = []
    for key, members in groups.items():
        limit = max_recipients.get(key[1], 0) or len(members)
        for start in range(0, len(members), limit):
            jobs.append(Job(len(jobs), *key, tuple(members[start : start + limit])))
    return tuple(jobs)
