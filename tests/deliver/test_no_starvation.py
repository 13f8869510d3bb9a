"""No job that no gate holds is passed over, and none is overtaken for ever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.deliver.facts import of_recipients
from mta.deliver.rules import READY, Rules
from mta.deliver.timetable import Timetable
from mta.policy.decide import GO, decide
from mta.spool.entry import RecipientState
from mta.spool.layout import arrived
from mta.values import replace
from tests.deliver.fakes import EPOCH
from tests.deliver.test_lane import DOWN, GREY, OK, OURS, House

HOSTS = [f"h{n}" for n in range(5)]
DRAWS = st.tuples(
    st.sampled_from(["offer", "offer", "answer", "answer", "answer", "clock"]),
    st.integers(0, 40),
    st.sampled_from(HOSTS),
    st.sampled_from([OK, OK, OK, GREY, DOWN, OURS]),
)


def passed_over(house):
    """Return what waits for its turn though no gate is shut."""
    lane, now, left = house.lane, house.clock.now, []
    for name, entry in house.spool.jobs.items():
        if name in house.spool.claimed or lane.whereabouts(name)[0] != READY:
            continue
        room = lane.about(name.host, now)
        facts = of_recipients(entry, name, arrived(name.id), lane.channel.name)
        left += [name for each in facts if decide(each, *room, now).verdict == GO]
    return left


@settings(deadline=None, max_examples=60)
@given(
    st.lists(DRAWS, max_size=60),
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from([0.3, 0.5, 1.0]),
)
def test_no_job_that_no_gate_holds_is_passed_over(steps, concurrency, per_host, share):
    house = House(concurrency=concurrency, per_host=per_host, max_share=share)
    for step, number, host, outcome in steps:
        if step == "offer":
            house.lane.offer(house.queue(*[host] * (1 + number % 4)))
        elif step == "answer" and house.program.sent:
            tags = sorted(house.program.sent)
            house.answer(tags[number % len(tags)], outcome)
        else:
            house.clock.now += number * 60.0
        house.pump()
        assert passed_over(house) == []


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 20),
    st.integers(1, 3),
    st.sampled_from(["arrival", "host", "none"]),
    st.data(),
)
def test_a_job_is_handed_over_within_a_bound_however_much_follows_it(
    concurrency, per_host, before, flood, order, data
):
    house = House(concurrency=concurrency, per_host=per_host, order=order)
    house.lane.offer(house.queue(*["h0"] * before))
    (name,) = house.queue(data.draw(st.sampled_from(HOSTS[:3])))
    house.lane.offer([name])
    # Each round one job lands, and more come than can go.  What stands before it, and a
    # round of the hosts' turns for each slot, is all it may have to wait for.
    bound = (before + 1) * len(HOSTS) + 2 * concurrency + 20
    for rounds in range(bound):
        house.pump()
        if name in house.program.history:
            break
        assert rounds < bound - 1, f"{before} before it, and not handed over after {rounds}"
        house.answer(min(house.program.sent), OK)
        house.clock.now += 1.0
        house.lane.offer(house.queue(*[HOSTS[1 + rounds % 3]] * (flood + 1)))


def test_a_bulk_job_comes_before_what_arrives_after_its_delay():
    house = House(concurrency=1, bulk_delay=30.0)
    house.lane.offer(house.queue("h0"))
    house.pump()
    (bulk,) = house.queue("h1", tag="b000000")
    house.lane.offer([bulk])
    rounds = 0
    while bulk not in house.program.history:
        rounds += 1
        house.clock.now += 1.0
        house.lane.offer(house.queue("h2", "h3"))
        house.answer(min(house.program.sent), OK)
        house.pump()
        assert rounds < 70
    assert rounds > 5


@pytest.mark.parametrize("hosts", [1, 5])
def test_of_a_queue_longer_than_the_index_every_job_is_looked_at_and_then_there_is_rest(hosts):
    """The first of the line took all the room, again and again; the last were never seen."""
    house = House(rules=Rules(index_limit=100))
    for name in house.queue(*[f"h{n % hosts}" for n in range(1000)]):
        entry = house.spool.jobs[name]
        waits = RecipientState("deferred", 1, EPOCH, EPOCH + 90_000, GREY)
        house.spool.jobs[name] = replace(entry, states=(waits,))
    (last,) = house.queue("h0")  # it has not been tried
    table, opened = Timetable([house.lane], 600.0), []
    for _ in range(200):
        table.tick(house.clock.monotonic())
        house.pump()
        for tag in list(house.program.sent):
            house.answer(tag, OK)
        house.clock.now += 0.5
        opened.append(house.spool.opened.total())
    assert last in house.program.history
    assert len(house.spool.opened) == 1001
    assert opened[-1] == opened[100] < 10_000
