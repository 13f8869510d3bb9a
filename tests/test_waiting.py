"""What keeps a job is told from live answers, or from what lies in the spool."""

from __future__ import annotations

import json
import os
import time
from unittest.mock import Mock, patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import finding, waiting
from mta.config.load import load_config
from mta.deliver.board import Board
from mta.deliver.questions import Answer, LaneAnswer, _plain
from mta.finding import Found, Job, find
from mta.machine.asking import Answers
from mta.machine.locks import Holders
from mta.policy.deadhosts import DeadHost
from mta.policy.decide import NO_RUNNERS, Barrier, HostFacts, JobFacts, Room, shut
from mta.policy.foresee import _CHANGES
from mta.policy.load import QUEUE_ONLY
from mta.policy.select import Bounds
from mta.policy.suspensions import Suspension
from mta.spool.entry import Settlement
from mta.spool.hostlog import HostLog
from mta.spool.layout import arrived
from mta.spool.rulelog import RuleLog
from mta.spool.spool import Spool
from mta.types import DEFERRED, Reply
from mta.values import replace
from mta.waiting import gather
from mta.waiting_text import _OTHERWISE, record, tell
from tests.queued import BUSY, accept, defer, new_config

ROOM = Room(20, 5)
DOWN = Reply(421, "4.4.1", "connection refused\x1b[31m")


class House:
    """One job in a queue, and the answers that delivers give about it."""

    def __init__(self, tmp_path, monkeypatch, *people):
        self.config = new_config(tmp_path)
        self.spool = Spool.open(self.config.spool)
        self.ident = accept(self.spool, *(people or ["bob@far.example"]))
        self.now = arrived(self.ident) + 600.0
        self.came, self.silent = [], ()
        answers = lambda *_: Answers(tuple(self.came), self.silent)  # noqa: E731
        monkeypatch.setattr(waiting, "ask", answers)

    @property
    def name(self):
        return self.spool.find(self.ident)[0]

    def answer(self, pid, *, where="ready", at=0.0, job=None, host=None, room=ROOM, flags="-b"):
        """Have deliver ``pid`` answer; its next sweep is in 60 s, and then every 600."""
        job = JobFacts("far.example", arrived(self.ident)) if job is None else job
        host = HostFacts() if host is None else host
        gates = tuple(shut(job, host, room, self.now))
        lane = LaneAnswer("smtp", where, at, job, host, room, gates)
        told = _plain(Answer(flags, self.now, self.now + 60, 600.0, False, ()))
        told["jobs"] = {self.name.key: [_plain(lane)]}
        self.came.append((pid, json.dumps(told).encode()))

    def waits(self):
        return list(gather(self.config, find(self.config, self.ident), self.now))

    def text(self):
        (wait,) = self.waits()
        return "\n".join(tell(self.config, wait, self.now, 9.1))

    def record(self):
        (wait,) = self.waits()
        return json.loads(json.dumps(record(wait, self.now)))


@pytest.fixture
def house(tmp_path, monkeypatch):
    return House(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("where", "at", "facts", "earliest"),
    [
        ("ready", 0.0, {}, 0),
        ("sweeping", 0.0, {}, 0),
        ("unseen", 0.0, {}, 60),
        ("in flight", -5.0, {}, 0),
        ("settling", 0.0, {}, 0),
        ("waiting", 30.0, {"last": -30.0, "retry_at": 30.0}, 30),
        ("waiting", 90.0, {"last": -30.0, "retry_at": 30.0}, 90),
        ("unseen", 0.0, {"last": -30.0, "retry_at": 30.0}, 60),
        ("unseen", 0.0, {"last": -30.0, "retry_at": 130.0}, 130),
        ("ready", 0.0, {"barrier": True}, None),
    ],
)
def test_wg2_the_earliest_time_is_when_the_lane_will_do_it(house, where, at, facts, earliest):
    facts = {k: house.now + v for k, v in facts.items() if k != "barrier"} | (
        {"barrier": Barrier("root", 5.0)} if "barrier" in facts else {}
    )
    if "last" in facts:
        defer(house.spool, house.ident, facts["last"], facts["retry_at"])
    job = JobFacts("far.example", arrived(house.ident), **facts)
    house.answer(7, where=where, at=house.now + at, job=job)
    said = house.record()
    if earliest is None:
        assert (said["earliest"], said["events"]) == (0.0, ["hold"])
    else:
        assert said["earliest"] == pytest.approx(house.now + earliest)
        assert said["by"] == 7


def test_wg2_too_young_for_o_is_the_first_sweep_after_it_is_old_enough(house):
    bounds = Bounds(None, house.now - 1400)  # it is 600 s old: in 800 s
    house.answer(7, where="unseen", room=replace(ROOM, bounds=bounds))
    assert house.record()["earliest"] == house.now + 60 + 2 * 600


def test_the_best_of_several_delivers_is_told_and_the_others_named(house):
    house.answer(5, where="unseen", flags="-b -o24", room=replace(ROOM, bounds=Bounds(None, 0.0)))
    house.answer(6, where="waiting", at=house.now + 400, flags="-b -T900")
    house.answer(7, where="unseen", flags="-b -t24")
    said = house.record()
    assert (said["by"], said["earliest"]) == (7, house.now + 60)
    text = house.text()
    assert "by deliver pid 7 (-b -t24)" in text and "deliver pid 5 (-b -o24) would take it" in text


def test_in_flight_says_where_and_since_when(house):
    house.answer(6)
    house.answer(7, where="in flight", at=house.now - 3)
    assert "in flight at pid 7 (deliver[smtp]) since" in house.text()
    assert house.record()["in_flight"]


def test_wt1_a_dead_host_is_told_with_what_a_smaller_l_would_have_done(house):
    since, until = house.now - 1500, house.now + 5700
    defer(house.spool, house.ident, since, until)
    job = JobFacts("far.example", arrived(house.ident), since, until, True)
    dead = DeadHost("far.example", DOWN, until, 9)
    host = HostFacts(0, False, dead, until, dead_since=since)
    house.answer(7, where="waiting", at=until, job=job, host=host, flags="-b -l120")
    text = house.text()
    assert "held:  host is dead: 421 4.4.1 connection refused?[31m; since " in text
    assert "with -l15 it would have gone at" in text
    assert f"last:  {time.ctime(since)}: because {BUSY.reply}" in text
    assert text.isprintable() or "\x1b" not in text
    assert house.record()["earliest"] == until


def test_every_gate_has_words_for_what_would_be_otherwise(house):
    hold = Barrier("root", house.now - 60, why="look at it")
    job = JobFacts("far.example", arrived(house.ident), barrier=hold)
    house.answer(7, job=job)
    text = house.text()
    assert "held:  the job is held: look at it; by root since" in text
    assert "next:  when it is released: then deliver pid 7" in text
    assert f"if it were released (mta release {house.ident}) it would go now" in text
    house.came.clear()
    house.answer(7, flags="-b -t24", room=replace(ROOM, bounds=Bounds(house.now, None)))
    assert "without -t24 it would go now" in house.text()
    house.came.clear()
    house.answer(7, room=replace(ROOM, load=QUEUE_ONLY))
    assert "when the load is lower" in house.text()
    house.came.clear()
    house.answer(7, room=replace(ROOM, in_flight=20))
    assert "with a higher concurrency of channel smtp it would go now" in house.text()
    house.came.clear()
    house.answer(7, room=replace(ROOM, tokens=0, token_pool="queue_children"))
    assert "with a token of queue_children more it would go now" in house.text()
    house.came.clear()
    house.answer(7, room=replace(ROOM, tokens=0, token_pool=NO_RUNNERS))
    assert "if channel smtp had runners it would go now" in house.text()
    assert set(_CHANGES) == set(_OTHERWISE)


def test_wg1_wt2_recipients_that_wait_for_the_same_are_told_together(tmp_path, monkeypatch):
    people = [f"p{n}@far.example" for n in range(60)]
    house = House(tmp_path, monkeypatch, *people)
    name = house.name
    claim = house.spool.claim(name)
    claim.settle([Settlement(n, DEFERRED, house.now, house.now + 5, BUSY) for n in range(50)])
    claim.release()
    house.answer(7)
    waits = house.waits()
    assert [len(wait.recipients) for wait in waits] == [50, 10]
    for wait in waits:
        lines = list(tell(house.config, wait, house.now, 0.0))
        assert len(lines) < 12 and all(line.isprintable() for line in lines)
    assert "50 recipients (p0@far.example, p1@far.example, p2@far.example and 47 more) wait" in (
        next(iter(tell(house.config, waits[0], house.now, 0.0)))
    )
    only = find(house.config, "p3@far.example")
    (wait,) = gather(house.config, only, house.now)
    assert [str(r.mailbox) for r in wait.recipients] == ["p3@far.example"]


def test_wg3_a_deliver_that_does_not_answer_is_named(house):
    house.silent = (("smtp", 11), ("other", 13))
    assert "deliver pid 11 serves this queue, but did not answer in time" in house.text()
    assert "no deliver serves" not in house.text()
    house.came.append((12, b"what?"))
    assert house.record()["silent"] == [11, 12]


@given(st.floats(0.0, 9.0))
def test_wg3_who_looked_for_long_waits_the_less_for_answers(took):
    limits = []
    ask = lambda *words: limits.append(words[-1]) or Answers((), ())  # noqa: E731
    with patch.object(waiting, "ask", ask):
        assert list(gather(Mock(), Found((), took=took), 0.0)) == []
    assert limits[0] >= waiting.LEAST
    assert limits[0] + took == pytest.approx(max(waiting.LIMIT, waiting.LEAST + took))
    assert abs(waiting.LEAST + finding.LOOKING - waiting.LIMIT) < 1e-9


def test_without_any_deliver_the_lines_of_mta_yaml_speak(house):
    text = house.text()
    assert "no deliver serves queue smtp" in text
    assert (
        "line 10 of mta.yaml (deliver -b -clocal,smtp) does not run; it would take it now" in text
    )
    path = house.config.path
    with open(path, encoding="utf-8") as file:
        yaml = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(yaml.replace("-clocal,smtp", "-clocal"))
    house.config = load_config(path)
    assert "nobody serves queue smtp: no deliver, and no line of mta.yaml would" in house.text()


def test_without_any_deliver_a_dead_host_is_still_known(house):
    board = Board(HostLog(house.spool.fs))
    board.look(house.now)
    board.pane("smtp").failed("far.example", Reply(421, "4.4.1", "refused"), house.now)
    board.look(house.now)
    said = house.record()
    assert [gate["gate"] for gate in said["gates"]] == ["dead"]
    assert said["by"] == 0


def test_without_any_deliver_a_suspension_is_still_known(house):
    log = RuleLog(house.spool.fs)
    until = house.now + 900.0
    log.suspend(
        Suspension("host", "far.example", "root", house.now - 60, until, "they move", "far.example")
    )
    log.close()
    (gate,) = house.record()["gates"]
    assert (gate["gate"], gate["by"], gate["until"]) == ("suspended", "root", until)
    assert "without that suspension it would go now" in house.text()


def test_without_any_deliver_a_channel_without_runners_holds_its_queue(house):
    with open(house.config.path, encoding="utf-8") as file:
        yaml = file.read()
    with open(house.config.path, "w", encoding="utf-8") as file:
        file.write(yaml.replace("domains: [.example]", "domains: [.example], runners: 0"))
    house.config = load_config(house.config.path)
    assert [gate["gate"] for gate in house.record()["gates"]] == ["tokens"]
    assert "it would take it now" not in house.text()


def test_whose_lock_it_is_is_told_without_taking_it(house):
    claim = house.spool.claim(house.name)
    path = f"{house.config.spool}/{house.name.path}"
    assert Holders().of(path) == os.getpid()
    house.answer(7)
    assert f"in the hands of pid {os.getpid()}, which has its lock" in house.text()
    claim.release()
    assert Holders().of(path) == 0
    assert Holders().of("/nonexistent") == 0 == Holders("/nonexistent").of(path)


def test_the_table_of_locks_is_read_once_for_all_jobs(house, monkeypatch):
    read = []
    monkeypatch.setattr(waiting, "Holders", lambda: read.append(1) or Holders())
    for _ in range(3):
        accept(house.spool, "bob@far.example")
    found = find(house.config, "bob@far.example")
    assert len(list(gather(house.config, found, house.now))) == 4
    assert read == [1]


def test_what_is_in_the_journal_only_is_told_as_that(house):
    entry = house.spool.peek(house.name)
    found = Found((Job(house.name, entry, True),))
    (wait,) = gather(house.config, found, house.now)
    text = "\n".join(tell(house.config, wait, house.now, 0.0))
    assert "accepted; it is in the journal, and intake has not come to it yet" in text
    assert "nobody serves" not in text
