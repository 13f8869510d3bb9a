"""Silent hosts: connections that cost next to nothing, and must not cost others their turn.

RFC 5321 lets a host take minutes to say anything.  A host that has jobs in flight
and has said nothing for PATIENCE is *silent*: its jobs no longer count among those
that the channel may have in flight, up to a bound of their own, and it gets no
more until it speaks.  So twenty hosts that accept connections and fall silent hold
up nobody else, and neither do hundreds of them that nobody has tried before.

Units    Monotonic seconds.
State    The hosts with jobs in flight, in the order in which they last spoke or began.

Invariants, each a property in tests/deliver/test_silence.py
    SL1  The jobs of silent hosts are never more than the bound.
    SL2  A host is silent only if it has jobs in flight, and since the first of them, or
         since it last spoke, PATIENCE has passed.
    SL3  While there is room for all its jobs, whoever has been quiet so long is silent.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.types import Host

__all__ = ["PATIENCE", "Silence"]

PATIENCE = 2.0  # a good host may take longer, too: it loses nothing by being counted apart


class Silence:
    """Who is silent, of the hosts of one channel."""

    def __init__(self, most: int) -> None:
        """Count at most ``most`` jobs apart; 0 none."""
        self.flights = 0  # of silent hosts
        self._most = most
        self._since: dict[Host, float] = {}
        self._silent: dict[Host, int] = {}

    def __contains__(self, host: Host) -> bool:
        return host in self._silent

    def launched(self, host: Host, mono: float) -> None:
        """A job goes to ``host``."""
        if host in self._silent:
            self._silent[host] += 1
            self.flights += 1
        else:
            self._since.setdefault(host, mono)

    def spoke(self, host: Host, mono: float) -> None:
        """``host`` has said something; it has jobs in flight."""
        self.flights -= self._silent.pop(host, 0)
        self._since.pop(host, None)
        self._since[host] = mono

    def landed(self, host: Host, left: int) -> None:
        """A job is back from ``host``; ``left`` are still there."""
        if host in self._silent:
            self._silent[host] -= 1
            self.flights -= 1
        if not left:
            self._since.pop(host, None)
            self._silent.pop(host, None)

    def listen(self, mono: float, in_flight: Callable[[Host], int]) -> list[Host]:
        """Return who falls silent at ``mono``; ``in_flight`` tells how many jobs a host has."""
        fallen = []
        for host, since in self._since.items():
            if mono - since < PATIENCE or self.flights >= self._most:
                break
            count = in_flight(host)
            if self.flights + count <= self._most:  # else those behind it may fit
                self._silent[host] = count
                self.flights += count
                fallen.append(host)
        for host in fallen:
            del self._since[host]
        return fallen
