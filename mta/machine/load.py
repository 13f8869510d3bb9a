"""The machine's load: its one-minute average, its pressure, and a process's watch over both.

Source   getloadavg(3); the kernel's pressure stall information (PSI), "some avg10"
         of /proc/pressure/cpu, io and memory.
Units    Load averages; per cent of the last ten seconds in which something had to
         wait.  Times are float seconds on the monotonic clock.
State    A Watch has the gates of one process.

Invariants, each a test in tests/machine/test_load.py
    LW1  The machine is asked at most once in EVERY, and never for a gauge that has
         no threshold.
    LW2  A kernel that tells no pressure has none: nothing fails for that.
    LW3  Each level that begins or ends is logged once.
"""

from __future__ import annotations

import os

from mta.policy.load import LOAD, PRESSURE, Gates, Standing
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from mta.policy.load import Thresholds

    class Log(Protocol):
        """Where changes go."""

        def load_level(
            self, gauge: str, level: str, begins: bool, threshold: float, value: float
        ) -> None:
            """Say that ``level`` begins or ends."""


__all__ = ["Watch", "load_average", "pressures", "quick_load_average"]

EVERY = 2.0  # seconds between looks; the kernel reckons pressure as often
FOLDER = "/proc/pressure"
RESOURCES = ("cpu", "io", "memory")


def load_average() -> float:
    """Return the one-minute load average; 0.0 where the system does not tell."""
    import psutil

    try:
        return float(psutil.getloadavg()[0])
    except OSError:
        return 0.0


def quick_load_average() -> float:
    """Return the same for who has just begun and soon ends: to load psutil takes 20 ms."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def pressures(folder: str = FOLDER) -> dict[str, float]:
    """Return the pressure on each resource; {} where the kernel tells none."""
    found: dict[str, float] = {}
    for resource in RESOURCES:
        try:
            with open(f"{folder}/{resource}", encoding="ascii") as file:
                first = file.readline()
        except OSError:  # no such file, or PSI is switched off
            continue
        words = dict([word.partition("=")[::2] for word in first.split()])
        try:
            found[resource] = float(words.get("avg10", ""))
        except ValueError:
            continue
    return found


def _worst() -> float:
    return max(pressures().values(), default=0.0)


GAUGES: Mapping[str, Callable[[], float]] = {
    LOAD: load_average,
    PRESSURE: _worst,
}
QUICK: Mapping[str, Callable[[], float]] = {**GAUGES, LOAD: quick_load_average}


class Watch:
    """One process's view of the load; tick() it, and go by ``standing``."""

    def __init__(
        self,
        thresholds: Mapping[str, Thresholds],
        log: Log | None = None,
        gauges: Mapping[str, Callable[[], float]] = GAUGES,
    ) -> None:
        """Watch the gauges that have ``thresholds``; changes go to ``log``."""
        self._gates = Gates(thresholds)
        self._gauges = gauges
        self._log = log
        self._looked = -EVERY

    @property
    def standing(self) -> Standing:
        """The level in force, and why."""
        return self._gates.standing

    def tick(self, mono: float) -> bool:
        """Look at the load if it is time; return whether that was so."""
        if not self._gates.watched or 0.0 <= mono - self._looked < EVERY:
            return False
        self._looked = mono
        self._note({gauge: self._gauges[gauge]() for gauge in self._gates.watched})
        return True

    def rest(self) -> None:
        """End whatever is in force: nobody watches any more."""
        self._note({})

    def _note(self, values: Mapping[str, float]) -> None:
        for c in self._gates.note(values):
            if self._log is not None:
                self._log.load_level(c.gauge, c.level, c.begins, c.threshold, c.value)
