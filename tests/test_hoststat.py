"""hoststat, purgestat and mta host: what is shown of the log of hosts, and what is written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mta import hoststat
from mta.deliver.board import Board
from mta.errors import SpoolError, UsageError
from mta.policy.deadhosts import PERSON, dead
from mta.spool.hostlog import HostLog, read_hosts
from mta.spool.spool import Spool
from mta.types import Reply
from tests.queued import new_config

DOWN = Reply(421, "4.4.1", "connect to mx.down.test: Connection refused")


@pytest.fixture
def config(tmp_path: Path):
    return new_config(tmp_path)


def fail(config, *hosts: str, at: float = 0.0, via: str = "") -> None:
    board = Board(HostLog(Spool.open(config.spool).fs), "deliver[7]")
    pane = board.pane("smtp", lambda news: None)
    board.look(at or time.time())
    for host in hosts:
        pane.failed(host, DOWN, at or time.time(), via)
    board.look(at or time.time())


def known(config, now: float | None = None):
    return read_hosts(Spool.open(config.spool).fs, now or time.time()).of("smtp")


def run(monkeypatch, capsys, name: str, *arguments: str) -> tuple[int, str, str]:
    ended: list[int] = []
    monkeypatch.setattr(hoststat, "leave", ended.append)
    monkeypatch.setattr("sys.argv", [name, *arguments])
    getattr(hoststat, name)()
    said = capsys.readouterr()
    return ended[0], said.out, said.err


def test_hoststat_shows_who_fails(config, monkeypatch, capsys) -> None:
    fail(config, "a.test", "b.test", at=time.time() - 3725)
    status, out, _ = run(monkeypatch, capsys, "hoststat", "-v", "--config", config.path)
    lines = out.split("\n")
    assert status == 0 and "Hostname" in lines[0] and "How long ago" in lines[0]
    assert lines[1].startswith("a.test ") and "01:02:05 421 4.4.1 connect to" in lines[1]
    assert lines[2].strip().startswith("channel smtp, 1 in a row")
    assert len(run(monkeypatch, capsys, "hoststat", "-C", config.path)[1].split("\n")) == 4
    assert run(monkeypatch, capsys, "hoststat", "what")[0] == 64


def test_purgestat_forgets_the_named_or_all(config, monkeypatch, capsys) -> None:
    fail(config, "a.test", "b.test", "c.test")
    arguments = "--config", config.path
    assert run(monkeypatch, capsys, "purgestat", *arguments, "A.Test")[0] == 0
    assert list(known(config)) == ["b.test", "c.test"]
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(hoststat, "report", lambda *words: said.append(words))
    assert run(monkeypatch, capsys, "purgestat", *arguments, "a.test")[0] == 1
    assert said == [("purgestat", "no deliver knows that a.test fails")]
    assert run(monkeypatch, capsys, "purgestat", *arguments)[0] == 0
    assert not known(config)
    assert run(monkeypatch, capsys, "purgestat", *arguments)[0] == 0


def test_what_fails_for_one_cause_is_revived_together(config) -> None:
    word, now = "[192.0.2.1]:25", time.time()
    for named in (word, "a.test"):
        fail(config, word, "other.test")
        fail(config, "a.test", "b.test", via=word)
        hoststat.revive(config, [named], now + 1)
        left = {"other.test"} if named == word else {"other.test", "b.test"}
        assert set(known(config)) == left


def test_mta_host_lists_as_json(config) -> None:
    now = time.time()
    fail(config, "a.test", at=now, via="[192.0.2.1]:25")
    (row,) = [json.loads(line) for line in hoststat.lines(config, (), "", now, as_json=True)]
    until = dead("a.test", known(config, now)["a.test"], config.channel("smtp").dead_ttl).until
    assert row == {
        "channel": "smtp", "host": "a.test", "failures": 1, "since": row["at"],
        "at": pytest.approx(now), "until": pytest.approx(until), "by_hand": False,
        "via": "[192.0.2.1]:25", "who": "deliver[7]", "code": 421, "status": "4.4.1",
        "text": DOWN.text,
    }  # fmt: skip
    assert list(hoststat.lines(config, ["b.test"], "", now)) == []
    (text,) = hoststat.lines(config, ["a.test"], "smtp", now)
    assert "1 failure(s) since" in text and "at [192.0.2.1]:25" in text and "(deliver[7])" in text


def test_a_host_is_buried_by_hand_and_revived(config) -> None:
    now = time.time()
    fail(config, "a.test", at=now - 5000)
    fail(config, "a.test", at=now - 1000)
    assert hoststat.act(config, "bury", ["a.test", "New.Test"], "2h", "smtp", now) == 1
    for host, failures in (("a.test", 2), ("new.test", 1)):
        held = known(config, now)[host]
        assert held.who.startswith(PERSON) and held.failures == failures
        assert dead(host, held, 60.0).until == pytest.approx(now + 7200)
    assert held.at - held.since == 0
    a = known(config, now)["a.test"]
    assert a.at - a.since == pytest.approx(4000)  # a person's word makes it fail no longer
    assert "buried by hand" in next(iter(hoststat.lines(config, (), "", now)))
    assert hoststat.act(config, "revive", ["a.test"], "", "", now) == 1
    assert list(known(config, now)) == ["new.test"]


@pytest.mark.parametrize(
    ("act", "hosts", "span", "channel", "what"),
    [
        ("bury", [], "2h", "", "needs a host"),
        ("bury", ["a"], "", "", "needs --for"),
        ("bury", ["a"], "soon", "", "is not a time"),
        ("revive", ["a"], "2h", "", "bury's"),
        ("revive", ["a"], "", "nope", "no channel is called 'nope'"),
    ],
)
def test_wrong_words_are_explained(config, act, hosts, span, channel, what) -> None:
    with pytest.raises(UsageError, match=what):
        hoststat.act(config, act, hosts, span, channel, 0.0)


def test_a_log_that_nobody_lets_go_of(config, monkeypatch) -> None:
    fail(config, "a.test")
    monkeypatch.setattr(hoststat, "PATIENCE", 0.05)
    fs = Spool.open(config.spool).fs
    fd = fs.open("host/1", append=True)
    assert fs.lock(fd)
    with pytest.raises(SpoolError, match="in another's hands"):
        hoststat.revive(config, ["a.test"], time.time())
    fs.close(fd)


def test_a_time_that_no_line_holds_is_refused(config) -> None:
    longest = hoststat.LONGEST
    assert hoststat.bury(config, ["far.example"], longest, time.time()) > 0
    assert list(hoststat.lines(config, ["far.example"], "", time.time()))
    with pytest.raises(UsageError, match="at most"):
        hoststat.bury(config, ["far.example"], longest + 1, time.time())
