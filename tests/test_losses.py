"""mta failures counts what the log says, whatever that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mta import losses

WORDS = st.text(max_size=8) | st.none() | st.integers()
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event": st.sampled_from(["attempt", "attempt", "discarded", "unreported", "queued"]),
            "time": st.sampled_from(["2026-11-22T12:00:00.250Z", "2026-11-23T12:00:00.250Z"]),
        },
        optional={
            "state": st.sampled_from(["failed", "deferred", "delivered"]),
            "class": st.sampled_from(["policy", "timeout", "x\x1b[31m"]),
            "to": st.sampled_from(["a@x.test", "b@Y.test", "\x07", "a@"]),
            "recipients": st.integers(0, 9) | st.text(max_size=2),
            "code": WORDS,
            "text": WORDS,
        },
    ),
    max_size=30,
)


def write(folder: Path, events: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "events.jsonl").write_text(text)
    return str(folder)


@given(EVENTS)
def test_u1_every_attempt_is_counted_once(events: list[dict[str, Any]]) -> None:
    counts = losses.count(events)
    for state in ("failed", "deferred"):
        tried = [e for e in events if e["event"] == "attempt" and e.get("state") == state]
        assert sum(states[state] for states in counts.states.values()) == len(tried)
    for kind, domains in counts.domains.items():
        assert sum(domains.values()) == sum(counts.states[kind].values())
    late = losses.count(events, "2026-11-23")
    assert late.unreported == len(
        [e for e in events if e["event"] == "unreported" and e["time"] > "2026-11-23"]
    )


@given(events=EVENTS)
def test_u2_nothing_is_raised_and_no_control_character_told(
    tmp_path_factory: Any, events: list[dict[str, Any]]
) -> None:
    folder = write(tmp_path_factory.mktemp("log"), events)
    for line in losses.lines(folder):
        assert line.isprintable()
    for line in losses.lines(folder, as_json=True):
        json.loads(line)


def test_domains_beyond_the_bound_are_counted_together(monkeypatch: Any) -> None:
    monkeypatch.setattr(losses, "DOMAINS", 3)
    one = {"event": "attempt", "time": "2026", "state": "failed", "class": "policy"}
    counts = losses.count([{**one, "to": f"a@d{n}.test"} for n in range(10)])
    assert len(counts.domains["policy"]) == 4 and counts.domains["policy"]["others"] == 7


def test_it_reads_well(tmp_path: Path) -> None:
    one = {"event": "attempt", "time": "2026-11-22T12:00:00.250Z", "state": "failed"}
    said = {"code": 552, "status": "5.2.2", "text": "over quota", "class": "mailbox-full"}
    events = [{**one, **said, "to": "bob@x.test"}] * 2
    events.append({"event": "discarded", "time": "2026-11-22T13", "recipients": 12})
    assert list(losses.lines(write(tmp_path, events))) == [
        "       2 failed        0 deferred  mailbox-full",
        "          552 5.2.2 over quota",
        "          x.test 2",
        "       0 failures reported to nobody, as their authors asked",
        "      12 failures discarded by rules of senders",
    ]
