"""Connections to places on the loopback: dialogues, TLS at each level, AUTH, all sockets."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mta.machine.answers import Tlsa
from mta.machine.places import SESSIONS_MAX
from mta.machine.smtp_connection import (
    BLOCK,
    ClientTerms,
    Connection,
    Contexts,
    Failure,
    Parcel,
    Place,
    TlsPolicy,
    TlsResult,
    connect,
)
from mta.machine.tls import Tls, server_context
from mta.smtp.data import unstuff
from mta.smtp.extensions import Transaction
from mta.smtp.states import CLOSED, LIMITS, READY, State
from mta.types import Mailbox, Outcome
from tests.certificates import Certified, make_ca, make_certificate
from tests.fakes import BODY, HOSTNAME, Dialogue, ScriptedServer, Sink, dialogues

NAME = "mx.example.net"
A, B = Mailbox("a", "example.test"), Mailbox("b", "example.net")


class Desk:
    """An Owner that does one message at a time."""

    def __init__(self, scale: float = 1.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.outcomes: list[Outcome] = []
        self.scale = scale
        self.next: asyncio.Future[bool] = self.loop.create_future()
        self._sweep()

    def _sweep(self) -> None:
        for connection in [c for c in self.connections if c.deadline < self.loop.time()]:
            connection.expire()
        self.timer = self.loop.call_later(0.01, self._sweep)

    def limit(self, state: State) -> float:
        return LIMITS[state] * self.scale

    def ready(self, connection: Connection) -> None:
        self._tell(True)

    def settled(self, connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
        self.outcomes += outcomes

    def gone(self, connection: Connection, outcome: Outcome | None) -> None:
        self._tell(False)

    def _tell(self, ready: bool) -> None:
        if not self.next.done():
            self.next.set_result(ready)

    async def deliver(self, connection: Connection, transaction: Transaction, body: bytes) -> bool:
        """Send one message; True if the connection is ready for the next."""
        self.next = self.loop.create_future()
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.flush()
            connection.start(Parcel(transaction, file.fileno()))
            return await asyncio.wait_for(self.next, 20)

    async def finish(self) -> None:
        """Wait until every socket is gone."""
        self.timer.cancel()
        async with asyncio.timeout(10):
            while self.connections:
                await asyncio.sleep(0.001)


class Pki:
    """Certificates of every fate, all for one name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = make_ca()
        self.anchor, _ = self.ca.write(folder, "ca")
        self.leaves: dict[str, Certified] = {
            "good": make_certificate([NAME], self.ca),
            "wild": make_certificate(["*.example.net"], self.ca),
            "expired": make_certificate([NAME], self.ca, days=-1),
            "other": make_certificate(["other.example.org"], self.ca),
            "self": make_certificate([NAME]),
            "stranger": make_certificate([NAME], make_ca("Other")),
        }
        self.contexts: dict[str, ssl.SSLContext] = {}
        for name, leaf in self.leaves.items():
            chain, key = leaf.write(folder, name)
            self.contexts[name] = server_context([chain], [key], "1.2")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


def place(port: int, level: str = "off", **policy: Any) -> Place:
    return Place(NAME, "127.0.0.1", port, TlsPolicy(level, **policy))


# tests/channels/test_smtp.py plays all others on sockets.
@pytest.mark.parametrize("dialogue", dialogues("client", special=True), ids=lambda d: d.name)
def test_o3_dialogue_on_a_socket(dialogue: Dialogue, pki: Pki) -> None:
    silent = any(step.octets == b"silence" for step in dialogue.steps if step.kind == "end")
    user, _, password = dialogue.option("auth").partition(":")

    async def talk() -> None:
        server = ScriptedServer(dialogue, tls=pki.contexts["good"])
        await server.start()
        desk = Desk(0.0005 if silent else 1.0)
        terms = ClientTerms(
            HOSTNAME,
            "lmtp" in dialogue.options,
            credentials=lambda place: (user, password) if user else None,
            contexts=Contexts(pki.anchor),
        )
        found = await connect(desk, terms, place(server.port, dialogue.option("tls") or "off"))
        waiting = list(dialogue.messages)
        ended = found.outcome if isinstance(found, Failure) else None
        while waiting and isinstance(found, Connection) and found.client.state == READY:
            transaction, body = waiting.pop(0)
            await desk.deliver(found, transaction, body)
        for transaction, _ in waiting if ended is not None else ():
            desk.outcomes += [ended] * len(transaction.recipients)
        if isinstance(found, Connection) and found.client.state == READY:
            found.quit()
        await server.stop()
        await desk.finish()
        assert server.mistakes == []
        assert len(desk.outcomes) == len(dialogue.outcomes)
        for expected, outcome in zip(dialogue.outcomes, desk.outcomes, strict=True):
            assert expected.fits(outcome), f"{outcome} is not {expected}"

    run(talk())


class TlsSink(Sink):
    """A Sink that offers STARTTLS, by our own Tls."""

    def __init__(self, made: list[Sink], context: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(made, **options)
        self._context = context
        self.tls: Tls | None = None
        self.wire: asyncio.Transport | None = None
        self._up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.wire = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.tls is None:
            super().data_received(data)
            return
        assert self.wire is not None
        self.tls.feed(data)
        try:
            self._up = self._up or self.tls.handshake()
            clear = self.tls.read() if self._up else b""
        except Exception:  # the client refuses us
            self.wire.close()
            return
        self.wire.write(self.tls.take())
        if clear:
            super().data_received(clear)

    def command(self, line: bytes) -> None:
        if line == b"STARTTLS":
            self.reply(b"220 go")
            if self._context is None:
                assert self.wire is not None
                self.wire.write(b"no TLS at all\r\n")
            else:
                self.tls = Tls(self._context, server_side=True)
        elif line.startswith(b"EHLO") and self.tls is None:
            self.reply(b"250-mx\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 STARTTLS")
        elif line.startswith(b"AUTH"):
            self.reply(b"235 ok")
        else:
            super().command(line)

    def reply(self, octets: bytes) -> None:
        if self.tls is None:
            super().reply(octets)
            return
        assert self.wire is not None
        self.tls.write(octets + b"\r\n")
        self.wire.write(self.tls.take())


class Bench:
    """A server on the loopback, and what is needed to connect to it."""

    def __init__(self, server: asyncio.Server, made: list[Sink], pki: Pki) -> None:
        self.port = server.sockets[0].getsockname()[1]
        self.made, self.pki = made, pki
        self.desk = Desk()
        self.contexts = Contexts(pki.anchor)

    async def connect(
        self, level: str, login: tuple[str, str] | None = None, **policy: Any
    ) -> Connection | Failure:
        terms = ClientTerms(HOSTNAME, credentials=lambda _: login, contexts=self.contexts)
        return await connect(self.desk, terms, place(self.port, level, **policy))

    async def send(self, found: Connection | Failure, body: bytes = BODY) -> None:
        assert isinstance(found, Connection), found
        assert await self.desk.deliver(found, Transaction(A, (B,), len(body)), body)
        found.quit()


def served(
    pki: Pki, made_by: Callable[[list[Sink]], Sink], test: Callable[[Bench], Coroutine]
) -> None:
    async def talk() -> None:
        made: list[Sink] = []
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: made_by(made), "127.0.0.1", 0)
        bench = Bench(server, made, pki)
        await test(bench)
        await bench.desk.finish()
        server.close()

    run(talk())


OK = ""
# certificate → what each level makes of it: RFC 8460's word, or OK
JUDGED = {
    "good": {"may": OK, "require": OK, "verify": OK},
    "wild": {"may": OK, "require": OK, "verify": OK},
    "expired": {"may": OK, "require": OK, "verify": "certificate-expired"},
    "other": {"may": OK, "require": OK, "verify": "certificate-host-mismatch"},
    "self": {"may": OK, "require": OK, "verify": "certificate-not-trusted"},
    "stranger": {"may": OK, "require": OK, "verify": "certificate-not-trusted"},
}


@pytest.mark.parametrize("level", ["may", "require", "verify"])
@pytest.mark.parametrize("certificate", sorted(JUDGED))
def test_o1_each_level_and_each_certificate(certificate: str, level: str, pki: Pki) -> None:
    result = JUDGED[certificate][level]

    async def talk(bench: Bench) -> None:
        found = await bench.connect(level)
        if result == OK:
            assert isinstance(found, Connection)
            reached = "verified" if level == "verify" else "encrypted"
            assert found.tls is not None
            assert found.tls == TlsResult("config", "", reached, "TLSv1.3", found.tls.cipher)
            assert found.tls.cipher
            assert found.client.verified == (level == "verify")
            await bench.send(found)
            assert bench.made[0].messages == [BODY]
        else:
            assert isinstance(found, Failure)
            assert found.tls == TlsResult("config", result)
            assert found.outcome.reply.status == "4.7.5"
            assert found.outcome.scope == "host"
            assert not any(sink.messages for sink in bench.made)
            assert [c[:4] for c in bench.made[0].commands] == [b"EHLO", b"STAR"]

    served(pki, lambda made: TlsSink(made, pki.contexts[certificate]), talk)


@pytest.mark.parametrize(
    ("names", "good"),
    [
        ((NAME,), True),
        (("x.example.net", "*.example.net"), True),
        (("other.example.org",), False),
    ],
)
def test_o1_verify_goes_by_the_names_of_the_policy(
    names: tuple[str, ...], good: bool, pki: Pki
) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect("verify", names=names, origin="sts")
        assert isinstance(found, Connection) == good
        assert found.tls is not None
        assert found.tls.origin == "sts"
        if isinstance(found, Connection):
            found.quit()

    served(pki, lambda made: TlsSink(made, pki.contexts["good"]), talk)


@pytest.mark.parametrize("level", ["may", "require", "verify", "dane"])
def test_o1_a_host_without_starttls(level: str, pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect(level)
        assert found.tls == TlsResult("config", "starttls-not-supported")
        if level == "may":
            await bench.send(found)
        else:
            assert isinstance(found, Failure)
            assert found.outcome.reply.status == "4.7.10"
        assert bool(bench.made[0].messages) == (level == "may")

    served(pki, Sink, talk)


@pytest.mark.parametrize("level", ["may", "require"])
def test_a_handshake_that_fails_may_be_left_out_if_tls_is_not_required(
    level: str, pki: Pki
) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect(level)
        assert isinstance(found, Failure)
        assert found.tls == TlsResult("config", "validation-failure")
        assert not bench.made[0].messages

    class Late(TlsSink):
        def command(self, line: bytes) -> None:
            if line == b"STARTTLS":  # the go-ahead, and clear text some time later
                self.reply(b"220 go")
                loop = asyncio.get_running_loop()
                assert self.wire is not None
                loop.call_later(0.02, self.wire.write, b"250 no TLS at all, but octets\r\n")
            else:
                super().command(line)

        def data_received(self, data: bytes) -> None:
            if not data.startswith(b"\x16"):
                super().data_received(data)

    served(pki, lambda made: Late(made, None), talk)


@pytest.mark.parametrize("level", ["may", "require", "dane"])
def test_a_server_that_hangs_up_on_tls(level: str, pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect(level)
        assert isinstance(found, Failure)
        assert found.tls == TlsResult("config", "validation-failure")

    class Abrupt(TlsSink):
        def data_received(self, data: bytes) -> None:
            if data.startswith(b"\x16"):
                self.close()
            else:
                super().data_received(data)

    served(pki, lambda made: Abrupt(made, pki.contexts["good"]), talk)


def test_o3_giving_up_in_the_middle_leaves_no_socket(pki: Pki) -> None:
    class Slow(Sink):
        def command(self, line: bytes) -> None:
            pass

    async def talk(bench: Bench) -> None:
        task = asyncio.create_task(bench.connect("may"))
        while not (bench.made and bench.made[0].commands):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    served(pki, Slow, talk)


def test_o1_octets_behind_the_go_ahead_are_refused(pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect("may")
        assert isinstance(found, Failure)
        assert found.tls is not None
        assert found.tls.result == "validation-failure"

    served(pki, lambda made: TlsSink(made, None), talk)


def tlsa_of(leaf: Certified) -> Tlsa:
    import hashlib

    from cryptography.hazmat.primitives import serialization

    key = leaf.certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Tlsa(3, 1, 1, hashlib.sha256(key).digest())


def test_o1_dane_takes_what_the_record_says_and_never_resumes(pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        for _ in range(2):
            good = await bench.connect("dane", tlsa=(tlsa_of(pki.leaves["self"]),), origin="dane")
            assert isinstance(good, Connection), good
            assert good.tls is not None
            assert good.tls.level == "verified"
            await bench.send(good)
        bad = await bench.connect("dane", tlsa=(tlsa_of(pki.leaves["good"]),), origin="dane")
        assert isinstance(bad, Failure)
        assert bad.tls is not None
        assert bad.tls.result
        none = await bench.connect("dane", origin="dane")
        assert isinstance(none, Failure)
        assert none.tls == TlsResult("dane", "dane-required")
        facts = [sink.tls.facts() for sink in bench.made if isinstance(sink, TlsSink) and sink.tls]
        assert not any(fact.resumed for fact in facts)
        assert {fact.server_name for fact in facts} == {NAME}

    served(pki, lambda made: TlsSink(made, pki.contexts["self"]), talk)


@pytest.mark.parametrize("level", ["may", "verify"])
def test_a_session_is_resumed_at_the_same_place_under_the_same_policy(level: str, pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        for _ in range(2):
            await bench.send(await bench.connect(level))
        await bench.send(await bench.connect("require"))
        resumed = [s.tls.facts().resumed for s in bench.made if isinstance(s, TlsSink) and s.tls]
        assert resumed == [False, True, False]

    served(pki, lambda made: TlsSink(made, pki.contexts["good"]), talk)


def test_a_large_body_goes_under_tls_as_it_is(pki: Pki) -> None:
    body = b"".join([b".%d\r\n" % number for number in range(BLOCK // 2)])

    async def talk(bench: Bench) -> None:
        await bench.send(await bench.connect("may"), body)
        sent = bench.made[0].messages[0]
        assert unstuff(sent + b".\r\n") == body

    served(pki, lambda made: TlsSink(made, pki.contexts["good"]), talk)


@pytest.mark.parametrize(("level", "near", "sent"), [("off", False, False), ("may", False, True)])
def test_o2_credentials_go_under_tls_only(
    level: str, near: bool, sent: bool, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "near", near)

    async def talk(bench: Bench) -> None:
        found = await bench.connect(level, ("joe", "secret"))
        assert isinstance(found, Connection) == sent
        verbs = [line[:4] for line in bench.made[0].commands]
        assert (b"AUTH" in verbs) == sent
        if isinstance(found, Failure):
            assert found.outcome.reply.status == "4.7.11"
        else:
            found.quit()

    class Under(TlsSink):
        def command(self, line: bytes) -> None:
            if line.startswith(b"EHLO") and self.tls is not None:
                self.reply(b"250-mx\r\n250 AUTH PLAIN")
            else:
                super().command(line)

    served(pki, lambda made: Under(made, pki.contexts["good"]), talk)


@pytest.mark.parametrize(
    ("login", "text"),
    [(("joe", ""), "credentials"), (("joe", "x\0y"), "credentials"), (("joe", "s"), "X-OWN")],
)
def test_credentials_that_cannot_be_used(login: tuple[str, str], text: str, pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect("off", login)
        assert isinstance(found, Failure)
        assert text in found.outcome.reply.text
        assert found.outcome.scope == "host"

    served(pki, lambda made: Sink(made, (b"AUTH X-OWN",)), talk)


def test_anchors_that_cannot_be_read_defer(pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        bench.contexts = Contexts(str(pki.folder / "absent.pem"))
        found = await bench.connect("verify")
        assert isinstance(found, Failure)
        assert found.outcome.reply.status == "4.3.5"
        assert "absent.pem" in found.outcome.reply.text

    served(pki, lambda made: TlsSink(made, pki.contexts["good"]), talk)


def test_o3_a_silent_handshake_ends_in_time(pki: Pki) -> None:
    class Mute(TlsSink):
        def data_received(self, data: bytes) -> None:
            if not data.startswith(b"\x16"):
                super().data_received(data)

    async def talk(bench: Bench) -> None:
        bench.desk.scale = 0.0005
        found = await bench.connect("require")
        assert isinstance(found, Failure)
        assert "timed out" in found.outcome.reply.text

    served(pki, lambda made: Mute(made, pki.contexts["good"]), talk)


def test_close_notify_is_the_end_of_the_connection(pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        found = await bench.connect("may")
        assert isinstance(found, Connection)
        sink = bench.made[0]
        assert isinstance(sink, TlsSink)
        assert sink.tls is not None
        assert sink.wire is not None
        sink.tls.close()
        sink.wire.write(sink.tls.take() + b"250 in clear behind it\r\n")
        while found.client.state != CLOSED:
            await asyncio.sleep(0.001)

    served(pki, lambda made: TlsSink(made, pki.contexts["good"]), talk)


@contextmanager
def short_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        yield folder


def test_a_socket_in_the_file_system(pki: Pki) -> None:
    async def talk(path: str) -> None:
        made: list[Sink] = []
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: TlsSink(made, pki.contexts["good"]), path
        )
        desk = Desk()
        here = Place("unix:" + path, "unix:" + path, 0)
        found = await connect(desk, ClientTerms(HOSTNAME), here)
        assert isinstance(found, Connection)
        assert found.relay == f"localhost[{path}]"
        assert found.tls is None
        assert await desk.deliver(found, Transaction(A, (B,), len(BODY)), BODY)
        found.quit()
        await desk.finish()
        server.close()
        assert made[0].messages == [BODY]
        gone = await connect(Desk(), ClientTerms(HOSTNAME), Place("x", "unix:/absent", 0))
        assert isinstance(gone, Failure)
        assert "No such file" in gone.outcome.reply.text

    with short_folder() as folder:
        run(talk(folder + "/s"))


def test_sources_take_turns_within_their_family(pki: Pki) -> None:
    async def talk(bench: Bench) -> None:
        sources = ("127.0.0.2", "::1", "127.0.0.3")
        terms = ClientTerms(HOSTNAME, sources=sources, contexts=bench.contexts)
        for _ in range(4):
            found = await connect(bench.desk, terms, place(bench.port))
            assert isinstance(found, Connection)
            found.quit()
        peers = [sink.transport.get_extra_info("peername")[0] for sink in bench.made]
        assert sorted(peers) == ["127.0.0.2"] * 2 + ["127.0.0.3"] * 2
        odd = ClientTerms(HOSTNAME, sources=("192.0.2.77",), contexts=bench.contexts)
        refused = await connect(bench.desk, odd, place(bench.port))
        assert isinstance(refused, Failure)
        assert refused.outcome.reply.status == "4.4.1"

    served(pki, Sink, talk)


def test_contexts_and_sessions_are_bounded_and_shared(pki: Pki) -> None:
    contexts = Contexts(pki.anchor)
    assert contexts.context(True) is contexts.context(True)
    assert contexts.context(True) is not contexts.context(False)
    for port in range(1, SESSIONS_MAX + 10):
        contexts.keep(place(port), object())  # type: ignore[arg-type]
    assert contexts.session(place(1)) is None
    assert contexts.session(place(SESSIONS_MAX)) is not None
    assert contexts.session(place(SESSIONS_MAX, "may")) is None
    contexts.keep(place(SESSIONS_MAX), None)
    assert contexts.session(place(SESSIONS_MAX)) is None


@pytest.mark.parametrize(
    ("address", "near"),
    [
        *(("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("192.0.2.1", False)),
        *(("fe80::1%eth0", False), ("unix:/run/lmtp", True), ("2001:db8::1", False)),
    ],
)
def test_near(address: str, near: bool) -> None:
    assert Place("x", address, 25).near is near
