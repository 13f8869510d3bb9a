"""A worker: one process with one event loop that serves the sockets it is given.

Everything that takes time is a callback or a task of the loop; the only thread
is the one that syncs.  One sweep a second watches over all clients' deadlines.

Units    Times are float seconds on the monotonic clock.
State    A hall; lost when the process ends, and with it what was not committed.

Invariants, each a test in tests/smtpd/test_worker.py
    WK1  A worker that is told to stop answers 421 4.3.2 to idle clients, lets
         transactions end within its patience, and then drops what is left without a 250.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mta.config.queues import paths
from mta.errors import ConfigError
from mta.machine.accepting import Accepting
from mta.machine.authenticate import Authenticator
from mta.machine.listen import BACKLOG, raise_descriptors
from mta.machine.log import Log
from mta.machine.net import parse_endpoint
from mta.machine.process import set_title
from mta.machine.resolve import Resolver
from mta.machine.smtp_service import Connection, Port
from mta.machine.tls import Certificates
from mta.smtpd.hall import Hall
from mta.spool.spool import Spool

if TYPE_CHECKING:
    import socket
    from asyncio import AbstractEventLoop
    from typing import Any

    from mta.config.model import Config
    from mta.smtpd.counters import Counters
    from mta.spool.journal import Writer

__all__ = ["PATIENCE", "Worker"]

PATIENCE = 10.0  # seconds that transactions have to end once we are told to stop
_TICK = 1.0
_DRAINED = 0.05  # how often we look whether all have gone


class Worker:
    """One worker's life: open(), then run() until stop()."""

    def __init__(self, config: Config, counters: Counters, log: Log, title: str = "") -> None:
        """Serve by ``config``; ``title`` names the process."""
        self._config = config
        self._counters = counters
        self._log = log
        self._title = title
        self._shown = ""
        self._until = 0.0  # when those who have been told to stop are dropped
        self._stopping = asyncio.Event()
        self._servers: list[asyncio.Server | Accepting] = []
        self._certificates: Certificates | None = None
        self._authenticator: Authenticator | None = None
        self._greeting: asyncio.Task[None] | None = None  # of Dovecot
        self._writer: Writer | None = None
        self.hall: Hall

    async def read_secrets(self) -> None:
        """Read certificates and passwords, which only root may be able to; ConfigError if wrong."""
        tls, auth = self._config.tls, self._config.auth
        if tls.certificates:
            self._certificates = Certificates(
                tls.certificates, tls.keys, tls.minimum, self._log.warning
            )
        if auth.passwords or auth.dovecot:
            self._authenticator = Authenticator(
                auth.passwords,
                auth.dovecot,
                auth.mechanisms,
                warn=self._log.warning,
                secret=self._counters.secret,
            )
            if auth.passwords:
                await self._authenticator.start()
            else:  # a Dovecot that is slow keeps nobody waiting but who logs in
                self._greeting = asyncio.create_task(self._authenticator.start())

    async def open(self, sockets: Sequence[tuple[socket.socket, Port]]) -> None:
        """Begin to serve ``sockets``.  SpoolError or ConfigError if that cannot be."""
        loop, config = asyncio.get_running_loop(), self._config
        descriptors = raise_descriptors()
        self._writer = Spool.open(config.spool).writer(paths(config))
        nameservers = tuple([parse_endpoint(text, 53) for text in config.nameservers])
        self.hall = Hall(
            config,
            self._counters,
            self._log,
            self._writer,
            certificates=self._certificates,
            authenticator=self._authenticator,
            resolver=Resolver(nameservers, config.trust_ad),
            descriptors=descriptors,
        )
        loop.set_exception_handler(self._defect)
        for sock, port in sockets:
            if port.implicit and self._certificates is None:
                raise ConfigError(f"{config.path}: service {port.service} needs tls.certificate")
            self._servers.append(await self._serve(loop, sock, port))
        self._show()

    async def _serve(self, loop: AbstractEventLoop, sock: socket.socket, port: Port) -> Any:
        hall = self.hall

        def connection() -> Connection:
            return Connection(hall, port)

        if self._config.limits.connection_throttle:
            return Accepting(sock, connection, self._leave)
        if isinstance(sock.getsockname(), tuple):
            return await loop.create_server(connection, sock=sock, backlog=BACKLOG)
        return await loop.create_unix_server(connection, sock=sock, backlog=BACKLOG)

    def _leave(self) -> float:
        """Return 0.0 if the throttle lets one connection more in, else how long it does not."""
        most = self.hall.config.limits.connection_throttle
        return self._counters.accept(most, time.monotonic()) if most else 0.0

    def stop(self, patience: float = PATIENCE) -> None:
        """Have run() end within ``patience`` seconds; a second call can only shorten that."""
        until = time.monotonic() + patience
        self._until = min(until, self._until) if self._stopping.is_set() else until
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stop(), and end in order."""
        while not self._stopping.is_set():
            self._tick()
            try:
                async with asyncio.timeout(_TICK):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        await self._drain()

    def _tick(self) -> None:
        now = time.monotonic()
        self.hall.sweep(now)
        self._log.maybe_flush(now)
        self._show()

    def _show(self) -> None:
        standing = str(self.hall.strain.standing)
        state = f"{standing}{': ' if standing else ''}{len(self.hall.connections)} clients"
        if self._title and state != self._shown:
            self._shown = state
            set_title(f"{self._title}: {state}")

    async def _drain(self) -> None:
        for server in self._servers:
            server.close()
        hall = self.hall
        hall.drain()
        looked = time.monotonic()
        while hall.connections and (now := time.monotonic()) < self._until:
            if now - looked >= _TICK:
                looked = now
                self._tick()
            await asyncio.sleep(_DRAINED)
        hall.abandon(busy=False)
        await hall.settle()  # who waits for a commit hears of it
        hall.abandon()
        if self._greeting is not None:
            self._greeting.cancel()
        if self._authenticator is not None:
            self._authenticator.close()
        if self._writer is not None:
            self._writer.close()
        self._log.flush()

    def _defect(self, _: AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what a callback of ours raised; its connection is gone, the others go on."""
        error = context.get("exception")
        if isinstance(error, ConnectionError):
            return
        if error is None:
            self._log.warning(str(context.get("message", "")))
        else:
            self.hall.defect(error)
