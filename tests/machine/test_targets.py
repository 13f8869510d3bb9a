"""Targets: what jobs must share to share connections, and how hosts may be spoken to."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine.answers import ABSENT, EMPTY, Answer
from mta.machine.outward import Settings
from mta.machine.places import DANE, MAY, OFF, REQUIRE, VERIFY, TlsPolicy
from mta.machine.resolve import Resolver
from mta.machine.sts import StsPolicy
from mta.machine.targets import Guide, Refusal, Target
from mta.types import HOST, MESSAGE, Outcome

OURS = "mx.example.test"
DIGEST = "ab" * 32


class World:
    """A DNS in memory; names in ``secure`` are signed."""

    def __init__(self, zones: dict[tuple[str, str], list[str]], *secure: str) -> None:
        self.zones = zones
        self.secure = secure

    async def ask(self, name: str, kind: str) -> Answer:
        secure = any(name == top or name.endswith("." + top) for top in self.secure)
        records = self.zones.get((name, kind), [])
        if records == ["SERVFAIL"]:
            return Answer((), 5.0, "SERVFAIL")
        if records:
            return Answer(tuple(records), 300.0, "", secure)
        known = any(other == name or other.endswith("." + name) for other, _ in self.zones)
        return Answer((), 60.0, EMPTY if known else ABSENT, secure)

    def guide(self, policies: Any = None, **options: Any) -> Guide:
        given = Settings(OURS, port=2525, names=(OURS,), **options)
        return Guide(given, Resolver(ask=self.ask), policies)


class Policies:
    def __init__(self, mode: str, *mx: str) -> None:
        self._policy = StsPolicy("1", mode, mx, 1e9)

    async def policy(self, domain: str, now: float) -> StsPolicy | None:
        return self._policy

    def failure(self, domain: str) -> str:
        return ""


def find(guide: Guide, domain: str, level: str = "may", requiretls: bool = False) -> Any:
    return asyncio.run(guide.find(domain, level, requiretls, 0.0))


def policy_of(guide: Guide, target: Target, domain: str) -> Any:
    async def ask() -> Any:
        hosts = await guide.hosts(target, domain, 0.0)
        assert not isinstance(hosts, Outcome), hosts
        return await guide.policy(target, hosts[0], 0.0)

    return asyncio.run(ask())


lists = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["a.mx.test", "b.mx.test", "c.mx.test"])),
    min_size=1,
    max_size=5,
    unique_by=lambda pair: pair[1],
)


@settings(max_examples=50)
@given(lists, st.randoms(use_true_random=False))
def test_g1_the_order_of_equal_exchangers_does_not_matter(
    exchangers: list[tuple[int, str]], chance: random.Random
) -> None:
    hosts = {(name, "A"): ["192.0.2.1"] for name in ("a.mx.test", "b.mx.test", "c.mx.test")}
    again = list(exchangers)
    chance.shuffle(again)
    targets = []
    for records in (exchangers, again):
        mx = [f"{preference} {name}." for preference, name in records]
        targets.append(find(World({("x.test", "MX"): mx, **hosts}).guide(), "x.test"))
    assert targets[0] == targets[1]
    assert hash(targets[0]) == hash(targets[1])
    by_preference = dict.fromkeys(sorted({p for p, _ in exchangers}))
    assert targets[0].groups == tuple(
        tuple(sorted(name for p, name in exchangers if p == preference))
        for preference in by_preference
    )


SHARED = {
    ("one.test", "MX"): ["10 mx.host.test."],
    ("two.test", "MX"): ["10 mx.host.test."],
    ("host.test", "MX"): ["10 mx.host.test."],
    ("mx.host.test", "A"): ["192.0.2.1"],
}
SIGNED = ("one.test", "two.test", "host.test")


@pytest.mark.parametrize(
    ("level", "requiretls", "signed", "own", "of_host"),
    [
        ("may", False, (), False, False),
        ("may", False, SIGNED, False, True),
        ("require", False, SIGNED, False, True),
        ("verify", False, (), True, True),
        ("may", True, SIGNED, True, True),
    ],
)
def test_g2_a_domains_name_counts_only_for_a_target_of_its_own(
    level: str, requiretls: bool, signed: tuple[str, ...], own: bool, of_host: bool
) -> None:
    guide = World(SHARED, *signed).guide()
    one, two, host = (
        find(guide, d, level, requiretls) for d in ("one.test", "two.test", "host.test")
    )
    assert (one.domain, two.domain) == (("one.test", "two.test") if own else ("", ""))
    assert host.domain == ("host.test" if of_host else "")
    assert (one == two) is not own
    assert (one == host) is not of_host


TLSA = ("_2525._tcp.mx.host.test", "TLSA")
USABLE, UNUSABLE = [f"3 1 1 {DIGEST}"], [f"1 1 1 {DIGEST}"]

# level, requiretls, signed, TLSA records, MTA-STS → level and origin of the policy, or a refusal
RULES = [
    ("off", False, True, USABLE, None, (OFF, "config")),
    ("may", False, True, USABLE, None, (DANE, "dane")),
    ("may", False, False, USABLE, None, (MAY, "config")),
    ("may", False, True, UNUSABLE, None, (REQUIRE, "dane")),
    ("may", False, True, [], None, (MAY, "config")),
    ("may", False, True, ["SERVFAIL"], None, "dnssec-invalid"),
    ("may", False, False, ["SERVFAIL"], None, (MAY, "config")),
    ("may", False, "the host alone", USABLE, None, (MAY, "config")),
    ("dane-only", False, "the host alone", USABLE, None, "dane-required"),
    ("require", False, False, [], None, (REQUIRE, "config")),
    ("require", False, True, USABLE, None, (DANE, "dane")),
    ("verify", False, True, USABLE, None, (VERIFY, "config")),
    ("dane-only", False, True, USABLE, None, (DANE, "dane")),
    ("dane-only", False, True, UNUSABLE, None, "dane-required"),
    ("dane-only", False, True, [], None, "dane-required"),
    ("dane-only", False, False, USABLE, None, "dane-required"),
    ("may", False, False, [], ("enforce", "mx.host.test"), (VERIFY, "sts")),
    ("may", False, False, [], ("enforce", "*.host.test"), (VERIFY, "sts")),
    ("may", False, False, [], ("enforce", "other.test"), "validation-failure"),
    ("may", False, False, [], ("testing", "mx.host.test"), (VERIFY, "sts")),
    ("may", False, False, [], ("none", "other.test"), (MAY, "config")),
    ("may", False, True, USABLE, ("enforce", "other.test"), (DANE, "dane")),
    ("off", False, False, [], ("enforce", "other.test"), (OFF, "config")),
    ("verify", False, False, [], ("enforce", "other.test"), (VERIFY, "config")),
    ("may", True, True, USABLE, None, (DANE, "dane")),
    ("may", True, True, [], None, (VERIFY, "config")),
    ("may", True, False, [], ("enforce", "mx.host.test"), (VERIFY, "sts")),
    ("may", True, True, [], ("testing", "other.test"), (VERIFY, "config")),
    ("off", True, True, [], None, "validation-failure"),
]


@pytest.mark.parametrize(("level", "requiretls", "signed", "tlsa", "sts", "expected"), RULES)
def test_how_a_host_may_be_spoken_to(
    level: str,
    requiretls: bool,
    signed: bool | str,
    tlsa: list[str],
    sts: tuple[str, ...] | None,
    expected: object,
) -> None:
    zones = {**SHARED, TLSA: tlsa}
    policies = Policies(*sts) if sts is not None else None
    tops = ("one.test", "host.test") if signed is True else ("host.test",) if signed else ()
    guide = World(zones, *tops).guide(policies)
    target = find(guide, "one.test", level, requiretls)
    policy = policy_of(guide, target, "one.test")
    if isinstance(policy, Refusal):
        assert policy.result == expected
        assert policy.outcome.scope == (MESSAGE if requiretls else HOST)
        assert policy.outcome.reply.permanent is requiretls
    else:
        assert isinstance(policy, TlsPolicy)
        assert (policy.level, policy.origin) == expected
        if policy.level in (VERIFY, DANE):
            assert policy.names[0] == "mx.host.test"


@pytest.mark.parametrize("sts", [None, ("testing", "*.host.test")])
def test_requiretls_needs_exchangers_that_are_proved(sts: tuple[str, ...] | None) -> None:
    guide = World(SHARED).guide(Policies(*sts) if sts else None)
    found = find(guide, "one.test", "may", True)
    assert isinstance(found, Outcome)
    assert (found.reply.code, found.reply.status, found.scope) == (550, "5.7.10", MESSAGE)


@pytest.mark.parametrize("named", [True, False])
def test_a_name_that_is_not_is_a_mistake_of_ours_if_we_named_it(named: bool) -> None:
    guide = World({}).guide()
    target = guide.fixed("gone.test", 25, "may", False, named)
    found = asyncio.run(guide.hosts(target, "gone.test", 0.0))
    assert isinstance(found, Outcome)
    assert found.reply.permanent is not named


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "unix:/run/lmtp"])
def test_addresses_and_sockets_ask_nobody(host: str) -> None:
    async def never(name: str, kind: str) -> Answer:
        raise AssertionError(name)

    guide = Guide(Settings(OURS), Resolver(ask=never))
    target = guide.fixed(host, 24, "require", False, True)

    async def ask() -> None:
        (found,) = await guide.hosts(target, host, 0.0)  # type: ignore[misc]
        assert found.addresses == (host,)
        policy = await guide.policy(target, found, 0.0)
        assert policy == TlsPolicy(OFF if host.startswith("unix:") else REQUIRE)

    asyncio.run(ask())


def test_we_are_where_we_take_mail_ourselves() -> None:
    zones = {("x.test", "MX"): ["10 mx.host.test."], **SHARED}
    found = find(World(zones).guide(addresses=("192.0.2.1",)), "x.test")
    assert isinstance(found, Outcome)
    assert found.reply.status == "5.4.6"


@pytest.mark.parametrize(("port", "status"), [(25, "5.4.4"), (2525, "")])
def test_an_exchanger_on_loopback_counts_only_at_a_port_of_our_own(port: int, status: str) -> None:
    world = World({("x.test", "MX"): ["10 here.test."], ("here.test", "A"): ["127.0.0.1"]})
    guide = Guide(Settings(OURS, port=port), Resolver(ask=world.ask))
    found = find(guide, "x.test")
    assert (found.reply.status if isinstance(found, Outcome) else "") == status


def test_what_one_domain_publishes_later_is_nothing_to_others_at_its_hosts() -> None:
    zones = {
        ("good.test", "MX"): ["10 mx.test."],
        ("evil.test", "MX"): ["10 mx.test."],
        ("mx.test", "A"): ["192.0.2.1"],
        ("elsewhere.test", "A"): ["203.0.113.66"],
    }
    world = World(zones)
    guide = world.guide()
    target = find(guide, "good.test")
    assert find(guide, "evil.test") == target
    for mx in (["10 elsewhere.test."], ["0 ."], ["10 gone.test."]):
        zones["evil.test", "MX"] = mx
        late = world.guide()  # which remembers nothing
        hosts: Any = asyncio.run(late.hosts(target, "evil.test", 0.0))
        assert [host.addresses for host in hosts] == [("192.0.2.1",)]


class Absent(Policies):
    """A policy that was to be had, and could not."""

    async def policy(self, domain: str, now: float) -> StsPolicy | None:
        return None

    def failure(self, domain: str) -> str:
        return "sts-policy-fetch-error"


def test_requiretls_waits_for_a_policy_that_cannot_be_had() -> None:
    world = World({("a.test", "MX"): ["10 mx.test."], ("mx.test", "A"): ["192.0.2.1"]})
    told = find(world.guide(Absent("none")), "a.test", requiretls=True)
    assert isinstance(told, Outcome)
    assert (told.reply.code, told.reply.status, told.scope) == (421, "4.7.5", HOST)
    none = find(world.guide(Policies("none")), "a.test", requiretls=True)
    assert none.reply.permanent


def test_an_unusable_tlsa_record_does_not_outdo_an_enforced_policy() -> None:
    zones = {
        ("a.test", "MX"): ["10 mx.test."],
        ("mx.test", "A"): ["192.0.2.1"],
        ("_2525._tcp.mx.test", "TLSA"): [f"1 1 1 {DIGEST}"],
    }
    world = World(zones, "test")
    for policies, level in ((None, REQUIRE), (Policies("enforce", "mx.test"), VERIFY)):
        guide = world.guide(policies)
        assert policy_of(guide, find(guide, "a.test"), "a.test").level == level
