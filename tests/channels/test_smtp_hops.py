"""Relays by weight and health, log-ins, sources; jobs of many recipients, and what is passed on."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mta.channel.records import Avoid
from mta.machine import courier, site
from mta.machine import credentials as credentials_module
from mta.machine import relays as relays_module
from mta.machine.hops import Relay
from mta.machine.net import Endpoint
from mta.machine.places import TlsResult
from mta.machine.targets import Target
from mta.machine.tls import server_context
from mta.smtp.extensions import Transaction
from mta.types import HOST, MESSAGE, Mailbox, Outcome, Reply
from tests.certificates import make_certificate
from tests.channels.post import A, B, Hosts, Post, TlsSink, names, run
from tests.fakes import BODY, Sink

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def relays(port: int, *weighted: tuple[str, int]) -> tuple[Relay, ...]:
    return tuple(Relay(Endpoint(address, port), weight) for address, weight in weighted)


def carried(hosts: Hosts) -> dict[str, int]:
    return {a: sum(len(s.messages) for s in sinks) for a, sinks in hosts.sinks.items()}


def test_relays_get_mail_by_their_weights() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO, THREE)
        await hosts.start()
        weighted = relays(hosts.port, (ONE, 1), (TWO, 2), (THREE, 5))
        post = Post(25, relays=weighted)
        for number in range(80):
            post.offer(host=f"h{number}.test")
        await post.wait()
        assert carried(hosts) == {ONE: 10, TWO: 20, THREE: 50}
        assert hosts.counts() == {ONE: 1, TWO: 1, THREE: 1}

    run(talk())


def test_a_relay_named_twice_has_one_site_and_both_weights() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start()
        post = Post(25, relays=relays(hosts.port, (ONE, 1), (TWO, 1), (ONE, 2)))
        for _ in range(40):
            post.offer()
        await post.wait()
        assert hosts.counts() == {ONE: 1, TWO: 1}
        assert carried(hosts) == {ONE: 30, TWO: 10}

    run(talk())


def test_mail_for_a_dead_relay_goes_to_the_others() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO, THREE)
        await hosts.start(TWO, THREE)
        post = Post(25, relays=relays(hosts.port, (ONE, 10), (TWO, 1), (THREE, 1)))
        for _ in range(40):
            post.offer()
        await post.wait()
        assert post.codes == [250] * 40
        shares = carried(hosts)
        assert shares[TWO] == shares[THREE] == 20

    run(talk())


def test_a_relay_that_failed_is_probed_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays_module, "BACK_OFF", 0.05)
    monkeypatch.setattr(site, "MEMORY", 0.01)

    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start(TWO)
        post = Post(25, relays=relays(hosts.port, (ONE, 1), (TWO, 1)))
        await post.send(4)
        assert carried(hosts) == {ONE: 0, TWO: 4}
        await hosts.start(ONE)
        async with asyncio.timeout(10):
            while not carried(hosts)[ONE]:
                await post.send()
                await asyncio.sleep(0.01)
        before = carried(hosts)
        await post.send(10)
        after = carried(hosts)
        assert (after[ONE] - before[ONE], after[TWO] - before[TWO]) == (5, 5)
        assert set(post.codes) == {250}

    run(talk())


def test_when_no_relay_is_there_mail_is_deferred_at_the_price_of_one_attempt_each() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start(kind=Refusing)
        post = Post(25, relays=relays(hosts.port, (ONE, 3), (TWO, 1)))
        for _ in range(50):
            post.offer()
        await post.wait()
        for _ in range(5):
            post.offer()
        assert len(post.settled) == 55
        assert {(o.reply.status, o.scope) for o in post.outcomes} == {("4.3.2", HOST)}
        assert hosts.counts() == {ONE: 1, TWO: 1}

    run(talk())


def test_a_next_hop_goes_before_the_relays() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start()
        post = Post(25, relays=relays(hosts.port, (ONE, 1)))
        await post.send(next_hop=f"{TWO}:{hosts.port}")
        await post.send(next_hop="tls=off", host="a.test")
        await post.send(next_hop="tls=off", host="b.test")
        assert carried(hosts) == {ONE: 2, TWO: 1}
        assert hosts.counts() == {ONE: 1, TWO: 1}

    run(talk())


def test_next_hops_that_were_read_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "HOPS_MAX", 5)

    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        post = Post(hosts.port)
        for number in range(12):
            post.offer(next_hop=f"127.0.1.{number}")
            assert len(post.courier._hops) <= 5
        await post.wait()
        await post.send(next_hop=ONE)
        assert post.codes == [421] * 12 + [250]

    run(talk())


def test_sources_are_used_in_turn_and_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "MESSAGES_MAX", 1)
    seen: list[str] = []

    class Noting(Sink):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(transport.get_extra_info("peername")[0])
            super().connection_made(transport)

    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start(kind=Noting)
        sources = ("127.0.0.11", "2001:db8::1", "127.0.0.12", "127.0.0.13")
        post = Post(hosts.port, sources=sources)
        await post.send(9, next_hop=ONE)
        assert post.codes == [250] * 9
        assert Counter(seen) == {"127.0.0.11": 3, "127.0.0.12": 3, "127.0.0.13": 3}

    run(talk())


MANY = tuple(Mailbox(f"r{number}", "example.test") for number in range(10))


class Counted(Sink):
    """Takes ``most`` recipients with a message; how it says no to one more is ``refusal``."""

    def __init__(self, made: list[Sink], most: int, refusal: bytes, *keywords: bytes) -> None:
        super().__init__(made, (b"PIPELINING", *keywords))
        self.asked = 0
        self.kept: list[int] = []
        self._most, self._refusal = most, refusal

    def command(self, line: bytes) -> None:
        if line[:4] == b"MAIL":
            self.asked = 0
        elif line[:4] == b"RCPT":
            self.asked += 1
            if self.asked > self._most:
                self.reply(self._refusal)
                return
        elif line[:4] == b"DATA":
            self.kept.append(min(self.asked, self._most))
        super().command(line)


@pytest.mark.parametrize("refusal", [b"452 4.5.3 too many", b"552 too many recipients"])
@pytest.mark.parametrize("told", [True, False])
def test_a_job_of_many_recipients_goes_in_several_transactions(refusal: bytes, told: bool) -> None:
    made: list[Sink] = []

    async def talk() -> None:
        hosts = Hosts(ONE)
        keywords = (b"LIMITS RCPTMAX=4",) if told else ()
        server = await asyncio.get_running_loop().create_server(
            lambda: Counted(made, 4, refusal, *keywords), ONE, hosts.port
        )
        post = Post(hosts.port)
        post.offer(next_hop=ONE, transaction=Transaction(A, MANY))
        post.offer(next_hop=ONE)
        await post.wait()
        assert post.codes == [250] * 11
        (sink,) = made
        assert isinstance(sink, Counted)
        assert sorted(sink.kept) == [1, 2, 4, 4]
        boxes = [c for c in sink.commands if c.startswith(b"RCPT")]
        assert len(set(boxes)) == 11
        server.close()

    run(talk())


def test_whom_nobody_wants_alone_is_not_tried_for_ever() -> None:
    made: list[Sink] = []

    async def talk() -> None:
        hosts = Hosts(ONE)
        server = await asyncio.get_running_loop().create_server(
            lambda: Counted(made, 0, b"452 4.5.3 no more today"), ONE, hosts.port
        )
        post = Post(hosts.port)
        post.offer(next_hop=ONE, transaction=Transaction(A, MANY))
        await post.wait()
        assert post.codes == [452] * 10
        server.close()

    run(talk())


def test_a_connection_lost_between_two_transactions_loses_nobody() -> None:
    made: list[Sink] = []

    class OneOnly(Counted):
        def command(self, line: bytes) -> None:
            if line[:4] == b"MAIL" and self.messages:
                self.close()
            else:
                super().command(line)

    async def talk() -> None:
        hosts = Hosts(ONE)
        server = await asyncio.get_running_loop().create_server(
            lambda: OneOnly(made, 4, b"452 4.5.3 too many"), ONE, hosts.port
        )
        post = Post(hosts.port)
        post.offer(next_hop=ONE, transaction=Transaction(A, MANY))
        await post.wait()
        assert post.codes == [250] * 8 + [421] * 2
        assert sum(len(sink.messages) for sink in made) == 2
        server.close()

    run(talk())


@pytest.mark.parametrize("offered", [True, False])
def test_what_is_asked_of_dsns_is_passed_on_where_that_can_be(offered: bool) -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        keywords = (b"PIPELINING", b"DSN") if offered else (b"PIPELINING",)
        await hosts.start(kind=Sink, keywords=keywords)
        post = Post(hosts.port)
        wishes = (("SUCCESS,FAILURE", "rfc822;b+c@example.test"), ("NEVER", ""))
        wanted = Transaction(A, (B, A), len(BODY), ret="HDRS", envid="id=1", dsn=wishes)
        await post.send(next_hop=ONE, transaction=wanted)
        assert post.codes == [250, 250]
        assert post.passed == [offered]
        commands = hosts.sinks[ONE][0].commands
        mail = next(c for c in commands if c.startswith(b"MAIL"))
        assert mail.endswith(b"RET=HDRS ENVID=id+3D1") is offered
        rcpt = [c.partition(b"> ")[2] for c in commands if c.startswith(b"RCPT")]
        said = [b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bc@example.test", b"NOTIFY=NEVER"]
        assert rcpt == (said if offered else [b"", b""])

    run(talk())


class Login(TlsSink):
    """Wants AUTH PLAIN by ours, secret; counts those that came without."""

    def command(self, line: bytes) -> None:
        if line[:10] == b"AUTH PLAIN":
            said = base64.b64decode(line[11:])
            good = said == b"\0ours\0secret word"
            self.reply(b"235 2.7.0 in" if good else b"535 5.7.8 no")
        elif line[:4] == b"MAIL" and not any(c[:4] == b"AUTH" for c in self.commands):
            self.reply(b"530 5.7.0 who are you")
        else:
            super().command(line)


def file_of(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "credentials"
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def login(folder: Path) -> dict[str, Any]:
    chain, key = make_certificate(["hub.test"]).write(folder, "hub")
    context = server_context([chain], [key], "1.2")
    return {"kind": Login, "context": context, "secured": (b"AUTH PLAIN",)}


AUTH = {
    # the file's text and mode → code and status
    "right": ("{host} ours secret word\n", 0o600, 250, "2.0.0"),
    "right for this port": ("{host} x y\n{host}:{port} ours secret word\n", 0o640, 250, "2.0.0"),
    "wrong": ("{host} ours another\n", 0o600, 421, "4.7.8"),
    "of another host": ("other.test ours secret word\n", 0o600, 421, "4.7.0"),
    "for everybody to read": ("{host} ours secret word\n", 0o644, 421, "4.3.5"),
}


@pytest.mark.parametrize("case", AUTH)
def test_logging_in_at_a_smart_host(tmp_path: Path, case: str) -> None:
    text, mode, code, status = AUTH[case]

    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start(**login(tmp_path))
        path = file_of(tmp_path, text.format(host="hub.test", port=hosts.port), mode)
        async with names({"hub.test": {"A": [ONE]}}) as resolver:
            post = Post(25, resolver, credentials=path)
            await post.send(next_hop=f"hub.test:{hosts.port}")
            reply = post.outcomes[0].reply
            assert (reply.code, reply.status) == (code, status), reply
            if code == 421:
                assert post.outcomes[0].scope == HOST
            assert "secret" not in reply.text

    run(talk())


def test_a_password_that_changed_is_used_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "LOOK", 0.0)
    monkeypatch.setattr(site, "MEMORY", 0.0)

    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start(**login(tmp_path))
        path = file_of(tmp_path, f"{ONE} ours old\n")
        post = Post(25, credentials=path)
        await post.send(next_hop=f"{ONE}:{hosts.port}")
        file_of(tmp_path, f"{ONE} ours secret word\n")
        await post.send(next_hop=f"{ONE}:{hosts.port}")
        assert post.codes == [421, 250]

    run(talk())


def test_credentials_are_for_hosts_that_a_person_named(tmp_path: Path) -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start(**login(tmp_path))
        path = file_of(tmp_path, "hub.test ours secret word\nmx.test ours secret word\n")
        zones = {"mx.test": {"MX": ["10 hub.test."]}, "hub.test": {"A": [ONE]}}
        async with names(zones) as resolver:
            post = Post(hosts.port, resolver, credentials=path)
            await post.send(host="mx.test")
            assert post.codes == [530]
            assert not any(c[:4] == b"AUTH" for c in hosts.sinks[ONE][0].commands)

    run(talk())


class Refusing(Sink):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._made.append(self)
        transport.write(b"554 5.3.2 no\r\n")


def test_a_relay_that_failed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "MEMORY", 0.0)

    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start(ONE, kind=Refusing)
        await hosts.start(TWO)
        post = Post(25, relays=relays(hosts.port, (ONE, 5), (TWO, 1)))
        await post.send(8)
        assert post.codes == [250] * 8
        assert hosts.counts()[ONE] == 1

    run(talk())


def test_a_host_that_gives_up_in_a_job_of_many_gets_no_more_of_it() -> None:
    made: list[Sink] = []

    class Fainting(Counted):
        def command(self, line: bytes) -> None:
            if line[:4] == b"DATA":
                self.close()
            else:
                super().command(line)

    async def talk() -> None:
        hosts = Hosts(ONE)
        server = await asyncio.get_running_loop().create_server(
            lambda: Fainting(made, 4, b"452 4.5.3 too many"), ONE, hosts.port
        )
        post = Post(hosts.port)
        post.offer(next_hop=ONE, transaction=Transaction(A, MANY))
        await post.wait()
        assert post.codes == [421] * 10
        assert len(made) == 1
        server.close()

    run(talk())


def test_a_connection_carries_no_more_messages_than_the_server_said() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start(kind=Sink, keywords=(b"PIPELINING", b"LIMITS MAILMAX=2 X=1"))
        post = Post(hosts.port)
        for _ in range(6):
            post.offer(next_hop=ONE)
        await post.wait()
        assert [len(sink.messages) for sink in hosts.sinks[ONE]] == [2, 2, 2]

    run(talk())


def test_jobs_that_say_the_channels_own_level_go_the_channels_way() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start()
        post = Post(25, relays=relays(hosts.port, (ONE, 1), (TWO, 3)), tls="may")
        for number in range(40):
            post.offer(next_hop="tls=may" if number % 2 else "")
        await post.wait()
        assert len(set(map(id, post.courier._ways.values()))) == 1  # one pool hears of health
        assert carried(hosts) == {ONE: 10, TWO: 30}

    run(talk())


@pytest.mark.parametrize(
    ("code", "text", "configured", "level", "spared"),
    [
        (530, "Must issue a STARTTLS command first", False, "", True),
        (530, "Must issue a STARTTLS command first", False, "none", True),
        (530, "Must issue a STARTTLS command first", False, "encrypted", False),
        (530, "Authentication required", False, "", False),
        (530, "Authentication required", True, "encrypted", True),
        (550, "no TLS, no mail", False, "", False),
    ],
)
def test_a_host_that_insists_on_tls_which_failed_is_waited_for(
    code: int, text: str, configured: bool, level: str, spared: bool
) -> None:
    target = Target((("mx.test",),), 25, "may", configured=configured)
    result = TlsResult("config", "", level) if level else None
    connection: Any = SimpleNamespace(tls=result)
    outcome = Outcome(Reply(code, "5.7.0", text), MESSAGE)
    assert site._unheeded(outcome, connection, target) == spared


def test_an_address_to_avoid_is_left_alone_until_it_is_well() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        post = Post(hosts.port)
        word, down = f"[{ONE}]:{hosts.port}", Reply(421, "4.4.1", "known to be silent")
        post.courier.avoid(Avoid(word, 1000, down))
        for name in (f"[{ONE}]", ONE):
            post.offer(host=name)
        await post.wait()
        assert [(o.reply, o.scope) for o in post.outcomes] == [(down, HOST)] * 2
        assert all(relay.endswith(word) for _, _, relay in post.settled)
        assert hosts.counts() == {ONE: 0}
        post.courier.avoid(Avoid(word, 0, down))
        await post.send(host=ONE)
        assert post.codes[-1] == 250 and hosts.counts() == {ONE: 1}

    run(talk())


def test_relays_of_the_channel_are_nobody_elses_affair() -> None:
    async def talk() -> None:
        post = Post(25, relays=relays(Hosts(ONE).port, (ONE, 1)))
        await post.send()
        assert post.codes == [421] and not post.addresses

    run(talk())


@pytest.mark.parametrize("what", ["an address", "a name"])
def test_who_is_said_to_be_well_is_asked_though_he_failed_a_moment_ago(what: str) -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        post = Post(hosts.port)
        await post.send(host=ONE)
        assert [fact.address for fact in post.addresses] == [f"[{ONE}]:{hosts.port}"]
        await hosts.start()
        await post.send(host=ONE)
        assert post.codes == [421, 421] and hosts.counts() == {ONE: 0}
        word = post.addresses[0].address if what == "an address" else "some.test"
        post.courier.avoid(Avoid(word, 0, Reply(250, "2.0.0", "well")))
        await post.send(host=ONE)
        assert post.codes[-1] == 250
        told = [fact.reply.code for fact in post.addresses]
        assert told == ([421] if what == "an address" else [421, 250])

    run(talk())
