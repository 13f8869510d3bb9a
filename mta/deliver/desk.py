"""The desk where attempts end: fates to the spool, failures to their authors, lines to the log.

The order is what keeps mail safe: a DSN is accepted first, then the job is
settled, then it is logged and given back.  What the disk would not take is
tried again while the job stays in our hands: nobody else may deliver it twice.

Invariants, each a test in tests/deliver/test_desk.py
    K1   A job with a failed recipient is settled only with its DSN's id, or "-"
         when nobody is owed one and the message has been kept for a person.
    K2   Every flight that comes here leaves once: its claim released, its lane told.
    K3   One DSN a job, however many of its recipients failed.
    K4   Who is told what is as RFC 3461 s6 has it: failures unless NOTIFY leaves
         them out, successes only if it names them and the next server was not
         told to report them itself; and of a null reverse-path never anybody.
    K5   What was delivered is never settled as anything else for a DSN's sake.
"""

from __future__ import annotations

import os
from random import random

from mta.deliver.settling import Fate, fates, spare
from mta.dsn.notify import FAILURE, SUCCESS, wanted
from mta.dsn.report import DELIVERED as DONE
from mta.dsn.report import FAILED as LOST
from mta.dsn.report import HEADER_LIMIT, RELAYED, Group, header_of
from mta.errors import SpoolError
from mta.spool.layout import arrived
from mta.types import CHANNEL, DEFERRED, DELIVERED, FAILED, Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from mta.config.model import Channel, Retry
    from mta.machine.log import Log
    from mta.spool.entry import RecipientState
    from mta.spool.layout import JobName
    from mta.spool.spool import Claim, Spool
    from mta.types import Recipient

    class Clock(Protocol):
        """mta.machine.clock, or a test's."""

        def wall(self) -> float:
            """Return seconds since the epoch."""

        def monotonic(self) -> float:
            """Return seconds of a clock that never goes back."""

    class Returns(Protocol):
        """Who accepts DSNs; ``answer`` is called once, later or at once."""

        def accept(self, notice: Return, answer: Callable[[str, str], None]) -> None:
            """Answer (dsn id, ""), ("-", why nobody can be told) or ("", why not now)."""


__all__ = ["FULL_LIMIT", "RETRY_WAIT", "Desk", "Flight", "Return", "our_trouble"]

FULL_LIMIT = 1 << 20  # octets of a message that is returned whole; of a larger one its header
RELAYING = ("smtp",)  # programs after which somebody else delivers
RETRY_WAIT = 60.0  # until a job is tried again whose trouble was our own


class Flight:
    """A job on its way: claimed, handed to a channel program, not settled yet."""

    __slots__ = (
        *("arrived", "claim", "mono", "not_before", "passed", "retry", "started", "told"),
        "tried",
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

    @property
    def name(self) -> JobName:
        """The name of the job."""
        return self.claim.name


@frozen
class Return:
    """What a DSN is made of: to whom, about which message, which recipients.

    ``quoted`` is the message's header, or all of it if ``whole``; ``requiretls``:
    the DSN needs as much protection as the message did (RFC 8689 s5).
    """

    to: Mailbox
    message_id: str
    arrived: float
    groups: tuple[Group, ...]
    quoted: bytes
    envid: str = ""
    whole: bool = False
    requiretls: bool = False


class Desk:
    """Settles the flights of one channel."""

    def __init__(
        self,
        channel: Channel,
        spool: Spool,
        log: Log,
        returns: Returns,
        clock: Clock,
        *,
        watch: Callable[[str], None] | None = None,
    ) -> None:
        """``watch`` is told a line for each recipient (deliver -w)."""
        self._channel = channel
        self._spool = spool
        self._log = log
        self._returns = returns
        self._clock = clock
        self._watch = watch
        self._stuck: list[Callable[[], None]] = []

    def settle(self, flight: Flight, landed: Callable[[Flight, float], None]) -> None:
        """Settle ``flight``; ``landed`` gets it back with its next time, 0.0 if it is finished."""
        now = self._clock.wall()
        made = fates(
            flight.tried,
            flight.told,
            self._channel,
            arrived=flight.arrived,
            now=now,
            not_before=flight.not_before,
            jitter=random(),
            retry=flight.retry,
        )
        failed = any(fate.settlement.state == FAILED for fate in made)
        groups = self._owed(flight, made)
        losses = any(group.action == LOST for group in groups)
        reverse_path = flight.claim.entry.job.reverse_path
        if not groups or not (losses or isinstance(reverse_path, Mailbox)):
            self._write(flight, made, "-" if failed else "", landed)
        elif not isinstance(reverse_path, Mailbox):
            self._keep(flight, made, "it failed, and its reverse-path is null", landed)
        else:
            self._report(flight, made, groups, reverse_path, landed)

    def _owed(self, flight: Flight, made: list[Fate]) -> tuple[Group, ...]:
        """Return what the author is to be told: one group for each recipient he asked about."""
        groups = []
        for fate in made:
            recipient, s = fate.recipient, fate.settlement
            if s.state == FAILED and wanted(recipient.notify, FAILURE):
                action = LOST
            elif s.state == DELIVERED and recipient.notify and wanted(recipient.notify, SUCCESS):
                if s.index in flight.passed:
                    continue
                action = RELAYED if self._channel.program in RELAYING else DONE
            else:
                continue
            about = (recipient.mailbox, recipient.original, s.outcome, fate.relay, s.at)
            groups.append(Group(*about, action, recipient.orcpt))
        return tuple(groups)

    def _report(
        self,
        flight: Flight,
        made: list[Fate],
        groups: tuple[Group, ...],
        to: Mailbox,
        landed: Callable[[Flight, float], None],
    ) -> None:
        """Have the DSN accepted, and settle by what comes of that."""
        losses = any(group.action == LOST for group in groups)

        def answer(dsn_id: str, why: str) -> None:
            if dsn_id not in ("", "-"):
                self._log.notified(flight.name.id, dsn_id, to, "failure" if losses else "success")
                self._write(flight, made, dsn_id, landed)
                return
            if any(group.action != LOST for group in groups):  # K5
                self._log.warning(f"{flight.name.id}: its success could not be reported: {why}")
            if losses and dsn_id:
                self._keep(flight, made, why, landed)
            elif losses:
                self._defer(flight, made, f"the DSN could not be accepted: {why}", landed)
            else:
                failed = any(fate.settlement.state == FAILED for fate in made)
                self._write(flight, made, "-" if failed else "", landed)

        try:
            notice = self._notice(flight, groups, to, whole=losses)
        except SpoolError as error:
            answer("", str(error))
            return
        self._returns.accept(notice, answer)

    def _notice(
        self, flight: Flight, groups: tuple[Group, ...], to: Mailbox, *, whole: bool
    ) -> Return:
        """Gather what the DSN says; ``whole``: the message may go with it (RFC 3461 s4.3)."""
        envelope = flight.claim.entry.envelope
        whole = whole and envelope.ret == "FULL" and envelope.size <= FULL_LIMIT
        # No DSN is BINARYMIME; RFC 8689 s5 wants the header alone.
        whole = whole and not (envelope.binary or envelope.requiretls)
        body = flight.claim.open_body()
        try:
            start = _read(body, FULL_LIMIT if whole else HEADER_LIMIT)
        except OSError as error:
            raise SpoolError(f"cannot read the body: {error.strerror}") from error
        finally:
            os.close(body)
        return Return(
            to,
            flight.name.id,
            flight.arrived,
            groups,
            start if whole else header_of(start),
            envelope.envid,
            whole,
            envelope.requiretls,
        )

    def _keep(
        self, flight: Flight, made: list[Fate], why: str, landed: Callable[[Flight, float], None]
    ) -> None:
        """Nobody can be told of a failure: keep the message for a person."""
        try:
            path = self._spool.keep(flight.claim, why)
        except SpoolError as error:
            self._defer(flight, made, f"the message could not be kept: {error}", landed)
            return
        self._log.warning(f"{flight.name.id}: {why}: kept as {path}")
        self._write(flight, made, "-", landed)

    def _defer(
        self, flight: Flight, made: list[Fate], why: str, landed: Callable[[Flight, float], None]
    ) -> None:
        now = self._clock.wall()
        self._log.warning(f"{flight.name.id}: {why}")
        self._write(flight, spare(made, why, now, now + RETRY_WAIT), "", landed)

    def _write(
        self, flight: Flight, made: list[Fate], told: str, landed: Callable[[Flight, float], None]
    ) -> None:
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
        flight.claim.release()
        times = [f.settlement.retry_at for f in made if f.settlement.state == DEFERRED]
        landed(flight, min([*times, *left], default=0.0))

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


def _read(fd: int, limit: int) -> bytes:
    """Return the first ``limit`` octets of a body, or all if it has fewer."""
    pieces: list[bytes] = []
    at = 0
    while at < limit and (piece := os.pread(fd, limit - at, at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def our_trouble(text: str) -> Outcome:
    """Return the deferral of a job whose trouble is the channel program's or ours."""
    return Outcome(Reply(451, "4.3.0", Reply.clean(text)), CHANNEL)
