from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.machine import resolve
from mta.machine.net import Endpoint
from mta.machine.resolve import CACHE_MAX, Addresses, Resolver, _Answer
from mta.types import HOST

ANSWERS = {
    "good": (_Answer(("2001:db8::1",), 300), _Answer(("192.0.2.1", "192.0.2.2"), 60)),
    "four": (_Answer((), 0, "empty"), _Answer(("192.0.2.1",), 60)),
    "half": (_Answer((), 0, "SERVFAIL"), _Answer(("192.0.2.1",), 60)),
    "zero": (_Answer((), 0, "empty"), _Answer(("192.0.2.1",), 0)),
    "ever": (_Answer((), 0, "empty"), _Answer(("192.0.2.1",), 1e6)),
    "none": (_Answer((), 0, "empty"), _Answer((), 0, "empty")),
    "gone": (_Answer((), 0, "absent"), _Answer((), 0, "absent")),
    "sick": (_Answer((), 0, "SERVFAIL"), _Answer((), 0, "empty")),
    "slow": (_Answer((), 0, "timed out"), _Answer((), 0, "timed out")),
}


class Asked:
    """The answers above, and how often each name was asked."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    async def __call__(self, host: str, kind: str) -> _Answer:
        await asyncio.sleep(0)
        self.times[host] += 1
        return ANSWERS[host.partition(".")[0]][0 if kind == "AAAA" else 1]


def look(host: str, *times: float) -> tuple[list[Addresses], int]:
    async def talk() -> tuple[list[Addresses], int]:
        asked = Asked()
        resolver = Resolver(ask=asked)
        found = [await resolver.addresses(host, now) for now in times]
        return found, asked.times[host] // 2

    return asyncio.run(talk())


def test_version_six_comes_first() -> None:
    (found,), _ = look("good", 0.0)
    assert found == Addresses(("2001:db8::1", "192.0.2.1", "192.0.2.2"))


@pytest.mark.parametrize("host", ["four", "half"])
def test_one_good_answer_is_enough(host: str) -> None:
    (found,), _ = look(host, 0.0)
    assert found == Addresses(("192.0.2.1",))


@pytest.mark.parametrize(
    ("host", "status"), [("none", "4.4.4"), ("sick", "4.4.3"), ("slow", "4.4.3")]
)
def test_n2_trouble_defers(host: str, status: str) -> None:
    (found,), _ = look(host, 0.0)
    assert found.addresses == ()
    assert found.trouble is not None
    assert found.trouble.reply.transient
    assert (found.trouble.reply.status, found.trouble.scope) == (status, HOST)


def test_a_name_that_is_not_fails() -> None:
    (found,), _ = look("gone", 0.0)
    assert found.trouble is not None
    assert (found.trouble.reply.code, found.trouble.reply.status) == (550, "5.1.2")


@given(st.lists(st.floats(0, 59.9), min_size=1, max_size=5).map(sorted))
def test_n1_within_its_ttl_a_name_is_asked_once(times: list[float]) -> None:
    found, asked = look("good", *times)
    assert asked == 1 or times[-1] - times[0] >= 60
    assert len(set(found)) == 1


def test_n1_after_it_again() -> None:
    assert look("good", 0.0, 59.9)[1] == 1
    assert look("good", 0.0, 60.0)[1] == 2
    assert look("zero", 0.0, 4.9)[1] == 1  # or a burst of mail would ask for each
    assert look("ever", 0.0, 3600.0)[1] == 2
    assert look("sick", 0.0, 4.9)[1] == 1
    assert look("sick", 0.0, 5.0)[1] == 2


def test_n1_all_who_wait_share_one_question() -> None:
    async def talk() -> None:
        asked = Asked()
        resolver = Resolver(ask=asked)
        found = await asyncio.gather(*[resolver.addresses("good", 0.0) for _ in range(20)])
        assert len(set(found)) == 1
        assert asked.times["good"] == 2

    asyncio.run(talk())


def test_n3_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CACHE_MAX <= 100_000
    monkeypatch.setattr(resolve, "CACHE_MAX", 10)

    async def talk() -> None:
        resolver = Resolver(ask=Asked())
        for number in range(50):
            await resolver.addresses(f"good.{number}", number / 10)
            assert len(resolver._cache) <= 10
        assert "good.49" in resolver._cache

    asyncio.run(talk())


def test_localhost_asks_nobody() -> None:
    found, asked = look("localhost", 0.0)
    assert found[0].addresses == ("127.0.0.1", "::1")
    assert asked == 0


class Zone(asyncio.DatagramProtocol):
    """A name server with four names."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), question.rdtype
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name == "mx.example.test.":
            text = "192.0.2.9" if kind == dns.rdatatype.A else "2001:db8::9"
            answer.answer.append(dns.rrset.from_text(name, 77, "IN", kind, text))
        elif name == "sick.example.test.":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name != "empty.example.test.":
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


def test_a_real_name_server() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        resolver = Resolver((Endpoint("127.0.0.1", port),))
        good = await resolver.addresses("mx.example.test", 0.0)
        assert good == Addresses(("2001:db8::9", "192.0.2.9"))
        assert resolver._cache["mx.example.test"][0] == 77
        statuses = {}
        for name in ("empty", "sick", "gone"):
            trouble = (await resolver.addresses(f"{name}.example.test", 0.0)).trouble
            assert trouble is not None
            statuses[name] = trouble.reply.status
        assert statuses == {"empty": "4.4.4", "sick": "4.4.3", "gone": "5.1.2"}
        odd = await resolver.addresses("a" * 70 + ".test", 0.0)
        assert odd.trouble is not None
        transport.close()

    asyncio.run(talk())
