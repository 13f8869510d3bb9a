"""Events in words: every event has them, and none can move a terminal's cursor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import events
from mta.events import clock, tell
from mta.machine.log import Log
from mta.machine.logline import TEXT
from tests.machine.test_log import GOLDEN

ANY = st.one_of(st.text(max_size=20), st.integers(), st.none(), st.lists(st.text(), max_size=2))


def test_every_event_has_words() -> None:
    assert set(events._TELL) == set(TEXT)


@pytest.mark.parametrize(("event", "act"), [golden[:2] for golden in GOLDEN])
def test_what_the_log_writes_can_be_told(event: str, act, tmp_path: Path) -> None:
    log = Log(str(tmp_path), ("json",), "deliver")
    act(log)
    log.close()
    said = tell(json.loads((tmp_path / "events.jsonl").read_text()))
    assert said and not said.startswith(f"{event}: {{"), "fell back to the raw record"


@given(name=st.sampled_from(sorted(TEXT)), fields=st.dictionaries(st.text(max_size=8), ANY))
def test_e3_nothing_told_holds_a_control_character(name: str, fields: dict[str, object]) -> None:
    assert tell({**fields, "event": name, "time": "x"}).isprintable()


@given(st.text("abc\x1b\n\u2028", max_size=12))
def test_e3_a_hostile_reply_is_told_without_its_escapes(text: str) -> None:
    assert tell({"event": "warning", "text": text}).isprintable()


def test_clock_is_local_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert clock("2026-11-22T12:00:00.250Z").endswith(":00:00.250")
    assert clock("not a time\x1b") == "not a time?"
