"""LW1 to LW3: what the machine is asked, how often, and what is said of it."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mta.machine.load import EVERY, QUICK, Watch, load_average, pressures, quick_load_average
from mta.policy.load import LOAD, PRESSURE, RUN, Thresholds


class Told(list[tuple[object, ...]]):
    def load_level(self, *fields: object) -> None:
        self.append(fields)


def test_both_ways_to_ask_agree() -> None:
    assert 0 <= load_average() == load_average()
    assert abs(load_average() - quick_load_average()) < 1.0
    assert QUICK[LOAD] is quick_load_average


@given(st.lists(st.floats(0, 3 * EVERY), max_size=30))
def test_lw1_the_machine_is_asked_seldom(steps: list[float]) -> None:
    asked: list[float] = []
    now = 100.0

    def load() -> float:
        asked.append(now)
        return 0.0

    def never() -> float:
        raise AssertionError("no threshold is on")

    watch = Watch(
        {LOAD: Thresholds(1.0), PRESSURE: Thresholds()}, None, {LOAD: load, PRESSURE: never}
    )
    for step in steps:
        now += step
        before = len(asked)
        assert watch.tick(now) is (len(asked) == before + 1)
    assert bool(asked) is bool(steps)
    assert all(later - earlier >= EVERY for earlier, later in pairwise(asked))


def test_lw2_a_kernel_without_pressure_has_none(tmp_path: Path) -> None:
    assert pressures(str(tmp_path / "none")) == {}
    some = "some avg10=12.50 avg60=1.00 avg300=0.10 total=5\n"
    full = "full avg10=99.00 avg60=1.00 avg300=0.10 total=5\n"
    (tmp_path / "cpu").write_text(some + full)
    (tmp_path / "io").write_text("some avg10=none\n")
    assert pressures(str(tmp_path)) == {"cpu": 12.5}
    (tmp_path / "memory").write_text("")
    (tmp_path / "io").write_text(some.replace("12.50", "40.25"))
    assert pressures(str(tmp_path)) == {"cpu": 12.5, "io": 40.25}
    if os.path.exists("/proc/pressure/cpu"):
        assert all(0 <= value <= 100 for value in pressures().values())


def test_lw3_each_level_is_logged_once() -> None:
    told, loads = Told(), iter((1.0, 5.0, 5.5, 9.0, 7.0, 3.0, 1.0))
    watch = Watch({LOAD: Thresholds(4.0, 8.0)}, told, {LOAD: lambda: next(loads)})
    for n in range(7):
        watch.tick(n * EVERY)
    assert [(row[1], row[2], row[4]) for row in told] == [
        ("delay", True, 5.0),
        ("queue_only", True, 9.0),
        ("queue_only", False, 3.0),
        ("delay", False, 3.0),
    ]
    assert watch.standing.level == RUN
