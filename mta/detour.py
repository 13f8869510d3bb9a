"""Jobs that go another way than they were accepted for: routed anew, then accepted anew.

A job's file says where it goes, and is never rewritten.  So a job that is to go
elsewhere is accepted again as a message of its own, with the same body, wishes
and arrival; only when that is durable is the old job finished, without a DSN.

Source   ``mta reroute``; deliver, for jobs that the present channel table sends elsewhere.
State    A writer, with segments of its own, for one thread.

Invariants, each a test in tests/test_detour.py or tests/spool/test_detour.py
    DT1  What arrives the second time is what arrived the first time: octets, reverse-path,
         wishes, what was asked of DSNs, and when.
    DT2  Whatever is cut off where: each recipient is in a job, at most in both.
    DT3  An address that aliases made is not expanded again; what runs a command or writes
         a file stays where that was allowed.
    DT4  A job that cannot go elsewhere, or need not, stays as it is.
    DT5  A job that an operator sends to a next hop is for that host from then on: neither
         death nor suspension of the recipients' own keeps it.
"""

from __future__ import annotations

import os

from mta.errors import PosthouseError, SpoolError
from mta.route.router import Routed, Target
from mta.route.split import make_jobs
from mta.spool.entry import Settlement
from mta.types import DELIVERED, MESSAGE, Outcome, Recipient, Reply, Wishes
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from mta.config.model import Config
    from mta.route.router import Router
    from mta.spool.entry import Entry
    from mta.spool.spool import Claim, Spool
    from mta.types import Job

__all__ = ["Detour", "Forced", "StaysError", "finish"]

PIECE = 1 << 16
ORIGIN = "rerouted="  # and the job that the message was


class StaysError(PosthouseError):
    """A job cannot go another way; the message says why."""


@frozen
class Forced:
    """A way that an operator chose: a channel, a next hop, or both."""

    channel: str = ""
    next_hop: str = ""


class Detour:
    """Takes jobs in again, for other ways."""

    def __init__(self, config: Config, spool: Spool | None, router: Router) -> None:
        """Route by ``router``, which is that of ``config``; without a spool nothing is taken."""
        from mta.config.queues import paths

        self._config = config
        self._router = router
        self._writer = None if spool is None else spool.writer(paths(config))
        self._lost: SpoolError | None = None
        self._most = {c.name: c.max_recipients for c in config.channels}

    def way(self, entry: Entry, forced: Forced | None = None) -> tuple[Job, ...]:
        """Return the jobs that ``entry`` is to become; () if it is where it should be.

        StaysError if a recipient has no way: then all of them stay.
        """
        job = entry.job
        targets, asked = [], {}
        for recipient, _ in entry.pending:
            if forced is None:
                found = self._routed(job, recipient)
            else:
                found = [self._forced(job, recipient, forced)]
            for target in found:
                asked[target.original or target.mailbox] = (recipient.notify, recipient.orcpt)
            targets += found
        made = make_jobs(targets, job.reverse_path, self._most, asked)
        here = (job.queue, job.channel, job.host, job.next_hop)
        pinned = entry.envelope.pinned == (forced is not None)
        if pinned and {(j.queue, j.channel, j.host, j.next_hop) for j in made} == {here}:
            return ()
        return made

    def _routed(self, job: Job, recipient: Recipient) -> list[Target]:
        """Return where the present tables send ``recipient``."""
        mailbox = recipient.mailbox
        if job.host:  # its way was another host: no alias of ours was asked
            routed = self._router.route(mailbox)
            if routed.outcome is not None:
                raise StaysError(f"<{mailbox}>: {routed.outcome.reply}")
            return _with_original(routed, recipient)
        match = self._router.table.find(mailbox.domain)
        if match is None:
            raise StaysError(f"<{mailbox}>: no channel knows this host")
        here = match.channel.local
        if recipient.action and not here:
            raise StaysError(f"{recipient.action} is done on this machine only")
        host, hop = ("", "") if here else (mailbox.domain, match.row.next_hop)
        way = (match.channel.queue, match.channel.name, host, hop, None)
        return [Target(mailbox, recipient.action, recipient.original, *way)]

    def _forced(self, job: Job, recipient: Recipient, forced: Forced) -> Target:
        """Return the way that an operator chose."""
        channel = self._config.channel(forced.channel or job.channel)
        here = channel.program == "local"
        if recipient.action and not here:
            raise StaysError(f"{recipient.action} is done on this machine only")
        hop = "" if here else forced.next_hop
        host = "" if here else _name_of(hop) or recipient.mailbox.domain
        way = (channel.queue, channel.name, host, hop, None)
        return Target(recipient.mailbox, recipient.action, recipient.original, *way)

    def take(self, entry: Entry, body: int, jobs: tuple[Job, ...], forced: bool) -> str:
        """Append the message anew, with the octets of ``body``; return its id.

        It is accepted when sync() has returned.  SpoolError if the disk refuses, or
        if the body is not whole.
        """
        assert self._writer is not None
        if self._lost is not None:
            raise self._lost
        envelope = entry.envelope
        draft = self._writer.begin(envelope.id)
        try:
            at = 0
            while piece := os.pread(body, PIECE, at):
                draft.write(piece)
                at += len(piece)
            if draft.size != envelope.size:
                raise StaysError(f"its body has {draft.size} octets of {envelope.size}")
        except OSError as error:
            draft.abort()
            raise StaysError(f"its body cannot be read: {error.strerror}") from error
        except PosthouseError:
            draft.abort()
            raise
        name = f"{envelope.id}.{entry.job.number}"
        wishes = Wishes(
            envelope.origin if envelope.origin.split(" ")[0] == "dsn" else f"{ORIGIN}{name}",
            envelope.smtputf8,
            envelope.ret,
            envelope.envid,
            envelope.requiretls,
            envelope.binary,
            envelope.kind,
            envelope.precedence,
            envelope.expires,
            envelope.mode,
            forced,
        )
        try:
            self._writer.append(draft, jobs, envelope.reverse_path, wishes)
        except SpoolError as error:
            self._lost = error  # with it all that was taken since the last sync
            raise
        return draft.id

    def sync(self) -> None:
        """Make what was taken durable, and wake intake.  SpoolError: none of it is accepted."""
        from mta.machine.wake import wake_intake

        assert self._writer is not None
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost
        for synced in self._writer.sync():
            wake_intake(self._config.runtime, synced.segment, synced.offset)

    def close(self) -> None:
        """Let intake finish with what was written."""
        if self._writer is not None:
            self._writer.close()


def _name_of(hop: str) -> str:
    """Return the host of a next hop: what is known of the recipients' own keeps no job from it.

    "" for none, and for a socket, which is no host.
    """
    if hop.startswith("unix:"):
        return ""
    name, _, port = hop.rpartition(":")
    return name if port.isdecimal() else hop


def _with_original(routed: Routed, recipient: Recipient) -> list[Target]:
    """Return the targets of an address, which keep what it was submitted as."""
    return [
        replace(target, original=recipient.original or target.original) for target in routed.targets
    ]


def finish(claim: Claim, new: str, now: float) -> None:
    """Finish a job that goes on as ``new``, which is durable.  SpoolError as Claim.settle()."""
    outcome = Outcome(Reply(250, "2.0.0", f"rerouted as {new}"), MESSAGE)
    pending = claim.entry.pending
    claim.settle([Settlement(r.index, DELIVERED, now, 0.0, outcome) for r, _ in pending])
