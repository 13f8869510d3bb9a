import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.board import UNSAID_MAX, Board
from mta.policy.deadhosts import Failing, News
from mta.spool.hostlog import HostLog
from mta.spool.spool import Spool
from mta.types import Reply

DOWN = Reply(421, "4.4.1", "connection refused")
STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["fail", "well", "look", "stuck"]),
        st.sampled_from(["a", "b", "[192.0.2.1]:25"]),
    ),
    max_size=40,
)


class Shared:
    """The lines of a log in memory."""

    def __init__(self):
        self.lines = []


class End:
    """One board's end of it."""

    def __init__(self, shared):
        self.shared, self.read, self.stuck, self.error, self.shrunk = shared, 0, False, None, 0

    def tell(self, news):
        if self.error:
            raise self.error
        if not self.stuck:
            self.shared.lines += news
        return not self.stuck

    def hear(self):
        new, self.read = self.shared.lines[self.read :], len(self.shared.lines)
        return new, False

    def shrink(self, now):
        self.shrunk += 1


@given(STEPS)
def test_o1_o2_all_boards_know_the_same_and_listeners_hear_of_it(steps):
    shared, now = Shared(), 0.0
    ends = [End(shared) for _ in range(3)]
    boards = [Board(end, f"d{i}") for i, end in enumerate(ends)]
    seen = [{} for _ in range(3)]  # what a lane makes of what it hears and does itself

    def listener(i):
        def hear(news):
            assert seen[i].get(news.host) != news.failing  # a change, and not its own
            seen[i][news.host] = news.failing

        return hear

    panes = [board.pane("smtp", listener(i)) for i, board in enumerate(boards)]
    for who, what, host in steps:
        now += 1
        if what == "fail":
            seen[who][host] = panes[who].failed(host, DOWN, now)
        elif what == "well":
            if panes[who].well(host, now):
                seen[who][host] = None
        else:
            ends[who].stuck = what == "stuck"
            boards[who].look(now)
    for end in ends:
        end.stuck = False
    for _ in range(2):
        for board in boards:
            board.look(now)
    for pane, facts in zip(panes, seen, strict=True):
        assert pane.failing == panes[0].failing
        assert {h: f for h, f in facts.items() if f is not None} == pane.failing


def test_o2_lanes_of_one_deliver_hear_of_each_other():
    board, heard = Board(), []
    mine = board.pane("smtp", lambda news: heard.append("mine"))
    board.pane("smtp", lambda news: heard.append(news.host))
    mine.failed("a", DOWN, 1.0)
    board.look(1.0)
    assert heard == ["a"] and mine.failing["a"].failures == 1


def test_o3_what_the_disk_holds_up_is_written_later():
    end, complaints = End(Shared()), []
    board = Board(end, "me", complaints.append)
    pane = board.pane("smtp")
    end.error = OSError(errno.ENOSPC, "No space left on device")
    for number in range(2 * UNSAID_MAX):
        pane.failed(f"h{number}", DOWN, 1.0)
        board.look(1.0)
    assert complaints == ["the log of hosts: No space left on device"]
    end.error = None
    board.look(2.0)
    assert [n.host for n in end.shared.lines] == [
        f"h{n}" for n in range(UNSAID_MAX, 2 * UNSAID_MAX)
    ]
    assert end.shrunk


def test_who_answers_at_an_address_revives_the_names_behind_it():
    board, heard = Board(), []
    pane = board.pane("smtp", lambda news: heard.append((news.host, news.failing)))
    pane.failed("[192.0.2.1]:25", DOWN, 1.0)
    for host, via in (("a", "[192.0.2.1]:25"), ("b", "[192.0.2.9]:25"), ("c", "[192.0.2.1]:25")):
        pane.failed(host, DOWN, 2.0, via)
    assert pane.well("[192.0.2.1]:25", 3.0)
    board.look(3.0)
    assert list(pane.failing) == ["b"]
    assert heard == [("a", None), ("c", None)]


def test_a_clock_that_goes_back_keeps_nobody_away_for_long():
    board, heard = Board(), []
    pane = board.pane("smtp", heard.append)
    pane.failed("a", DOWN, 5000.0)
    board.look(5000.0)
    board.look(100.0)
    assert pane.failing["a"].at == 100.0 and [n.host for n in heard] == ["a"]


def test_what_is_not_of_our_channels_is_passed_over():
    shared = Shared()
    shared.lines.append(News(1.0, "other", "a", None))
    board = Board(End(shared))
    board.pane("smtp", lambda news: pytest.fail("not ours"))
    board.look(2.0)
    assert "other" not in board._known._channels


def test_a_success_does_not_undo_what_a_person_said():
    board = Board()
    pane = board.pane("smtp", lambda news: None)
    held = Failing(100.0, 100.0, 1, DOWN, "", 50.0, "person:root")
    board._known.apply(News(100.0, "smtp", "a", held, held.who), 100.0)
    assert not pane.well("a", 120.0) and pane.failing["a"] == held
    assert pane.well("a", 151.0) and not pane.failing


def test_o1_what_a_whole_log_does_not_know_is_forgotten():
    end, heard = End(Shared()), []
    board = Board(end, "me")
    pane = board.pane("smtp", heard.append)
    end.shared.lines += [board._known.failed("smtp", h, DOWN, 1.0, who="you") for h in ("a", "b")]
    board.look(1.0)
    kept = [pane.failing["b"]]
    end.hear = lambda: ([News(1.0, "smtp", "b", *kept, "you")], True)
    board.look(2.0)
    assert list(pane.failing) == ["b"]
    assert [(n.host, n.failing is None) for n in heard] == [("a", 0), ("b", 0), ("a", 1)]


def test_a_board_that_is_closed_holds_no_descriptor(tmp_path):
    """Each configuration that a deliver reads anew has a board of its own."""
    spool = Spool.open(str(tmp_path))
    before = sorted(os.listdir("/proc/self/fd"))
    board = Board(HostLog(spool.fs), "d")
    board.failed("smtp", "a", DOWN, 1.0)
    board.look(2.0)
    assert list(tmp_path.glob("host/*"))
    board.close()
    board.look(3.0)
    board.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
