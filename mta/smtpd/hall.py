"""The hall: what all sessions of one worker share, and who is let in.

The configuration of a session is the hall's at that moment; when a file it
comes from changes, the hall takes a new one without asking anybody: aliases and
tables are seen by the next RCPT.  Addresses to listen on, workers and the user
are the master's, and wait for its SIGHUP.

Units    Times are float seconds on the monotonic clock.
State    Connections, the writer of the spool, caches of a bounded size.

Invariants, each a test in tests/smtpd/test_hall.py
    HL1  A client over a limit is refused at once, with the limit's reply, and a
         refused client is not counted among those that are served.
    HL2  A configuration with errors never replaces one without.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from mta.config.load import load_config
from mta.config.routing import max_recipients, router
from mta.errors import ConfigError, SpoolError
from mta.machine.tls import Certificates
from mta.machine.wake import wake_host, wake_intake
from mta.smtp.server_replies import Terms
from mta.smtpd import replies
from mta.smtpd.counters import CONNECTIONS
from mta.smtpd.letter import trouble
from mta.smtpd.policy import SUBMITS, Access, Rights, canonical
from mta.smtpd.session import Session
from mta.smtpd.space import Space
from mta.smtpd.strain import Strain
from mta.smtpd.trace import Stamp
from mta.spool.group import GroupWriter
from mta.types import Reply

if TYPE_CHECKING:
    import ssl

    from mta.config.model import Config
    from mta.machine.authenticate import Authenticator
    from mta.machine.log import Log
    from mta.machine.resolve import Resolver
    from mta.machine.smtp_service import Connection, Peer, Port
    from mta.route.router import Routed
    from mta.smtpd.counters import Counters, Key
    from mta.smtpd.transaction import Transaction
    from mta.spool.journal import Synced, Writer

__all__ = ["Hall"]

CONFIG_EVERY = 2.0
CLIENTS_MAX = 10_000
NAMES_MAX = 10_000
NAME_TTL = 60.0  # the resolver's own memory goes by the TTL; this one saves a task
FEW = 50  # connections that the automatic limit leaves any client
RESERVE = 64  # descriptors that are for the spool and the log, whoever comes


class Hall:
    """One worker's clients; it is the Owner of their connections."""

    def __init__(
        self,
        config: Config,
        counters: Counters,
        log: Log,
        writer: Writer,
        *,
        certificates: Certificates | None = None,
        authenticator: Authenticator | None = None,
        resolver: Resolver | None = None,
        descriptors: int = 0,
    ) -> None:
        """Serve by ``config``; without ``resolver`` no client has a name.

        ``descriptors``: how many this process may have; 0 or less is no matter.
        """
        # A client takes one descriptor, and one more while its large message comes.
        self._room = max(1, (descriptors - RESERVE) // 2) if descriptors > 0 else 0
        self.counters = counters
        self.log = log
        self.group = GroupWriter(writer, self._synced)
        self.authenticator = authenticator
        self.connections: set[Connection] = set()
        self.strain = Strain(counters, log)
        self.draining = False
        self._certificates = certificates
        self._resolver = resolver
        self._names: dict[str, tuple[float, str]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._stamp = Stamp()
        self._config_at = 0.0
        self._use(config)

    def _use(self, config: Config) -> None:
        self.config = config
        self.access = Access(config, router(config))
        self.space = Space(config.spool)
        self._most = max_recipients(config)
        self._authors = config.authors
        self.strain.use(config)
        self._terms: dict[tuple[object, ...], Terms] = {}
        self._clients: dict[tuple[str, str], tuple[str, Key, Rights]] = {}
        self._files = _files(config)
        self._stamps = _stamps(self._files)

    # What connections ask: see machine.smtp_service.Owner.

    def came(self, connection: Connection) -> None:
        """Note a connection."""
        self.connections.add(connection)

    def gone(self, connection: Connection) -> None:
        """Forget it."""
        self.connections.discard(connection)

    def trusts_proxy(self, address: str) -> bool:
        """Whether a PROXY header from ``address`` counts."""
        return self.access.trusts_proxy(address)

    def tls_context(self) -> ssl.SSLContext:
        """Return the certificates of now; only asked where TLS is offered."""
        assert self._certificates is not None
        return self._certificates.context()

    def admit(self, connection: Connection, peer: Peer) -> Session | None:
        """Let a client in, or tell it why not."""
        known = self._clients.get((connection.port.service, peer.address))
        address, key, rights = known or self._know(connection.port.service, peer.address)
        refusal = rights.refusal or self._refusal(key)
        if refusal is not None:
            self.log.rejected("CONNECT", f"unknown[{address or 'unix'}]", refusal)
            if not connection.port.implicit:  # else nobody could read it
                connection.send(f"{refusal}\r\n".encode("ascii", "replace"))
            connection.close(linger=not 0 < self._room < len(self.connections))
            return None
        session = Session(self, connection, address, key, rights)
        self.counters.enter(session.entered)
        self.log.connected(session.client)
        return session

    def _know(self, service: str, given: str) -> tuple[str, Key, Rights]:
        """Work out what a client's address gives it, and keep that for the next time."""
        if len(self._clients) >= CLIENTS_MAX:
            self._clients.clear()
        address = canonical(given)
        known = address, self.counters.key(address), self.access.rights(service, address)
        self._clients[service, given] = known
        return known

    def _refusal(self, key: Key) -> Reply | None:
        """Return why a client may not come in just now; counts its attempt."""
        limits, counters = self.config.limits, self.counters
        if self.draining:
            return replies.CLOSING
        if self.strain.refusing:
            return replies.LOAD
        total = counters.total()
        if total >= limits.connections or 0 < self._room < len(self.connections):
            return replies.BUSY
        most = limits.connections_per_client or max(FEW, (limits.connections - total) // 4)
        if counters.connections(key) >= most:
            return replies.TOO_MANY
        if limits.connection_rate:
            now = time.monotonic()
            over = counters.rate(key, CONNECTIONS, now) >= limits.connection_rate
            counters.add(key, CONNECTIONS, now)
            if over:
                return replies.CONNECTION_RATE
        return None

    # What sessions ask.

    def left(self, session: Session) -> None:
        """Count a session no more."""
        self.counters.leave(session.entered)

    def terms(self, port: Port, rights: Rights) -> Terms:
        """Return what the engine offers to a client of ``port``."""
        mechanisms: tuple[str, ...] = ()
        if port.service in SUBMITS and self.authenticator is not None and self.has_tls:
            mechanisms = self.authenticator.mechanisms
        key = (port.service, port.implicit, rights.xclient, mechanisms)
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = self._make_terms(port, rights, mechanisms)
        return found

    @property
    def has_tls(self) -> bool:
        """Whether there is a certificate to show."""
        return self._certificates is not None

    def _make_terms(self, port: Port, rights: Rights, mechanisms: tuple[str, ...]) -> Terms:
        limits, submits = self.config.limits, port.service in SUBMITS
        return Terms(
            hostname=self.config.hostname,
            service=port.service,
            message_size=limits.message_size,
            recipients=limits.recipients,
            command_line=limits.command_line,
            errors=limits.errors,
            tls=self.has_tls and not port.implicit,
            mechanisms=mechanisms,
            lenient=submits,
            etrn=port.service == "mx" and bool(self.config.relay_domains),
            xclient=rights.xclient,
            secured=port.implicit,
        )

    def known_name(self, address: str) -> str | None:
        """Return the name of a client, "" if it has none; None if somebody must be asked."""
        if not address or address == "::1" or address.startswith("127."):
            return "localhost"
        if self._resolver is None or not self.config.smtpd.reverse_dns:
            return ""
        until, name = self._names.get(address, (0.0, ""))
        return name if time.monotonic() < until else None

    async def look_up(self, address: str) -> str:
        """Ask for the name of a client, and remember it for a while; "" if none is found."""
        assert self._resolver is not None
        now = time.monotonic()
        name = await self._resolver.pointer(address, now)
        if len(self._names) >= NAMES_MAX:
            self._names = {a: kept for a, kept in self._names.items() if now < kept[0]}
        while len(self._names) >= NAMES_MAX:
            del self._names[next(iter(self._names))]
        self._names[address] = (now + NAME_TTL, name)
        return name

    def date(self) -> str:
        """Return the date of now for a header."""
        return self._stamp.date(time.time())

    def keep(self, task: asyncio.Task[object]) -> None:
        """Hold on to a task until it is done: the loop alone does not."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def commit(self, t: Transaction, origin: str) -> Reply:
        """Make a message durable; return what its client is told."""
        try:
            return replies.queued(await t.commit(self.group, self._most, self._authors, origin))
        except SpoolError as error:
            self.log.warning(str(error))
            return trouble(error)

    def left_out(self, routed: Routed) -> None:
        """Say which members of an alias get nothing."""
        for step in routed.left_out:
            self.log.warning(f"<{routed.mailbox}>: left out: {step.subject}: {step.detail}")

    def defect(self, error: BaseException) -> None:
        """Log a defect of ours, with the place where it showed."""
        where, trace = "", error.__traceback__
        while trace is not None:
            where = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
            trace = trace.tb_next
        self.log.warning(f"defect: {type(error).__name__}: {error}{where}")

    def wake_host(self, queue: str, host: str) -> bool:
        """Have what waits for ``host`` tried now; False if nobody serves its queue."""
        return wake_host(self.config.runtime, queue, host)

    # What the worker does.

    def sweep(self, now: float) -> None:
        """Cut off who is too slow; look at the load and the configuration now and then."""
        limits = self.config.limits
        self.access.forget()
        for connection in list(self.connections):
            if connection.overdue(now, limits.command_time):
                connection.abort()
            elif isinstance(connection.session, Session):
                connection.session.check(now)
            elif not connection.closing and now - connection.since >= limits.command_time:
                connection.abort()
        self.strain.tick(now)
        if now - self._config_at >= CONFIG_EVERY:
            self._config_at = now
            if _stamps(self._files) != self._stamps:
                self.keep(asyncio.get_running_loop().create_task(self.look_at_files()))

    async def look_at_files(self) -> None:
        """Read the configuration again, in a thread: nobody waits for it (HL2)."""
        self._stamps = _stamps(self._files)
        loop = asyncio.get_running_loop()
        try:
            config = await loop.run_in_executor(None, load_config, self.config.path)
        except ConfigError as error:
            self.log.warning(f"{error}; the configuration read before stays in use")
        else:
            stamps = self._stamps
            self._use(config)
            self._stamps = stamps  # what changed since then is looked at next time

    def drain(self) -> None:
        """Let nobody in, send the idle away, and let the others end their transactions."""
        self.draining = True
        for connection in list(self.connections):
            if isinstance(connection.session, Session):
                connection.session.drain()
            elif not connection.closing:
                connection.abort()

    def abandon(self, busy: bool = True) -> None:
        """Drop every connection, or those that await no answer of ours."""
        for connection in list(self.connections):
            session = connection.session
            if busy or not (isinstance(session, Session) and session.busy):
                connection.abort()

    async def settle(self) -> None:
        """Wait for the commits that are under way; nobody may be there to hear of them."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _synced(self, synced: list[Synced]) -> None:
        for one in synced:
            wake_intake(self.config.runtime, one.segment, one.offset)


def _files(config: Config) -> tuple[str, ...]:
    return (config.path, config.local.aliases, *[path for path, _ in config.tables])


def _stamps(files: tuple[str, ...]) -> list[tuple[int, int, int] | None]:
    """Return what tells one state of ``files`` from another."""
    stamps: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            status = os.stat(path) if path else None
        except OSError:
            status = None
        stamps.append(status and (status.st_mtime_ns, status.st_size, status.st_ino))
    return stamps
