"""The desk where attempts end: fates to the spool, failures to their authors, lines to the log.

The order is what keeps mail safe: a DSN is accepted first, then the job is
settled, then it is logged and given back.  What the disk would not take is
tried again while the job stays in our hands: nobody else may deliver it twice.

Invariants, each a test in tests/deliver/test_desk.py
    K1   A job with a failed recipient is settled only with its DSN's id, or "-"
         when nobody is owed one and the message has been kept for a person.
    K2   Every flight that comes here leaves once: its claim released, its lane told.
    K3   One DSN a job, however many of its recipients failed.
"""

from __future__ import annotations

import os
from random import random

from mta.deliver.settling import Fate, fates, spare
from mta.dsn.report import HEADER_LIMIT, Failure, header_of
from mta.errors import SpoolError
from mta.spool.layout import arrived
from mta.types import CHANNEL, DEFERRED, FAILED, Mailbox, Outcome, Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from mta.config.model import Channel
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


__all__ = ["RETRY_WAIT", "Desk", "Flight", "Return", "our_trouble"]

RETRY_WAIT = 60.0  # until a job is tried again whose trouble was our own


class Flight:
    """A job on its way: claimed, handed to a channel program, not settled yet."""

    __slots__ = ("arrived", "claim", "mono", "not_before", "passed", "started", "told", "tried")

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
        self.told: dict[int, tuple[Outcome, str]] = {}
        self.passed: set[int] = set()  # whose server reports their success itself

    @property
    def name(self) -> JobName:
        """The name of the job."""
        return self.claim.name


@frozen
class Return:
    """What a DSN is made of: to whom, about which message, which recipients."""

    to: Mailbox
    message_id: str
    arrived: float
    failures: tuple[Failure, ...]
    header: bytes


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
        )
        failed = [fate for fate in made if fate.settlement.state == FAILED]
        if not failed:
            self._write(flight, made, "", landed)
            return
        reverse_path = flight.claim.entry.job.reverse_path
        if not isinstance(reverse_path, Mailbox):
            self._keep(flight, made, "it failed, and its reverse-path is null", landed)
            return

        def answer(dsn_id: str, why: str) -> None:
            if dsn_id == "-":
                self._keep(flight, made, why, landed)
            elif dsn_id:
                self._log.notified(flight.name.id, dsn_id, reverse_path)
                self._write(flight, made, dsn_id, landed)
            else:
                self._defer(flight, made, f"the DSN could not be accepted: {why}", landed)

        try:
            notice = self._notice(flight, failed, reverse_path)
        except SpoolError as error:
            answer("", str(error))
            return
        self._returns.accept(notice, answer)

    def _notice(self, flight: Flight, failed: list[Fate], to: Mailbox) -> Return:
        body = flight.claim.open_body()
        try:
            header = header_of(os.pread(body, HEADER_LIMIT, 0))
        except OSError as error:
            raise SpoolError(f"cannot read the body: {error.strerror}") from error
        finally:
            os.close(body)
        failures = tuple(
            Failure(f.recipient.mailbox, f.recipient.original, s.outcome, f.relay, s.at)
            for f in failed
            for s in (f.settlement,)
        )
        return Return(to, flight.name.id, flight.arrived, failures, header)

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
            finished = flight.claim.settle([fate.settlement for fate in made], told)
        except (SpoolError, OSError) as error:
            self._log.warning(f"{flight.name.id}: settling will be tried again: {error}")
            self._stuck.append(lambda: self._write(flight, made, told, landed))
            return
        self._tell(flight, made)
        if finished and flight.claim.message_gone:
            self._log.removed(flight.name.id)
        flight.claim.release()
        times = [f.settlement.retry_at for f in made if f.settlement.state == DEFERRED]
        landed(flight, min(times, default=0.0))

    def _tell(self, flight: Flight, made: list[Fate]) -> None:
        name, job = flight.name, flight.claim.entry.job
        channel = self._channel
        for fate in made:
            settlement = fate.settlement
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


def our_trouble(text: str) -> Outcome:
    """Return the deferral of a job whose trouble is the channel program's or ours."""
    return Outcome(Reply(451, "4.3.0", Reply.clean(text)), CHANNEL)
