import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.deadhosts import FIRST, ROW, DeadHosts, Failing, News, dead, pause
from mta.types import Reply

DOWN = Reply(421, "4.4.1", "connection refused")
NAMES = ("a.test", "b.test", "[192.0.2.1]:25")
HOSTS = st.sampled_from(NAMES)
TTL = st.floats(0, 1e5)
JITTER = st.floats(0, 1, exclude_max=True)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["fail", "well"]), HOSTS, st.floats(0, 1e4)), max_size=30
)


def play(events):
    """Return the facts, the model of them (failures and last), the news and the time."""
    known, model, told, now = DeadHosts(), {}, [], 1e9
    for what, host, wait in events:
        now += wait
        if what == "fail":
            news = known.failed("smtp", host, DOWN, now)
            count, _, since = model.get(host, (0, now, now))
            model[host] = (count + 1, now, since)
        else:
            news = News(now, "smtp", host, None)
            model.pop(host, None)
        assert known.apply(news, now) or what == "well"
        told.append(news)
    return known, model, told, now


@given(EVENTS, TTL, st.floats(0, 2e5), JITTER)
def test_d1_a_host_is_dead_for_the_pause_after_its_last_failure(events, ttl, after, jitter):
    known, model, _, now = play(events)
    now += after
    for host in NAMES:
        failing = known.of("smtp").get(host)
        assert (failing is not None) == (host in model)
        if failing is None:
            continue
        count, at, since = model[host]
        assert (failing.failures, failing.at, failing.since) == (count, at, since)
        found = dead(host, failing, ttl, jitter)
        assert (found is not None and now < found.until) == (now < at + pause(count, ttl, jitter))


@given(st.integers(1, 200), st.integers(1, 200), TTL, TTL, JITTER)
def test_d2_pauses_grow_up_to_the_ttl(one, other, ttl, longer, jitter):
    fewer, more = sorted((one, other))
    assert pause(fewer, ttl, jitter) <= pause(more, ttl, jitter) <= ttl
    shorter, longer = sorted((ttl, longer))
    assert pause(fewer, shorter, jitter) <= pause(fewer, longer, jitter)
    assert pause(fewer, 0.0, jitter) == 0.0
    assert dead("a", DeadHosts().failed("c", "a", DOWN, 0.0).failing, 0.0) is None


def test_the_pauses_of_the_usual_ttls():
    assert [pause(n, 900.0) for n in range(1, 6)] == [112.5, 225.0, 450.0, 900.0, 900.0]
    assert [pause(n, 7200.0) for n in range(1, 6)] == [900.0, 1800.0, 3600.0, 7200.0, 7200.0]
    assert [pause(n, 120.0) for n in range(1, 4)] == [FIRST, 120.0, 120.0]
    assert pause(1, 1.0) == 1.0


@given(EVENTS, st.floats(0, 1e4))
def test_d3_asking_changes_no_answer(events, at):
    known, _, _, now = play(events)
    before = [dead(h, f, 900.0, 0.5) for h, f in known.of("smtp").items()]
    list(known.lasting(now + at))
    known.failed("smtp", "a.test", DOWN, now + at)
    assert [dead(h, f, 900.0, 0.5) for h, f in known.of("smtp").items()] == before


@given(EVENTS)
def test_d4_news_put_in_again_change_nothing(events):
    known, _, told, now = play(events)
    again = DeadHosts()
    for news in told:
        again.apply(news, now)
    assert again.of("smtp") == known.of("smtp")
    third = DeadHosts()
    for news in known.lasting(now):
        assert third.apply(news, now)
        assert not third.apply(news, now)
    assert third.of("smtp") == {h: f for h, f in known.of("smtp").items() if now - f.at < ROW}


@given(EVENTS, EVENTS)
def test_d4_what_all_news_do_not_know_is_outdated(mine, others):
    known, _, _, now = play(mine)
    truth = play(others)[0]
    everything = list(truth.lasting(1e9))
    for news in [*known.outdated(everything, now), *everything]:
        known.apply(news, now + 1e9)
    assert known.of("smtp") == truth.of("smtp")


@given(st.lists(st.integers(0, 20)), st.integers(1, 5))
def test_d5_those_that_failed_last_are_held(hosts, limit):
    known, model = DeadHosts(limit), {}
    for now, number in enumerate(hosts):
        known.apply(known.failed("c", f"h{number}", DOWN, float(now)), float(now))
        model.pop(number, None)
        model[number] = now
    assert list(known.of("c")) == [f"h{number}" for number in list(model)[-limit:]]


@given(st.floats(0, 1e9), st.floats(0, 1e9), TTL, JITTER, st.integers(1, 20))
def test_d6_facts_of_the_future_are_of_now(now, ahead, ttl, jitter, times):
    known = DeadHosts()
    for _ in range(times):
        news = known.failed("c", "a", DOWN, now + ahead)
        known.apply(news, now + ahead)
    changed = known.turn_back(now)
    assert bool(changed) == (now + ahead > now)
    late = DeadHosts()
    late.apply(news, now)
    for facts in (known, late):
        failing = facts.of("c")["a"]
        assert failing.since <= failing.at <= now
        found = dead("a", failing, ttl, jitter)
        assert found is None or found.until <= now + ttl


@given(st.floats(1, 1e5), st.lists(st.floats(0, 1e4), max_size=10))
def test_d7_what_a_person_said_stands(hold, waits):
    known, now = DeadHosts(), 1e9
    said = Failing(now, now, 1, DOWN, "", hold, "person:root")
    known.apply(News(now, "c", "a", said, said.who), now)
    until = now + hold
    for wait in waits:
        now += wait
        known.apply(known.failed("c", "a", DOWN, now, who="deliver"), now)
        failing = known.of("c")["a"]
        if now < until - 1e-3:
            assert abs(dead("a", failing, 60.0).until - until) < 1e-3
            assert failing.who == "person:root"
        elif now > until + 1e-3:
            assert failing.hold == 0.0 and failing.who == "deliver"


def test_a_row_of_failures_ends_when_nobody_asks_for_long():
    known = DeadHosts()
    known.apply(known.failed("c", "a", DOWN, 0.0), 0.0)
    assert known.failed("c", "a", DOWN, ROW - 1).failing.failures == 2
    news = known.failed("c", "a", DOWN, ROW)
    assert (news.failing.failures, news.failing.since) == (1, ROW)


def test_who_is_behind_an_address():
    known = DeadHosts()
    for host, via in (("a", "[192.0.2.1]:25"), ("b", ""), ("c", "[192.0.2.1]:25")):
        known.apply(known.failed("x", host, DOWN, 1.0, via), 1.0)
    assert known.behind("x", "[192.0.2.1]:25") == ["a", "c"]


@pytest.mark.parametrize("code", [250, 550, 199])
def test_only_a_transient_reply_buries(code):
    with pytest.raises(ValueError, match="4yz"):
        DeadHosts().failed("c", "a.test", Reply(code, "5.0.0", "no"), 0.0)
