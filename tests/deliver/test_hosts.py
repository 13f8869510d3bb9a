from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.board import Board
from mta.deliver.hosts import KEPT, Hosts
from mta.types import CHANNEL, HOST, RECIPIENT, Outcome, Reply
from mta.values import replace

OUTCOMES = st.builds(
    lambda code, scope: Outcome(Reply(code, f"{code // 100}.0.0", "said"), scope),
    st.sampled_from([250, 421, 451, 550]), st.sampled_from([RECIPIENT, HOST, CHANNEL]),
)  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.none() | OUTCOMES), max_size=40)


@given(STEPS)
def test_h1_h2_h3_h4_what_is_learnt_of_hosts(steps):
    hosts, mono = Hosts(900.0, probing=True), 0.0
    flights, answered = {"a": [], "b": []}, {"a": -1.0, "b": -1.0}
    for host, outcome in steps:
        mono += 1
        if outcome is None or not flights[host]:
            hosts.launch(host)
            flights[host].append(mono)
        else:
            started = flights[host].pop(0)
            dead = hosts.facts(host, mono, mono).dead
            before = hosts._failing.get(host)
            news = hosts.learn(host, outcome, started, mono, mono)
            after = hosts._failing.get(host)
            about_host = outcome.scope == HOST and not outcome.reply.positive
            if news == "buried":
                assert about_host and outcome.reply.transient and answered[host] <= started
                assert dead is None
            if about_host and outcome.reply.transient and answered[host] <= started:
                again = before is None or started >= before.at
                assert after.failures == (before.failures if before else 0) + again
                assert hosts.facts(host, mono, mono).dead is not None
                assert hosts.is_unproven(host)
            elif not about_host and outcome.scope != CHANNEL:
                answered[host] = mono
                assert not hosts.is_unproven(host)
                assert hosts.facts(host, mono, mono).dead is None
                assert (news == "revived") == (dead is not None)
            hosts.land(host)
        for each in "ab":
            facts = hosts.facts(each, mono, mono)
            assert facts.in_flight == len(flights[each])
            assert facts.answered == max(0.0, answered[each])
        assert hosts.in_flight == sum(map(len, flights.values()))
        assert 0 <= hosts.unproven <= 2


def test_a_channel_without_connections_knows_no_dead_hosts():
    hosts = Hosts(900.0, probing=False)
    hosts.launch("a")
    assert not hosts.is_unproven("a")
    assert hosts.learn("a", Outcome(Reply(451, "4.0.0", "no"), HOST), 0.0, 1.0, 1.0) == ""
    assert hosts.facts("a", 1.0, 1.0).dead is None


def test_no_ttl_remembers_nothing():
    hosts = Hosts(0.0, probing=True)
    hosts.launch("a")
    assert hosts.learn("a", Outcome(Reply(421, "4.4.1", "no"), HOST), 0.0, 1.0, 1.0) == ""
    assert hosts.facts("a", 1.0, 1.0).dead is None


DOWN = Outcome(Reply(421, "4.4.1", "connection refused"), HOST)
OK = Outcome(Reply(250, "2.0.0", "ok"), RECIPIENT)


@given(st.lists(st.tuples(st.booleans(), st.floats(1, 3000)), max_size=12), st.floats(1, 9000))
def test_h5_a_host_whose_failures_span_long_enough_is_demoted(steps, after):
    board = Board()
    own = Hosts(900.0, True, board.pane("smtp"), demote_after=after)
    slow = Hosts(900.0, True, board.pane("slow"), origins=[(board.pane("smtp"), after)])
    now, since, at = 0.0, None, None
    for fails, wait in steps:
        now += wait
        demoted = since is not None and at - since >= after
        lane = slow if demoted else own
        assert bool(own.facts("a", now, now).demoted) == bool(slow.demoted("a")) == demoted
        news = lane.learn("a", DOWN if fails else OK, now, now, now)
        since, at = (now if since is None else since, now) if fails else (None, None)
        if demoted != (since is not None and at - since >= after):
            assert news == ("promoted" if demoted else "demoted")
        if since is not None and at - since >= after:
            assert own.demoted("a") == slow.demoted("a") == since + after


def test_the_ttl_is_the_askers_own():
    board = Board()
    short, long = (Hosts(ttl, True, board.pane("smtp")) for ttl in (900.0, 7200.0))
    off = Hosts(0.0, True, board.pane("smtp"))
    assert short.learn("a", DOWN, 0.0, 0.0, 1000.0) == "buried"
    assert 100.0 < short.facts("a", 1000.0, 0.0).dead_until - 1000.0 <= 112.5
    assert 800.0 < long.facts("a", 1000.0, 0.0).dead_until - 1000.0 <= 900.0
    assert off.facts("a", 1000.0, 0.0).dead is None


def test_a_pass_by_hand_heeds_only_what_fails_meanwhile():
    board = Board()
    board.pane("smtp").failed("old", DOWN.reply, 10.0)
    hosts = Hosts(900.0, True, board.pane("smtp"), heed_after=20.0)
    assert hosts.facts("old", 25.0, 0.0).dead is None
    hosts.learn("old", DOWN, 0.0, 5.0, 25.0)
    assert hosts.facts("old", 26.0, 6.0).dead is not None


def test_what_another_heard_does_not_count_against_our_own_success():
    board, now = Board(), 1000.0
    theirs, mine = board.pane("smtp"), Hosts(900.0, True, board.pane("smtp"))
    mine.learn("a", OK, 10.0, 20.0, now)
    theirs.failed("a", DOWN.reply, now - 5.0)
    assert mine.heard("a", now - 5.0, now, 20.0) is None and not theirs.failing
    theirs.failed("a", DOWN.reply, now + 5.0)
    assert mine.heard("a", now + 5.0, now + 5.0, 25.0).until > now + 5.0
    assert mine.is_unproven("a")
    theirs.well("a", now + 9.0)
    assert mine.heard("a", now + 9.0, now + 9.0, 29.0) is None
    assert mine.facts("a", now + 9.0, 29.0).answered == now + 9.0


def test_the_address_of_a_relay_is_known():
    board = Board()
    hosts = Hosts(900.0, True, board.pane("smtp"))
    for host, relay in (("a", "mx.a.test[192.0.2.1]:25"), ("b", "mx[/run/x]"), ("c", "")):
        hosts.learn(host, DOWN, 0.0, 1.0, 1.0, relay)
    assert [f.via for f in board.pane("smtp").failing.values()] == ["[192.0.2.1]:25", "", ""]


def test_an_answer_revives_the_address_that_it_came_from():
    board = Board()
    pane = board.pane("smtp")
    hosts = Hosts(900.0, True, pane)
    pane.failed("[192.0.2.1]:25", DOWN.reply, 1.0)
    pane.failed("[192.0.2.2]:25", DOWN.reply, 1.0)
    hosts.learn("a", OK, 2.0, 3.0, 3.0, "mx.a.test[192.0.2.1]:25")
    assert list(pane.failing) == ["[192.0.2.2]:25"]


def test_who_says_that_he_is_back_is_tried_at_his_address():
    board = Board()
    pane = board.pane("smtp")
    hosts = Hosts(900.0, True, pane)
    pane.failed("[192.0.2.1]:25", DOWN.reply, 1.0)
    hosts.learn("a", DOWN, 2.0, 3.0, 3.0, "mx.a.test[192.0.2.1]:25")
    hosts.revive("a", 4.0)
    assert not pane.failing


def test_the_records_are_bounded():
    hosts = Hosts(900.0, probing=True)
    hosts.launch("busy")
    for i in range(3 * KEPT):
        hosts.facts(f"h{i}", 0.0, 0.0)
    assert len(hosts._records) <= KEPT
    assert hosts.facts("busy", 0.0, 0.0).in_flight == 1


def test_news_is_told_once():
    hosts = Hosts(900.0, probing=True)
    told = [hosts.news("a", i, 0.0) for i in ("1", "2", "2", "1", "3")]
    assert told == [True, True, False, False, True]


def test_news_is_told_by_who_found_out_or_of_what_came_later():
    mine, theirs = Board(None, "me"), Board(None, "they")
    for board in (mine, theirs):
        board.pane("smtp").failed("a", DOWN.reply, 100.0)
    other = Hosts(900.0, True, mine.pane("smtp"))
    mine._known.apply(theirs._known.failed("smtp", "a", DOWN.reply, 110.0, who="they"), 110.0)
    assert not other.news("a", "1", 105.0) and other.news("a", "2", 111.0)
    assert Hosts(900.0, True, theirs.pane("smtp")).news("a", "1", 50.0)


def test_what_waited_at_the_failure_before_is_not_opened_again():
    board = Board(None, "me")
    pane = board.pane("smtp")
    pane.failed("a", DOWN.reply, 100.0)
    pane.failed("a", DOWN.reply, 200.0)
    restarted = Hosts(900.0, True, board.pane("smtp"))
    assert not restarted.news("a", "1", 99.0) and not restarted.news("a", "2", 100.0)
    assert restarted.news("a", "3", 150.0) and restarted.news("a", "4", 201.0)


def test_a_pause_stands_however_often_its_failure_is_read():
    board = Board()
    pane = board.pane("smtp")
    hosts = Hosts(7200.0, probing=True, pane=pane)
    hosts.learn("a", Outcome(Reply(421, "4.4.1", "refused"), HOST), 0.0, 1.0, 1000.0)
    until = hosts.facts("a", 1001.0, 2.0).dead_until
    pane.failing["a"] = replace(pane.failing["a"])  # as when the log is read anew
    assert hosts.facts("a", 1001.0, 2.0).dead_until == until
    others = [Hosts(7200.0, probing=True, pane=pane).facts("a", 1001.0, 2.0) for _ in range(20)]
    assert len({facts.dead_until for facts in others}) > 10
