"""Where mail of a domain goes, with a real name server and servers on several addresses."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from mta.machine import site
from mta.machine.answers import Exchangers
from mta.types import HOST, RECIPIENT, Outcome, Reply
from tests.channels.post import Hosts, Post, free_port, names, run
from tests.fakes import HOSTNAME, Sink
from tests.nameserver import SERVFAIL, SILENT, Rule

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def zones(**more: Any) -> dict[str, Any]:
    return {
        "one.test": {"A": [ONE]},
        "two.test": {"A": [TWO]},
        "three.test": {"A": [THREE]},
        "equal.test": {"MX": ["10 one.test.", "10 two.test.", "10 three.test."]},
        "ordered.test": {"MX": ["20 two.test.", "10 one.test."]},
        **more,
    }


def six() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_equal_exchangers_share_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "MESSAGES_MAX", 1)  # each message has a connection of its own

    async def talk() -> None:
        hosts = Hosts(ONE, TWO, THREE)
        await hosts.start()
        async with names(zones()) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(40, host="equal.test")
            assert post.codes == [250] * 40
            shares = hosts.counts()
            assert sum(shares.values()) == 40
            assert all(share > 2 for share in shares.values()), shares

    run(talk())


def test_the_better_exchanger_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "MESSAGES_MAX", 1)

    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start()
        async with names(zones()) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(5, host="ordered.test")
            assert hosts.counts() == {ONE: 5, TWO: 0}
            assert post.relays[0] == f"one.test[{ONE}]:{hosts.port}"

    run(talk())


def test_a_dead_exchanger_is_passed_by_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "MESSAGES_MAX", 1)

    class Refusing(Sink):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._made.append(self)
            transport.write(b"421 4.3.2 not today\r\n")
            transport.close()

    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start(ONE, kind=Refusing)
        await hosts.start(TWO)
        async with names(zones()) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(5, host="ordered.test")
            assert post.codes == [250] * 5
            assert hosts.counts() == {ONE: 1, TWO: 5}
            await hosts.stop(TWO)
            await hosts.stop(ONE)
            await hosts.start(ONE)  # the bad one is tried last, but it is tried
            await post.send(2, host="ordered.test")
            assert post.codes == [250] * 7
            assert hosts.counts() == {ONE: 3, TWO: 5}

    run(talk())


def test_ipv6_that_fails_falls_to_ipv4() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        both = {"A": [ONE], "AAAA": ["::1"]}
        async with names(zones(**{"both.test": both})) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host="both.test")
            assert post.codes == [250]
            assert post.relays == [f"both.test[{ONE}]:{hosts.port}"]

    run(talk())


@pytest.mark.skipif(not six(), reason="this machine has no ::1")
def test_an_exchanger_that_has_ipv6_alone() -> None:
    async def talk() -> None:
        hosts = Hosts("::1")
        await hosts.start()
        more = {"six.test": {"AAAA": ["::1"]}, "away.test": {"MX": ["5 six.test."]}}
        async with names(zones(**more)) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host="away.test")
            assert post.codes == [250]
            assert post.relays == [f"six.test[::1]:{hosts.port}"]

    run(talk())


REFUSALS = [
    ("gone.test", {}, 550, "5.1.2", RECIPIENT),
    ("null.test", {"null.test": {"MX": ["0 ."]}}, 556, "5.1.10", RECIPIENT),
    ("loop.test", {"loop.test": {"MX": [f"10 {HOSTNAME}.", "20 one.test."]}}, 554, "5.4.6", None),
    ("sick.test", {"sick.test": SERVFAIL}, 421, "4.4.3", HOST),
    (
        "lame.test",
        {"lame.test": {"MX": ["10 sick.test."]}, "sick.test": SERVFAIL},
        421,
        "4.4.3",
        HOST,
    ),
    ("bare.test", {"bare.test": {"MX": ["10 gone.test."]}}, 550, "5.4.4", RECIPIENT),
]


@pytest.mark.parametrize(
    ("host", "more", "code", "status", "scope"), REFUSALS, ids=[row[0] for row in REFUSALS]
)
def test_what_the_name_server_decides(
    host: str, more: dict[str, Any], code: int, status: str, scope: str | None
) -> None:
    async def talk() -> None:
        async with names(zones(**more)) as resolver:
            post = Post(free_port(), resolver, names=(HOSTNAME,))
            for _ in range(3):
                post.offer(host=host)
            await post.wait()
            post.offer(host=host)  # at once: what was found stands for a while
            assert len(post.settled) == 4
            for outcome in post.outcomes:
                assert (outcome.reply.code, outcome.reply.status) == (code, status)
                assert outcome.scope == (scope or RECIPIENT)

    run(talk())


def test_a_backup_exchanger_does_not_send_to_itself_or_worse() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO)
        await hosts.start()
        mx = ["10 one.test.", f"20 {HOSTNAME}.", "30 two.test."]
        async with names(zones(**{"backed.test": {"MX": mx}})) as resolver:
            post = Post(hosts.port, resolver, names=(HOSTNAME,))
            await post.send(host="backed.test")
            assert hosts.counts() == {ONE: 1, TWO: 0}
            await hosts.stop()
            for sinks in hosts.sinks.values():
                for sink in sinks:
                    sink.close()
            await asyncio.sleep(0.01)
            await post.send(host="backed.test")
            assert post.codes == [250, 421]
            assert hosts.counts() == {ONE: 1, TWO: 0}

    run(talk())


def test_a_silent_name_server_holds_nobody_but_its_own() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        async with names(zones(**{"quiet.test": SILENT})) as resolver:
            post = Post(hosts.port, resolver)
            for _ in range(30):
                post.offer(host="quiet.test")
            for _ in range(30):
                post.offer(host="one.test")
            await post.wait(30)
            assert all(tag > 30 for tag, _, _ in post.settled)

    run(talk())


def test_hosts_with_one_set_of_exchangers_share_their_connections() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE, TWO, THREE)
        await hosts.start()
        more = {
            f"shared{i}.test": {"MX": ["10 one.test.", "20 two.test."][:: (-1) ** i]}
            for i in range(20)
        }
        more["other.test"] = {"MX": ["10 one.test.", "10 two.test."]}  # not the same preferences
        async with names(zones(**more)) as resolver:
            post = Post(hosts.port, resolver)
            for i in range(20):
                await post.send(host=f"shared{i}.test")
            assert hosts.counts() == {ONE: 1, TWO: 0, THREE: 0}
            await post.send(host="other.test")
            assert sum(hosts.counts().values()) == 2
            assert post.codes == [250] * 21

    run(talk())


def test_a_shared_site_looks_its_hosts_up_by_a_domain_that_still_has_them() -> None:
    gone = Outcome(Reply(550, "5.1.2", "no such domain name"), RECIPIENT)

    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        more = {f"shared{i}.test": {"MX": ["10 one.test."]} for i in range(2)}
        async with names(zones(**more)) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host="shared0.test")
            post.offer(host="shared1.test")
            ask = resolver.exchangers

            async def exchangers(domain: str, now: float) -> Exchangers:
                left = domain == "shared0.test"
                return Exchangers((), trouble=gone) if left else await ask(domain, now)

            await post.wait()
            setattr(resolver, "exchangers", exchangers)  # noqa: B010 - for the type checker
            hosts.sinks[ONE][0].close()
            await asyncio.sleep(0.01)
            await post.send(host="shared1.test")
            assert post.codes == [250] * 3
            assert hosts.counts() == {ONE: 2}

    run(talk())


@pytest.mark.parametrize("per_host", [1, 3])
def test_hosts_with_one_set_of_exchangers_share_their_limit(per_host: int) -> None:
    most = 0

    async def talk() -> None:
        hosts = Hosts(ONE)

        class Counting(Sink):
            def command(self, line: bytes) -> None:
                nonlocal most
                most = max(most, sum(not sink.ended for sink in hosts.sinks[ONE]))
                super().command(line)

        await hosts.start(kind=Counting)
        more = {f"shared{i}.test": {"MX": ["10 one.test."]} for i in range(10)}
        async with names(zones(**more)) as resolver:
            post = Post(hosts.port, resolver, per_host=per_host)
            for i in range(100):
                post.offer(host=f"shared{i % 10}.test")
            await post.wait()
            assert post.codes == [250] * 100
            assert most == per_host

    run(talk())


def test_names_are_asked_once_however_many_jobs_come() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        more = {"slow.test": {"MX": Rule(["10 one.test."], delay=0.05)}}
        async with names(zones(**more)) as resolver:
            post = Post(hosts.port, resolver)
            found, find = [], post.courier.guide.find

            async def counted(*job: Any) -> Any:
                found.append(job)
                return await find(*job)

            setattr(post.courier.guide, "find", counted)  # noqa: B010 - for the type checker
            for _ in range(50):
                post.offer(host="slow.test")
            await post.wait()
            assert post.codes == [250] * 50
            asked = Counter(name for name, kind, _ in resolver.server.asked)
            assert len(found) == asked["slow.test"] == 1
            assert asked["one.test"] == 2  # A and AAAA

    run(talk())


def test_an_address_literal_asks_nobody() -> None:
    async def talk() -> None:
        hosts = Hosts(ONE)
        await hosts.start()
        async with names({}) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host=f"[{ONE}]")
            assert post.codes == [250]
            assert resolver.server.asked == []

    run(talk())
