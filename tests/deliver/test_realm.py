from hypothesis import given
from hypothesis import strategies as st

from mta.config.host_rules import HostRules
from mta.config.model import HostRule
from mta.deliver.board import Board
from mta.deliver.realm import Realm, Ways
from mta.deliver.rules import Rules
from mta.policy.deadhosts import PERSON, Failing, News
from mta.types import HOST, RECIPIENT, Outcome, Reply
from tests.deliver.fakes import EPOCH, Clock, Log, channel

DOWN = Outcome(Reply(421, "4.4.1", "connection refused"), HOST)
OK = Outcome(Reply(250, "2.0.0", "ok"), RECIPIENT)
AFTER = 3600.0
FAST = channel(name="fast", demote_to="slow", demote_after=AFTER)
SLOW = channel(name="slow", domains=())


def made(board, clock, of=FAST, *, demote_to="", origins=(), rules=(), ttl=None):
    shelved, reached = {}, []
    ways = Ways(board, HostRules(rules, of), demote_to, origins)
    realm = Realm(of, clock, Log(), ways, Rules(dead_ttl=ttl), shelved.__setitem__)
    realm.reach = lambda what, seconds, reply: reached.append((what, seconds))
    return realm, shelved, reached


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(1, 2000)), max_size=25))
def test_w1_a_host_is_one_lanes_at_a_time(steps):
    board, clock = Board(), Clock()
    fast, _, _ = made(board, clock, demote_to="slow")
    slow, _, _ = made(board, clock, SLOW, origins=(FAST,))
    for host, fails, wait in steps:
        clock.now += wait
        was = fast.ours(host)
        (fast if was else slow).learn(host, host, DOWN if fails else OK, clock.monotonic(), "mx")
        board.look(clock.now)
        assert fast.ours(host) != slow.ours(host)
        assert fast.ours(host) == (not fast.hosts.demoted(host))
        if was != fast.ours(host):
            gets, gives = (slow, fast) if was else (fast, slow)
            assert gets.sweep_due and not gives.sweep_due
            gets.sweep_due = False
        assert not (fast.sweep_due or slow.sweep_due)


def test_a_demotion_is_logged_once():
    board, clock = Board(), Clock()
    fast, _, _ = made(board, clock, demote_to="slow")
    slow, shelved, _ = made(board, clock, SLOW, origins=(FAST,))
    for lane in (fast, fast, fast, slow, slow):
        clock.now += AFTER / 2
        assert lane.learn("a", "A.test", DOWN, clock.monotonic(), "mx") > clock.now
        board.look(clock.now)
    slow.learn("a", "A.test", OK, clock.monotonic(), "mx")
    assert fast._log.of("demotion") == [("fast", "A.test", "slow", True)]
    assert slow._log.of("demotion") == [("slow", "A.test", "", False)]
    assert not shelved


def test_w2_who_is_well_again_is_looked_at_once():
    board, clock = Board(), Clock()
    mine, shelved, _ = made(board, clock)
    other = board.pane("fast", lambda news: None)
    other.failed("a", DOWN.reply, clock.now)
    board.look(clock.now)
    assert EPOCH < shelved["a"] <= EPOCH + 112.5 and not len(mine)
    other.well("a", clock.now)
    board.look(clock.now)
    assert len(mine) == 1 and mine.back(10) == ["a"] and mine.back(10) == []
    assert mine.asked("a") == 0.0
    mine.learn("b", "b", DOWN, 0.0, "mx")
    mine.learn("b", "b", OK, 0.0, "mx")
    assert mine.back(10) == ["b"]


def test_a_persons_word_lets_go_what_is_not_due():
    board, clock = Board(), Clock()
    mine, _, _ = made(board, clock)
    board.pane("fast").failed("a", DOWN.reply, clock.now)
    board._note(News(clock.now, "fast", "a", None, f"{PERSON}root"), clock.now, None)
    board.look(clock.now)
    assert mine.asked("a") == clock.now and mine.back(1) == ["a"]


def test_a_burial_by_hand_lasts_as_long_as_was_said():
    board, clock = Board(), Clock()
    mine, shelved, _ = made(board, clock, ttl=60.0)
    held = Failing(clock.now, clock.now, 1, DOWN.reply, "", 7200.0, f"{PERSON}root")
    board._note(News(clock.now, "fast", "a", held, held.who), clock.now, None)
    board.look(clock.now)
    assert shelved == {"a": EPOCH + 7200.0}
    assert mine.hosts.facts("a", clock.now, 0.0).dead_until == EPOCH + 7200.0


WORD = "[192.0.2.1]:25"


def test_addresses_are_no_hosts():
    board, clock = Board(), Clock()
    mine, shelved, reached = made(board, clock)
    board.pane("fast").failed(WORD, DOWN.reply, clock.now)
    board.pane("fast").failed("[192.0.2.1]", DOWN.reply, clock.now)
    board.look(clock.now)
    assert reached == [(WORD, 112.5)] and list(shelved) == ["[192.0.2.1]"]
    board.pane("fast").well(WORD, clock.now)
    board.look(clock.now)
    assert reached[1:] == [(WORD, 0.0)] and not len(mine)


def test_what_the_program_finds_out_of_an_address_is_shared_and_counts_once():
    board, clock = Board(), Clock()
    mine, _, reached = made(board, clock)
    other, _, heard = made(board, clock)
    for _ in range(3):  # attempts that began together
        mine.address(WORD, DOWN.reply)
    board.look(clock.now)
    assert mine.pane.failing[WORD].failures == 1
    assert reached == [(WORD, 112.5)] * 3 and heard == [(WORD, 112.5)]
    clock.now += 113
    mine.address(WORD, DOWN.reply)
    assert mine.pane.failing[WORD].failures == 2 and reached[-1] == (WORD, 225.0)
    board.look(clock.now)
    mine.learn("a", "a", DOWN, clock.monotonic(), "mx.a[192.0.2.1]:25")
    clock.now += 1
    mine.address(WORD, OK.reply)
    board.look(clock.now)
    assert heard[-2:] == [(WORD, 0.0), ("a", 0.0)] and not mine.pane.failing
    assert mine.back(10) == ["a"] == other.back(10)


def test_a_new_program_is_told_what_is_known_of_addresses():
    board, clock = Board(), Clock()
    mine, _, reached = made(board, clock)
    for number in range(3):
        board.pane("fast").failed(f"[192.0.2.{number}]:25", DOWN.reply, clock.now - 40 * number)
    board.pane("fast").failed("host", DOWN.reply, clock.now)
    mine.brief()
    assert reached == [(f"[192.0.2.{n}]:25", 112.5 - 40 * n) for n in range(3)]


def test_hosts_have_rules_of_their_own_and_l_goes_before():
    rules = (HostRule(("a.test",), "", (("first", 7.0),), 80.0, 1),)
    for ttl, expected in ((None, 80.0), (900.0, 112.5), (0.0, 0.0)):
        clock = Clock()
        mine, _, _ = made(Board(), clock, rules=rules, ttl=ttl)
        assert (mine.per_host("a.test"), mine.per_host("b.test")) == (1, 3)
        assert (mine.retry("a.test").first, mine.retry("b.test").first) == (7.0, 300.0)
        until = mine.learn("a.test", "a.test", DOWN, 0.0, "mx")
        least = min(60.0, expected) * 0.9
        assert until == 0.0 if not expected else least <= until - EPOCH <= max(expected, 60.0)


def test_a_lane_that_has_ended_hears_nothing_more():
    board, clock = Board(), Clock()
    mine, shelved, _ = made(board, clock)
    mine.leave()
    board.pane("fast").failed("a", DOWN.reply, clock.now)
    board.look(clock.now)
    assert not shelved
