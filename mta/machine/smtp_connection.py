"""A connection to an SMTP server: the engine of mta.smtp.client on an asyncio socket.

It moves octets, streams the body as the socket takes it, and knows until when
the server may be silent.  Whose connections these are, and what becomes of the
messages, is for its owner to say: the smtp channel program, and lmtp's to come.

Source   RFC 5321 s4.5.3.2 (time limits: LIMITS in mta/smtp/states.py).
Units    Deadlines are float seconds of the loop's monotonic clock.
State    One session, and the message under way: of its body at most BLOCK octets
         beyond what the socket has not taken.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.machine.net import Endpoint, attempt, reason
from mta.machine.resolve import Addresses
from mta.smtp.client import Client, Closed, Event, GoAhead, Ready, Settled
from mta.smtp.data import Stuffer
from mta.smtp.extensions import Transaction
from mta.smtp.states import BANNER, BODY, CLOSED, CONNECT, READY, State
from mta.types import HOST, MESSAGE, Outcome, Reply
from mta.values import frozen

__all__ = ["BLOCK", "Connection", "Failure", "Owner", "Parcel", "connect"]

BLOCK = 65536
BLOCKS_AT_ONCE = 8  # of one message, before other connections get their turn
ADDRESSES_MAX = 20
OPENING_SHARE = 1.2
_BUFFER = memoryview(bytearray(16384))  # a Protocol would allocate 256 KiB for each read


@frozen
class Parcel:
    """One message: its transaction, and a descriptor of exactly ``transaction.size`` octets."""

    transaction: Transaction
    body: int


class Owner(Protocol):
    """Who a connection belongs to, and hears from it."""

    loop: asyncio.AbstractEventLoop
    connections: set[Connection]  # kept by the connections: every one that has a socket

    def limit(self, state: State) -> float:
        """Return for how many seconds a connection may stay in ``state``."""

    def ready(self, connection: Connection) -> None:
        """The session is READY for start() or quit(); never before ``opened`` was told."""

    def settled(self, connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
        """The message under way is settled; ``connection.unheard`` if the server never saw it."""

    def gone(self, connection: Connection, outcome: Outcome | None) -> None:
        """The session has ended, for the reason ``outcome`` unless we ended it."""


class Connection(asyncio.BufferedProtocol):
    """One session with a server, and the message under way."""

    def __init__(self, owner: Owner, hostname: str, relay: str) -> None:
        """Be ``hostname`` to the server that the log will call ``relay``."""
        self.client = Client(hostname)
        self.relay = relay
        self.opened: asyncio.Future[Outcome | None] = owner.loop.create_future()
        self.deadline = 0.0
        self.born = 0.0
        self.served = 0  # messages that the server had an answer for
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parcel: Parcel | None = None
        self._stuffer = Stuffer()
        self._offset = 0
        self._paused = False

    @property
    def unheard(self) -> bool:
        """True if the session ended with no reply to the message, and had served others.

        It was closed just as we came, then: a fresh connection will tell.
        """
        client = self.client
        return self.served > 0 and client.state == CLOSED and not client.answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the banner."""
        self._transport = transport  # type: ignore[assignment]
        self.born = self._owner.loop.time()
        self._owner.connections.add(self)
        self._rest()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the one buffer of all connections: it is emptied before the next read."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the server said."""
        self.client.feed(bytes(_BUFFER[:nbytes]))
        self._run()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, by whose doing ever."""
        self._owner.connections.discard(self)
        self.client.lost(reason(error))
        self._run()

    def pause_writing(self) -> None:
        """The socket takes no more: neither do we."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with the body."""
        self._paused = False
        if self.client.state == BODY:
            self._pump()

    def start(self, parcel: Parcel) -> None:
        """Begin ``parcel``; only when the owner was told ready."""
        self._parcel = parcel
        try:
            self.client.begin(parcel.transaction)
        except RemoteProtocolError as error:
            self.client.broken(error)
        if self.client.state in (READY, CLOSED):  # settled already; not from inside our caller
            self._owner.loop.call_soon(self._run)
        else:
            self._rest()

    def quit(self) -> None:
        """End the session in good order; only when READY."""
        self.client.quit()
        self._rest()

    def expire(self) -> None:
        """Give the server up: its time has passed."""
        self.client.lost("timed out")
        self._run()

    def _run(self) -> None:
        """Act on what happened; begin the next thing only when all of it is known."""
        then: Callable[[], None] | None = None
        while (event := self._next()) is not None:
            if type(event) is Settled:
                self._settled(event.outcomes)
            elif type(event) is GoAhead:
                self._stuffer, self._offset = Stuffer(), 0
                then = self._pump
            elif type(event) is Ready:
                then = self._ready
            elif type(event) is Closed:
                self._closed(event.outcome)
                return
        self._rest()
        if then is not None:
            then()

    def _next(self) -> Event | None:
        try:
            return self.client.next_event()
        except RemoteProtocolError as error:
            self.client.broken(error)
            return self.client.next_event()

    def _rest(self) -> None:
        """Send what there is, and wait for the server as long as the state allows."""
        octets = self.client.take()
        if octets and self._transport is not None:
            self._transport.write(octets)
        owner = self._owner
        self.deadline = owner.loop.time() + owner.limit(self.client.state)

    def _ready(self) -> None:
        if self.opened.done():
            self._owner.ready(self)
        else:
            self.opened.set_result(None)

    def _settled(self, outcomes: tuple[Outcome, ...]) -> None:
        self._parcel = None
        if self.client.state != CLOSED:
            self.served += 1
        self._owner.settled(self, outcomes)

    def _closed(self, outcome: Outcome | None) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self.opened.done():
            self._owner.gone(self, outcome)
        else:
            self.opened.set_result(outcome)

    def _pump(self) -> None:
        """Send the body, a few blocks at a time, as fast as the socket takes them."""
        transport, parcel = self._transport, self._parcel
        if parcel is None or transport is None or self.client.state != BODY:
            return
        try:
            for _ in range(BLOCKS_AT_ONCE):
                if self._paused:
                    return
                block = os.pread(parcel.body, BLOCK, self._offset)
                self._offset += len(block)
                octets = self._stuffer.feed(block)
                last = len(block) < BLOCK
                if last:
                    octets += self._end(parcel.transaction.size)
                transport.write(octets)
                self._rest()
                if last:
                    return
        except (OSError, LocalProtocolError) as error:
            text = Reply.clean(f"cannot read the message: {error}")
            self.client.fail(Outcome(Reply(451, "4.3.0", text), MESSAGE))
            self._run()
            return
        self._owner.loop.call_soon(self._pump)

    def _end(self, size: int) -> bytes:
        """Return the end of the body; LocalProtocolError if it is not the body promised."""
        if self._offset != size:
            raise LocalProtocolError(f"{self._offset} octets instead of {size}")
        octets = self._stuffer.end()
        self.client.finish()
        return octets


@frozen
class Failure:
    """Why there is no connection, and the last place that was tried, "" if none."""

    outcome: Outcome
    relay: str


async def connect(
    owner: Owner,
    hostname: str,
    endpoints: Sequence[Endpoint],
    addresses: Callable[[str], Awaitable[Addresses]],
) -> Connection | Failure:
    """Try the endpoints and their addresses in order, until one is READY.

    At most ADDRESSES_MAX are tried, and no further one when OPENING_SHARE of
    the greeting's time limit is over: a few silent ones must not add up.
    """
    until = owner.loop.time() + OPENING_SHARE * owner.limit(BANNER)
    failure = Failure(Outcome(Reply(421, "4.4.4", "no address to connect to"), HOST), "")
    tried = 0
    for endpoint in endpoints:
        found = await addresses(endpoint.host)
        if found.trouble is not None:
            failure = Failure(found.trouble, "")
        for address in found.addresses:
            if tried and (tried >= ADDRESSES_MAX or owner.loop.time() > until):
                return failure
            tried += 1
            relay = endpoint.relay(address)
            connection = Connection(owner, hostname, relay)
            outcome = await _greet(connection, address, endpoint.port, owner.limit(CONNECT))
            if outcome is None:
                return connection
            failure = Failure(outcome, relay)
    return failure


async def _greet(connection: Connection, address: str, port: int, limit: float) -> Outcome | None:
    """Connect and wait until READY; return why not, or None."""
    try:
        await attempt(lambda: connection, address, port, limit)
    except OSError as error:
        text = Reply.clean(f"connect to {connection.relay}: {reason(error)}")
        return Outcome(Reply(421, "4.4.1", text), HOST)
    outcome = await connection.opened
    if outcome is None and connection.client.state != READY:
        return Outcome(Reply(421, "4.4.2", "connection lost after EHLO"), HOST)
    return outcome
