"""mta suspend, resume and suspended: what is written, shown and refused."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from mta.control import suspending
from mta.errors import ConfigError, UsageError
from mta.machine.logread import read_events
from mta.policy.suspensions import WHATS
from tests.queued import new_config


def given_(**values: str):
    return {what: (values[what],) if what in values else () for what in WHATS}


def suspend(config, until="", lasting="", why="", **values: str) -> list[str]:
    said: list[str] = []
    about = suspending.whom(config, given_(**values))
    how = {"until": until, "lasting": lasting, "why": why}
    assert suspending.suspend(config, about, **how, say=said.append) == 0
    return said


def listed(config) -> list[dict]:
    return [json.loads(line) for line in suspending.lines(config, as_json=True)]


def test_a_rule_is_listed_until_it_is_taken_back(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    assert listed(config) == []
    suspend(config, host="MX.Example", why="they move")
    suspend(config, sender="Ann@A.Example", lasting="2h")
    host, author = listed(config)
    assert (host["what"], host["whom"], host["until"]) == ("host", "mx.example", 0.0)
    assert author["whom"] == "ann@a.example" and 7190 < author["until"] - time.time() <= 7200
    text = list(suspending.lines(config, as_json=False))
    assert "they move" in text[0] and "until it is resumed" in text[0]
    said: list[str] = []
    about = suspending.whom(config, given_(host="mx.example", queue="smtp"))
    assert suspending.resume(config, about, said.append) == 0
    assert said == ["host mx.example goes again", "queue smtp was not suspended"]
    assert [rule["what"] for rule in listed(config)] == ["sender"]
    assert suspending.resume(config, None, said.append) == 0 and listed(config) == []
    assert suspending.resume(config, None, said.append) == 1
    kinds = [e["event"] for e in read_events(config.log.dir)]
    assert kinds == ["suspended", "suspended", "resumed", "resumed"]


def test_ends_are_times_of_day_dates_or_spans(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    suspend(config, channel="smtp", until="03:15")
    (rule,) = listed(config)
    at = datetime.fromtimestamp(rule["until"])
    assert (at.hour, at.minute, at.second) == (3, 15, 0)
    assert 0 < rule["until"] - time.time() <= 86400 + 3600
    suspend(config, channel="smtp", until="2199-12-24T18:00")
    (rule,) = listed(config)
    assert datetime.fromtimestamp(rule["until"]) == datetime(2199, 12, 24, 18)


def test_what_is_no_rule_is_refused(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    for wrong in [{}, {"host": "a b"}, {"sender": "x@"}, {"queue": "nowhere"}, {"domain": "."}]:
        with pytest.raises(UsageError):
            suspending.whom(config, given_(**wrong))
    with pytest.raises(ConfigError):
        suspending.whom(config, given_(channel="nowhere"))
    for wrong in [{"until": "25:00"}, {"until": "2001-01-01T00:00"}, {"lasting": "2"}]:
        with pytest.raises(UsageError):
            suspend(config, host="a.example", **wrong)
    with pytest.raises(UsageError):
        suspend(config, host="a.example", until="14:30", lasting="2h")
    assert listed(config) == []
