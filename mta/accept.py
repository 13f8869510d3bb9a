"""The door: what submit, DSNs, lists and listeners share to get a message accepted.

``verify`` answers for one address, at once and with the reason.  ``commit``
keeps the limits, makes the jobs, and returns when the message is durable; only
then may anyone be told so.  The wake-up that follows is a courtesy: a lost one
costs a wait until the next sweep.

Units    Sizes are octets as on the spool, with what was added to the header.
State    None but the writer's: one door serves a whole process.

Invariants, each a property in tests/test_accept.py
    B1   verify() raises nothing for any text, and refuses with a 4yz or 5yz reply.
    B2   A message is committed only if at least one recipient is good, and no
         limit is broken; else the draft is gone and the spool as before.
"""

from __future__ import annotations

from mta.address import parse_mailbox
from mta.config.queues import modes, paths
from mta.errors import PosthouseError
from mta.policy.modes import INTERACTIVE
from mta.route.expanded import expansions
from mta.route.router import Routed, Target
from mta.route.split import make_jobs
from mta.types import MESSAGE, NULL_PATH, PLAIN, RECIPIENT, Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mta.config.model import Author, Config
    from mta.route.router import Router
    from mta.spool.journal import Draft, Writer
    from mta.spool.spool import Spool
    from mta.types import Job, ReversePath, Wishes

__all__ = ["Door", "RefusedError", "as_author", "needs_utf8", "open_door"]


class RefusedError(PosthouseError):
    """A message is refused; ``outcome`` is what the submitter is told."""

    def __init__(self, code: int, status: str, text: str) -> None:
        reply = Reply(code, status, text)
        super().__init__(str(reply))
        self.outcome = Outcome(reply, MESSAGE)


class Door:
    """Where messages come in; make one with ``open_door``."""

    def __init__(self, config: Config, spool: Spool, router: Router, writer: Writer) -> None:
        self.config = config
        self.spool = spool
        self.router = router
        self.writer = writer
        self.domain = router.default_domain  # of addresses that are given without one
        mode = modes(config)
        self.interactive = frozenset(
            [c.name for c in config.channels if mode[c.queue] == INTERACTIVE]
        )  # channels whose mail submit tries itself
        self._most = {c.name: c.max_recipients for c in config.channels}
        self.waits = ""  # what keeps the latest message back: "load 9.1 over queue_only 8"
        self._limited = config.load.queue_only > 0 or config.load.psi.queue_only > 0
        self._ring = False  # whether intake is to hear of what was appended

    def verify(self, text: str) -> Routed:
        """Return the way of the address ``text``; its outcome is None if it is good.

        An address without a domain is one of the first local domain.
        """
        try:
            mailbox = parse_mailbox(text, self.domain)
        except ValueError as error:
            reply = Reply(501, "5.1.3", str(error))
            return Routed(Mailbox(Reply.clean(text, 100), ""), (), Outcome(reply, RECIPIENT))
        return self.router.route(mailbox)

    def own(self, login: str) -> Mailbox:
        """Return the address of a user of this machine."""
        return Mailbox(login, self.domain)

    def begin(self) -> Draft:
        """Begin a message; write its octets to the draft, with CRLF line ends."""
        return self.writer.begin()

    def check_size(self, size: int) -> None:
        """Raise RefusedError 552 5.3.4 if a message of ``size`` octets is too large."""
        limit = self.config.limits.message_size
        if size > limit:
            raise RefusedError(552, "5.3.4", f"the message is larger than {limit} octets")

    def check_recipients(self, count: int) -> None:
        """Raise RefusedError 452 4.5.3 if ``count`` recipients are too many."""
        limit = self.config.limits.recipients
        if count > limit:
            raise RefusedError(452, "4.5.3", f"more than {limit} recipients")

    def commit(
        self,
        draft: Draft,
        routed: Sequence[Routed],
        reverse_path: ReversePath,
        wishes: Wishes = PLAIN,
        dsn: Mapping[Mailbox, tuple[str, str]] | None = None,
    ) -> str:
        """Accept ``draft`` for those of ``routed`` that are good; return its id, durable.

        ``dsn`` holds what was asked of DSNs (NOTIFY, ORCPT; RFC 3461) by the address
        as ``Routed.mailbox`` has it; what an alias makes of that address inherits it,
        but for SUCCESS, which is answered where it becomes several (route/expanded.py).
        RefusedError for a limit, or when none is good; SpoolError when it could
        not be made durable.  In both cases nothing is accepted and the draft is gone.
        """
        ident = self.append(draft, routed, reverse_path, wishes, dsn)
        self.sync()
        return ident

    def append(
        self,
        draft: Draft,
        routed: Sequence[Routed],
        reverse_path: ReversePath,
        wishes: Wishes = PLAIN,
        dsn: Mapping[Mailbox, tuple[str, str]] | None = None,
    ) -> str:
        """As commit, but the message is accepted only when sync() has returned.

        After a SpoolError, nothing that was appended since the last sync() is accepted.
        """
        jobs = self.jobs(draft, routed, reverse_path, dsn)
        if not wishes.smtputf8 and needs_utf8(jobs, reverse_path):
            wishes = replace(wishes, smtputf8=True)
        if self.config.authors and not wishes.kind:
            wishes = as_author(self.config.authors, reverse_path, wishes)
        if self._limited:
            from mta.queue_only import waits_for

            self.waits = waits_for(self.config.load, draft, jobs, wishes)
        self._ring = self._ring or not self.waits
        self.writer.append(draft, jobs, reverse_path, wishes)
        return draft.id

    def jobs(
        self,
        draft: Draft,
        routed: Sequence[Routed],
        reverse_path: ReversePath,
        dsn: Mapping[Mailbox, tuple[str, str]] | None = None,
    ) -> tuple[Job, ...]:
        """Return the jobs that ``draft`` makes; for append(), and for writers of other kinds.

        RefusedError for a limit, or when no recipient is good: then the draft is gone.
        """
        targets = [target for r in routed for target in r.targets]
        try:
            self.check_size(draft.size)
            self.check_recipients(len({r.mailbox for r in routed if r.outcome is None}))
            if not targets:
                raise RefusedError(554, "5.5.1", "no valid recipients")
        except RefusedError:
            draft.abort()
            raise
        marks = expansions(routed, reverse_path, dsn)
        targets += [target for item in marks.items() if (target := self._mark(*item)) is not None]
        return make_jobs(targets, reverse_path, self._most, dsn, marks)

    def _mark(self, mailbox: Mailbox, action: str) -> Target | None:
        """Return where the mark of an expanded address waits: with the channel of its domain."""
        match = self.router.table.find(mailbox.domain)
        if match is None:
            return None
        channel = match.channel
        return Target(mailbox, action, None, channel.queue, channel.name, "", "", None)

    def sync(self) -> None:
        """Make all that was appended durable, and wake intake; SpoolError if that failed.

        Nobody is woken for mail that waits for the load to fall.
        """
        from mta.machine.wake import wake_intake

        ring, self._ring = self._ring, False
        for synced in self.writer.sync():
            if ring:
                wake_intake(self.config.runtime, synced.segment, synced.offset)

    def close(self) -> None:
        """Let intake finish with what was written."""
        self.writer.close()


def as_author(authors: Sequence[Author], path: ReversePath, wishes: Wishes) -> Wishes:
    """Return ``wishes`` with the class that mta.yaml gives the mail of ``path``, if any."""
    from mta.policy.authors import find
    from mta.rank import chosen

    row = find(authors, path)
    return wishes if row is None else chosen(wishes, row.kind)


def needs_utf8(jobs: Sequence[Job], reverse_path: ReversePath) -> bool:
    """Whether an address of the envelope needs SMTPUTF8 (RFC 6531) on its way.

    Raw UTF-8 in the header alone does not ask for it: such mail has always
    travelled as 8-bit text, and to ask would return it from many hosts.
    """
    if reverse_path is not NULL_PATH and not str(reverse_path).isascii():
        return True
    return any(not str(r.mailbox).isascii() for job in jobs for r in job.recipients)


def open_door(config: Config) -> Door:
    """Open the spool and the tables of ``config``; SpoolError or ConfigError if that fails."""
    from mta.config.routing import router
    from mta.spool.spool import Spool

    spool = Spool.open(config.spool)
    return Door(config, spool, router(config), spool.writer(paths(config)))
