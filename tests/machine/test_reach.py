"""From a target to a connection: what is tried, in which order, and which failure counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.channel.records import AddressFact, Avoid, TlsFact
from mta.machine import reach as reach_module
from mta.machine.credentials import Credentials
from mta.machine.exchangers import MxHost
from mta.machine.outward import Settings
from mta.machine.places import Failure, Place, TlsPolicy, TlsResult
from mta.machine.reach import BAD_FOR, PLAIN_FOR, Reach
from mta.machine.smtp_session import Connection
from mta.machine.targets import Refusal, Target
from mta.smtp.states import LIMITS
from mta.types import HOST, MESSAGE, Outcome, Reply

DOWN = Outcome(Reply(421, "4.4.1", "down"), HOST)
NEVER = Outcome(Reply(550, "5.7.10", "never"), MESSAGE)
TARGET = Target((("mx.test",),), 25, "may", mx=True)


class Clock:
    """A loop's clock, and what a Connection wants of a loop."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def create_future(self) -> Any:
        return None


class Owner:
    def __init__(self) -> None:
        self.loop: Any = Clock()
        self.connections: set[Connection] = set()

    def limit(self, state: str) -> float:
        return LIMITS[state]

    def ready(self, connection: Connection) -> None:
        pass

    def settled(self, connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
        pass

    def gone(self, connection: Connection, outcome: Outcome | None) -> None:
        pass


class Guide:
    """Says what a test wants said."""

    def __init__(self, hosts: Sequence[MxHost] | Outcome, policy: Any = None) -> None:
        self.said = hosts
        self.rule = policy or TlsPolicy()

    async def hosts(self, target: Target, domain: str, now: float) -> Any:
        return self.said

    async def policy(self, target: Target, host: MxHost, now: float) -> Any:
        return self.rule(host) if callable(self.rule) else self.rule


class Net:
    """Where connections would go; ``answer`` decides each."""

    def __init__(self, answer: Callable[[Place], Failure | None], guide: Guide) -> None:
        self.owner = Owner()
        self.tried: list[Place] = []
        self.told: list[TlsFact] = []
        self._answer = answer
        given = Settings("mx.example.test")
        report = self.told.append
        self.addresses_told: list[AddressFact] = []
        told = report, self.addresses_told.append
        self.reach = Reach(given, guide, Credentials("", print), *told)  # type: ignore[arg-type]

    async def connect(self, owner: Any, terms: Any, place: Place) -> Connection | Failure:
        self.tried.append(place)
        failure = self._answer(place)
        return Connection(owner, "us", place.relay) if failure is None else failure

    def open(self, target: Target = TARGET) -> Connection | Failure:
        self.tried.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reach_module, "connect", self.connect)
            return asyncio.run(self.reach.open(self.owner, target, "x.test"))

    @property
    def addresses(self) -> list[str]:
        return [place.address for place in self.tried]


def failure(place: Place, outcome: Outcome = DOWN, tls: str | None = None) -> Failure:
    result = None if tls is None else TlsResult(place.policy.origin, tls)
    return Failure(outcome, place.relay, result)


ADDRESSES = tuple(f"192.0.2.{number}" for number in range(1, 7))


@settings(max_examples=60)
@given(st.sets(st.sampled_from(ADDRESSES)), st.floats(0.0, 2 * BAD_FOR))
def test_h1_an_address_that_failed_is_tried_last(down: set[str], later: float) -> None:
    hosts = [MxHost("a.test", ADDRESSES[:3]), MxHost("b.test", ADDRESSES[3:])]
    net = Net(lambda place: failure(place) if place.address in down else None, Guide(hosts))
    net.open()
    first = list(ADDRESSES[: len(net.tried)])
    assert net.addresses == first
    failed = [address for address in first if address in down]
    net.owner.loop.now = later
    net._answer = failure  # none answers now: all are tried
    net.open()
    if later < BAD_FOR:
        assert net.addresses == [a for a in ADDRESSES if a not in failed] + failed
    else:
        assert net.addresses == list(ADDRESSES)
    net._answer = lambda place: None
    net.owner.loop.now += 2 * BAD_FOR
    net.open()
    assert net.addresses == [ADDRESSES[0]]


def test_an_address_that_answers_again_is_no_bad_one() -> None:
    net = Net(failure, Guide([MxHost("a.test", ADDRESSES[:2])]))
    net.open()
    net._answer = lambda place: failure(place) if place.address == ADDRESSES[0] else None
    net.open()
    net.open()
    assert net.addresses == [ADDRESSES[1]]


LEVELS = ("off", "may", "require", "verify", "dane")
RESULTS = ("", "starttls-not-supported", "validation-failure", "certificate-expired")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("origin", ["config", "dane", "sts"])
@pytest.mark.parametrize("result", [None, *RESULTS])
@pytest.mark.parametrize("mode", ["", "enforce", "testing"])
def test_h2_the_clear_is_for_hosts_of_level_may_alone(
    level: str, origin: str, result: str | None, mode: str
) -> None:
    target = Target((("mx.test",),), 25, "may", mx=True, sts=mode)
    policy = TlsPolicy(level, ("mx.test",), (), origin)
    net = Net(
        lambda place: None if place.policy.level == "off" else failure(place, tls=result),
        Guide([MxHost("mx.test", ADDRESSES[:1])], policy),
    )
    found = net.open(target)
    levels = [place.policy.level for place in net.tried]
    broken = result not in (None, "", "starttls-not-supported")
    tested = mode == "testing" and origin == "sts"
    if level == "off":
        assert levels == ["off"]
    elif tested and result:
        assert levels == [level, "may"] + ["off"] * broken
    else:
        assert levels == [level] + ["off"] * (broken and level == "may")
    assert isinstance(found, Connection) is (levels[-1] == "off")
    if levels[-1] == "off" and len(levels) > 1:  # remembered, and not for ever
        net.open(target)
        assert [place.policy.level for place in net.tried] == ["off"]
        net.owner.loop.now += PLAIN_FOR
        net.open(target)
        assert [place.policy.level for place in net.tried] == levels


@given(st.lists(st.sampled_from([DOWN, NEVER]), min_size=1, max_size=5))
def test_h3_a_final_failure_stands_only_if_all_were(outcomes: list[Outcome]) -> None:
    hosts = [MxHost(f"h{at}.test", (ADDRESSES[at],)) for at in range(len(outcomes))]
    given = dict(zip(ADDRESSES, outcomes, strict=False))
    net = Net(lambda place: failure(place, given[place.address]), Guide(hosts))
    found = net.open()
    assert isinstance(found, Failure)
    assert found.outcome == (NEVER if set(outcomes) == {NEVER} else DOWN)


def test_h4_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach_module, "REMEMBERED_MAX", 4)
    guide = Guide([])
    net = Net(lambda place: failure(place, tls="validation-failure"), guide)
    for number in range(20):
        guide.said = [MxHost(f"h{number}.test", (f"192.0.2.{number}",))]
        net.open()
    assert len(net.reach._bad) == len(net.reach._plain) == 4
    guide.said = [MxHost("a.test", ("192.0.2.19", "192.0.2.1"))]
    net.open()
    assert net.addresses[0] == "192.0.2.1"  # the oldest is forgotten


def test_no_more_than_so_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach_module, "ADDRESSES_MAX", 4)
    net = Net(failure, Guide([MxHost("a.test", ADDRESSES)]))
    net.open()
    assert net.addresses == list(ADDRESSES[:4])


def test_silent_addresses_do_not_add_up() -> None:
    net = Net(failure, Guide([MxHost("a.test", ADDRESSES)]))

    def slow(place: Place) -> Failure:
        net.owner.loop.now += LIMITS["banner"]
        return failure(place)

    net._answer = slow
    net.open()
    assert len(net.tried) == 2


def test_a_host_that_is_refused_is_passed_by_and_told() -> None:
    refusal = Refusal(DOWN, "dane", "dnssec-invalid")
    hosts = [MxHost("a.test", ADDRESSES[:1]), MxHost("b.test", ADDRESSES[1:2])]
    guide = Guide(hosts, lambda host: refusal if host.name == "a.test" else TlsPolicy())
    net = Net(lambda place: None, guide)
    assert isinstance(net.open(), Connection)
    assert net.addresses == [ADDRESSES[1]]
    assert net.told == [TlsFact("x.test", "a.test", "dane", "dnssec-invalid", "", "", "none")]


def test_without_a_host_it_is_the_reason_and_without_an_address_a_deferral() -> None:
    assert Net(failure, Guide(NEVER)).open() == Failure(NEVER, "")
    found = Net(failure, Guide([])).open()
    assert isinstance(found, Failure)
    assert found.outcome.reply.status == "4.4.4"


def test_lookups_that_take_too_long_are_a_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach_module, "LOOKUPS_MAX", 0.01)
    net = Net(failure, Guide([]))

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(net.reach._guide, "hosts", never)
    found = net.open()
    assert isinstance(found, Failure)
    assert (found.outcome.reply.status, found.outcome.scope) == ("4.4.3", HOST)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(ADDRESSES), st.integers(0, 500), max_size=6),
    st.sets(st.sampled_from(ADDRESSES)),
    st.floats(0.0, 600.0),
)
def test_h5_addresses_to_avoid_are_not_tried_before_their_time(
    avoided: dict[str, int], well: set[str], later: float
) -> None:
    hosts = [MxHost("a.test", ADDRESSES[:3]), MxHost("b.test", ADDRESSES[3:])]
    net = Net(failure, Guide(hosts))
    for address, seconds in avoided.items():
        net.reach.avoid(Avoid(f"[{address}]:25", seconds, DOWN.reply), 0.0)
    for address in well:
        net.reach.avoid(Avoid(f"[{address}]:25", 0, Reply(250, "2.0.0", "well")), 0.0)
    net.reach.avoid(Avoid(f"[{ADDRESSES[0]}]:26", 1000, DOWN.reply), 0.0)  # another port
    net.owner.loop.now = later
    expected = [a for a in ADDRESSES if a in well or later >= avoided.get(a, 0)]
    found = net.open()
    assert net.addresses == expected
    assert isinstance(found, Failure) and found.outcome == DOWN
    if not expected:
        assert found.relay == f"b.test[{ADDRESSES[-1]}]:25"


def test_h6_deliver_is_told_who_does_not_answer_and_who_does_again() -> None:
    net = Net(failure, Guide([MxHost("a.test", ADDRESSES[:2])]))
    net.open()
    words = [f"[{address}]:25" for address in ADDRESSES]
    assert [(f.address, f.reply) for f in net.addresses_told] == [
        (word, DOWN.reply) for word in words[:2]
    ]
    net.addresses_told.clear()
    net._answer = lambda place: None
    net.open()
    net.open()
    net.reach.avoid(Avoid(words[1], 0, DOWN.reply), 0.0)
    assert [(f.address, f.reply.code) for f in net.addresses_told] == [(words[0], 250)]


@pytest.mark.parametrize(
    "said",
    [
        Outcome(Reply(421, "4.7.0", "too many connections"), HOST),
        Outcome(Reply(421, "4.3.5", "credentials"), HOST),
        NEVER,
    ],
)
def test_h6_refusals_are_of_a_name_or_of_us(said: Outcome) -> None:
    net = Net(lambda place: failure(place, said), Guide([MxHost("a.test", ADDRESSES[:1])]))
    net.open()
    assert not net.addresses_told


def test_h6_trouble_with_tls_or_an_open_connection_is_no_silence() -> None:
    guide = Guide([MxHost("a.test", ADDRESSES[:1])], TlsPolicy("require"))
    net = Net(lambda place: failure(place, tls="validation-failure"), guide)
    net.open()
    net._answer = failure
    open_one = Connection(net.owner, "us", f"b.test[{ADDRESSES[0]}]:25")
    net.owner.connections.add(open_one)
    net.open()
    assert not net.addresses_told
    net.owner.connections.clear()
    net.open()
    assert len(net.addresses_told) == 1
