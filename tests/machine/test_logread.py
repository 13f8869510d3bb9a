"""The event log read back: broken lines, rotation in the middle of following."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine.logread import Follower, parse_event, read_events


def event(number: int, **fields: object) -> bytes:
    said = {"time": f"2026-11-22T12:00:{number:02d}.000Z", "event": "removed", **fields}
    return json.dumps(said).encode() + b"\n"


@given(st.binary(max_size=80))
def test_e1_any_octets_are_an_event_or_none(line: bytes) -> None:
    parsed = parse_event(line)
    assert parsed is None or {"event", "time"} <= set(parsed)


def test_e1_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    foreign = b'[1]\n{"event": 3, "time": "x"}\n{"event": "removed"}\n\xff\n\n'
    torn = event(2, id="B")[:-9]
    (tmp_path / "events.jsonl").write_bytes(event(1, id="A") + foreign + torn)
    assert [e["id"] for e in read_events(tmp_path.as_posix())] == ["A"]


def test_events_about_a_word_come_from_the_rotated_file_first(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl.1").write_bytes(event(1, id="A") + event(2, id="B"))
    (tmp_path / "events.jsonl").write_bytes(event(3, id="A", dsn="C"))
    found = [e["time"][17:19] for e in read_events(str(tmp_path), "A")]
    assert found == ["01", "03"]
    assert [e["id"] for e in read_events(str(tmp_path), "C")] == ["A"]
    assert list(read_events(str(tmp_path / "nowhere"))) == []


@given(data=st.data())
@settings(deadline=None)
def test_e2_a_follower_misses_no_line_through_rotations(
    data: st.DataObject, tmp_path_factory
) -> None:
    directory = tmp_path_factory.mktemp("log")
    path = directory / "f"
    path.touch()
    follower, seen, written, rotated = Follower(str(path)), [], [], 0
    for number in range(data.draw(st.integers(1, 12))):
        action = data.draw(st.sampled_from(["write", "half", "rotate", "read"]))
        if action == "rotate" and path.exists():
            seen += follower.lines()  # logrotate keeps a day between rotations: we have read since
            rotated += 1
            path.rename(directory / f"f.{rotated}")
        elif action in ("write", "half"):
            line = f"line {number}".encode()
            written.append(line)
            with path.open("ab") as file:
                file.write(line[:3])
                if action == "half":
                    file.flush()
                    seen += follower.lines()
                file.write(line[3:] + b"\n")
        else:
            seen += follower.lines()
    seen += follower.lines()
    assert seen == written


def test_e2_what_was_written_before_the_rename_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old\n")
    follower = Follower(str(path))
    with path.open("ab") as file:
        path.rename(tmp_path / "f.1")
        file.write(b"late\n")  # by a process that has not noticed yet
    path.write_bytes(b"new\n")
    assert follower.lines() == [b"late", b"new"]


def test_a_follower_begins_so_many_lines_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(10)))
    assert Follower(str(path), back=3).lines() == [b"7", b"8", b"9"]
    assert len(Follower(str(path), back=99).lines()) == 10
    assert Follower(str(path)).lines() == []
    assert Follower(str(tmp_path / "none"), back=3).lines() == []
