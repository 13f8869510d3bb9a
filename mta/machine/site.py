"""A site: one target's waiting jobs, its connections, and whether it is alive.

A site that is not known to be alive gets one probing connection, and all its
jobs wait for what that one finds out; a site that answers gets more, one for
each success, up to per_host.  So a silent host holds one connection, and every
job of a dead one is answered at the price of one attempt.

Units    Times are float seconds of the loop's monotonic clock.
State    Waiting jobs and connections; lost on exit, when deliver gives each
         unfinished job again.

Invariants, each a test in tests/channels/test_smtp.py
    P1   A site that is not alive has at most one connection being opened.
    P2   A site never has more than per_host connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import BinaryIO, Protocol

from mta.channel.records import Dispatch
from mta.machine.places import NONE, Failure
from mta.machine.smtp_session import Connection, Parcel
from mta.machine.targets import Target
from mta.machine.wire import defect
from mta.smtp.extensions import Transaction
from mta.smtp.states import CLOSED, State
from mta.types import HOST, Host, Mailbox, Outcome, Reply

__all__ = ["Again", "Delivery", "House", "Site"]

MEMORY = 5.0  # how long a site that failed answers for itself; deliver remembers longer
MESSAGES_MAX = 1000  # on one connection
AGE_MAX = 120.0
LOGIN_WANTED = 530  # RFC 4954 s6


class Again(Protocol):
    """Where a delivery may go when its site is dead."""

    def again(self, delivery: Delivery) -> bool:
        """Take ``delivery`` elsewhere; False if it has been everywhere."""


class Delivery:
    """One job on its way, and its body; perhaps in several transactions."""

    __slots__ = ("body", "dispatch", "elsewhere", "left", "outcomes", "passed", "retried", "tried")

    def __init__(self, dispatch: Dispatch, body: BinaryIO) -> None:
        self.dispatch = dispatch
        self.body = body
        self.retried = False
        self.elsewhere: Again | None = None
        self.tried = 0  # of the relays, as a sum of 1 << index
        self.passed = True  # could each server that took it be told what DSNs are wanted?
        self.outcomes: list[Outcome | None] | None = None  # of one in several transactions
        self.left: list[int] = []  # recipients of the transaction under way, by position

    def parcel(self) -> Parcel:
        """Return the next transaction: all recipients that have no outcome yet."""
        job = self.dispatch
        recipients = job.recipients
        if self.outcomes is not None:
            self.left = [at for at, told in enumerate(self.outcomes) if told is None]
            recipients = tuple([recipients[at] for at in self.left])
        boxes = tuple([recipient.mailbox for recipient in recipients])
        wishes = bool(recipients[0].notify or recipients[0].orcpt)  # every message comes here
        if not wishes and len(recipients) > 1:
            wishes = any(recipient.notify or recipient.orcpt for recipient in recipients)
        if wishes or job.ret or job.envid or job.requiretls or job.binary:
            dsn = tuple([(recipient.notify, recipient.orcpt) for recipient in recipients])
            transaction = _with_needs(job, boxes, dsn)
        else:
            transaction = Transaction(
                job.reverse_path, boxes, job.size, job.eight_bit, job.smtputf8
            )
        return Parcel(transaction, self.body.fileno())

    def take(self, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...] | None:
        """Take the outcomes of the transaction; return all once no recipient is left.

        Left is who was one too many in a transaction that others came through
        (452 4.5.3; our own, where the server told its RCPTMAX: RFC 9422 s4.2).
        """
        if self.outcomes is None:
            if not _some_too_many(outcomes):
                return outcomes
            self.outcomes = [None] * len(outcomes)
            self.left = list(range(len(outcomes)))
        again = _some_too_many(outcomes)
        for at, outcome in zip(self.left, outcomes, strict=True):
            if not (again and _too_many(outcome)):
                self.outcomes[at] = outcome
        whole = tuple([outcome for outcome in self.outcomes if outcome is not None])
        return whole if len(whole) == len(self.outcomes) else None

    def all(self, outcome: Outcome) -> tuple[Outcome, ...]:
        """Return ``outcome`` for each recipient that has none of its own."""
        if self.outcomes is None:
            return (outcome,) * len(self.dispatch.recipients)
        return tuple([told or outcome for told in self.outcomes])


def _with_needs(
    job: Dispatch, boxes: tuple[Mailbox, ...], dsn: tuple[tuple[str, str], ...]
) -> Transaction:
    flags = (job.eight_bit, job.smtputf8, job.binary, job.requiretls)
    return Transaction(job.reverse_path, boxes, job.size, *flags, job.ret, job.envid, dsn)


def _unheeded(outcome: Outcome, connection: Connection, target: Target) -> bool:
    """Whether the host wants a log-in that we lack, or TLS that failed before (RFC 3207 s4)."""
    if outcome.reply.code != LOGIN_WANTED:
        return False
    bare = connection.tls is None or connection.tls.level == NONE
    return target.configured or (bare and "TLS" in outcome.reply.text.upper())


def _unlogged(outcome: Outcome) -> Outcome:
    """Return the deferral if ``outcome`` wants credentials, or TLS that failed: ours to mend."""
    if outcome.reply.code != LOGIN_WANTED:
        return outcome
    return Outcome(Reply(421, "4.7.0", f"{outcome.reply}"[:500]), HOST)


def _too_many(outcome: Outcome) -> bool:
    """True for "too many recipients" (RFC 5321 s4.5.3.1.10), which may come with any 4yz."""
    return outcome.reply.status == "4.5.3"


def _some_too_many(outcomes: tuple[Outcome, ...]) -> bool:
    """True if some were too many, and another transaction will do better: others were not."""
    count = sum(_too_many(outcome) for outcome in outcomes)
    return 0 < count < len(outcomes)


class House(Protocol):
    """What sites share: the Courier."""

    loop: asyncio.AbstractEventLoop
    limits: dict[State, float]
    scale: float
    per_host: int
    connections: set[Connection]
    idle: dict[Connection, Site]
    ending: bool

    def settle(
        self, delivery: Delivery, outcomes: tuple[Outcome, ...], relay: str, passed: bool
    ) -> None:
        """``delivery`` has come to its end, as the place ``relay`` said."""

    def rest(self, connection: Connection, site: Site) -> None:
        """Keep ``connection`` of ``site``, which is idle."""

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` beside everything else."""

    async def open(self, site: Site) -> Connection | Failure:
        """Open one connection for ``site``."""

    def alive(self, site: Site, alive: bool) -> None:
        """``site`` has a connection, or turned out to be dead."""


class Site:
    """It owns its Connections, and is their Owner."""

    def __init__(self, house: House, target: Target, domain: Host) -> None:
        """``domain`` is one of those whose mail goes to ``target``."""
        self.target = target
        self.domain = domain
        self.loop = house.loop
        self.connections = house.connections
        self.waiting: deque[Delivery] = deque()
        self.live: dict[Connection, Delivery | None] = {}  # READY once, and not retired
        self.idle: list[Connection] = []  # those of them that have nothing to do
        self.opening = 0
        self.dead: Failure | None = None
        self._house = house
        self._window = 1  # how many connections its successes have earned, up to per_host
        self._hold_until = 0.0  # no growth before: it refused one connection more
        self._dead_until = 0.0

    def limit(self, state: State) -> float:
        """Return for how many seconds a connection may stay in ``state``."""
        return self._house.limits[state]

    def needed(self, now: float) -> bool:
        """False if nothing would be lost by forgetting this site."""
        return bool(self.waiting or self.live or self.opening or now < self._dead_until)

    def forget(self) -> None:
        """Ask again, though it failed a moment ago: it is said to be well."""
        self.dead, self._dead_until = None, 0.0

    def sites(self) -> tuple[Site, ...]:
        """Return this site: a way of jobs may have several."""
        return (self,)

    def offer(self, delivery: Delivery) -> None:
        """Take ``delivery``; it is answered at once if this site is known to be dead."""
        if self.dead is not None and self.loop.time() < self._dead_until:
            self._refuse(delivery, self.dead)
        elif self.idle:
            connection = self.idle.pop()
            self._house.idle.pop(connection)
            self._start(connection, delivery)
        else:
            self.waiting.append(delivery)
            self._grow()

    def ready(self, connection: Connection) -> None:
        """``connection`` waits for a message: give it one, or keep it for a while."""
        served = connection.served
        most = connection.client.extensions.mail_max or MESSAGES_MAX  # RFC 9422 s4.1
        worn = served and (served >= most or self.loop.time() - connection.born > AGE_MAX)
        if worn or self._house.ending:
            self.retire(connection)
        elif self.waiting:
            self._start(connection, self.waiting.popleft())
            self._grow()
        else:
            self.idle.append(connection)
            self._house.rest(connection, self)

    def settled(self, connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
        """The message of ``connection`` is settled; one that nobody heard goes again, once."""
        delivery = self.live.get(connection)
        if delivery is None:
            return
        self.live[connection] = None
        if connection.unheard and not delivery.retried:
            delivery.retried = True
            self.waiting.appendleft(delivery)
            return
        if connection.client.state != CLOSED:
            self._window = min(self._window + 1, self._house.per_host)
        if not connection.client.extensions.dsn:
            delivery.passed = False
        told: tuple[Outcome, ...] | None = outcomes
        if len(outcomes) > 1 or delivery.outcomes is not None:
            told = delivery.take(outcomes)
        if told is None:
            self.waiting.appendleft(delivery)
            return
        if any(_unheeded(outcome, connection, self.target) for outcome in told):
            told = tuple([_unlogged(outcome) for outcome in told])
        self._house.settle(delivery, told, connection.relay, delivery.passed)

    def gone(self, connection: Connection, outcome: Outcome | None) -> None:
        """``connection`` has ended; if it never served anyone, that is the site's answer."""
        if connection not in self.live:
            return
        self._forget(connection)
        if outcome is not None and outcome.scope == HOST and not connection.served:
            self._failed(Failure(outcome, connection.relay))
            return
        if outcome is not None and outcome.scope == HOST:
            self._hold()
        self._grow()

    def retire(self, connection: Connection) -> None:
        """Quit ``connection``, which is READY."""
        self._forget(connection)
        connection.quit()
        self._grow()

    def _start(self, connection: Connection, delivery: Delivery) -> None:
        self.live[connection] = delivery
        connection.start(delivery.parcel())

    def _forget(self, connection: Connection) -> None:
        del self.live[connection]
        if self._house.idle.pop(connection, None) is not None:
            self.idle.remove(connection)

    def _room(self) -> bool:
        """True if one more connection is to be opened now (P1, P2)."""
        if self.opening >= len(self.waiting) or self._house.ending:
            return False
        if not self.live:
            return self.opening == 0
        within = self.opening + len(self.live) < self._window
        return within and self.loop.time() >= self._hold_until

    def _grow(self) -> None:
        while self._room():
            self.opening += 1
            self._house.spawn(self._open())

    async def _open(self) -> None:
        """Open one connection more, or learn why that cannot be."""
        try:
            found = await self._house.open(self)
        except Exception as error:  # a defect of ours must not leave jobs waiting for ever
            found = Failure(defect(error), "")
        self.opening -= 1
        if isinstance(found, Connection):
            self.live[found] = None
            self._window = min(self._window + 1, self._house.per_host)
            self.dead = None
            self._house.alive(self, True)
            self.ready(found)
            self._grow()
        else:
            self._failed(found)

    def _hold(self) -> None:
        """Open no further connection for a while: the host has too many, or trouble."""
        self._window = max(1, len(self.live))
        self._hold_until = self.loop.time() + MEMORY * self._house.scale

    def _failed(self, failure: Failure) -> None:
        """A connection could not be had: back off, or answer all that wait with the reason."""
        if self.live or self.opening:
            self._hold()
            return
        self._window = 1
        self.dead = failure
        self._dead_until = self.loop.time() + MEMORY * self._house.scale
        self._house.alive(self, False)
        while self.waiting:
            self._refuse(self.waiting.popleft(), failure)

    def _refuse(self, delivery: Delivery, failure: Failure) -> None:
        if delivery.elsewhere is None or not delivery.elsewhere.again(delivery):
            told = delivery.all(failure.outcome)
            self._house.settle(delivery, told, failure.relay, delivery.passed)
