"""The load's say: work as usual, work less, only queue, or refuse.

A *gauge* is something measured: the load average, and where the kernel tells
it the pressure (PSI).  Each has thresholds of its own and a Gate that remembers
its level, so that a load that wavers around a threshold does not make a process
stop and start.  Of all gauges the strictest level acts.

Source   sendmail's QueueLA, RefuseLA and DelayLA; ``load:`` of mta.yaml(5).
Units    One-minute load averages, or per cent of the time for pressure; a
         threshold of 0 is off.
State    The Gates of one process.

Invariants, each a property in tests/policy/test_load.py
    G1   A load at or above a threshold that is on puts the gate at least there.
    G2   A level is left only when the load has fallen below EASE of its threshold.
    G3   A smaller load never leads to a stricter level than a greater one would.
    G4   The level of all gauges is the strictest of each one's own.
    G5   Of each gauge, a level that was said to begin is said to end before it
         begins again; what has begun and not ended is what is in force.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DELAY", "EASE", "LEVELS", "LOAD", "PRESSURE", "QUEUE_ONLY", "REFUSE", "RUN",
    "Change", "Gate", "Gates", "Standing", "Thresholds", "read_standing",
]  # fmt: skip

RUN, DELAY, QUEUE_ONLY, REFUSE = 0, 1, 2, 3  # in order of strictness
LEVELS = ("run", "delay", "queue_only", "refuse")
LOAD, PRESSURE = "load", "pressure"  # the gauges
EASE = 0.8  # a level ends when the load is below this part of what began it


@frozen
class Thresholds:
    """Where each level begins; a process leaves those off that mean nothing to it."""

    delay: float = 0.0
    queue_only: float = 0.0
    refuse: float = 0.0


@frozen
class Change:
    """A level of one gauge that begins, or ends, at ``value``."""

    gauge: str
    level: str
    begins: bool
    threshold: float
    value: float


@frozen
class Standing:
    """The level in force, and the gauge that put it there."""

    level: int = RUN
    gauge: str = LOAD
    value: float = 0.0
    threshold: float = 0.0

    def __str__(self) -> str:
        """In words for a process's title: "load 9.1 over queue_only 8", "" where nothing acts."""
        if self.level == RUN:
            return ""
        over = f"over {LEVELS[self.level]} {self.threshold:g}"
        return f"{self.gauge} {self.value:.1f} {over}"


def read_standing(title: str) -> Standing | None:
    """Return what a process's title says of its standing; None if it says nothing."""
    for gauge in (LOAD, PRESSURE):
        _, found, rest = title.partition(f": {gauge} ")
        words = rest.partition(": ")[0].split(" ") if found else []
        if len(words) == 4 and words[1] == "over" and words[2] in LEVELS[1:]:
            try:
                return Standing(LEVELS.index(words[2]), gauge, float(words[0]), float(words[3]))
            except ValueError:
                return None
    return None


class Gate:
    """Remembers the level of one gauge; ask ``level``, tell it measurements by ``note``."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._steps = (
            (REFUSE, thresholds.refuse),
            (QUEUE_ONLY, thresholds.queue_only),
            (DELAY, thresholds.delay),
        )
        self.level = RUN

    @property
    def watching(self) -> bool:
        """Whether any threshold is on; if not, nobody need measure."""
        return any(begins > 0 for _, begins in self._steps)

    def note(self, load: float) -> int:
        """Take a measurement; return the level now in force."""
        for level, begins in self._steps:
            ends = begins * EASE if self.level >= level else begins
            if begins > 0 and load >= ends:
                self.level = level
                return level
        self.level = RUN
        return RUN

    def threshold(self, level: int) -> float:
        """Return where ``level`` begins; 0 where it is off."""
        return dict(self._steps).get(level, 0.0)


class Gates:
    """All gauges of a process: tell them measurements by ``note``."""

    def __init__(self, thresholds: Mapping[str, Thresholds]) -> None:
        """Take the thresholds of each gauge; gauges without any are not watched."""
        gates = {gauge: Gate(each) for gauge, each in thresholds.items()}
        self._gates = {gauge: gate for gauge, gate in gates.items() if gate.watching}
        self.watched = tuple(self._gates)
        self.standing = Standing()

    def note(self, values: Mapping[str, float]) -> list[Change]:
        """Take a measurement of each gauge, 0 where there is none; return what changed."""
        changes: list[Change] = []
        standings = [Standing()]
        for gauge, gate in self._gates.items():
            value, before = values.get(gauge, 0.0), gate.level
            level = gate.note(value)
            changes += _changes(gauge, gate, before, value)
            standings.append(Standing(level, gauge, value, gate.threshold(level)))
        self.standing = max(standings, key=lambda s: (s.level, s.value - s.threshold))
        return changes


def _changes(gauge: str, gate: Gate, before: int, value: float) -> list[Change]:
    """Return the levels that lie between ``before`` and now, in the order they are passed."""
    passed = range(before + 1, gate.level + 1) or range(before, gate.level, -1)
    begins = gate.level > before
    return [
        Change(gauge, LEVELS[level], begins, gate.threshold(level), value)
        for level in passed
        if gate.threshold(level) > 0
    ]
