"""Suspensions as a lane lives them: what they keep back, and that it goes when they end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.deliver.bars import Laws
from mta.deliver.facts import of_name
from mta.deliver.lane import Rules
from mta.policy.suspensions import Suspension, Suspensions
from mta.spool.layout import author_signs, host_word, tag
from mta.spool.rulelog import RuleLog
from mta.spool.spool import Spool
from mta.types import NORMAL, NULL_PATH, Mailbox
from mta.values import replace
from tests.deliver.fakes import EPOCH, Log
from tests.deliver.test_lane import DOWN, GREY, OK, House

ANN, BOB = Mailbox("ann", "a.test"), Mailbox("bob", "b.test")
HOSTS = ["", "mx.one.test", "one.test", "two.test"]
DAY = 86400.0


def rule(what: str, whom: str, until: float = 0.0) -> Suspension:
    word = {"host": host_word(whom), "domain": host_word(whom)}.get(what, "")
    if what == "sender":
        word = author_signs(NULL_PATH if whom == "<>" else ANN)
    return Suspension(what, whom, "root", EPOCH, until, "because", word)


def add(house: House, host: str, path=ANN, *, tagged: bool = True, to: str = ""):
    """Queue a job whose name has a tag, and whose recipients are of domain ``to``."""
    spool = house.spool
    house.clock.now += 0.001
    name = spool.add(host, house.clock.now, reverse_path=path)
    entry = spool.jobs.pop(name)
    if to:
        recipient = replace(entry.job.recipients[0], mailbox=Mailbox("u", to))
        entry = replace(entry, job=replace(entry.job, recipients=(recipient,)))
    if tagged:
        name = replace(name, tag=tag(NORMAL, 100, 1, path))
    spool.jobs[name] = entry
    house.lane.offer([name])
    return name


def go(house: House) -> set:
    """Pump and answer until all rests; return what was handed over meanwhile."""
    gone = set()
    for _ in range(500):
        house.pump()
        if not house.program.sent:
            return gone
        sent, flight = next(iter(house.program.sent.items()))
        gone.add(flight.name)
        house.answer(sent, OK)
    raise AssertionError("it never rests")


SOME = (
    *(rule("host", "one.test"), rule("host", ".test", EPOCH + 600), rule("domain", "one.test")),
    *(rule("domain", ".test", EPOCH + 60), rule("sender", "ann@a.test"), rule("sender", "<>")),
    *(rule("channel", "smtp", EPOCH + 5000), rule("channel", "x"), rule("queue", "smtp")),
)
RULES = st.lists(st.sampled_from(SOME), max_size=3)
JOBS = st.lists(
    st.tuples(st.sampled_from(HOSTS), st.sampled_from([ANN, BOB, NULL_PATH]), st.booleans()),
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(RULES, RULES, JOBS, JOBS)
def test_br1_br2_what_a_rule_names_waits_and_goes_when_it_ends(first, second, before, after):
    house = House(concurrency=3, per_host=3)
    house.lane.bars.obey(Suspensions(first))
    for host, path, tagged in before:
        add(house, host, path, tagged=tagged)

    def waits(rules: Suspensions) -> set:
        now, found = house.clock.now, set()
        for name, entry in house.spool.jobs.items():
            to = [r.mailbox for r in entry.job.recipients]
            lane = house.channel.name, house.channel.queue
            if rules.of_job(lane, entry.job.host, to, entry.job.reverse_path, now):
                found.add(name)
        return found

    kept = waits(Suspensions(first))
    assert not go(house) & kept and set(house.spool.jobs) == kept and house.lane.idle
    house.lane.bars.obey(Suspensions(second))
    for host, path, tagged in after:
        add(house, host, path, tagged=tagged)
    kept = waits(Suspensions(second))
    assert not go(house) & kept and set(house.spool.jobs) == kept and house.lane.idle
    due = house.lane.next_due
    ends = [r.until for r in second if r.until > house.clock.now]
    assert not kept or not ends or (due is not None and due <= max(min(ends), house.clock.now + 1))
    house.clock.now += 6000.0  # without a sweep, or a word
    kept = waits(Suspensions(second))
    go(house)
    assert set(house.spool.jobs) == kept
    house.lane.bars.obey(Suspensions())
    go(house)
    assert not house.spool.jobs


def test_br2_a_domain_on_a_shared_host_is_read_for() -> None:
    house = House()
    house.lane.bars.obey(Suspensions([rule("domain", "kept.test")]))
    kept, free = add(house, "relay.test", to="kept.test"), add(house, "relay.test", to="x.test")
    assert go(house) == {free} and set(house.spool.jobs) == {kept}
    house.lane.bars.obey(Suspensions())
    assert go(house) == {kept}


def test_br3_what_the_name_tells_costs_no_opening() -> None:
    for kept in (rule("host", ".test"), rule("sender", "ann@a.test"), rule("queue", "smtp")):
        house = House()
        house.lane.bars.obey(Suspensions([kept]))
        for _ in range(50):
            add(house, "one.test")
        assert not go(house) and not house.spool.opened
        house.clock.now += DAY
        house.lane.sweep()
        assert not go(house) and not house.spool.opened
        house.lane.bars.obey(Suspensions())
        assert len(go(house)) == 50


def test_a_dead_host_that_is_suspended_comes_back_with_both() -> None:
    house = House()
    add(house, "one.test")
    house.run(lambda host: DOWN)
    name = add(house, "one.test")
    house.lane.bars.obey(Suspensions([rule("host", "one.test", EPOCH + 60)]))
    house.pump()
    house.clock.now += 61.0
    assert not go(house), "its suspension is over, but it is dead"
    house.clock.now += 20_000.0
    assert name in go(house)


def test_a_held_job_is_not_told_of_its_dead_host() -> None:
    from mta.spool.entry import HOLD, Note

    house = House()
    add(house, "one.test")
    name = add(house, "one.test")
    entry = house.spool.jobs[name]
    house.spool.jobs[name] = replace(entry, notes=(Note(HOLD, EPOCH, "root"),))
    house.run(lambda host: DOWN)
    house.clock.now += 100 * DAY
    house.lane.sweep()
    house.pump()
    assert name in house.spool.jobs and not house.spool.jobs[name].states[0].attempts
    assert of_name(name, EPOCH).barrier is None and GREY


def test_laws_are_read_once_and_trouble_is_told_once(tmp_path) -> None:
    spool, log, house = Spool.open(str(tmp_path / "spool")), Log(), House()
    laws = Laws(spool, log)
    laws.tick([house.lane])
    assert not laws.known
    other = RuleLog(spool.fs)
    other.suspend(rule("queue", "smtp"))
    add(house, "one.test")
    laws.tick([house.lane])
    assert not go(house) and laws.known
    other.resume("queue", "smtp", EPOCH, "root")
    laws.tick([house.lane])
    assert len(go(house)) == 1
    laws.close()
    real = spool.fs.list
    spool.fs.list = lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    for _ in range(3):
        laws.tick([house.lane])
    assert len(log.of("warning")) == 1 and "Permission denied" in log.of("warning")[0][0]
    spool.fs.list = real


@pytest.mark.parametrize("program", ["local", "smtp"])
def test_a_pass_over_a_long_queue_that_is_suspended_ends(program):
    house = House(rules=Rules(index_limit=50), program=program)
    house.queue(*[f"h{n % 7}" for n in range(300)])
    house.lane.bars.obey(Suspensions([Suspension("channel", "smtp", "root", 1.0)]))
    house.lane.sweep()
    for _ in range(100):
        house.lane.pump()
    assert house.lane.idle and not house.program.sent
    house.lane.bars.obey(Suspensions())
    assert not house.lane.idle
