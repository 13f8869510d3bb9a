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
    R18  What was asked of DSNs for an address goes with each of its targets; a target of
         several addresses gets all that was asked for any of them (RFC 3461 s5.2.7).
"""

from __future__ import annotations

from mta.route.expanded import MARKS, for_members
from mta.types import NULL_PATH, Job, Recipient
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mta.route.router import Target
    from mta.types import Host, Mailbox, ReversePath

    # queue, channel, host, next hop, reverse-path
    Key = tuple[str, str, Host, str, ReversePath]
    Same = tuple[str, str, str]  # local part, domain, action

__all__ = ["make_jobs"]


def make_jobs(
    targets: Sequence[Target],
    reverse_path: ReversePath,
    max_recipients: Mapping[str, int],
    dsn: Mapping[Mailbox, tuple[str, str]] | None = None,
    marks: Mapping[Mailbox, str] | None = None,
) -> tuple[Job, ...]:
    """Return the jobs for ``targets``, in the order in which their hosts first appear.

    ``max_recipients`` is by channel name; a channel it does not name has no limit.
    ``dsn`` holds NOTIFY and ORCPT by the address that was asked for: what a
    target calls its original, or its own; ``marks`` are those of expanded.py, by address.
    """
    asked = _asked(targets, dsn, marks or {}) if dsn else {}
    groups: dict[tuple[Key, bool], list[Recipient]] = {}
    seen: set[Same] = set()
    for target in targets:
        mailbox = target.mailbox
        if (same := _same(target)) in seen:
            continue
        path = reverse_path
        if target.reverse_path is not None and reverse_path != NULL_PATH:
            path = target.reverse_path
        key = (target.queue, target.channel, target.host, target.next_hop, path)
        dsn_words = asked.get(same, ("", ""))
        recipient = Recipient(len(seen), mailbox, target.action, target.original, *dsn_words)
        seen.add(same)
        groups.setdefault((key, target.action in MARKS), []).append(recipient)
    jobs: list[Job] = []
    for (key, _), members in groups.items():
        limit = max_recipients.get(key[1], 0) or len(members)
        for start in range(0, len(members), limit):
            jobs.append(Job(len(jobs), *key, tuple(members[start : start + limit])))
    return tuple(jobs)


def _same(target: Target) -> Same:
    """Return what two targets share that are one recipient."""
    mailbox = target.mailbox
    # Our own users' names have no case; another host's may (RFC 5321 s2.4).
    local = mailbox.local if target.host else mailbox.local.lower()
    return local, mailbox.domain, target.action


def _asked(
    targets: Sequence[Target],
    dsn: Mapping[Mailbox, tuple[str, str]],
    marks: Mapping[Mailbox, str],
) -> dict[Same, tuple[str, str]]:
    """Return NOTIFY and ORCPT of each recipient."""
    asked: dict[Same, tuple[str, str]] = {}
    for target in targets:
        address = target.original or target.mailbox
        notify, orcpt = dsn.get(address, ("", ""))
        if address in marks and target.action not in MARKS:
            notify, orcpt = for_members((notify, orcpt), marks[address])
        before = asked.get(same := _same(target))
        if before is not None:
            notify, orcpt = _both(before[0], notify), before[1] or orcpt
        asked[same] = notify, orcpt
    return asked


def _both(one: str, other: str) -> str:
    """Return the NOTIFY that asks for all that ``one`` or ``other`` asks for."""
    if other in (one, "NEVER"):
        return one
    if one == "NEVER":
        return other
    words = {word for text in (one, other) for word in (text or "FAILURE,DELAY").split(",")}
    return ",".join([word for word in ("SUCCESS", "FAILURE", "DELAY") if word in words])
