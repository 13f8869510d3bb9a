"""Connections that come in: asyncio's transports below, a session of SMTP above.

A Connection moves octets between a transport and a Session, through TLS where
that is on, and after the PROXY header where one is due.  It knows nothing of
mail.  All connections of a process read into one buffer: what was read is taken
out of it before the next read.

Source   PROXY: haproxy.org proxy-protocol, s2.1 and s2.2; RFC 8446 s6.1 (a
         close_notify ends the session; what follows is not read).
Units    Times are float seconds on the monotonic clock.
State    One connection.  ``waiting_since`` is when its peer stopped taking what we
         write, or when we ended it, 0.0 if neither: whoever owns it watches that.

Invariants, each a test in tests/smtpd/test_service.py
    SV1  While a session holds, no octet is read; nor while the peer reads nothing.
    SV2  After close() no octet reaches the session.
    SV3  Clear octets that came before a TLS handshake are never taken for ones inside.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, cast

from mta.machine.tls import Tls, TlsError
from mta.smtp import proxy
from mta.values import frozen

if TYPE_CHECKING:
    import ssl

    from mta.machine.tls import TlsFacts

__all__ = ["Connection", "Owner", "Peer", "Port", "Session"]

READ = 1 << 17  # octets of the shared buffer
WRITE_HIGH = 1 << 16  # octets that may wait for a peer to read them before we read no more
LINGER = 5.0  # seconds that a peer whom we refused has to read why
_view = memoryview(bytearray(READ))  # of all connections: one event loop a process


@frozen
class Port:
    """What a listening socket serves: its ``service``, behind a PROXY header, TLS at once."""

    service: str
    proxy: bool
    implicit: bool


@frozen
class Peer:
    """Who connects; both empty on a Unix socket."""

    address: str
    port: int


class Session(Protocol):
    """What a connection carries; its calls return at once."""

    def received(self, octets: bytes) -> None:
        """Take what the client sent."""

    def secured(self, facts: TlsFacts) -> None:
        """Take in that the TLS handshake is complete."""

    def ended(self) -> None:
        """Take in that the client sends no more; it may still read."""

    def lost(self, reason: str) -> None:
        """Take in that the connection is gone."""


class Owner(Protocol):
    """Who decides over new connections."""

    def came(self, connection: Connection) -> None:
        """Note a connection that has begun; gone() will follow."""

    def gone(self, connection: Connection) -> None:
        """Forget a connection."""

    def trusts_proxy(self, address: str) -> bool:
        """Tell whether a PROXY header from ``address`` counts."""

    def admit(self, connection: Connection, peer: Peer) -> Session | None:
        """Return the session of a new connection; None if it was refused, and closed."""

    def tls_context(self) -> ssl.SSLContext:
        """Return the context of a session that begins now."""


class Connection(asyncio.BufferedProtocol):
    """One connection; make it with a listener's Port as the loop's protocol factory."""

    __slots__ = (
        "_early", "_held", "_owner", "_shaken", "_tls", "_transport", "closing",
        "ended", "port", "session", "since", "waiting_since",
    )  # fmt: skip

    def __init__(self, owner: Owner, port: Port) -> None:
        """Belong to ``owner``, as a client of ``port``."""
        self.port = port
        self.session: Session | None = None
        self.since = time.monotonic()
        self.waiting_since = 0.0
        self.closing = False
        self.ended = False  # the peer sends no more
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._tls: Tls | None = None
        self._shaken = False
        self._held = False
        self._early = b""  # of a PROXY header that is not whole

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: admit the client, unless its address is yet to come."""
        self._transport = transport = cast("asyncio.Transport", transport)  # or uvloop's own kind
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._owner.came(self)
        if not self.port.proxy:
            self._admit(self.peer())
        elif not self._owner.trusts_proxy(self.peer().address):
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read into."""
        return _view

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        octets = bytes(_view[:nbytes])
        if self.closing:
            return
        if self._tls is not None:
            self._encrypted(octets)
        elif self.session is not None:
            self.session.received(octets)
        else:
            self._proxied(octets)

    def eof_received(self) -> bool:
        """Keep the way back open until the session has said what it must."""
        self.ended = True
        if self.closing or self.session is None:
            return False
        if self._tls is not None:  # cut off without close_notify: nothing more can be trusted
            return False
        self.session.ended()
        return True

    def pause_writing(self) -> None:
        """Read no more from a peer that does not read our replies."""
        if not self.waiting_since:
            self.waiting_since = time.monotonic()
        if not self._held:
            self._pause()

    def resume_writing(self) -> None:
        """Go on."""
        if not self.closing:
            self.waiting_since = 0.0
            if not self._held:
                self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._owner.gone(self)
        self._transport = None
        session, self.session = self.session, None
        self._tls = None
        if session is not None:
            session.lost("closed by the client" if exc is None else (str(exc) or "lost"))

    # What the session calls.

    def peer(self) -> Peer:
        """Return the other end of the connection as the system names it."""
        assert self._transport is not None
        there = self._transport.get_extra_info("peername")
        return Peer(there[0], there[1]) if isinstance(there, tuple) else Peer("", 0)

    @property
    def local(self) -> str:
        """The address of our end, "" for a Unix socket."""
        here = self._transport.get_extra_info("sockname") if self._transport else None
        return str(here[0]) if isinstance(here, tuple) else ""

    def send(self, octets: bytes) -> None:
        """Send ``octets``; nothing once the connection is over."""
        if self._transport is None or self.closing:
            return
        if self._tls is not None:
            try:
                self._tls.write(octets)
            except TlsError:
                self.abort()
                return
            octets = self._tls.take()
        self._transport.write(octets)

    def hold(self) -> None:
        """Read nothing until go_on(): an answer is due that is not known yet."""
        if not self._held:
            self._held = True
            if not self.waiting_since:
                self._pause()

    def go_on(self) -> None:
        """Read again."""
        if self._held:
            self._held = False
            if not self.waiting_since:
                self._resume()

    def start_tls(self) -> None:
        """Begin TLS as its server: every octet from now on belongs to the handshake."""
        self._tls = Tls(self._owner.tls_context(), server_side=True)

    def close(self, linger: bool = False) -> None:
        """End the connection once all is sent.

        With ``linger`` what the peer still sends is thrown away for a while: to
        close at once would reset the connection and take our last reply with it.
        """
        transport = self._transport
        if transport is None or self.closing:
            return
        if self._tls is not None and self._shaken:
            self._tls.close()
            transport.write(self._tls.take())
        self.closing = True
        self.waiting_since = time.monotonic()
        if not linger or self.ended or transport.is_closing():
            transport.close()
            return
        self._resume()
        try:
            transport.write_eof()
        except (OSError, NotImplementedError, RuntimeError):
            transport.close()

    def abort(self) -> None:
        """End the connection now, whatever is unsent."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def overdue(self, now: float, limit: float) -> bool:
        """Whether a peer has not read what we sent for ``limit``, or LINGER if we ended it."""
        since = self.waiting_since
        return since > 0.0 and now - since >= (min(limit, LINGER) if self.closing else limit)

    @property
    def unfinished(self) -> bool:
        """Whether a PROXY header or a TLS handshake is yet to be completed."""
        return self.session is None or (self._tls is not None and not self._shaken)

    def _pause(self) -> None:
        if self._transport is not None:
            try:
                self._transport.pause_reading()
            except RuntimeError:  # it is closing
                pass

    def _resume(self) -> None:
        if self._transport is not None:
            try:
                self._transport.resume_reading()
            except RuntimeError:
                pass

    def _admit(self, peer: Peer) -> None:
        self.session = self._owner.admit(self, peer)
        if self.session is not None and self.port.implicit:
            self.start_tls()

    def _proxied(self, octets: bytes) -> None:
        """Take a PROXY header; what follows it is the client's own."""
        self._early += octets
        try:
            found = proxy.parse(self._early)
        except ValueError:
            self.abort()
            return
        if found is None:
            return
        header, used = found
        rest, self._early = self._early[used:], b""
        # Whom a proxy does not name has no address, and no rights: not the proxy's.
        self._admit(Peer(header.source, header.source_port))
        if rest and self.session is not None:
            if self._tls is not None:
                self._encrypted(rest)
            else:
                self.session.received(rest)

    def _encrypted(self, wire: bytes) -> None:
        tls, session = self._tls, self.session
        assert tls is not None
        assert session is not None
        tls.feed(wire)
        try:
            if not self._shaken and not self._shake(tls, session):
                return
            clear = tls.read()
        except TlsError as error:
            self._failed(tls, str(error))
            return
        if clear:
            session.received(clear)
        if self._transport is None or self.closing:
            return
        if (out := tls.take()) != b"":
            self._transport.write(out)
        if tls.ended and not self.ended:
            self.ended = True
            session.ended()

    def _shake(self, tls: Tls, session: Session) -> bool:
        done = tls.handshake()
        if (out := tls.take()) != b"" and self._transport is not None:
            self._transport.write(out)
        if done:
            self._shaken = True
            session.secured(tls.facts())
        return done

    def _failed(self, tls: Tls, reason: str) -> None:
        """Send the alert that says why, and let the session go."""
        if self._transport is not None:
            self._transport.write(tls.take())
            self.closing = True
            self.waiting_since = time.monotonic()
            self._transport.close()
        session, self.session = self.session, None
        if session is not None:
            session.lost(f"TLS: {reason}")
