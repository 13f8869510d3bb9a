"""The picker inside a lane: whose turn it is, by shares, rates and tokens."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.model import HostRule
from mta.deliver.orders import recall
from mta.machine.tokens import SPARE, Tokens
from mta.policy.decide import JobFacts
from mta.spool.layout import arrived
from tests.deliver.fakes import EPOCH
from tests.deliver.test_lane import GREY, OK, House

HOSTS = ["a", "b", "c"]


def prove(house, hosts):
    """Let each host answer once, so that none is on probation."""
    house.lane.offer(house.queue(*hosts))
    house.pump()
    while house.program.sent:
        house.answer(next(iter(house.program.sent)), OK)
        house.pump()
    house.clock.now += 1


def in_flight(house):
    return Counter(f.name.host for f in house.program.sent.values())


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([0.2, 0.5, 0.75, 1.0]), st.integers(1, 8))
def test_pk1_no_host_has_more_than_its_share_while_others_could_go(data, share, slots):
    house = House(concurrency=slots, per_host=slots, max_share=share, fair_authors=False)
    prove(house, HOSTS)
    most = max(1, int(slots * share))
    waiting = Counter()
    for _ in range(data.draw(st.integers(1, 25))):
        new = data.draw(st.lists(st.sampled_from(HOSTS), max_size=6))
        house.lane.offer(house.queue(*new))
        house.clock.now += 1
        waiting.update(new)
        before = in_flight(house)
        house.pump()
        after = in_flight(house)
        waiting -= after - before
        for host in HOSTS:
            begun = after[host] - before[host]
            others = any(waiting[h] and after[h] < most for h in HOSTS if h != host)
            if begun and others:  # who could have gone did not: nobody went beyond his share
                assert after[host] <= most
        assert sum(after.values()) == slots or not +waiting
        if house.program.sent:
            tag = data.draw(st.sampled_from(sorted(house.program.sent)))
            house.answer(tag, OK)


def test_pk1_a_host_alone_has_all():
    house = House(concurrency=6, per_host=6, max_share=0.5)
    prove(house, ["a"])
    house.lane.offer(house.queue(*["a"] * 9))
    house.pump()
    assert in_flight(house) == {"a": 6}
    house.lane.offer(house.queue("b", "b"))
    house.answer(next(iter(house.program.sent)), OK)
    house.pump()
    assert in_flight(house) == {"a": 5, "b": 1}


def test_pk1_a_share_of_one_s_own():
    hosts = (HostRule(("a",), max_share=0.2),)
    house = House(concurrency=10, per_host=10, max_share=1.0, hosts=hosts)
    prove(house, HOSTS)
    house.lane.offer(house.queue(*["a"] * 20, *["b"] * 8))
    house.pump()
    assert in_flight(house) == {"a": 2, "b": 8}


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.lists(st.floats(0, 20), min_size=1, max_size=30))
def test_pk2_rates_are_kept_and_used(number, waits):
    house = House(concurrency=50, per_host=50, rate=(number, 60.0))
    prove(house, ["b"])
    house.lane.offer(house.queue(*["a"] * 100, *["b"] * 20))
    begun = []
    for wait in waits:
        house.clock.now += wait
        house.pump()
        for tag, flight in list(house.program.sent.items()):
            begun += [house.clock.now] if flight.name.host == "a" else []
            house.answer(tag, OK)
            house.pump()
        due = house.lane.next_due
        assert house.lane.idle or (due is not None and due > house.clock.now)
    for first, later in zip(begun, begun[number:], strict=False):
        assert later - first >= 60.0 - 1e-3


def test_pk2_what_a_rate_keeps_back_goes_when_it_may():
    house = House(hosts=(HostRule(("slow",), rate=(2, 60.0)),))
    house.lane.offer(house.queue("slow", "slow", "quick", "quick"))
    house.pump()
    for tag in list(house.program.sent):
        house.answer(tag, OK)
    house.pump()
    assert in_flight(house) == {"quick": 1}
    assert house.lane.next_due == pytest.approx(EPOCH + 30.0)
    house.clock.now += 30.0
    house.pump()
    assert in_flight(house) == {"quick": 1, "slow": 1}


class Purse:
    """As many tokens as the test says."""

    def __init__(self, may):
        self.may, self.asked = may, []

    def ask(self, busy, want, mono):
        self.asked.append((busy, want))

    def due(self, mono):
        return None

    def close(self):
        pass


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=20), st.data())
def test_pk3_no_more_in_flight_than_tokens(mays, data):
    purse = Purse(0)
    house = House(purse=purse, concurrency=5, per_host=5)
    prove_with(house, purse)
    house.lane.offer(house.queue(*["a"] * 60, *["b"] * 60))
    for may in mays:
        purse.may = may
        before = len(house.program.sent)
        house.pump()
        assert len(house.program.sent) == max(before, min(5, may))
        busy, want = purse.asked[-1]
        assert want in (5, busy)
        if house.program.sent:
            house.answer(data.draw(st.sampled_from(sorted(house.program.sent))), OK)


def prove_with(house, purse):
    purse.may = 5
    prove(house, HOSTS)


def test_pk3_two_lanes_share_the_tokens_of_a_file(tmp_path):
    one, other = Tokens(str(tmp_path), 4, {}), Tokens(str(tmp_path), 4, {})
    first = House(purse=one.purse("smtp"), concurrency=6, per_host=6)
    second = House(purse=other.purse("smtp"), concurrency=6, per_host=6)
    for house in (first, second):
        prove(house, ["a"])
        house.clock.now += SPARE
        house.pump()  # what is not used goes back
    first.clock.now += 0.1
    first.lane.offer(first.queue(*["a"] * 9))
    first.pump()
    assert len(first.program.sent) == 4
    second.clock.now = first.clock.now
    second.lane.offer(second.queue(*["a"] * 9))
    second.pump()
    assert not second.program.sent and second.lane.next_due is not None
    for _ in range(4):
        first.clock.now += 0.1
        second.clock.now += 0.1
        if len(first.program.sent) > 2:
            first.answer(next(iter(first.program.sent)), OK)
        first.pump()
        second.pump()
        assert len(first.program.sent) + len(second.program.sent) <= 4
    assert len(first.program.sent) == len(second.program.sent) == 2


def test_a_channel_without_runners_is_held():
    house = House(runners=0)
    names = house.queue("a", "b")
    house.lane.offer(names)
    house.lane.sweep()
    house.pump()
    assert not house.program.sent and house.lane.idle
    verdict = house.lane._decide(JobFacts("a", arrived(names[0].id)), house.clock.now)
    assert verdict.gate == "tokens" and "held" in verdict.reason


def test_by_host_one_after_the_other():
    house = House(order="host", concurrency=1, per_host=1)
    house.queue("a", "b", "a", "c", "b", "a")
    house.run(lambda host: OK)
    assert [n.host for n in house.program.history] == ["a", "a", "a", "b", "b", "c"]


def test_bulk_goes_behind_and_urgent_before():
    house = House(concurrency=1, per_host=1)
    house.queue("a", tag="b11AAAA")
    house.clock.now += 1
    house.queue("a", tag="n11AAAA")
    house.clock.now += 1
    house.queue("a", tag="u11AAAA")
    house.run(lambda host: OK)
    assert [n.kind for n in house.program.history] == ["urgent", "normal", "bulk"]


def test_by_priority_attempts_count():
    house = House(order="priority", concurrency=1, per_host=1)
    house.queue("a", tag="n11AAAA")
    house.run(lambda host: GREY)
    house.clock.now = house.lane.next_due
    late = house.spool.add("a", EPOCH + 50, tag="n11AAAA")
    house.run(lambda host: OK)
    assert house.program.history[1] == late


def test_a_clock_that_is_put_back_makes_no_host_wait_for_the_old_time():
    house = House(rate=(2, 60.0))
    prove(house, ["a"])
    house.lane.offer(house.queue("a", "a"))
    house.pump()
    for tag in list(house.program.sent):
        house.answer(tag, OK)
    house.pump()
    assert house.lane.index.waiting
    house.clock.now -= 3600
    recall(house.lane, ())
    house.pump()
    house.clock.now += 31
    house.pump()
    assert in_flight(house) == {"a": 1}
