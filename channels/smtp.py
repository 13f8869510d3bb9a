"""smtp: hands messages to SMTP servers, many at once, with as few connections as serve.

Where a job goes is its *site*: the job's own next hop, else the channel's
relays, else the job's host.  A site that is not known to be alive gets one
probing connection, and all its jobs wait for what that one finds out; a site
that answers gets more connections, one for each success, up to per_host.  So
a silent host holds one connection, and every job of a dead one is answered at
the price of one attempt.  Connections are kept for the next message.

Source   smtp(8), channel(7); RFC 5321 s4.5.3.2 (time limits), s4.5.4.1, s5.1.
Units    Times are float seconds of the loop's monotonic clock.
State    The sites with their waiting jobs and connections; lost on exit, when
         deliver gives each unfinished job again.

Invariants, each a test in tests/channels/test_smtp.py
    P1   A site that is not alive has at most one connection being opened.
    P2   A site never has more than per_host connections.
    P3   Every delivery offered is settled once.
    P4   However long a body, the program does not grow with it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import BinaryIO

from mta.channel.records import Dispatch, Opening
from mta.errors import EX_OK, ConfigError, PosthouseError, exit_code
from mta.machine.conversation import ALL, AsyncConversation
from mta.machine.net import Endpoint, numeric, parse_endpoint
from mta.machine.resolve import Addresses, Resolver
from mta.machine.smtp_connection import Connection, Failure, Parcel, connect
from mta.machine.wire import defect
from mta.smtp.extensions import Transaction
from mta.smtp.states import CLOSED, LIMITS, QUIT, State
from mta.types import HOST, Outcome, Reply
from mta.values import frozen

__all__ = ["Courier", "Delivery", "Settings", "Site", "main", "settings"]

MEMORY = 5.0  # how long a site that failed answers for itself; deliver remembers longer
MESSAGES_MAX = 1000  # on one connection
AGE_MAX = 120.0
IDLE_MAX = 200  # connections kept for nobody in particular


@frozen
class Settings:
    """The channel's options, read."""

    hostname: str
    relays: tuple[Endpoint, ...] = ()
    port: int = 25
    per_host: int = 20
    nameservers: tuple[Endpoint, ...] = ()
    scale: float = 1.0  # of all time limits; tests make them short


def settings(opening: Opening) -> Settings:
    """Read the options that deliver sent; ConfigError names the one that is wrong."""
    port = int(_number(opening, "port", "25", 65535))
    nameservers = _places(opening, "nameserver", 53)
    if not all(numeric(place.host) for place in nameservers):
        raise ConfigError("option nameserver: a name server is given by its address")
    return Settings(
        opening.option("hostname", opening.hostname),
        _places(opening, "relay", port),
        port,
        int(_number(opening, "per_host", "20", 10_000)),
        nameservers,
        _number(opening, "timeout_scale", "1", 1000),
    )


def _number(opening: Opening, name: str, default: str, most: int) -> float:
    text = opening.option(name, default)
    try:
        number = float(text) if name == "timeout_scale" else int(text)
    except ValueError:
        number = 0
    if not 0 < number <= most:
        raise ConfigError(f"option {name}: {text!r} is not a number above 0 and up to {most}")
    return number


def _places(opening: Opening, name: str, port: int) -> tuple[Endpoint, ...]:
    try:
        return tuple([parse_endpoint(text, port) for text in opening.every(name)])
    except ValueError as error:
        raise ConfigError(f"option {name}: {error}") from None


class Delivery:
    """One job on its way, and its body."""

    def __init__(self, dispatch: Dispatch, body: BinaryIO) -> None:
        self.dispatch = dispatch
        self.body = body
        self.retried = False

    def parcel(self) -> Parcel:
        """Return what a connection must know of it."""
        job = self.dispatch
        mailboxes = tuple([recipient.mailbox for recipient in job.recipients])
        flags = (job.eight_bit, job.smtputf8)
        return Parcel(
            Transaction(job.reverse_path, mailboxes, job.size, *flags), self.body.fileno()
        )

    def all(self, outcome: Outcome) -> tuple[Outcome, ...]:
        """Return ``outcome`` for each recipient."""
        return (outcome,) * len(self.dispatch.recipients)


Settle = Callable[[Delivery, tuple[Outcome, ...], str], None]


class Site:
    """One place to connect to: its waiting jobs, its connections, and whether it is alive.

    It owns its Connections, and is their Owner.
    """

    def __init__(self, courier: Courier, endpoints: tuple[Endpoint, ...], fixed: bool) -> None:
        """``fixed``: the configuration named it, so that an unknown name is a mistake there."""
        self.endpoints = endpoints
        self.fixed = fixed
        self.loop = courier.loop
        self.connections = courier.connections
        self.waiting: deque[Delivery] = deque()
        self.live: dict[Connection, Delivery | None] = {}  # READY once, and not retired
        self.idle: list[Connection] = []  # those of them that have nothing to do
        self.opening = 0
        self.dead: Failure | None = None
        self._courier = courier
        self._per_host = courier.settings.per_host
        self._window = 1  # how many connections its successes have earned, up to per_host
        self._hold_until = 0.0  # no growth before: it refused one connection more
        self._dead_until = 0.0

    def limit(self, state: State) -> float:
        """Return for how many seconds a connection may stay in ``state``."""
        return self._courier.limits[state]

    def needed(self, now: float) -> bool:
        """False if nothing would be lost by forgetting this site."""
        return bool(self.waiting or self.live or self.opening or now < self._dead_until)

    def offer(self, delivery: Delivery) -> None:
        """Take ``delivery``; it is settled at once if this site is known to be dead."""
        if self.dead is not None and self.loop.time() < self._dead_until:
            self._courier.settle(delivery, delivery.all(self.dead.outcome), self.dead.relay)
        elif self.idle:
            connection = self.idle.pop()
            self._courier.idle.pop(connection)
            self._start(connection, delivery)
        else:
            self.waiting.append(delivery)
            self._grow()

    def ready(self, connection: Connection) -> None:
        """``connection`` waits for a message: give it one, or keep it for a while."""
        old = self.loop.time() - connection.born > AGE_MAX and connection.served > 0
        if old or connection.served >= MESSAGES_MAX or self._courier.ending:
            self.retire(connection)
        elif self.waiting:
            self._start(connection, self.waiting.popleft())
            self._grow()
        else:
            self.idle.append(connection)
            self._courier.rest(connection, self)

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
            self._window = min(self._window + 1, self._per_host)
        self._courier.settle(delivery, outcomes, connection.relay)

    def gone(self, connection: Connection, outcome: Outcome | None) -> None:
        """``connection`` has ended; if it never served anyone, that is the site's answer."""
        if connection not in self.live:
            return
        self._forget(connection)
        if outcome is not None and outcome.scope == HOST and not connection.served:
            self._failed(Failure(outcome, connection.relay))
        else:
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
        if self._courier.idle.pop(connection, None) is not None:
            self.idle.remove(connection)

    def _room(self) -> bool:
        """True if one more connection is to be opened now (P1, P2)."""
        if self.opening >= len(self.waiting) or self._courier.ending:
            return False
        if not self.live:
            return self.opening == 0
        within = self.opening + len(self.live) < self._window
        return within and self.loop.time() >= self._hold_until

    def _grow(self) -> None:
        while self._room():
            self.opening += 1
            self._courier.spawn(self._open())

    async def _open(self) -> None:
        """Open one connection more, or learn why that cannot be."""
        try:
            hostname = self._courier.settings.hostname
            found = await connect(self, hostname, self.endpoints, self._addresses)
        except Exception as error:  # a defect of ours must not leave jobs waiting for ever
            found = Failure(defect(error), "")
        self.opening -= 1
        if isinstance(found, Connection):
            self.live[found] = None
            self._window = min(self._window + 1, self._per_host)
            self.ready(found)
            self._grow()
        else:
            self._failed(found)

    async def _addresses(self, host: str) -> Addresses:
        """A name that does not exist fails its mail; one that we configured only defers it."""
        found = await self._courier.addresses(host)
        trouble = found.trouble
        if self.fixed and trouble is not None and trouble.reply.permanent:
            return Addresses((), Outcome(Reply(421, "4.4.4", trouble.reply.text), HOST))
        return found

    def _failed(self, failure: Failure) -> None:
        """A connection could not be had: back off, or answer all that wait with the reason."""
        until = self.loop.time() + MEMORY * self._courier.settings.scale
        if self.live or self.opening:
            self._window, self._hold_until = max(1, len(self.live)), until
            return
        self._window = 1
        self.dead, self._dead_until = failure, until
        while self.waiting:
            delivery = self.waiting.popleft()
            self._courier.settle(delivery, delivery.all(failure.outcome), failure.relay)


class Courier:
    """All sites of the program, and what they share."""

    def __init__(self, settings: Settings, resolver: Resolver, settle: Settle) -> None:
        """Deliver by ``settings`` in the running loop; ``settle`` hears of each delivery once."""
        self.settings = settings
        self.settle = settle
        self.loop = asyncio.get_running_loop()
        self.limits = {state: limit * settings.scale for state, limit in LIMITS.items()}
        self.connections: set[Connection] = set()  # every one that has a socket
        self.idle: dict[Connection, Site] = {}  # the longest idle first
        self.ending = False
        self._resolver = resolver
        self._sites: dict[str, Site] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep()

    def offer(self, delivery: Delivery) -> None:
        """Take ``delivery`` to its site."""
        try:
            site = self._site(delivery.dispatch)
        except ValueError as error:
            outcome = Outcome(Reply(451, "4.3.5", Reply.clean(f"next hop {error}")), HOST)
            self.settle(delivery, delivery.all(outcome), "")
        else:
            site.offer(delivery)

    def rest(self, connection: Connection, site: Site) -> None:
        """Keep ``connection`` of ``site``, which is idle, and let the longest idle go."""
        self.idle[connection] = site
        if len(self.idle) > IDLE_MAX:
            oldest = next(iter(self.idle))
            self.idle[oldest].retire(oldest)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` beside everything else."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def addresses(self, host: str) -> Addresses:
        """Return the addresses of ``host``; a numeric one asks nobody."""
        address = numeric(host)
        if address:
            return Addresses((address,))
        return await self._resolver.addresses(host, self.loop.time())

    async def close(self) -> None:
        """Quit all connections, which are idle by now, and wait for the servers' goodbye."""
        self.ending = True
        for connection, site in list(self.idle.items()):
            site.retire(connection)
        until = self.loop.time() + self.limits[QUIT]
        while (self.connections or self._tasks) and self.loop.time() < until:
            await asyncio.sleep(0.01)

    def _site(self, job: Dispatch) -> Site:
        """Return where ``job`` goes; ValueError if its next hop makes no sense."""
        port, relays = self.settings.port, self.settings.relays
        key = job.next_hop or ("" if relays else f"{job.host} {port}")
        site = self._sites.get(key)
        if site is None:
            if job.next_hop:
                endpoints: tuple[Endpoint, ...] = (parse_endpoint(job.next_hop, port),)
            else:
                endpoints = relays or (parse_endpoint(job.host, port),)
            site = self._sites[key] = Site(self, endpoints, bool(job.next_hop or relays))
        return site

    def _sweep(self) -> None:
        """Twice a second: whatever has waited too long, and sites that nobody needs."""
        now = self.loop.time()
        for connection in [c for c in self.connections if c.deadline < now]:
            site = self.idle.get(connection)
            if site is None:
                connection.expire()
            else:
                site.retire(connection)
        self._sites = {key: site for key, site in self._sites.items() if site.needed(now)}
        self.loop.call_later(min(0.5, max(0.01, self.settings.scale)), self._sweep)


async def serve() -> None:
    """Serve deliver on fd 0 until it ends the conversation and all jobs are done."""
    conversation = await AsyncConversation.open()
    options = settings(conversation.opening)
    empty = asyncio.Event()
    in_flight = 0

    def settle(delivery: Delivery, outcomes: tuple[Outcome, ...], relay: str) -> None:
        nonlocal in_flight
        tag, recipients = delivery.dispatch.tag, delivery.dispatch.recipients
        delivery.body.close()
        if outcomes.count(outcomes[0]) == len(outcomes):
            conversation.tell(tag, None, outcomes[0], relay)
        else:
            for recipient, outcome in zip(recipients, outcomes, strict=True):
                conversation.tell(tag, recipient.index, outcome, relay)
        conversation.done(tag)
        in_flight -= 1
        if not in_flight:
            empty.set()

    courier = Courier(options, Resolver(options.nameservers), settle)
    conversation.answer(ALL, int(conversation.opening.option("jobs", "1")))
    try:
        async for dispatch, body in conversation:
            in_flight += 1
            courier.offer(Delivery(dispatch, body))
        while in_flight:
            empty.clear()
            await empty.wait()
    finally:
        await courier.close()
        await conversation.close()


def main() -> int:
    """Run the channel program, on uvloop if it is there; return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: deliver has it too, and decides
    try:
        from uvloop import run  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        run = asyncio.run
    try:
        run(serve())
    except PosthouseError as error:
        print(f"smtp: {Reply.clean(str(error))}", file=sys.stderr)
        return exit_code(error)
    return EX_OK


if __name__ == "__main__":
    sys.exit(main())
