from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine import answers, ask, dane, resolve
from mta.machine.answers import CACHE_MAX, STALE_AGAIN, STALE_MAX, Answer, Answers
from mta.machine.net import Endpoint
from mta.machine.resolve import Addresses, Hop, Resolver, ascii_name
from mta.types import HOST
from mta.values import replace
from tests.nameserver import FORMERR, NOTIMP, REFUSED, SERVFAIL, SILENT, Entry, NameServer, Rule

T = TypeVar("T")
EMPTY = Answer((), 0, "empty")
ANSWERS = {
    "good": (Answer(("2001:db8::1",), 300), Answer(("192.0.2.1", "192.0.2.2"), 60)),
    "four": (EMPTY, Answer(("192.0.2.1",), 60)),
    "half": (Answer((), 0, "SERVFAIL"), Answer(("192.0.2.1",), 60)),
    "zero": (EMPTY, Answer(("192.0.2.1",), 0)),
    "ever": (EMPTY, Answer(("192.0.2.1",), 1e6)),
    "none": (EMPTY, EMPTY),
    "gone": (Answer((), 0, "absent"), Answer((), 0, "absent")),
    "odd": (Answer((), 0, "absent"), Answer((), 0, "SERVFAIL")),
    "sick": (Answer((), 0, "SERVFAIL"), EMPTY),
    "slow": (Answer((), 0, "timed out"), Answer((), 0, "timed out")),
}


class Asked:
    """The answers above, and how often each name was asked."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    async def __call__(self, host: str, kind: str) -> Answer:
        await asyncio.sleep(0)
        self.times[host] += 1
        return ANSWERS[host.partition(".")[0]][0 if kind == "AAAA" else 1]


def look(host: str, *times: float) -> tuple[list[Addresses], int]:
    async def talk() -> tuple[list[Addresses], int]:
        asked = Asked()
        resolver = Resolver(ask=asked)
        found = [await resolver.addresses(host, now) for now in times]
        return found, asked.times[host]

    return asyncio.run(talk())


def test_version_six_comes_first() -> None:
    (found,), _ = look("good", 0.0)
    assert found == Addresses(("2001:db8::1", "192.0.2.1", "192.0.2.2"))


@pytest.mark.parametrize("host", ["four", "half"])
def test_one_good_answer_is_enough(host: str) -> None:
    (found,), _ = look(host, 0.0)
    assert found.addresses == ("192.0.2.1",)
    assert found.unsure == (host == "half")


@pytest.mark.parametrize(
    ("host", "status", "none"),
    [("none", "4.4.4", True), ("sick", "4.4.3", False), ("slow", "4.4.3", False)],
)
def test_n2_trouble_defers(host: str, status: str, none: bool) -> None:
    (found,), _ = look(host, 0.0)
    assert found.addresses == ()
    assert found.trouble is not None
    assert found.trouble.reply.transient
    assert (found.trouble.reply.status, found.trouble.scope) == (status, HOST)
    assert found.none == none


def test_n2_half_an_answer_proves_no_absence() -> None:
    (found,), _ = look("odd", 0.0)  # servers that know no AAAA say such things: RFC 4074 s4.2
    assert found.trouble is not None
    assert found.trouble.reply.transient


def test_a_name_that_is_not_fails() -> None:
    (found,), _ = look("gone", 0.0)
    assert found.trouble is not None
    assert (found.trouble.reply.code, found.trouble.reply.status) == (550, "5.1.2")


@given(st.lists(st.floats(0, 59.9), min_size=1, max_size=5).map(sorted))
@settings(max_examples=30)
def test_n1_within_its_ttl_a_name_is_asked_once(times: list[float]) -> None:
    found, asked = look("good", *times)
    assert asked == 2
    assert len(set(found)) == 1


def test_n1_after_it_again() -> None:
    assert look("good", 0.0, 59.9)[1] == 2
    assert look("good", 0.0, 60.0)[1] == 3
    assert look("good", 0.0, 300.0)[1] == 4
    assert look("zero", 0.0, 4.9)[1] == 2  # or a burst of mail would ask for each
    assert look("ever", 0.0, 3599.0, 3600.0)[1] == 4
    assert look("sick", 0.0, 4.9)[1] == 2
    assert look("slow", 0.0, 5.0)[1] == 4


def test_n1_all_who_wait_share_one_question() -> None:
    async def talk() -> None:
        asked = Asked()
        resolver = Resolver(ask=asked)
        found = await asyncio.gather(*[resolver.addresses("good", 0.0) for _ in range(20)])
        assert len(set(found)) == 1
        assert asked.times["good"] == 2

    asyncio.run(talk())


def test_n1_who_stops_waiting_disturbs_nobody() -> None:
    async def talk() -> None:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def answer(name: str, kind: str) -> Answer:
            begun.set()
            await gate.wait()
            return GOOD

        cache = Answers(answer)
        first = asyncio.ensure_future(cache.find("a", "A", 0.0))
        second = asyncio.ensure_future(cache.find("a", "A", 0.0))
        await begun.wait()
        first.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await second == GOOD

    asyncio.run(talk())


def test_n3_the_cache_is_bounded() -> None:
    assert CACHE_MAX <= 100_000

    async def talk() -> None:
        asked = Asked()
        cache = Answers(asked, 10)
        for number in range(50):
            await cache.find(f"good.{number}", "A", number / 10)
            assert len(cache) <= 10
        for number in range(40, 50):
            await cache.find(f"good.{number}", "A", 5.0)
        assert set(asked.times.values()) == {1}
        await cache.find("good.39", "A", 5.0)
        assert asked.times["good.39"] == 2

    asyncio.run(talk())


class Scripted:
    """Answers in the order given, whatever is asked."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)

    async def __call__(self, host: str, kind: str) -> Answer:
        return self.script.pop(0)


GOOD = Answer(("192.0.2.1",), 60)
FRESH = Answer(("192.0.2.2",), 60)
FAILED = Answer((), 0, "SERVFAIL")


@pytest.mark.parametrize(
    ("first", "then", "stale"),
    [
        (GOOD, FAILED, True),
        (GOOD, Answer((), 0, "timed out"), True),
        (GOOD, FRESH, False),
        (GOOD, Answer((), 60, "absent"), False),
        (GOOD, Answer((), 60, "empty"), False),
        (Answer((), 60, "absent"), FAILED, False),  # it would fail mail
        (Answer((), 60, "empty"), FAILED, False),
    ],
)
def test_n4_what_ran_out_serves_only_for_want_of_better(
    first: Answer, then: Answer, stale: bool
) -> None:
    async def talk() -> None:
        cache = Answers(Scripted(first, then))
        assert await cache.find("a", "A", 0.0) == first
        found = await cache.find("a", "A", 100.0)
        assert found.stale == stale
        assert found.records == (first.records if stale else then.records)

    asyncio.run(talk())


@given(st.lists(st.tuples(st.floats(0, 90_000), st.booleans()), max_size=12))
@settings(max_examples=60)
def test_n4_an_outage(steps: list[tuple[float, bool]]) -> None:
    async def talk() -> None:
        asked = []
        up = True

        async def answer(name: str, kind: str) -> Answer:
            asked.append(now)
            return GOOD if up else FAILED

        cache = Answers(answer)
        now = told = 0.0
        await cache.find("a", "A", now)
        for pause, up in steps:
            now += pause
            before = len(asked)
            found = await cache.find("a", "A", now)
            if len(asked) > before and up:
                told = now
            if found.stale:
                assert 60 <= now - told < 60 + STALE_MAX + STALE_AGAIN
            elif found.failed:
                assert now >= told + STALE_MAX
            else:
                assert now < told + 60

    asyncio.run(talk())


def test_n4_a_slow_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "STALE_WAIT", 0.01)

    async def talk() -> None:
        gate = asyncio.Event()
        times = 0

        async def answer(name: str, kind: str) -> Answer:
            nonlocal times
            times += 1
            if times > 1:
                await gate.wait()
            return FRESH if times > 1 else GOOD

        cache = Answers(answer)
        await cache.find("a", "A", 0.0)
        found = [await cache.find("a", "A", 100.0 + n) for n in range(3)]
        assert all(f.stale and f.records == GOOD.records for f in found)
        assert times == 2
        gate.set()
        while (await cache.find("a", "A", 110.0)).stale:
            await asyncio.sleep(0)
        assert times == 2

    asyncio.run(talk())


def test_a_defect_of_ours_is_a_deferral() -> None:
    async def broken(name: str, kind: str) -> Answer:
        raise KeyError(name)

    found = asyncio.run(Resolver(ask=broken).addresses("a.test", 0.0))
    assert found.trouble is not None
    assert found.trouble.reply.transient


def test_localhost_asks_nobody() -> None:
    found, asked = look("localhost", 0.0)
    assert found[0].addresses == ("127.0.0.1", "::1")
    assert asked == 0


@pytest.mark.parametrize(
    ("name", "ascii"),
    [
        ("Example.TEST", "example.test"),
        ("example.test.", "example.test"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("_mta-sts.example.test", "_mta-sts.example.test"),
    ],
)
def test_names_go_out_as_a_labels(name: str, ascii: str) -> None:
    assert ascii_name(name) == ascii


NONAMES = ["", ".", "a..b", "a" * 64 + ".test", "a." * 127 + "b", "a b", "a\x00b", "ü" * 80]
NONAMES += ["\u2024.test", "a\\.b", "-ü-.test", "x@\n", "\ud800.test"]


@pytest.mark.parametrize("name", NONAMES)
def test_what_is_no_name_is_not_asked(name: str) -> None:
    with pytest.raises(ValueError):
        ascii_name(name)

    async def talk() -> None:
        resolver = Resolver(ask=Asked())
        for trouble in (
            (await resolver.addresses(name, 0.0)).trouble,
            (await resolver.exchangers(name, 0.0)).trouble,
        ):
            assert trouble is not None
            assert (trouble.reply.code, trouble.reply.status) == (550, "5.1.2")
            assert name in ("", ".") or name not in trouble.reply.text
        assert (await resolver.text(name, 0.0)).texts == ()
        assert (await resolver.tlsa(name, 25, 0.0)).records == ()

    asyncio.run(talk())


TLSA = "3 1 1 " + "ab" * 32
ZONES: dict[str, Entry] = {
    "example.test": {"MX": ["20 mx2.example.test.", "10 MX.Example.test."]},
    "mx.example.test": {"A": Rule(["192.0.2.9"], ttl=77), "AAAA": ["2001:db8::9"]},
    "_25._tcp.mx.example.test": {"TLSA": [TLSA]},
    "mx2.example.test": {"A": ["192.0.2.10"], "AAAA": SERVFAIL},
    "alias.example.test": {"CNAME": ["mx.example.test."]},
    "out.example.test": {"CNAME": ["mx.open.test."]},
    "_25._tcp.out.example.test": {"TLSA": [TLSA]},
    "bare.example.test": {"A": ["192.0.2.11"]},
    "dark.example.test": {"A": ["192.0.2.12"]},
    "_25._tcp.dark.example.test": SERVFAIL,
    "weak.example.test": {"A": ["192.0.2.14"]},
    "_25._tcp.weak.example.test": {"TLSA": Rule([TLSA], ad=False)},
    "mx.open.test": {"A": ["192.0.2.13"]},
    "_25._tcp.mx.open.test": {"TLSA": [TLSA]},
    "out.open.test": {"CNAME": ["mx.open.test."]},
    "_25._tcp.out.open.test": {"TLSA": [TLSA]},
    "null.test": {"MX": ["0 ."]},
    "mixed.test": {"MX": ["0 .", "10 mx.example.test."]},
    "text.test": {"TXT": ['"v=STSv1; " "id=1;"', '"other"']},
    "empty.test": {"TXT": ['"x"']},
    "sick.test": SERVFAIL,
    "one.test": {"CNAME": ["two.test."]},
    "two.test": {"CNAME": ["one.test."]},
    "dangling.test": {"CNAME": ["nowhere.test."]},
    "zero.test": {"A": Rule(["192.0.2.1"], ttl=0)},
    "large.test": {"A": [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(2000)]},
    "many.test": {"MX": [f"{1000 - n} mx{n}.many.test." for n in range(1000)]},
    "9.2.0.192.in-addr.arpa": {"PTR": ["liar.test.", "MX.example.test."]},
    "8.2.0.192.in-addr.arpa": {"PTR": ["mx.example.test."]},
    "7.2.0.192.in-addr.arpa": {"PTR": ["evil\\010name.test."]},
    "liar.test": {"A": ["192.0.2.99"]},
}
SECURE = ("example.test",)


def asking(
    zones: dict[str, Entry], work: Callable[[Resolver, NameServer], Awaitable[T]], trust: str = ""
) -> T:
    with NameServer(zones, secure=SECURE) as server:

        async def talk() -> T:
            return await work(Resolver((server.endpoint,), trust or "auto"), server)

        return asyncio.run(talk())


def asked(
    work: Callable[[Resolver, NameServer], Awaitable[T]], trust: str = "", **rules: Entry
) -> T:
    return asking({**ZONES, **{f"{name}.test": rule for name, rule in rules.items()}}, work, trust)


def test_addresses_from_a_real_server() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        good = Addresses(("2001:db8::9", "192.0.2.9"), None, True)
        assert await resolver.addresses("mx.example.test", 0.0) == good
        assert await resolver.addresses("alias.example.test", 0.0) == good
        await resolver.addresses("mx.example.test", 76.0)
        assert server.times("mx.example.test", "A") == 1
        await resolver.addresses("mx.example.test", 77.0)
        assert server.times("mx.example.test", "A") == 2
        assert server.times("mx.example.test", "AAAA") == 1
        statuses = {}
        for name in ("empty", "sick", "gone", "one", "dangling"):
            trouble = (await resolver.addresses(f"{name}.test", 0.0)).trouble
            assert trouble is not None
            statuses[name] = trouble.reply.status
        assert statuses == {
            **{"empty": "4.4.4", "sick": "4.4.3", "gone": "5.1.2"},
            **{"one": "4.4.3", "dangling": "5.1.2"},
        }

    asked(talk)


def test_absence_is_remembered_as_long_as_the_zone_says() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        for now in (0.0, 59.0, 60.0):  # the SOA's minimum
            await resolver.addresses("gone.test", now)
        assert server.times("gone.test", "A") == 2

    asked(talk)


def test_exchangers_from_a_real_server() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.exchangers("Example.test", 0.0)
        assert found.hops == (Hop("mx.example.test", 10), Hop("mx2.example.test", 20))
        assert found.secure and not found.implicit
        alone = await resolver.exchangers("mx.example.test", 0.0)
        assert (alone.hops, alone.implicit) == ((Hop("mx.example.test", 0),), True)
        mixed = await resolver.exchangers("mixed.test", 0.0)
        assert mixed.hops == (Hop("mx.example.test", 10),)
        many = await resolver.exchangers("many.test", 0.0)
        assert many.hops[0] == Hop("mx999.many.test", 1)
        assert len(many.hops) == 100
        codes = {}
        for name in ("null", "gone", "sick", "dangling", "one"):
            trouble = (await resolver.exchangers(f"{name}.test", 0.0)).trouble
            assert trouble is not None
            codes[name] = (trouble.reply.code, trouble.reply.status, trouble.scope)
        assert codes == {
            "null": (556, "5.1.10", "recipient"),
            "gone": (550, "5.1.2", "recipient"),
            "dangling": (550, "5.1.2", "recipient"),
            "sick": (421, "4.4.3", "host"),
            "one": (421, "4.4.3", "host"),
        }

    asked(talk)


def test_a_null_mx_that_ran_out_refuses_nothing() -> None:
    async def talk() -> None:
        resolver = Resolver(ask=Scripted(Answer(("0 .",), 60), FAILED))
        fresh = (await resolver.exchangers("null.test", 0.0)).trouble
        stale = (await resolver.exchangers("null.test", 100.0)).trouble
        assert fresh is not None and fresh.reply.permanent
        assert stale is not None and stale.reply.transient

    asyncio.run(talk())


def test_a_large_answer_comes_by_tcp() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.addresses("large.test", 0.0)
        assert len(found.addresses) == 100
        assert ("large.test", "A", "tcp") in server.asked

    asked(talk)


def test_text() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.text("text.test", 0.0)
        assert sorted(found.texts) == ["other", "v=STSv1; id=1;"]
        assert (await resolver.text("gone.test", 0.0)).texts == ()
        assert (await resolver.text("gone.test", 0.0)).trouble is None
        assert (await resolver.text("sick.test", 0.0)).trouble is not None

    asked(talk)


def test_pointers_are_confirmed() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        assert await resolver.pointer("192.0.2.9", 0.0) == "mx.example.test"
        assert await resolver.pointer("::ffff:192.0.2.9", 0.0) == "mx.example.test"
        assert await resolver.pointer("192.0.2.8", 0.0) == ""  # it does not point back
        assert await resolver.pointer("192.0.2.7", 0.0) == ""
        assert await resolver.pointer("192.0.2.6", 0.0) == ""
        assert await resolver.pointer("2001:db8::1", 0.0) == ""
        assert await resolver.pointer("unix:/x", 0.0) == ""

    asked(talk)


def test_a_pointer_takes_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "POINTER_LIMIT", 0.05)

    async def talk(resolver: Resolver, server: NameServer) -> None:
        server.zones["5.2.0.192.in-addr.arpa"] = SILENT
        assert await resolver.pointer("192.0.2.5", 0.0) == ""

    asked(talk)


# RFC 7672 s2.2: (host, base of the records or "", how many, secure, trouble)
TLSA_CASES = [
    ("mx.example.test", "mx.example.test", 1, True, False),
    ("alias.example.test", "mx.example.test", 1, True, False),  # at the end of the aliases
    ("out.example.test", "out.example.test", 1, True, False),  # only the alias is secure
    ("bare.example.test", "bare.example.test", 0, True, False),
    ("dark.example.test", "dark.example.test", 0, True, True),  # the host must not be used
    ("weak.example.test", "weak.example.test", 0, False, False),
    ("mx.open.test", "", 0, False, False),
    ("out.open.test", "", 0, False, False),
    ("gone.test", "", 0, False, True),
]


@pytest.mark.parametrize(("host", "base", "count", "secure", "trouble"), TLSA_CASES)
def test_tlsa(host: str, base: str, count: int, secure: bool, trouble: bool) -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.tlsa(host, 25, 0.0)
        assert (found.base, len(found.records), found.secure) == (base, count, secure)
        assert (found.trouble is not None) == trouble
        for record in found.records:
            assert (record.usage, record.selector, record.matching) == (3, 1, 1)
            assert record.data == b"\xab" * 32
        assert not any(
            name.endswith(".open.test") for name, kind, _ in server.asked if kind == "TLSA"
        )

    asked(talk)


@pytest.mark.parametrize(
    ("trust", "here", "said", "secure"),
    [
        ("auto", True, False, True),
        ("auto", False, False, False),
        ("auto", False, True, True),
        ("yes", False, False, True),
        ("no", True, True, False),
    ],
)
def test_n5_ad_counts_only_from_those_who_are_trusted(
    trust: str, here: bool, said: bool, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = (Endpoint("127.0.0.1" if here else "192.0.2.53", 53),)
    monkeypatch.setattr(resolve, "_resolv_conf", lambda path: (places, said))
    resolver = Resolver(trust_ad=trust)
    assert resolver._begin()[1] == secure

    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.addresses("mx.example.test", 0.0)
        assert found.secure == (trust != "no")
        assert not (await resolver.addresses("mx.open.test", 0.0)).secure
        assert (await resolver.exchangers("example.test", 0.0)).secure == (trust != "no")

    asked(talk, trust)


RESOLV_CONFS = [
    ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", ("192.0.2.1", "2001:db8::1"), False),
    ("# x\nnameserver 127.0.0.53\noptions edns0 trust-ad\n", ("127.0.0.53",), True),
    ("search example.test\n; nameserver 192.0.2.1\n", ("127.0.0.1",), False),
    ("nameserver nonsense\nnameserver\nnameserver fe80::1%eth0\n", ("fe80::1%eth0",), False),
    ("\x00\xff\n", ("127.0.0.1",), False),
]


@pytest.mark.parametrize(("text", "hosts", "trusted"), RESOLV_CONFS)
def test_resolv_conf(text: str, hosts: tuple[str, ...], trusted: bool, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text, encoding="latin-1")
    expected = tuple([Endpoint(host, 53) for host in hosts]), trusted
    assert resolve._resolv_conf(str(path)) == expected


def test_resolv_conf_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(resolve, "RESOLV_CONF", str(path))
    resolver = Resolver()
    first = resolver._begin()
    assert resolver._begin()[0] is first[0]
    assert first[1]
    path.write_text("nameserver 192.0.2.53\n")
    second = resolver._begin()
    assert second[0] is not first[0]
    assert resolver._begin()[0] is second[0]
    assert not second[1]


def test_without_resolv_conf_it_is_this_machine(tmp_path: Path) -> None:
    assert resolve._resolv_conf(str(tmp_path / "x"))[0] == (Endpoint("127.0.0.1", 53),)


GOOD_A = Rule(["192.0.2.1"])
TROUBLES: dict[str, Entry] = {
    "servfail": SERVFAIL,
    "refused": REFUSED,
    "notimp": NOTIMP,
    "formerr": FORMERR,
    "yxdomain": Rule(rcode="YXDOMAIN"),
    "silent": SILENT,
    "wrongid": Rule(["192.0.2.1"], wrong_id=True),
    "wrongname": Rule(["192.0.2.1"], wrong_name=True),
    "garbage": Rule(garbage=b"\xff" * 40),
    "short": Rule(garbage=b"\x00"),
    "torn": Rule(["192.0.2.1"], truncate=True, tcp=False),
    "loop": {"CNAME": ["loop.test."]},
    "lame": Rule(recursion=False),
}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "TRIES", (0.05, 0.05))
    monkeypatch.setattr(ask, "LIFETIME", 1.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", sorted(TROUBLES))
def test_n2_no_trouble_of_servers_fails_mail(kind: str) -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.addresses(f"{kind}.test", 0.0)
        hops = await resolver.exchangers(f"{kind}.test", 0.0)
        for trouble in (found.trouble, hops.trouble):
            assert trouble is not None
            assert trouble.reply.transient
            assert trouble.scope == HOST
            assert trouble.reply.text.isprintable()

    asked(talk, "auto", **{kind: TROUBLES[kind]})


@pytest.mark.parametrize("kind", ["wrong_id", "wrong_name", "garbage"])
def test_what_does_not_match_is_not_seen(kind: str) -> None:
    forged = Rule(["192.0.2.66"], garbage=b"x" * 60) if kind == "garbage" else Rule(["192.0.2.66"])
    setattr(forged, kind, getattr(forged, kind) or True)
    forged.then = GOOD_A

    async def talk(resolver: Resolver, server: NameServer) -> None:
        found = await resolver.addresses("host.test", 0.0)
        assert found.addresses == ("192.0.2.1",)

    asked(talk, host={"A": forged})


def test_a_server_that_fails_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "TRIES", (0.2, 10.0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = Endpoint("127.0.0.1", nobody.getsockname()[1])
        with (
            NameServer({"a.test": SERVFAIL}) as sick,
            NameServer({"a.test": {"A": GOOD_A}}) as well,
        ):

            async def talk() -> None:
                resolver = Resolver((dead, sick.endpoint, well.endpoint))
                assert (await resolver.addresses("a.test", 0.0)).addresses == ("192.0.2.1",)
                servers = resolver._servers
                assert servers is not None
                assert servers._order[-1]._place == dead  # asked last from now on

            asyncio.run(talk())


def test_what_a_server_has_said_it_is_not_asked_again() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        await resolver.addresses("sick.test", 0.0)
        assert server.times("sick.test", "A") == 1

    asked(talk)


@pytest.mark.usefixtures("hurried")
def test_a_silent_server_is_asked_again() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        await resolver.addresses("mute.test", 0.0)
        assert server.times("mute.test", "A") == len(ask.TRIES)

    asked(talk, "auto", mute=SILENT)


@pytest.mark.usefixtures("hurried")
def test_questions_that_wait_for_room_have_their_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "UNDER_WAY_MAX", 1)
    monkeypatch.setattr(ask, "LIFETIME", 0.05)

    async def talk(resolver: Resolver, server: NameServer) -> None:
        names = [f"host{n}.mute.test" for n in range(5)]
        server.zones |= dict.fromkeys(names, SILENT)
        found = await asyncio.gather(*[resolver.exchangers(name, 0.0) for name in names])
        assert all(one.trouble is not None and one.trouble.reply.transient for one in found)
        assert len(server.asked) <= 2
        monkeypatch.setattr(ask, "LIFETIME", 20.0)
        assert (await resolver.addresses("mx.example.test", 0.0)).addresses

    asked(talk)


@pytest.mark.parametrize("module", ["resolve", "exchangers", "dane", "sts"])
def test_what_is_slow_to_import_is_imported_late(module: str) -> None:
    slow = "{'dns', 'idna', 'cryptography'}"
    text = f"import sys, mta.machine.{module}; print({slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
    assert done.stdout == b"set()\n"


def wires() -> list[tuple[str, bytes]]:
    server = NameServer(ZONES)
    questions = [("mx.example.test", "A"), ("alias.example.test", "AAAA"), ("text.test", "TXT")]
    questions += [("example.test", "MX"), ("_25._tcp.mx.example.test", "TLSA"), ("gone.test", "A")]
    questions += [("9.2.0.192.in-addr.arpa", "PTR"), ("one.test", "CNAME"), ("null.test", "MX")]
    made = []
    for name, kind in questions:
        query = dns.message.make_query(name, kind, use_edns=0)
        made.append((kind, server.answer(query, server.find(query, "udp")).to_wire()))
    return made


WIRES = wires()


@given(
    st.sampled_from(WIRES),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5),
    st.integers(0, 300),
)
@settings(max_examples=200)
def test_n2_any_octets_are_an_answer_or_trouble(
    said: tuple[str, bytes], changes: list[tuple[int, int]], size: int
) -> None:
    kind, wire = said
    whole = 12 + wire[12:].index(b"\0") + 5  # the question itself was found to be ours
    octets = bytearray(wire)
    for at, octet in changes:
        octets[whole + at % (len(octets) - whole)] = octet
    answer = resolve._read(bytes(octets[: max(size, whole)]), kind, True)
    assert answer.trouble or answer.records
    assert len(answer.trouble) < 80

    async def ask(name: str, kind: str) -> Answer:
        return answer

    async def talk() -> None:
        resolver = Resolver(ask=ask)
        await resolver.pointer("192.0.2.9", 0.0)
        await resolver.text("a.test", 0.0)
        await resolver.addresses("a.test", 0.0)
        if kind == "MX":
            await resolver.exchangers("a.test", 0.0)
        if kind == "TLSA":
            await resolver._tlsa_at("a.test", 25, 0.0)

    asyncio.run(talk())


def test_n2_an_answer_that_cannot_be_read_is_none() -> None:
    kind, wire = WIRES[0]
    torn = wire.replace(b"\x00\x04\xc0\x00\x02\x09", b"\x00\x03\xc0\x00\x02")
    assert resolve._read(wire, kind, True).records == ("192.0.2.9",)
    assert resolve._read(torn, kind, True).failed


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_tlsa_record_that_cannot_be_read_is_one_that_is_not_usable(good: int) -> None:
    query = dns.message.make_query("_25._tcp.mx.example.test", "TLSA", use_edns=0)
    server = NameServer({"_25._tcp.mx.example.test": {"TLSA": [TLSA, TLSA.replace("ab", "cd")]}})
    wire = bytearray(server.answer(query, server.find(query, "udp")).to_wire())
    for _ in range(2 - good):  # RFC 7671 s10.1: its length is not that of its digest
        wire[wire.index(b"\x03\x01\x01") + 2] = 2
    answer = replace(resolve._read(bytes(wire), "TLSA", True), secure=True)

    async def ask(name: str, kind: str) -> Answer:
        return answer

    found = asyncio.run(Resolver(ask=ask)._tlsa_at("mx.example.test", 25, 0.0))
    assert found.trouble is None
    assert len(dane.usable(found.records)) == good
    assert found.records


def test_a_closed_port_is_a_reason_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        place = Endpoint("127.0.0.1", udp.getsockname()[1])
    found = asyncio.run(Resolver((place,)).addresses("a.test", 0.0))
    assert found.trouble is not None
    assert "refused" in found.trouble.reply.text


def test_a_server_without_edns() -> None:
    class Old(NameServer):
        def find(self, query, way):  # type: ignore[no-untyped-def]
            found = super().find(query, way)
            if query.edns >= 0:
                found.rule, found.rrsets = FORMERR, []
            return found

    async def talk(place: Endpoint) -> None:
        resolver = Resolver((place,))
        assert (await resolver.addresses("a.test", 0.0)).addresses == ("192.0.2.1",)

    with Old({"a.test": {"A": GOOD_A}, "b.test": {"A": GOOD_A}}) as server:
        asyncio.run(talk(server.endpoint))


def test_an_outage_is_bridged() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        before = await resolver.addresses("mx.example.test", 0.0)
        server.zones = dict.fromkeys(server.zones, SERVFAIL)
        during = await resolver.addresses("mx.example.test", 5000.0)
        assert during.addresses == before.addresses
        assert during.unsure and not before.unsure
        late = await resolver.addresses("mx.example.test", 100_000.0)
        assert late.trouble is not None

    asked(talk)


def test_one_slow_domain_delays_no_other() -> None:
    async def talk(resolver: Resolver, server: NameServer) -> None:
        slow = [
            asyncio.ensure_future(resolver.addresses(f"host{n}.slow.test", 0.0)) for n in range(50)
        ]
        found = await resolver.addresses("mx.example.test", 0.0)
        assert found.addresses
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()

    asked(talk, "auto", **{f"host{n}.slow": SILENT for n in range(50)})
