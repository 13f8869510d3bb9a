from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mta.config.host_rules import HostRules
from mta.deliver.board import Board
from mta.deliver.desk import Desk
from mta.deliver.gather import HELD
from mta.deliver.lane import FRESH, LOADED, Lane, Rules
from mta.deliver.realm import Ways
from mta.deliver.silence import PATIENCE
from mta.policy.deadhosts import pause
from mta.policy.load import QUEUE_ONLY, Standing
from mta.policy.select import Ages
from mta.spool.layout import tag
from mta.types import CHANNEL, HOST, Outcome, Reply
from mta.values import replace
from tests.deliver.fakes import (
    AUTHOR,
    EPOCH,
    Clock,
    Log,
    Program,
    Returns,
    Spool,
    channel,
    gather_of,
)

OK = Outcome(Reply(250, "2.0.0", "ok"))
GREY = Outcome(Reply(451, "4.7.1", "come back later"))
DOWN = Outcome(Reply(421, "4.4.1", "connection refused"), HOST)
NO = Outcome(Reply(550, "5.1.1", "no such user"))
OURS = Outcome(Reply(451, "4.3.0", "no memory"), CHANNEL)


class House:
    def __init__(self, *, rules=None, jobs=None, purse=None, hosts=(), **changes):
        self.clock, self.log, self.spool, self.returns = Clock(), Log(), Spool(), Returns()
        self.channel = channel(**changes)
        own = HostRules(hosts, self.channel)
        self.ways = Ways(Board(), own, purse=purse) if hosts or purse else None
        self.program = Program(jobs or self.channel.concurrency)
        self.desk = Desk(
            *(self.channel, self.spool, self.log),
            gather_of(self.returns, self.log, self.clock),
            self.clock,
        )
        self.lane = self.make(rules or Rules())

    def make(self, rules):
        places = self.channel, self.spool, self.log, self.desk, self.clock
        lane = Lane(*places, rules=rules, ways=self.ways)
        lane.attach(self.program)
        return lane

    def queue(self, *hosts, **more):
        return [self.spool.add(h, self.clock.now + i / 1e3, **more) for i, h in enumerate(hosts)]

    def pump(self):
        for _ in range(10_000):
            if not self.lane.pump():
                return
        raise AssertionError("the pump never rests")

    def answer(self, tag, outcome, relay="mx", *, passed=False):
        flight = self.program.sent.pop(tag)
        indexes = [r.index for r, _ in flight.tried]
        self.lane.told(tag, indexes, outcome, relay, passed=passed)
        self.lane.done(tag)

    def run(self, outcome_of):
        """Sweep, and answer the oldest job until nothing is left; return the hosts asked."""
        self.lane.sweep()
        asked = Counter()
        self.pump()
        while self.program.sent:
            tag, flight = next(iter(self.program.sent.items()))
            asked[flight.name.host] += 1
            self.answer(tag, outcome_of(flight.name.host))
            self.pump()
        return asked


BEHAVIOUR = st.dictionaries(
    st.sampled_from([f"h{i}" for i in range(6)]), st.sampled_from([OK, GREY, DOWN, NO]), min_size=1
)


@settings(deadline=None, max_examples=60)
@given(BEHAVIOUR, st.data())
def test_a1_a2_a3_a4_nothing_is_lost_doubled_or_over_a_limit(behaviour, data):
    house = House(concurrency=data.draw(st.integers(1, 8)), per_host=data.draw(st.integers(1, 4)))
    hosts = data.draw(st.lists(st.sampled_from(sorted(behaviour)), max_size=40))
    names = house.queue(*hosts)
    house.lane.sweep()
    house.pump()
    attempts = Counter()
    while house.program.sent:
        flights = house.program.sent
        in_flight = Counter(f.name.host for f in flights.values())
        assert len(flights) <= house.channel.concurrency
        assert max(in_flight.values()) <= house.channel.per_host
        assert len({f.name for f in flights.values()}) == len(flights)
        assert house.spool.claimed >= {f.name for f in flights.values()}
        tag = data.draw(st.sampled_from(sorted(flights)))
        host = flights[tag].name.host
        attempts[host] += 1
        house.answer(tag, behaviour[host])
        house.pump()
    assert house.lane.idle
    assert not house.spool.claimed
    assert Counter(house.program.history) == Counter(set(house.program.history))
    for name in names:
        expected = {OK: "gone", NO: "gone"}.get(behaviour[name.host], "waits")
        assert (name in house.spool.jobs) == (expected == "waits")
    for host, outcome in behaviour.items():
        count = hosts.count(host)
        assert attempts[host] == (min(count, 1) if outcome == DOWN else count)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 6))
def test_a2_a_dead_host_is_asked_once_for_each_pause(jobs, pauses):
    house = House(dead_ttl=900.0, retry=channel().retry)
    house.queue(*["down"] * jobs)
    for count in range(1, pauses + 1):
        assert house.run(lambda host: DOWN) == {"down": 1}
        until = house.lane.hosts.facts("down", house.clock.now, 0.0).dead_until
        wait = pause(count, 900.0)
        assert 0.9 * wait <= until - house.clock.now <= wait
        house.clock.now = until - 1.0
        house.pump()
        assert not house.program.sent
        house.clock.now += 3600 * 5
    assert len(house.log.of("dead_host")) == pauses


def test_a2_a5_the_jobs_of_a_dead_host_are_told_why_once():
    house = House()
    names = house.queue(*["down"] * 5)
    house.run(lambda host: DOWN)
    assert {n for n, s, _ in house.spool.settled if s.outcome == DOWN} == set(names)
    assert all(300.0 <= s.retry_at - EPOCH <= 330.0 for _, s, _ in house.spool.settled)
    house.clock.now += 331
    opened = house.spool.opened.copy()
    house.run(lambda host: DOWN)
    assert len(house.spool.settled) == 6  # only the one that was tried again
    house.clock.now += 10
    house.lane.sweep()
    house.pump()
    assert sum(house.spool.opened.values()) - sum(opened.values()) == 1


def test_new_mail_for_a_dead_host_is_not_tried():
    house = House()
    house.queue("down")
    house.run(lambda host: DOWN)
    late = house.queue("down", "down")
    house.lane.offer(late)
    house.pump()
    assert not house.program.sent
    assert {n for n, _, _ in house.spool.settled} >= set(late)


def test_a_host_that_answers_is_given_its_share_at_once():
    house = House(concurrency=6, per_host=3)
    house.queue(*["a"] * 5, *["b"] * 5)
    house.lane.sweep()
    house.pump()
    assert Counter(f.name.host for f in house.program.sent.values()) == {"a": 1, "b": 1}
    house.answer(1, OK)
    house.pump()
    assert Counter(f.name.host for f in house.program.sent.values()) == {"a": 3, "b": 1}


def test_silent_hosts_leave_room_for_good_ones():
    house = House(concurrency=8, per_host=4)
    house.queue("good", *[f"silent{i}" for i in range(40)])
    house.lane.sweep()
    house.pump()
    assert len(house.program.sent) == 4
    house.answer(1, OK)
    house.lane.offer(house.queue(*["good"] * 6))
    house.pump()
    sent = Counter(f.name.host for f in house.program.sent.values())
    assert sent["good"] == 4
    assert sum(sent.values()) == 8


def test_a_host_that_has_answered_since_is_not_buried():
    house = House()
    house.queue(*["a"] * 4)
    house.lane.sweep()
    house.pump()
    house.clock.now += 1
    house.answer(1, OK)
    house.pump()
    house.clock.now += 1
    house.answer(2, OK)
    house.answer(3, Outcome(Reply(421, "4.7.0", "too many connections"), HOST))
    assert not house.log.of("dead_host")
    house.pump()
    assert len(house.program.sent) == 1


def test_a_success_revives():
    house = House()
    house.queue(*["a"] * 3)
    house.lane.sweep()
    house.pump()
    house.answer(1, OK)
    house.pump()
    house.clock.now += 1
    house.answer(2, DOWN)
    assert house.log.of("dead_host")
    house.lane.offer(house.queue("a", "a"))
    house.pump()
    assert len(house.program.sent) == 1
    house.clock.now += 1
    house.answer(3, OK)
    assert house.log.of("revived") == [("smtp", "a")]
    house.pump()
    assert len(house.program.sent) == 3  # the one that was deferred for its host goes again


def test_local_trouble_pauses_the_channel_and_buries_nobody():
    house = House()
    house.queue("a", "b", "c", "a")
    house.lane.sweep()
    house.pump()
    house.answer(1, OURS)
    house.pump()
    assert len(house.program.sent) == 2
    assert house.lane.next_due == pytest.approx(EPOCH + 1.0)
    assert not house.log.of("dead_host")
    house.clock.now += 1.1
    house.pump()
    assert len(house.program.sent) == 3


def test_a4_a_lane_that_stops_gives_everything_back():
    house = House()
    names = house.queue(*["a"] * 9, *["down"] * 3)
    house.lane.sweep()
    house.pump()
    house.lane.abandon()
    house.pump()
    house.lane.lost("killed")
    house.pump()
    assert not house.spool.claimed and not house.lane.in_flight and house.lane.idle is False
    assert set(house.spool.jobs) == set(names)
    assert {s.outcome.scope for _, s, _ in house.spool.settled} == {CHANNEL}


def test_what_a_lost_program_told_stands():
    house = House(concurrency=1)
    house.queue("a", recipients=3)
    house.lane.sweep()
    house.pump()
    house.lane.told(1, [1], OK, "mx")
    house.lane.lost("it died")
    assert [s.state for _, s, _ in house.spool.settled] == ["deferred", "delivered", "deferred"]
    assert "it died" in house.spool.settled[0][1].outcome.reply.text


def test_a_deferred_job_is_tried_when_it_is_due():
    house = House()
    house.queue("a")
    assert house.run(lambda host: GREY) == {"a": 1}
    due = house.lane.next_due
    assert EPOCH + 300 <= due <= EPOCH + 330
    house.clock.now = due - 0.5
    house.pump()
    assert not house.program.sent
    house.clock.now = due
    house.pump()
    assert len(house.program.sent) == 1


def test_a_daemon_leaves_what_is_not_due_and_a_pass_by_hand_tries_it_once():
    house = House()
    house.queue("a")
    house.run(lambda host: GREY)
    house.clock.now += 10
    house.lane = house.make(Rules())
    assert house.run(lambda host: OK) == {}
    house.lane = house.make(Rules(force_before=house.clock.now))
    assert house.run(lambda host: GREY) == {"a": 1}
    house.lane.sweep()
    house.pump()
    assert not house.program.sent and house.lane.idle


def test_ages_are_kept_and_other_queues_left_alone():
    house = House(rules=Rules(Ages(younger=3600.0)))
    (old,) = house.queue("a")
    house.clock.now += 7200
    (young,) = house.queue("a")
    other = house.spool.add("a", house.clock.now + 1, queue="ucl")
    house.lane.offer([old, young, other])
    house.pump()
    assert [f.name for f in house.program.sent.values()] == [young]


def test_a_job_in_another_deliver_s_hands_is_left():
    house = House()
    taken, free = house.queue("a", "b")
    house.spool.claimed.add(taken)
    house.lane.sweep()
    house.pump()
    assert [f.name for f in house.program.sent.values()] == [free]
    assert len(house.lane.index) == 1


def test_a_job_without_its_body_waits_and_holds_nobody_up():
    house = House()
    torn, good = house.queue("a", "b")
    house.spool.no_body.add(torn.id)
    house.lane.sweep()
    house.pump()
    assert [f.name for f in house.program.sent.values()] == [good]
    assert torn not in house.spool.claimed
    assert "no body" in house.log.of("warning")[0][0]


def test_queue_only_without_a_factor_stops_the_lane():
    house = House()
    house.queue("a", "b")
    house.lane.standing = Standing(QUEUE_ONLY, "load", 9.0, 8.0)
    house.lane.sweep()
    house.pump()
    assert not house.program.sent
    house.lane.standing = Standing()
    house.pump()
    assert len(house.program.sent) == 2


@given(
    st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 40), st.booleans()), max_size=8),
    st.floats(8, 80),
)
def test_queue_only_lets_go_what_outweighs_the_load(jobs, load):
    house = House(rules=Rules(queue_factor=600_000.0), concurrency=40, per_host=40)
    may, names = set(), []
    for n, (size, recipients, tagged) in enumerate(jobs):
        name = house.spool.add(f"h{n}", house.clock.now, recipients=recipients)
        entry = house.spool.jobs.pop(name)
        if tagged:
            name = replace(name, tag=tag("normal", size, recipients, AUTHOR))
        house.spool.jobs[name] = replace(entry, envelope=replace(entry.envelope, size=size))
        names.append(name)
        if size + 30_000 * recipients <= 600_000 / (load - 8.0 + 1.0):
            may.add(name)
    house.lane.standing = Standing(QUEUE_ONLY, "load", load, 8.0)
    house.lane.hosts.is_unproven = lambda host: False
    house.run(lambda host: OK)
    assert set(house.program.history) == may
    house.lane.standing = Standing()
    house.clock.now += LOADED + 1
    house.run(lambda host: OK)
    assert set(house.program.history) == set(names)


def test_what_the_load_keeps_back_is_not_read_again_and_again():
    house = House(rules=Rules(queue_factor=600_000.0))
    name = house.queue("a")[0]
    entry = house.spool.jobs.pop(name)
    heavy = replace(name, tag=tag("normal", 5_000_000, 1, AUTHOR))
    house.spool.jobs[heavy] = replace(entry, envelope=replace(entry.envelope, size=5_000_000))
    house.lane.standing = Standing(QUEUE_ONLY, "load", 9.0, 8.0)
    for _ in range(50):
        house.lane.sweep()
        house.pump()
        house.clock.now += 1
    assert house.spool.opened[heavy] == 0
    house.lane.standing = Standing()
    house.clock.now += LOADED
    house.pump()
    assert house.spool.opened[heavy] == 1


def test_a_program_that_takes_fewer_jobs_is_not_given_more():
    house = House(jobs=2)
    house.queue(*"abcd")
    house.lane.sweep()
    house.pump()
    assert len(house.program.sent) == 2


def test_an_expired_job_of_a_dead_host_fails_without_a_connection():
    house = House(fail_after=1000.0)
    house.queue(*["down"] * 3)
    house.run(lambda host: DOWN)
    house.clock.now += 1001
    assert house.run(lambda host: DOWN) == {"down": 1}
    assert not house.spool.jobs
    assert len(house.returns.notices) == 3
    assert {s.outcome.reply.status for n, s, t in house.spool.settled if t} == {"5.4.7"}


def test_more_names_than_the_index_holds_are_read_again():
    house = House(rules=Rules(index_limit=80))
    names = house.queue(*["a"] * 300)
    for _ in range(20):
        house.run(lambda host: OK)
        if not house.spool.jobs:
            break
        assert house.lane.index.overflow
    assert set(house.spool.finished) == set(names)


def test_what_a_program_cannot_take_fails_without_being_handed_over():
    house = House()
    house.program.refuses = NO
    house.queue("a")
    assert house.run(lambda host: OK) == {}
    assert not house.spool.jobs and not house.spool.claimed
    assert [n.groups[0].outcome for n in house.returns.notices] == [NO]
    assert house.lane.idle


@pytest.mark.parametrize("passed", [True, False])
def test_a_success_that_the_next_server_reports_is_not_ours_to_report(passed):
    house = House()
    (name,) = house.queue("a")
    entry = house.spool.jobs[name]
    people = tuple([replace(r, notify="SUCCESS") for r in entry.job.recipients])
    house.spool.jobs[name] = replace(entry, job=replace(entry.job, recipients=people))
    house.lane.sweep()
    house.pump()
    house.answer(1, OK, passed=passed)
    assert len(house.returns.notices) == (0 if passed else 1)
    assert not house.spool.jobs


def test_a_host_that_asks_for_its_mail_gets_it_now():
    house = House()
    house.queue(*["down"] * 3, "other")
    assert house.run(lambda host: DOWN if host == "down" else GREY) == {"down": 1, "other": 1}
    house.clock.now += 1
    house.pump()
    assert not house.program.sent
    house.lane.hurry("down")
    house.pump()
    assert [flight.name.host for flight in house.program.sent.values()] == ["down"]
    house.answer(2 + 1, OK)
    house.pump()
    while house.program.sent:
        house.answer(next(iter(house.program.sent)), OK)
        house.pump()
    assert [name.host for name in house.spool.jobs] == ["other"]


def test_the_memory_of_who_asked_is_bounded():
    house = House()
    for number in range(3000):
        house.lane.hurry(f"h{number}")
    assert len(house.lane.realm._asked) == 1000
    house.lane.hurry("")
    house.lane.abandon()
    house.lane.hurry("late")
    assert not {"late", ""} & set(house.lane.realm._asked)


def test_a_job_that_was_tried_after_its_host_asked_waits_again():
    house = House()
    house.queue("a")
    house.run(lambda host: GREY)
    house.clock.now += 1
    house.lane.hurry("a")
    house.clock.now += 1
    house.pump()
    house.answer(next(iter(house.program.sent)), GREY)
    house.pump()
    assert not house.program.sent


def test_recipients_of_one_job_are_each_tried_when_they_are_due():
    house = House(retry=replace(channel().retry, jitter=0.0))
    (name,) = house.queue("a", recipients=2)
    entry = house.spool.jobs[name]
    states = [
        replace(entry.states[0], state="deferred", attempts=1, last=EPOCH - 9, retry_at=EPOCH + at)
        for at in (10.0, 20.0)
    ]
    house.spool.jobs[name] = replace(entry, states=tuple(states))
    house.lane.sweep()
    house.pump()
    for at, index in ((10, 0), (20, 1)):
        assert house.lane.next_due == EPOCH + at
        house.clock.now = EPOCH + at
        house.pump()
        (flight,) = house.program.sent.values()
        assert [r.index for r, _ in flight.tried] == [index]
        house.answer(next(iter(house.program.sent)), GREY)


def test_where_a_job_is_is_told_at_every_step():
    house = House(concurrency=1)
    first, second = house.queue("a", "b")
    where = house.lane.whereabouts
    assert where(first) == ("unseen", 0.0)
    house.lane.sweep()
    assert where(first) == ("sweeping", 0.0)
    house.pump()
    assert (where(first), where(second)) == (("in flight", EPOCH), ("ready", 0.0))
    house.returns.reply = None
    house.answer(1, NO)
    assert where(first) == ("settling", 0.0)
    house.returns.answers[0]("DSN", "")
    assert where(first)[0] == "unseen"
    house.pump()
    house.answer(2, DOWN)
    assert where(second)[0] == "waiting" and where(second)[1] > EPOCH
    (third,) = house.queue("b")
    house.lane.offer([third])
    assert where(third) == ("waiting", house.lane.hosts.facts("b", EPOCH, 0.0).dead_until)


def test_hosts_that_say_nothing_hold_up_nobody_else():
    house = House(concurrency=6, per_host=3, silent=100, jobs=200)
    house.queue(*[f"silent{i}" for i in range(40) for _ in range(5)])
    house.clock.now += 60
    house.queue(*[f"good{i}" for i in range(30)])
    house.lane.sweep()
    for _ in range(40):  # three slots for hosts yet to answer, two seconds each
        house.pump()
        for number, flight in list(house.program.sent.items()):
            if flight.name.host.startswith("good"):
                house.answer(number, OK)
        house.clock.now += PATIENCE
    asked = Counter(name.host for name in house.program.history)
    assert all(asked[f"silent{i}"] == 1 for i in range(40))
    assert all(asked[f"good{i}"] == 1 for i in range(30))
    assert house.lane.in_flight == 40
    house.queue(*["good0"] * 60)
    house.lane.sweep()
    house.pump()
    assert sum(f.name.host == "good0" for f in house.program.sent.values()) == 3


def test_new_mail_does_not_wait_until_a_long_queue_has_been_looked_through():
    house = House()
    house.queue(*[f"h{n % 20}" for n in range(2000)])
    house.run(lambda host: GREY)
    house.clock.now += 10
    house.lane = house.make(Rules())
    late = house.queue("new")
    house.lane.sweep()
    house.lane.pump()
    house.lane.offer(late)
    opened = house.spool.opened.total()
    while not house.program.sent:
        assert house.lane.pump()
    assert house.spool.opened.total() - opened < 200
    house.pump()
    assert house.lane.index.waiting == 0  # the others are looked at, too


@given(st.floats(0.0, 2 * FRESH))
def test_only_what_a_sweep_finds_of_some_age_may_have_been_tried(age):
    assume(abs(age - FRESH) > 0.01)
    house = House()
    house.queue("a")
    house.clock.now += age
    house.program.jobs = 0
    house.lane.sweep()
    house.pump()
    assert house.lane.index.is_cold("a") == (age > FRESH)


def test_slow_dsns_slow_the_lane_and_nothing_piles_up():
    house = House(concurrency=6, per_host=6)
    house.returns.reply = None  # the DSNs are under way
    house.lane.offer(house.queue(*["a"] * 3 * HELD))
    house.pump()
    while house.program.sent:
        house.answer(next(iter(house.program.sent)), NO)
        house.pump()
    assert len(house.spool.claimed) == HELD + 6 and not house.lane.idle
    while house.returns.answers or house.program.sent:
        if house.program.sent:
            house.answer(next(iter(house.program.sent)), NO)
        else:
            house.returns.answers.pop()("DSN", "")
        house.pump()
    assert house.lane.idle and not house.spool.jobs


def test_a_pause_that_is_over_wakes_nobody():
    house = House()
    house.lane.offer(house.queue("a"))
    house.pump()
    house.answer(1, OURS)
    house.pump()
    assert house.lane.next_due is not None
    house.clock.now += 400
    house.pump()
    house.lane.offer(house.queue(*["a"] * 9))
    house.pump()
    assert house.program.sent and house.lane.index.waiting
    assert house.lane.next_due is None or house.lane.next_due > house.clock.now


def test_a_clock_that_is_put_back_makes_no_pause_longer_than_the_longest():
    house = House()
    house.lane.offer(house.queue("a"))
    house.pump()
    house.answer(1, OURS)
    house.clock.now -= 3600
    house.lane.offer(house.queue("b"))
    house.pump()
    assert not house.program.sent
    house.clock.now += 61
    house.pump()
    assert [f.name.host for f in house.program.sent.values()] == ["b"]


def test_a_queue_that_cannot_be_read_ends_its_sweep_alone():
    house, names = House(), Spool.names
    house.queue("a")

    def broken(*arguments, **more):
        raise OSError(5, "Input/output error")
        yield []

    house.spool.names = broken
    house.lane.sweep()
    house.pump()
    assert house.lane.idle and len(house.log.of("warning")) == 1
    house.spool.names = lambda *words, **more: names(house.spool, *words, **more)
    assert house.run(lambda host: OK) == {"a": 1}
