"""The desk where attempts end: fates to the spool, reports to their authors, lines to the log.

The order is what keeps mail safe: a DSN is accepted first, then what it tells of
is settled, then it is logged and given back.  What nobody is to be told of is
settled at once: of one job the delivered recipients do not wait for the failed
ones.  What the disk would not take is tried again while the job stays in our
hands: nobody else may deliver it twice.

Invariants, each a test in tests/deliver/test_desk.py
    K1   A failed recipient is settled only with the id of a DSN, or "-" when nobody is
         owed one, or when the message has been kept for a person.
    K2   Every flight that comes here leaves once: its claim released, its lane told.
    K3   One DSN for all that a flight has to report to one author, and gather.py makes
         one of several flights.
    K4   Who is told what is as RFC 3461 s6 has it: failures and delays unless NOTIFY leaves
         them out, successes only if it names them and the next server was not
         told to report them itself; an author with a null reverse-path never.
    K5   What was delivered is never settled as anything else for a DSN's sake.
    K6   A job is warned of once: a note says so, and it is made when the DSN is accepted.
    K7   While DSNs are slow, no more than HELD flights wait for them beside those that
         the channel may have in flight: each holds descriptors.
"""

from __future__ import annotations

from random import random

from mta.deliver.gather import HELD, Case, Told
from mta.deliver.limits import gives_up
from mta.deliver.settling import Fate, fates, spare
from mta.dsn.classes import classify
from mta.dsn.notify import DELAY, FAILURE, SUCCESS, wanted
from mta.dsn.report import DELAYED, RELAYED, Group
from mta.dsn.report import DELIVERED as DONE
from mta.dsn.report import FAILED as LOST
from mta.errors import SpoolError
from mta.policy.authors import DISCARD, POSTMASTER, RETURN, find
from mta.route.expanded import MARKS
from mta.spool.layout import arrived
from mta.spool.states import HOLD, WARNED, Note
from mta.types import CHANNEL, DEFERRED, DELIVERED, FAILED, Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from mta.config.model import Author, Channel, Retry
    from mta.deliver.gather import Gather
    from mta.machine.log import Log
    from mta.spool.layout import JobName
    from mta.spool.spool import Claim
    from mta.spool.states import RecipientState
    from mta.types import Recipient, ReversePath

    class Clock(Protocol):
        """mta.machine.clock, or a test's."""

        def wall(self) -> float:
            """Return seconds since the epoch."""

        def monotonic(self) -> float:
            """Return seconds of a clock that never goes back."""

    class Shelf(Protocol):
        """Where the desk keeps what can be told to nobody: a Spool."""

        def keep(self, claim: Claim, why: str, about: Sequence[str]) -> str:
            """Copy the message to bad/."""

    Landed = Callable[["Flight", float], None]


__all__ = ["RETRY_WAIT", "Desk", "Flight", "our_trouble"]

RELAYING = ("smtp",)  # programs after which somebody else delivers
RETRY_WAIT = 60.0  # until a job is tried again whose trouble was our own


UNTRIED = Outcome(Reply(451, "4.3.0", "it has not been tried yet"), CHANNEL)


class Flight:
    """A job on its way: claimed, handed to a channel program, not settled yet."""

    __slots__ = (
        *("arrived", "claim", "mono", "not_before", "parts", "passed", "retry", "started"),
        *("told", "tried", "when"),
    )

    def __init__(
        self,
        claim: Claim,
        tried: tuple[tuple[Recipient, RecipientState], ...],
        started: float,
        mono: float,
    ) -> None:
        """``started`` is wall, ``mono`` monotonic time of the launch."""
        self.claim = claim
        self.tried = tried
        self.started = started
        self.mono = mono
        self.arrived = arrived(claim.name.id)
        self.not_before = 0.0
        self.retry: Retry | None = None  # the host's own rules
        self.told: dict[int, tuple[Outcome, str]] = {}
        self.passed: set[int] = set()  # whose server reports their success itself
        self.parts = 0  # how many parts of it the desk has still to settle
        self.when = 0.0  # the next attempt, of the parts that are settled

    @property
    def name(self) -> JobName:
        """The name of the job."""
        return self.claim.name


class Desk:
    """Settles the flights of one channel."""

    def __init__(
        self,
        channel: Channel,
        spool: Shelf,
        log: Log,
        gather: Gather,
        clock: Clock,
        *,
        authors: Sequence[Author] = (),
        watch: Callable[[str], None] | None = None,
    ) -> None:
        """``watch`` is told a line for each recipient (deliver -w)."""
        self._channel = channel
        self._spool = spool
        self._log = log
        self._gather = gather
        self._clock = clock
        self._authors = authors
        self._watch = watch
        self._stuck: list[Callable[[], None]] = []
        self.held = 0  # flights whose reports wait for others of their message

    @property
    def aside(self) -> int:
        """How many flights take no turn of others: those held, as far as gather holds them.

        More of them wait for DSNs under way: then those are what there is to do first.
        """
        return min(self.held, HELD)

    def settle(self, flight: Flight, landed: Landed) -> None:
        """Settle ``flight``; ``landed`` gets it back with its next time, 0.0 if it is finished."""
        envelope = flight.claim.entry.envelope
        made = fates(
            flight.tried,
            flight.told,
            self._channel,
            arrived=flight.arrived,
            expires=gives_up(self._channel, envelope, flight.arrived),
            now=self._clock.wall(),
            not_before=flight.not_before,
            jitter=random(),
            retry=flight.retry,
            own=flight.claim.entry.own(self._channel.name),
        )
        parts = self._parts(flight, made)
        silent = parts.pop("", None)
        flight.parts = len(parts) + (silent is not None)
        if parts:
            self.held += 1
            landed = self._releasing(landed)
        if silent is not None:
            failed = any(fate.settlement.state == FAILED for fate, _ in silent)
            self._write(flight, [fate for fate, _ in silent], "-" if failed else "", landed)
        for way, pairs in parts.items():
            self._report(flight, way, pairs, landed)

    def _releasing(self, landed: Landed) -> Landed:
        """Return ``landed``, after which a flight is not held any more."""

        def release(flight: Flight, when: float) -> None:
            self.held -= 1
            landed(flight, when)

        return release

    def _parts(
        self, flight: Flight, made: list[Fate]
    ) -> dict[str, list[tuple[Fate, Group | None]]]:
        """Return the fates by who is to be told: "" nobody, or one of authors.FAILURES."""
        path = flight.claim.entry.job.reverse_path
        parts: dict[str, list[tuple[Fate, Group | None]]] = {}
        for fate in made:
            group = self._owed(flight, fate)
            way = ""
            if group is not None and group.action == LOST:
                way = self._way(path)
            elif group is not None and isinstance(path, Mailbox):
                way = RETURN
            parts.setdefault(way, []).append((fate, group))
        return parts

    def _way(self, path: ReversePath) -> str:
        """Return who is told of the failures of an author."""
        rule = find(self._authors, path) if self._authors else None
        way = RETURN if rule is None else rule.failures
        return POSTMASTER if way == RETURN and not isinstance(path, Mailbox) else way

    def _owed(self, flight: Flight, fate: Fate) -> Group | None:
        """Return what the author is to be told of a recipient, if he is."""
        recipient, s = fate.recipient, fate.settlement
        if s.state == FAILED and wanted(recipient.notify, FAILURE):
            action = LOST
        elif s.state == DELIVERED and recipient.notify and wanted(recipient.notify, SUCCESS):
            if s.index in flight.passed:
                return None
            action = RELAYED if self._channel.program in RELAYING else DONE
            action = MARKS.get(recipient.action, action)
        else:
            return None
        about = (recipient.mailbox, recipient.original, s.outcome, fate.relay, s.at)
        return Group(*about, action, recipient.orcpt)

    def _report(
        self, flight: Flight, way: str, pairs: list[tuple[Fate, Group | None]], landed: Landed
    ) -> None:
        """Have somebody told of one part of a flight, and settle it by what comes of that."""
        groups = tuple([group for _, group in pairs if group is not None])
        made = [fate for fate, _ in pairs]
        losses = any(group.action == LOST for group in groups)

        def answer(told: Told) -> None:
            if told.dsn in ("", "-") and any(group.action != LOST for group in groups):  # K5
                self._log.warning(f"{flight.name.id}: success not reported: {told.why}")
            if losses and told.kept:
                self._keep(flight, made, told.why, landed)
            elif losses and not told.dsn:
                self._defer(flight, made, f"the DSN could not be accepted: {told.why}", landed)
            else:
                self._write(flight, made, told.dsn, landed)

        path = flight.claim.entry.job.reverse_path
        self._gather.add(Case(flight.claim, flight.arrived, groups, answer), path, way)

    def warn(self, flight: Flight, landed: Landed) -> bool:
        """Tell the author that the recipients of ``flight`` still wait; nothing is settled.

        Return whether there is anybody to tell.
        ``landed`` gets it back with 0.0, or the present time if he could not be told now.
        """
        entry, now = flight.claim.entry, self._clock.wall()
        path, held = entry.job.reverse_path, entry.note(HOLD) is not None
        until = 0.0 if held else gives_up(self._channel, entry.envelope, flight.arrived)
        groups = [
            Group(
                *(recipient.mailbox, recipient.original, state.outcome or UNTRIED, ""),
                *(state.last, DELAYED, recipient.orcpt, until),
            )
            for recipient, state in flight.tried
            if wanted(recipient.notify, DELAY) and recipient.action not in MARKS
        ]

        def answer(told: Told) -> None:
            if told.dsn:
                try:
                    flight.claim.note(Note(WARNED, now, told.dsn))
                except SpoolError as error:
                    self._log.warning(f"{flight.name.id}: {error}")
            else:
                self._log.warning(f"{flight.name.id}: its delay could not be told: {told.why}")
            flight.claim.release()
            landed(flight, 0.0 if told.dsn else now)

        if groups and isinstance(path, Mailbox) and self._way(path) != DISCARD:
            self._gather.add(Case(flight.claim, flight.arrived, tuple(groups), answer), path)
            return True
        flight.claim.release()
        landed(flight, 0.0)
        return False

    def _keep(self, flight: Flight, made: list[Fate], why: str, landed: Landed) -> None:
        """Nobody can be told of a failure: keep the message for a person."""
        about = [f"<{f.recipient.mailbox}>: {f.settlement.outcome.reply}" for f in made]
        try:
            path = self._spool.keep(flight.claim, why, about)
        except SpoolError as error:
            self._defer(flight, made, f"the message could not be kept: {error}", landed)
            return
        self._log.warning(f"{flight.name.id}: {why}: kept as {path}")
        self._write(flight, made, "-", landed)

    def _defer(self, flight: Flight, made: list[Fate], why: str, landed: Landed) -> None:
        now = self._clock.wall()
        self._log.warning(f"{flight.name.id}: {why}")
        self._write(flight, spare(made, why, now, now + RETRY_WAIT), "", landed)

    def _write(self, flight: Flight, made: list[Fate], told: str, landed: Landed) -> None:
        """Settle in the spool; if it will not have it, keep the claim and try again later."""
        try:
            by = flight.claim.entry.own(self._channel.name)
            left = _untried(flight, by)
            finished = flight.claim.settle([fate.settlement for fate in made], told, by)
        except (SpoolError, OSError) as error:
            self._log.warning(f"{flight.name.id}: settling will be tried again: {error}")
            self._stuck.append(lambda: self._write(flight, made, told, landed))
            return
        self._tell(flight, made)
        if finished and flight.claim.message_gone:
            self._log.removed(flight.name.id)
        times = [f.settlement.retry_at for f in made if f.settlement.state == DEFERRED]
        known = [flight.when] if flight.when else []
        flight.when = min([*times, *left, *known], default=0.0)
        flight.parts -= 1
        if not flight.parts:
            flight.claim.release()
            landed(flight, flight.when)

    def _tell(self, flight: Flight, made: list[Fate]) -> None:
        name, job = flight.name, flight.claim.entry.job
        channel = self._channel
        for fate in made:
            settlement = fate.settlement
            if settlement.state == FAILED and not wanted(fate.recipient.notify, FAILURE):
                self._log.unreported(name.id, fate.recipient)
            self._log.attempt(
                name.id,
                name.queue,
                channel.name,
                channel.program,
                fate.recipient,
                job.host,
                fate.relay,
                flight.arrived,
                flight.started,
                settlement.at,
                settlement.state,
                settlement.outcome,
                classify(settlement.outcome.reply),
            )
            if self._watch is not None:
                to, said = fate.recipient.mailbox, settlement.outcome.reply
                self._watch(f"{name.key} {channel.name} <{to}> {settlement.state}: {said}")

    def retry(self) -> bool:
        """Try again what the spool would not have; return whether nothing is left of it."""
        stuck, self._stuck = self._stuck, []
        for again in stuck:
            again()
        return not self._stuck


def _untried(flight: Flight, by: str) -> list[float]:
    """Return when those recipients are due that were not tried because others were due before."""
    tried = {recipient.index for recipient, _ in flight.tried}
    left = [s.seen_by(by) for r, s in flight.claim.entry.pending if r.index not in tried]
    return [state.retry_at for state in left if state.retry_at]


def our_trouble(text: str) -> Outcome:
    """Return the deferral of a job whose trouble is the channel program's or ours."""
    return Outcome(Reply(451, "4.3.0", Reply.clean(text)), CHANNEL)
