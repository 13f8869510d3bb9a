"""SP1, SP2: how long a program that submits much is kept waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.machine.flow import Teller
from mta.policy.admission import MOST, Flow
from mta.submission import Caller
from mta.submit_pace import Pacer
from mta.submit_protocol import Conversation, serve
from tests.inlet import make_door, queued, write_site


class Time:
    """A clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock() -> Time:
    return Time()


def talk(folder: Path, clock: Time) -> Conversation:
    path = write_site(folder)
    path.write_text(path.read_text().replace("program: smtp,", "program: smtp, target_age: 100s,"))
    from mta.accept import open_door
    from mta.config.load import load_config

    door = open_door(load_config(str(path)))
    return Conversation(door, Caller(1, "alice"), Pacer(door.config, clock, clock.sleep))


def say(conversation: Conversation, *lines: str) -> list[str]:
    replies = "".join(conversation.feed("".join(f"{line}\n" for line in lines).encode()))
    return [reply[:9] for reply in replies.splitlines()]


def test_sp1_a_message_waits_once_however_many_its_recipients(tmp_path: Path, clock: Time) -> None:
    conversation = talk(tmp_path, clock)
    Teller(str(tmp_path / "run"), "smtp").tell(Flow(95, 1.0, 1.0), clock.now)
    rcpts = [f"to x{n}@remote.test" for n in range(20)]
    assert say(conversation, *rcpts, "data", "hello", ".") == ["250 2.1.5"] * 20 + ["250 2.0.0"]
    assert clock.slept == 0  # all for one host: a single job, which is little
    rcpts = [f"to x@h{n}.remote.test" for n in range(50)]
    assert say(conversation, *rcpts, "data", "hello", ".") == ["250 2.1.5"] * 50 + ["250 2.0.0"]
    assert 0.8 * MOST < clock.slept <= MOST
    assert len(queued(tmp_path)) == 51


def test_sp2_beyond_the_target_it_is_refused_at_once(tmp_path: Path, clock: Time) -> None:
    conversation = talk(tmp_path, clock)
    Teller(str(tmp_path / "run"), "smtp").tell(Flow(250, 1.0, 1.0), clock.now)
    lines = ["to x@remote.test", "to alice@example.test", "data", "hello", "."]
    assert say(conversation, *lines) == ["451 4.3.2", "250 2.1.5", "250 2.0.0"]
    assert clock.slept == 0


def test_sp2_what_was_brought_long_ago_counts_no_more(tmp_path: Path, clock: Time) -> None:
    conversation = talk(tmp_path, clock)
    teller = Teller(str(tmp_path / "run"), "smtp")
    teller.tell(Flow(0, 1.0, 1.0), clock.now)
    say(conversation, *[f"to x@h{n}.remote.test" for n in range(60)], "abort")
    teller.tell(Flow(120, 1.0, 1.0), clock.now)
    clock.now += 2
    assert say(conversation, "to x@remote.test") == ["451 4.3.2"]
    clock.now = 1260.0  # two minutes after, when the minute before would count in full
    teller.tell(Flow(120, 1.0, 1.0), clock.now)
    assert say(conversation, "to x@remote.test") == ["250 2.1.5"]


def test_without_a_target_nobody_is_asked(tmp_path: Path) -> None:
    door = make_door(tmp_path)
    said: list[str] = []
    serve(door, Caller(1, "alice"), iter([b"to x@remote.test\nquit\n"]), said.append)
    assert "".join(said).startswith("250 2.1.5")
