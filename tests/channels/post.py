"""A courier under test, and servers on the loopback for it: kind, TLS, LMTP, on any 127.0.0.x."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from mta.channel.records import AddressFact, Dispatch, TlsFact
from mta.machine.courier import Courier
from mta.machine.net import Endpoint
from mta.machine.outward import Settings
from mta.machine.resolve import Resolver
from mta.machine.site import Delivery
from mta.machine.targets import StsSource
from mta.smtp.extensions import Transaction
from mta.types import Mailbox, Outcome, Recipient, ReversePath
from tests.fakes import BODY as DEFAULT_BODY
from tests.fakes import HOSTNAME, Sink
from tests.nameserver import NameServer

A, B = Mailbox("a", "example.test"), Mailbox("b", "example.test")


class Post:
    """A courier under test, and what it settled."""

    def __init__(
        self,
        port: int,
        resolver: Resolver | None = None,
        policies: StsSource | None = None,
        **options: Any,
    ) -> None:
        self.settled: list[tuple[int, tuple[Outcome, ...], str]] = []
        self.passed: list[bool] = []
        self.tls: list[TlsFact] = []
        self.warned: list[str] = []
        self.addresses: list[AddressFact] = []
        self.tags = 0
        self._changed = asyncio.Event()
        given = {"hostname": HOSTNAME, "port": port, "per_host": 1, **options}
        self.courier = Courier(
            Settings(**given),
            resolver or Resolver(),
            self._settle,
            policies,
            self.tls.append,
            self.warned.append,
            self.addresses.append,
        )

    def _settle(
        self, delivery: Delivery, outcomes: tuple[Outcome, ...], relay: str, passed: bool
    ) -> None:
        delivery.body.close()
        self.settled.append((delivery.dispatch.tag, outcomes, relay))
        self.passed.append(passed)
        self._changed.set()

    def offer(
        self,
        body: bytes = DEFAULT_BODY,
        *,
        host: str = "127.0.0.1",
        next_hop: str = "",
        transaction: Transaction | None = None,
        size: int | None = None,
    ) -> None:
        wanted = transaction or Transaction(A, (B,))
        dsn = wanted.dsn or (("", ""),) * len(wanted.recipients)
        recipients = tuple(
            Recipient(i, box, "", None, *dsn[i]) for i, box in enumerate(wanted.recipients)
        )
        self.tags += 1
        octets = len(body) if size is None else size
        path: ReversePath = wanted.reverse_path
        flags = (wanted.eight_bit, wanted.smtputf8)
        needs = (wanted.ret, wanted.envid, wanted.requiretls, wanted.binary)
        job = Dispatch(
            self.tags, "ID", path, octets, 1.0, host, next_hop, *flags, recipients, *needs
        )
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the courier closes it
        file.write(body)
        file.flush()
        self.courier.offer(Delivery(job, file))

    async def send(self, count: int = 1, **offer: Any) -> None:
        """Offer ``count`` messages, one after the other."""
        for _ in range(count):
            self.offer(**offer)
            await self.wait()

    async def wait(self, count: int | None = None) -> None:
        async with asyncio.timeout(20):
            while len(self.settled) < (self.tags if count is None else count):
                self._changed.clear()
                await self._changed.wait()

    @property
    def outcomes(self) -> list[Outcome]:
        ordered = sorted(self.settled, key=lambda told: told[0])
        return [outcome for _, outcomes, _ in ordered for outcome in outcomes]

    @property
    def codes(self) -> list[int]:
        return [outcome.reply.code for outcome in self.outcomes]

    @property
    def relays(self) -> list[str]:
        return [relay for _, _, relay in self.settled]


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


async def listen(
    made: Callable[[], asyncio.BaseProtocol], host: str = "127.0.0.1", port: int = 0
) -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(made, host, port)
    return server, server.sockets[0].getsockname()[1]


def free_port(*hosts: str) -> int:
    """Return a port that is free on all ``hosts``."""
    for _ in range(50):
        port = 0
        with contextlib.ExitStack() as stack:
            try:
                for host in hosts or ("127.0.0.1",):
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    server = socket.create_server((host, port), family=family)
                    port = stack.enter_context(server).getsockname()[1]
            except OSError:
                continue
            return port
    raise OSError("no port is free everywhere")


class Hosts:
    """Sinks on several addresses at one port; ``sinks[address]`` has their connections."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.port = free_port(*addresses)
        self.sinks: dict[str, list[Sink]] = {address: [] for address in addresses}
        self._servers: dict[str, asyncio.Server] = {}

    async def start(self, *addresses: str, kind: Callable[..., Sink] = Sink, **how: Any) -> None:
        """Listen on ``addresses``, or on all; ``kind`` is made with ``how``."""
        for address in addresses or self.addresses:
            made = self.sinks[address]
            server, _ = await listen(lambda made=made: kind(made, **how), address, self.port)
            self._servers[address] = server

    async def stop(self, *addresses: str) -> None:
        for address in addresses or tuple(self._servers):
            self._servers.pop(address).close()

    def counts(self) -> dict[str, int]:
        """How many connections each address has had."""
        return {address: len(made) for address, made in self.sinks.items()}

    def messages(self) -> int:
        return sum(len(sink.messages) for made in self.sinks.values() for sink in made)


class TlsSink(Sink):
    """A Sink that offers STARTTLS with ``context``; ``spoilt``: it fails."""

    def __init__(
        self,
        made: list[Sink],
        context: ssl.SSLContext,
        keywords: Sequence[bytes] = (b"PIPELINING",),
        secured: Sequence[bytes] = (),
        spoilt: str = "",
    ) -> None:
        super().__init__(made, (*keywords, b"STARTTLS"))
        self.tls: ssl.SSLObject | None = None
        self._context = context
        self._secured = (*keywords, *secured)
        self._spoilt = spoilt
        self._stopped = False
        self._upgrade: asyncio.Task[None] | None = None
        self._early = b""

    def command(self, line: bytes) -> None:
        if line[:8].upper() != b"STARTTLS":
            super().command(line)
            return
        self.reply(b"220 2.0.0 go")
        if self._spoilt:
            self._stopped = True
        else:
            self._upgrade = asyncio.get_running_loop().create_task(self._secure())

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            if self._spoilt == "nonsense":
                self.reply(b"no TLS record at all, I fear")
            self.close()
        elif self._upgrade is None or self.tls is not None:
            super().data_received(data)
        else:
            self._early += data  # it came before start_tls() has told that it is done

    async def _secure(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, ssl.SSLError):
            self.transport = await loop.start_tls(
                self.transport, self, self._context, server_side=True
            )
        if self.transport is not None and self.transport.get_extra_info("ssl_object"):
            self.tls = self.transport.get_extra_info("ssl_object")
            self._keywords = self._secured
            self.data_received(self._early)


@contextlib.asynccontextmanager
async def names(zones: dict[str, Any], secure: Sequence[str] = ()) -> AsyncIterator[Asking]:
    """A name server with ``zones``, and a Resolver that asks it."""
    with NameServer(zones, secure=secure) as server:
        yield Asking((server.endpoint,), server)


class Asking(Resolver):
    """A Resolver that asks ``server``."""

    def __init__(self, nameservers: tuple[Endpoint, ...], server: NameServer) -> None:
        super().__init__(nameservers)
        self.server = server
