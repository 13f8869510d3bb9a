"""A connection to an SMTP or LMTP server: the engine of mta.smtp.client on an asyncio socket.

It moves octets, under TLS or not, streams the body as the socket takes it, and
knows until when the server may be silent.  How it is opened is for
smtp_connection.py; whose connections these are, and what becomes of the messages, is for its owner
to say: the smtp and lmtp channel programs.

Source   RFC 5321 s4.5.3.2 (time limits: LIMITS in mta/smtp/states.py).
Units    Deadlines are float seconds of the loop's monotonic clock.
State    One session, and the message under way: of its body at most BLOCK octets
         beyond what the socket has not taken.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.machine.net import reason
from mta.machine.places import TlsResult
from mta.machine.tls import Tls, TlsError
from mta.smtp.client import Client
from mta.smtp.client_events import Closed, Event, Exchange, GoAhead, Greeted, Ready, Settled, TlsGo
from mta.smtp.data import Raw, Stuffer
from mta.smtp.extensions import Transaction
from mta.smtp.states import BODY, CLOSED, GREETED, READY, State
from mta.types import HOST, MESSAGE, Outcome, Reply
from mta.values import frozen

__all__ = ["BLOCK", "Connection", "Owner", "Parcel"]

BLOCK = 131072
BLOCKS_AT_ONCE = 8  # of one message, before other connections get their turn
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
        """The session is READY for start() or quit(), after a message."""

    def settled(self, connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
        """The message under way is settled; ``connection.unheard`` if the server never saw it."""

    def gone(self, connection: Connection, outcome: Outcome | None) -> None:
        """The session has ended, for the reason ``outcome`` unless we ended it."""


# What one step of the opening came to: a greeting, a handshake (None), or why not.
_Heard = Greeted | TlsError | Outcome | None


class Connection(asyncio.BufferedProtocol):
    """One session with a server, and the message under way."""

    def __init__(self, owner: Owner, hostname: str, relay: str, *, lmtp: bool = False) -> None:
        """Be ``hostname`` to the server that the log will call ``relay``."""
        self.client = Client(hostname, lmtp=lmtp)
        self.relay = relay
        self.tls: TlsResult | None = None  # None: TLS was not asked for
        self.ended: Outcome | None = None  # why the session is CLOSED, unless we ended it
        self.deadline = 0.0
        self.born = 0.0
        self.served = 0  # messages that the server had an answer for
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Future[_Heard] | None = owner.loop.create_future()
        self._tls: Tls | None = None
        self._tls_next: Tls | None = None  # for when the server agrees
        self._encrypted = False  # is the handshake done?
        self._parcel: Parcel | None = None
        self._stuffer: Stuffer | Raw = Stuffer()
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
        octets = bytes(_BUFFER[:nbytes])
        if self._tls is None:
            self.client.feed(octets)
            self._run()
        else:
            self._decrypt(self._tls, octets)

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

    async def heard(self) -> Greeted | Outcome:
        """Wait for the server's next greeting, or for why there will be none."""
        heard = await self._hear()
        if isinstance(heard, Greeted | Outcome):
            return heard
        return Outcome(Reply(421, "4.4.2", "connection lost"), HOST)

    def starttls(self, tls: Tls) -> None:
        """Ask for TLS, by ``tls``; then wait for handshake()."""
        self._opening, self._tls_next = self._owner.loop.create_future(), tls
        self._command(self.client.starttls)

    async def handshake(self) -> _Heard:
        """Wait for the end of the handshake: None; or Greeted (refused), TlsError, Outcome."""
        return await self._hear()

    def secured(self, verified: bool) -> None:
        """Go on under TLS; then wait for heard()."""
        self._opening = self._owner.loop.create_future()
        self._command(lambda: self.client.secured(verified))

    def authenticate(self, exchange: Exchange) -> None:
        """Say who we are; then wait for heard()."""
        self._opening = self._owner.loop.create_future()
        self._command(lambda: self.client.authenticate(exchange))

    def proceed(self) -> None:
        """The opening is over: become READY, if the session still lives."""
        self._opening = None
        if self.client.state == GREETED:
            self.client.proceed()
            self.client.next_event()  # Ready, which the caller sees
        self._rest()

    def drop(self) -> None:
        """Give the session up, in good order if it can be."""
        self._opening = None
        if self.client.state in (GREETED, READY):
            self.client.quit()
            self._rest()
        else:
            self.client.fail(None)
            self._run()

    def start(self, parcel: Parcel) -> None:
        """Begin ``parcel``; only when the owner was told ready."""
        self._parcel = parcel
        try:
            self.client.begin(parcel.transaction, self._small(parcel))
        except RemoteProtocolError as error:
            self.client.broken(error)
        except (OSError, LocalProtocolError) as error:
            self._unreadable(error)
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
                self._stuffer, self._offset = Raw() if event.raw else Stuffer(), 0
                then = self._pump
            elif type(event) is Ready:
                then = self._ready
            elif type(event) is Closed:
                self._closed(event.outcome)
                return
            elif type(event) is Greeted:
                self._tell(event)
            elif type(event) is TlsGo:
                self._tls = self._tls_next
                then = self._shake
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
        if octets:
            self._write(octets)
        owner = self._owner
        self.deadline = owner.loop.time() + owner.limit(self.client.state)

    def _ready(self) -> None:
        self._owner.ready(self)

    def _write(self, octets: bytes) -> None:
        """Send ``octets``, under TLS if that is how it is."""
        if self._transport is None:
            return
        if self._tls is not None:
            try:
                self._tls.write(octets)
            except TlsError:
                self._transport.abort()  # connection_lost() says so
                return
            octets = self._tls.take()
        self._transport.write(octets)

    def _shake(self) -> None:
        """Begin the handshake."""
        if self._tls is not None:
            self._decrypt(self._tls, b"")

    def _decrypt(self, tls: Tls, wire: bytes) -> None:
        """Take ``wire`` from under TLS; during the handshake, go on with that."""
        clear, failed = b"", None
        shaken = self._encrypted
        try:
            tls.feed(wire)
            self._encrypted = shaken or tls.handshake()
            if self._encrypted:
                clear = tls.read()
        except TlsError as error:
            failed = error
        octets = tls.take()  # an alert, too
        if octets and self._transport is not None:
            self._transport.write(octets)
        if failed is not None:
            self._tell(failed)
            self.client.lost(f"TLS: {failed}")
        elif self._encrypted and not shaken:
            self._tell(None)
        if clear:
            self.client.feed(clear)
        if tls.ended:
            self._run()
            self.client.lost(reason(None))
        if clear or failed or tls.ended:
            self._run()

    async def _hear(self) -> _Heard:
        if self._opening is None:
            return None
        return await self._opening

    def _tell(self, what: _Heard) -> None:
        """Answer who waits in the opening; only the first thing counts."""
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(what)

    def _command(self, command: Callable[[], None]) -> None:
        """Give the engine a command of the opening."""
        try:
            command()
        except RemoteProtocolError as error:
            self.client.broken(error)
        self._run()

    def _small(self, parcel: Parcel) -> bytes | None:
        """Return the whole body if it may go out at once, None if it is to be streamed."""
        size = parcel.transaction.size
        if not self.client.extensions.chunking or size > BLOCK:
            return None
        body = os.pread(parcel.body, size + 1, 0)
        if len(body) != size:
            raise LocalProtocolError(f"{len(body)} octets instead of {size}")
        return body

    def _unreadable(self, error: OSError | LocalProtocolError) -> None:
        text = Reply.clean(f"cannot read the message: {error}")
        self.client.fail(Outcome(Reply(451, "4.3.0", text), MESSAGE))

    def _settled(self, outcomes: tuple[Outcome, ...]) -> None:
        self._parcel = None
        if self.client.state != CLOSED:
            self.served += 1
        self._owner.settled(self, outcomes)

    def _closed(self, outcome: Outcome | None) -> None:
        self.ended = outcome
        if self._transport is not None:
            if self._encrypted and self._tls is not None and not self._transport.is_closing():
                self._tls.close()
                self._transport.write(self._tls.take())
            self._transport.abort()
        if self._opening is not None:
            lost = Outcome(Reply(421, "4.4.2", "connection closed"), HOST)
            self._tell(outcome or lost)
        else:
            self._owner.gone(self, outcome)

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
                self._write(octets)
                self._rest()
                if last:
                    return
        except (OSError, LocalProtocolError) as error:
            self._unreadable(error)
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
