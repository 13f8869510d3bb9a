"""Whose turn it is now: which host's first job a lane may hand over.

The index says who stands first; the verdict of each gate is obeyed: hosts
that may not go now are put aside, passed over, or asked again in time.
What one host may have while others wait, it may exceed when they cannot use it:
those that were passed over for their share are asked again at the end.

Units    Wall-clock seconds, monotonic for tokens.
State    The hosts that were passed over; when rates allow more; the lane's tokens.

Invariants, each a property in tests/deliver/test_picker.py
    PK1  While others could go, no host has more than its share of the slots;
         when none can, it may have them all.
    PK2  No host begins more attempts than its rate says, and none waits whose
         rate allows one.
    PK3  No more are in flight than there are tokens, and a free token is used.
"""

from __future__ import annotations

from random import random

from mta.policy.decide import GO, NO_RUNNERS, UNBOUNDED, WAIT, JobFacts, half_of, slots
from mta.policy.order import NONE, Order
from mta.policy.rate import Pace
from mta.spool.layout import arrived
from mta.types import CHANNEL, HOST
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from mta.config.model import Channel
    from mta.deliver.index import Index
    from mta.policy.decide import Room, Verdict
    from mta.policy.rate import Rate
    from mta.types import Host

    class Purse(Protocol):
        """The tokens of a lane: machine.tokens."""

        may: int

        def ask(self, busy: int, want: int, mono: float) -> None:
            """Say how many jobs are in flight and how many could be; ``may`` follows."""

        def due(self, mono: float) -> float | None:
            """Return when to ask again though nothing happens."""

        def close(self) -> None:
            """Give all back."""


__all__ = ["Picker", "order_of"]

PAUSE = 5.0  # until a job is asked about again that only a falling load lets go


class Picker:
    """Picks hosts for one lane."""

    def __init__(
        self,
        index: Index,
        judge: Callable[[JobFacts, float, bool], Verdict],
        shelve: Callable[[Host, float], None],
        keep: Callable[[Host, float, float], None],
        leaves: Callable[[Host], bool],
        runners: int | None = None,
        purse: Purse | None = None,
        pace: Pace | None = None,
    ) -> None:
        """``judge`` gives the verdict on a job, told whether others wait; ``shelve``
        buries hosts, ``keep`` puts those aside that an operator suspended, and ``leaves``
        tells of those whose jobs go another way, whatever the verdict.
        """
        self._index = index
        self._judge = judge
        self._shelve = shelve
        self._keep = keep
        self._leaves = leaves
        self._passed: dict[Host, None] = {}  # who has its share, in the order of asking
        self._pace = Pace() if pace is None else pace
        self._purse = purse
        self._runners = runners
        self.held = runners == 0

    def next_host(self, now: float, unproven: bool) -> Host | None:
        """Return the host whose turn it is, or None; ``unproven``: one yet to answer may be it."""
        index = self._index
        while True:
            host = index.take_host(unproven=unproven)
            others = index.others() or bool(self._passed)
            if host is None:
                others = False  # who else waits could not use what is left
                host = self._next_passed()
                if host is None:
                    return None
            self._passed.pop(host, None)
            if self._leaves(host):
                return host
            verdict = self._judge(JobFacts(host, arrived(index.head(host).id)), now, others)
            if verdict.verdict == GO:
                return host
            if verdict.scope == CHANNEL:
                index.ready(host)
                return None
            if verdict.gate == "probation":
                if not unproven:
                    index.ready(host)  # among those that were passed over
                continue  # else its own landing brings it back
            self._obey(host, verdict, now)

    def _next_passed(self) -> Host | None:
        while self._passed:
            host = next(iter(self._passed))
            del self._passed[host]
            if self._index.has(host):
                return host
        return None

    def _obey(self, host: Host, verdict: Verdict, now: float) -> None:
        """Do with ``host``, or with its first job, what a gate says that keeps it."""
        index = self._index
        if verdict.gate == "suspended":
            self._keep(host, verdict.when, now)
        elif verdict.gate == "share":
            self._passed[host] = None
        elif verdict.gate == "rate":
            index.rest(host, verdict.when)
        elif verdict.scope == HOST and verdict.verdict == WAIT:
            pass  # its own landing brings it back
        elif verdict.scope == HOST and verdict.when:
            self._shelve(host, verdict.when)
        else:
            name = index.pop(host)
            if verdict.verdict == WAIT or verdict.when:
                index.later(name, max(verdict.when, now + PAUSE))
            else:  # of an age, or of a lane, that is not ours
                index.forget(name)
            index.ready(host)

    def rate_at(self, host: Host, rate: Rate | None, now: float) -> float:
        """Return when ``host`` may have one attempt more; it may be long ago."""
        return 0.0 if rate is None else self._pace.at(host, rate, now)

    def begun(self, host: Host, rate: Rate | None, now: float) -> None:
        """An attempt with ``host`` begins."""
        if rate is not None:
            self._pace.begun(host, rate, now)

    def tokens(self, busy: int) -> int:
        """Return how many tokens are ours to use, beside those of the ``busy`` jobs."""
        if self.held:
            return 0
        return UNBOUNDED if self._purse is None else self._purse.may - busy

    @property
    def pool(self) -> str:
        """Which pool the tokens are of."""
        if self.held:
            return NO_RUNNERS
        return "queue_children" if self._runners is None else "runners"

    @property
    def counts(self) -> bool:
        """Whether the lane needs tokens."""
        return self._purse is not None

    def ask(self, busy: int, room: Room, mono: float) -> None:
        """Ask for as many tokens as could be used now, and give back what could not."""
        assert self._purse is not None
        index, want = self._index, busy
        if index.may_ask(room.unproven < half_of(room)) or self._passed:
            want += max(0, min(index.waiting, slots(room) - busy))
        self._purse.ask(busy, want, mono)

    def due(self, mono: float) -> float | None:
        """Return when tokens should be asked for again (monotonic), None if there is no need."""
        return None if self._purse is None else self._purse.due(mono)

    def close(self) -> None:
        """Give all tokens back: nothing is in flight any more."""
        if self._purse is not None:
            self._purse.close()


def order_of(channel: Channel, ordered: bool) -> Order:
    """Return the order of a channel's jobs; deliver -s takes them as they come."""
    return Order(
        channel.order if ordered else NONE,
        bulk_delay=channel.bulk_delay,
        fair=channel.fair_authors,
        draw=random,
    )
