"""Rates: when a host's rate allows one attempt more to begin.

A tenth of a rate may come at once, the rest is spread evenly, so that no window
of its length ever sees more than the rate says.

Source   The generic cell rate algorithm (ITU-T I.371): of each host only the time is
         kept at which its next attempt would be due if all came evenly.
Units    Wall-clock seconds; a rate is how many in how many seconds.
State    A time for each host that has begun lately, KEPT at most.

Invariants, each a property in tests/policy/test_rate.py
    RA1  In no window of the rate's length do more begin than the rate says.
    RA2  Who always has more to begin gets nine tenths of the rate or more.
    RA3  However many hosts there are, at most KEPT times are held.
    RA4  A clock that is put back keeps nobody waiting longer than the space of two attempts.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.types import Host

__all__ = ["Pace"]

KEPT = 10_000
AT_ONCE = 10  # this part of a rate may come at once

Rate = tuple[int, float]


class Pace:
    """The attempts of one channel, by host."""

    def __init__(self) -> None:
        """Know of none."""
        self._due: dict[Host, float] = {}

    def at(self, host: Host, rate: Rate, now: float) -> float:
        """Return when one attempt more may begin; it may be long ago."""
        due = self._due.get(host)
        if due is None:
            return 0.0
        burst, step = _evenly(rate)
        if due > now + burst * step:  # no attempt makes it later: the clock was put back
            due = self._due[host] = now + burst * step
        return due - (burst - 1) * step

    def begun(self, host: Host, rate: Rate, now: float) -> None:
        """An attempt begins."""
        if host not in self._due and len(self._due) >= KEPT:
            self._trim(now)
        self._due[host] = max(self._due.get(host, now), now) + _evenly(rate)[1]

    def _trim(self, now: float) -> None:
        """Forget who is free again; if that is nobody, who is so first."""
        self._due = {host: due for host, due in self._due.items() if due > now}
        while len(self._due) >= KEPT:
            for host in sorted(self._due, key=self._due.__getitem__)[: KEPT // 10 + 1]:
                del self._due[host]


def _evenly(rate: Rate) -> tuple[int, float]:
    """Return how many may come at once, and the seconds between the others."""
    number, period = rate
    burst = max(1, number // AT_ONCE)
    return burst, period / (number - burst + 1)
