from __future__ import annotations

import asyncio
import ipaddress
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine import exchangers
from mta.machine.answers import Addresses, Exchangers, Hop
from mta.machine.exchangers import ADDRESSES_MAX, SHARE_MAX, Route, find
from mta.machine.resolve import Resolver
from mta.types import HOST, RECIPIENT, Outcome, Reply
from tests.nameserver import REFUSED, SERVFAIL, SILENT, Entry, NameServer, Rule

DEFERRED = Outcome(Reply(421, "4.4.3", "name service: SERVFAIL"), HOST)
NO_NAME = Outcome(Reply(550, "5.1.2", "no such host name"), RECIPIENT)
EMPTY = Outcome(Reply(421, "4.4.4", "the name has no address"), HOST)

GONE = Addresses((), NO_NAME, none=True)
BARE = Addresses((), EMPTY, none=True)
SICK = Addresses((), DEFERRED)


class Book:
    """Answers by name; "slow" ones never come."""

    def __init__(self, said: Exchangers, hosts: dict[str, Addresses | str]) -> None:
        self.said = said
        self.hosts = hosts
        self.asked: list[str] = []
        self.at_once = self.most = 0

    async def exchangers(self, domain: str, now: float) -> Exchangers:
        return self.said

    async def addresses(self, host: str, now: float) -> Addresses:
        self.asked.append(host)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        found = self.hosts.get(host, GONE)
        if isinstance(found, str):
            await asyncio.Event().wait()
        assert isinstance(found, Addresses)
        return found


def keep(hops: list[Hop]) -> None:
    """Shuffle nothing."""


def route(
    mx: list[tuple[int, str]],
    hosts: dict[str, Addresses | str],
    *,
    domain: str = "example.test",
    own: tuple[str, ...] = ("own.test",),
    places: tuple[str, ...] = ("192.0.2.200",),
    secure: bool = False,
    stale: bool = False,
    local: bool = False,
    implicit: bool = False,
) -> Route:
    hops = tuple(sorted([Hop(n, p) for p, n in mx], key=lambda hop: hop.preference))
    book = Book(Exchangers(hops, secure, None, implicit, stale), hosts)
    work = find(book, domain, own, places, keep, 0.0, local=local)
    found = asyncio.run(work)
    assert book.most <= exchangers.HOSTS_AT_ONCE
    return found


def names(found: Route) -> list[str]:
    return [host.name for host in found.hosts]


def status(found: Route) -> tuple[int, str, str]:
    assert found.hosts == ()
    assert found.trouble is not None
    return found.trouble.reply.code, found.trouble.reply.status, found.trouble.scope


A, B, C = (Addresses((f"192.0.2.{n}",)) for n in (1, 2, 3))
LOOP = (554, "5.4.6", RECIPIENT)
NOWHERE = (550, "5.4.4", RECIPIENT)
LATER = (421, "4.4.3", HOST)


def test_the_best_comes_first() -> None:
    found = route([(20, "b"), (10, "a"), (30, "c")], {"a": A, "b": B, "c": C})
    assert names(found) == ["a", "b", "c"]


def test_versions_by_turns() -> None:
    mixed = Addresses(("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"))
    found = route([(1, "a")], {"a": mixed}).hosts[0].addresses
    assert found == ("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3")


def test_x2_no_host_has_all_the_room() -> None:
    many = Addresses(tuple([f"192.0.2.{n}" for n in range(1, 30)]))
    found = route([(1, "a"), (2, "b")], {"a": many, "b": B})
    assert [len(host.addresses) for host in found.hosts] == [SHARE_MAX, 1]


def test_a_host_that_does_not_resolve_is_left_out() -> None:
    for bad in (GONE, BARE, SICK):
        assert names(route([(1, "x"), (2, "b")], {"x": bad, "b": B})) == ["b"]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ({"a": GONE, "b": GONE}, NOWHERE),
        ({"a": BARE, "b": GONE}, NOWHERE),
        ({"a": Addresses(("127.0.0.1",)), "b": GONE}, NOWHERE),
        ({"a": SICK, "b": GONE}, LATER),
        ({"a": GONE, "b": SICK}, LATER),
        ({"a": SICK, "b": Addresses(("127.0.0.1",))}, LATER),
    ],
)
def test_x1_none_left(hosts: dict[str, Addresses | str], expected: tuple[int, str, str]) -> None:
    assert status(route([(1, "a"), (2, "b")], hosts)) == expected


def test_x1_what_ran_out_fails_nobody() -> None:
    assert status(route([(1, "a")], {"a": GONE}, stale=True)) == LATER
    assert status(route([(1, "own.test")], {}, stale=True)) == LATER
    assert names(route([(1, "a")], {"a": A}, stale=True)) == ["a"]


def test_x1_more_hosts_than_are_looked_up_fail_nobody() -> None:
    assert status(route([(1, f"x{n}") for n in range(21)], {})) == LATER
    assert status(route([(1, f"x{n}") for n in range(20)], {})) == NOWHERE


def test_without_mx_records() -> None:
    found = route([(0, "example.test")], {"example.test": A}, implicit=True)
    assert (names(found), found.implicit) == (["example.test"], True)
    assert status(route([(0, "example.test")], {"example.test": BARE}, implicit=True)) == NOWHERE
    assert status(route([(0, "example.test")], {"example.test": SICK}, implicit=True)) == LATER


@pytest.mark.parametrize("mine", ["name", "address"])
def test_x3_where_we_are_the_list_ends(mine: str) -> None:
    us = "own.test" if mine == "name" else "us.test"
    here = Addresses(("2001:db8::9", "192.0.2.200"))
    hosts: dict[str, Addresses | str] = {"a": A, "b": B, "c": C, us: here}
    assert names(route([(1, "a"), (2, us), (2, "b"), (3, "c")], hosts)) == ["a"]
    assert status(route([(1, us), (1, "b"), (3, "c")], hosts)) == LOOP
    assert status(route([(1, us)], hosts)) == LOOP
    assert status(route([(1, "x"), (2, us), (3, "c")], hosts)) == LOOP  # nor is x anywhere
    assert status(route([(1, "x"), (2, us), (3, "c")], {**hosts, "x": SICK})) == LATER


NOBODYS = ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"]
NOBODYS += ["::ffff:127.0.0.1", "255.255.255.255"]


@pytest.mark.parametrize("address", NOBODYS)
def test_x3_addresses_of_nobody_else(address: str) -> None:
    both = Addresses((address, "192.0.2.1"))
    assert route([(1, "a")], {"a": both}).hosts[0].addresses == ("192.0.2.1",)
    assert status(route([(1, "a")], {"a": Addresses((address,))})) == NOWHERE
    loop = ipaddress.ip_address(address)
    loop = getattr(loop, "ipv4_mapped", None) or loop
    found = route([(1, "a")], {"a": Addresses((address,))}, local=True)
    assert bool(found.hosts) == loop.is_loopback


def test_what_is_secure() -> None:
    proved, plain = Addresses(("192.0.2.1",), None, True), A
    for mx in (True, False):
        found = route([(1, "a"), (2, "b")], {"a": proved, "b": plain}, secure=mx)
        assert [host.secure for host in found.hosts] == [mx, False]
        assert found.secure == mx


LITERALS = [
    ("[192.0.2.7]", "192.0.2.7"),
    ("[IPv6:2001:db8::7]", "2001:db8::7"),
    ("[ipv6:2001:DB8:0::7]", "2001:db8::7"),
]


@pytest.mark.parametrize(("domain", "address"), LITERALS)
def test_address_literals(domain: str, address: str) -> None:
    found = route([], {}, domain=domain)
    assert [host.addresses for host in found.hosts] == [(address,)]
    assert names(found) == [domain]
    assert status(route([], {}, domain=domain, places=(address,))) == LOOP


@pytest.mark.parametrize("domain", ["[", "[]", "[x]", "[127.0.0.1]", "[192.0.2.300]", "[IPv6:::1]"])
def test_literals_that_are_none(domain: str) -> None:
    assert status(route([], {}, domain=domain)) == (550, "5.1.2", RECIPIENT)


def test_a_slow_host_does_not_hold_up_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "GRACE", 0.02)
    assert names(route([(1, "slow"), (2, "b")], {"slow": "slow", "b": B})) == ["b"]
    many: dict[str, Addresses | str] = {f"s{n}": "slow" for n in range(12)}
    found = route([(1, "b"), *[(2, name) for name in many]], {"b": B, **many})
    assert names(found) == ["b"]


def test_x1_slow_hosts_alone_are_a_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "FIND_LIMIT", 0.02)
    assert status(route([(1, "slow"), (2, "x")], {"slow": "slow"})) == LATER

    class Slow(Book):
        async def exchangers(self, domain: str, now: float) -> Exchangers:
            await asyncio.Event().wait()
            return self.said

    book = Slow(Exchangers(()), {})
    assert status(asyncio.run(find(book, "example.test", (), (), keep, 0.0))) == LATER


def test_no_more_is_asked_than_needed() -> None:
    eight = Addresses(tuple([f"192.0.2.{n}" for n in range(1, 9)]))
    book = Book(Exchangers(tuple([Hop(f"h{n}", n) for n in range(20)])), {})
    book.hosts = dict.fromkeys([f"h{n}" for n in range(20)], eight)
    found = asyncio.run(find(book, "example.test", (), (), keep, 0.0))
    assert len(book.asked) == exchangers.HOSTS_AT_ONCE
    assert [len(host.addresses) for host in found.hosts] == [8, 8, 4]


answers = st.one_of(
    st.sampled_from([GONE, BARE, SICK]),
    st.lists(
        st.one_of(
            st.integers(1, 100).map(lambda n: f"192.0.2.{n}"),
            st.integers(1, 100).map(lambda n: f"2001:db8::{n}"),
            st.sampled_from(["127.0.0.1", "::1", "192.0.2.200"]),
        ),
        min_size=1,
        max_size=12,
    ).map(lambda found: Addresses(tuple(found), None, True)),
)
lists = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=30)


@given(lists, st.dictionaries(st.integers(0, 30), answers), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_x1_x2_x3_x4_any_list(
    mx: list[tuple[int, int]], hosts: dict[int, Addresses], chance: random.Random
) -> None:
    hops = tuple(sorted([Hop(f"h{n}", p) for p, n in mx], key=lambda hop: hop.preference))
    book = Book(Exchangers(hops, True), {f"h{n}": found for n, found in hosts.items()})
    found = asyncio.run(
        find(book, "example.test", ("h0", "h1"), ("192.0.2.200",), chance.shuffle, 0.0)
    )
    assert (found.trouble is None) == bool(found.hosts)
    assert sum(len(host.addresses) for host in found.hosts) <= ADDRESSES_MAX
    own = min([hop.preference for hop in hops if hop.name in ("h0", "h1")], default=99)
    best = {hop.name: hop.preference for hop in reversed(hops)}
    order = []
    for host in found.hosts:
        assert 0 < len(host.addresses) <= SHARE_MAX
        assert not {"127.0.0.1", "::1", "192.0.2.200"} & set(host.addresses)
        assert min(p for p, n in mx if f"h{n}" == host.name) < own
        order.append(best[host.name])
    if len(set(best)) == len(hops):
        assert order == sorted(order)
    if found.trouble is not None and found.trouble.reply.permanent:
        asked = [book.hosts.get(name, GONE) for name in book.asked]
        assert SICK not in asked


def test_x4_equal_ones_change_places() -> None:
    chance = random.Random(7)
    hops = tuple([Hop(f"h{n}", n // 4) for n in range(8)])
    hosts: dict[str, Addresses | str] = {f"h{n}": A for n in range(8)}
    book = Book(Exchangers(hops), hosts)
    seen = set()
    for _ in range(40):
        found = asyncio.run(find(book, "example.test", (), (), chance.shuffle, 0.0))
        assert sorted(names(found)[:4]) == ["h0", "h1", "h2", "h3"]
        seen.add(names(found)[0])
    assert len(seen) > 1


ZONES: dict[str, Entry] = {
    "good.test": {"MX": ["10 dead.good.test.", "20 mx.good.test.", "20 alias.good.test."]},
    "mx.good.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "alias.good.test": {"CNAME": ["mx.good.test."]},  # tolerated: RFC 2181 s10.3 forbids it
    "null.test": {"MX": ["0 ."]},
    "plain.test": {"A": ["192.0.2.2"]},
    "empty.test": {"TXT": ["x"]},
    "sick.test": SERVFAIL,
    "shut.test": REFUSED,
    "half.test": {"MX": SERVFAIL, "A": ["192.0.2.3"]},
    "lost.test": {"MX": ["10 sick.test."]},
    "many.test": {"MX": [f"{n % 9} mx{n}.many.test." for n in range(1000)]},
    "mx9.many.test": {"A": ["192.0.2.4"]},
    "home.test": {"MX": ["10 localhost.", "20 here.home.test."]},
    "here.home.test": {"A": ["127.0.0.1"]},
    "four.test": {"MX": ["10 192.0.2.1."]},  # as people write it: it is a name, and there is none
    "loop.test": {"CNAME": ["loop.test."]},
    "zero.test": {"MX": Rule(["10 mx.good.test."], ttl=0)},
}
CASES = [
    ("good.test", {"mx.good.test", "alias.good.test"}),
    ("plain.test", {"plain.test"}),
    ("zero.test", {"mx.good.test"}),
    ("many.test", None),
    ("null.test", (556, "5.1.10", RECIPIENT)),
    ("empty.test", NOWHERE),
    ("gone.test", (550, "5.1.2", RECIPIENT)),
    ("home.test", NOWHERE),
    ("four.test", NOWHERE),
    ("sick.test", LATER),
    ("shut.test", LATER),
    ("half.test", LATER),
    ("lost.test", LATER),
    ("loop.test", LATER),
]


def test_with_a_real_server() -> None:
    async def talk(server: NameServer) -> None:
        resolver = Resolver((server.endpoint,))
        for domain, expected in CASES:
            found = await find(resolver, domain, ("own.test",), (), random.shuffle, 0.0)
            if isinstance(expected, set):
                assert set(names(found)) == expected, domain
            elif expected is not None:
                assert status(found) == expected, domain
            else:
                assert found.trouble is None or found.trouble.reply.transient

    with NameServer(ZONES) as server:
        asyncio.run(talk(server))


def test_x1_a_silent_server_defers_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "FIND_LIMIT", 0.1)

    async def talk(server: NameServer) -> None:
        resolver = Resolver((server.endpoint,))
        server.down = True
        for domain in ("good.test", "null.test", "gone.test"):
            found = await find(resolver, domain, (), (), random.shuffle, 0.0)
            assert status(found) == LATER

    with NameServer({**ZONES, "silent.test": SILENT}) as server:
        asyncio.run(talk(server))
