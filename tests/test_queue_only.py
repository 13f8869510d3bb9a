"""What submit says, and whom it wakes, while the load allows queueing only."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import queue_only
from mta.accept import open_door
from mta.config.load import load_config
from mta.machine.load import QUICK
from mta.machine.wake import Ear
from mta.policy.decide import outweighed
from mta.policy.load import LOAD, PRESSURE
from mta.policy.order import priority
from mta.submission import Caller, Submission, Terms
from mta.types import PLAIN, Mailbox
from tests.inlet import queued, write_site
from tests.test_submit import run

PATH = str(Path(__file__).parents[1])
ALICE = Mailbox("alice", "example.test")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    measured = {LOAD: 0.0, PRESSURE: 0.0}
    for gauge in (LOAD, PRESSURE):
        monkeypatch.setitem(QUICK, gauge, partial(measured.__getitem__, gauge))  # type: ignore
    return measured


def site(folder: Path, monkeypatch: pytest.MonkeyPatch, load: str) -> None:
    path = write_site(folder)
    path.write_text(path.read_text() + f"load: {{{load}}}\n")
    monkeypatch.setenv("MTA_CONFIG", str(path))


@pytest.mark.parametrize(
    ("load", "gauge", "value", "said"),
    [
        ("queue_only: 8, queue_factor: 0", LOAD, 9.13, "load 9.1 over queue_only 8"),
        ("queue_only: 8", LOAD, 80.0, "load 80.0 over queue_only 8"),
        ("queue_only: 8", LOAD, 9.0, ""),  # a small message outweighs that
        ("queue_only: 8, queue_factor: 0", LOAD, 7.9, ""),
        ("psi: {queue_only: 40}", PRESSURE, 75.0, "pressure 75.0 over queue_only 40"),
        ("delay: 1, refuse: 2", LOAD, 80.0, ""),
    ],
)
def test_mail_that_waits_is_accepted_and_v_says_so(
    load: str,
    gauge: str,
    value: float,
    said: str,
    machine: dict[str, float],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site(tmp_path, monkeypatch, load)
    machine[gauge] = value
    ear = Ear(str(tmp_path / "run"), "intake")
    answer = run(capfd, monkeypatch, ["-v", "alice@example.test"])
    first, *rest = answer.out.splitlines()
    assert (answer.status, answer.err) == (0, "")
    assert first.startswith("Submitted & queued (")
    assert rest == ([f"It waits for the load to fall: {said}"] if said else [])
    assert bool(ear.read()) is not bool(said)
    answer = run(capfd, monkeypatch, ["--json", "alice@example.test"])
    assert json.loads(answer.out)["waits_for"] == (said or None)
    assert run(capfd, monkeypatch, ["alice@example.test"]).out == ""
    assert len(queued(tmp_path)) == 3
    ear.close()


def test_of_several_messages_one_that_may_go_wakes(
    machine: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(tmp_path, monkeypatch, "queue_only: 8")
    machine[LOAD] = 12.0
    door = open_door(load_config(None))
    ear = Ear(str(tmp_path / "run"), "intake")

    def submit(size: int, more: bytes = b"") -> str:
        submission = Submission(door, Terms(ALICE, Caller(1, "alice")), [door.verify(str(ALICE))])
        submission.feed(more + b"Subject: x\n\n" + b"x" * size + b"\n")
        submission.finish(sync=False)
        return door.waits

    assert submit(200_000)
    door.sync()
    assert not ear.read()
    assert not submit(200_000, b"Precedence: special-delivery\n")
    assert submit(200_000)
    door.sync()
    assert ear.read()
    ear.close()


def test_one_job_that_may_go_is_enough(machine: dict[str, float]) -> None:
    machine[LOAD] = 9.0
    limits: Any = SimpleNamespace(
        queue_only=8.0, queue_factor=600_000, psi=SimpleNamespace(queue_only=0.0)
    )
    draft: Any = SimpleNamespace(size=1000, start=lambda: b"")
    few, many = SimpleNamespace(recipients="x"), SimpleNamespace(recipients="x" * 10)
    waits = [
        queue_only.waits_for(limits, draft, jobs, PLAIN)  # type: ignore[arg-type]
        for jobs in ((few,), (many,), (few, many))
    ]
    assert waits == ["", "load 9.0 over queue_only 8", ""]


def test_a_look_costs_no_slow_import() -> None:
    text = """
import sys
from types import SimpleNamespace as New
from mta.queue_only import waits_for
limits = New(queue_only=1e-9, queue_factor=0, psi=New(queue_only=1e-9))
draft = New(size=5, start=lambda: b"")
waits_for(limits, draft, [New(recipients="x")], New(precedence=None))
slow = {"psutil", "re", "typing", "json", "enum", "dataclasses", "asyncio"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-S", "-c", text], check=True, env={"PYTHONPATH": PATH})


def test_no_threshold_costs_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site(tmp_path, monkeypatch, "delay: 1")
    monkeypatch.setattr(queue_only, "waits_for", None)
    door = open_door(load_config(None))
    submission = Submission(door, Terms(ALICE, Caller(1, "alice")), [door.verify(str(ALICE))])
    submission.feed(b"x\n")
    assert submission.finish()


@given(
    st.integers(0, 10**7),
    st.integers(-100, 100),
    st.integers(1, 100),
    st.floats(-5, 100),
    st.floats(0, 1e6),
)
def test_a_higher_load_never_lets_more_go(size, precedence, recipients, above, factor):
    points = priority(size, precedence, recipients, 0)
    if outweighed(points, above, factor):
        assert outweighed(points, above + 1, factor)
        assert outweighed(points + 1, above, factor)
        assert outweighed(priority(size, precedence, recipients, 1), above, factor)
    if points > 0:
        assert outweighed(points, above, 0.0)
