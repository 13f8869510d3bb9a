"""Strain: what a busy machine and long queues ask of clients: to wait, or to come again.

From ``load.delay`` on every answer, the greeting among them, comes a while later;
at ``load.refuse`` new clients are sent away, and those who are in get no new
transaction.  A queue whose new mail would grow older than its ``target_age``
has its recipients answered late, and then refused, first of all for the clients
that bring most of it.  Nobody waits for another's pause.

Source   sendmail's DelayLA and RefuseLA; policy/load.py and policy/admission.py.
Units    Times are float seconds on the monotonic clock.
State    The watch over the load, what delivers tell of their queues; what clients
         bring is in the counters, which all workers share.

Invariants, each a test in tests/smtpd/test_strain.py
    ST1  At refuse nobody is let in and no transaction begins; one that is open ends.
    ST2  At delay, and above, each client waits for itself alone.
    ST3  A client that floods a queue is slowed before one that brings a message now
         and then; other queues, and dead hosts' jobs, slow nobody.
    ST4  A transaction is kept waiting for its queues' sake MOST seconds at most, however many
         its recipients.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from mta.machine.load import Watch
from mta.pacing import Pacing
from mta.policy.admission import Pace
from mta.policy.load import DELAY, LOAD, PRESSURE, REFUSE, Thresholds
from mta.smtpd.counters import FLOW

if TYPE_CHECKING:
    from mta.config.model import Config, LoadLimits
    from mta.machine.log import Log
    from mta.policy.load import Standing
    from mta.route.router import Routed
    from mta.smtpd.counters import Counters
    from mta.smtpd.transaction import Transaction

__all__ = ["Strain"]

SLOWED = 1.0  # seconds that each batch of answers waits while the load is high, more or less
PLACES = 10_000  # queues and hosts of one transaction that are told apart


class Strain:
    """One worker's; use() a configuration, tick() it, and ask before each answer."""

    def __init__(self, counters: Counters, log: Log) -> None:
        self._counters = counters
        self._log = log
        self._limits: LoadLimits | None = None
        self._watch = Watch({})
        self._slows: list[str] = []  # gauges that have a threshold for it
        self._pacing: Pacing

    def use(self, config: Config) -> None:
        """Go by ``config`` from now on; thresholds that stay as they were keep their level."""
        self._pacing = Pacing(config)
        self._pacing.look(time.monotonic())
        if config.load != self._limits:
            self._limits = limits = config.load
            self._watch.rest()
            marks = {LOAD: Thresholds(limits.delay, 0.0, limits.refuse)}
            marks[PRESSURE] = Thresholds(limits.psi.delay, 0.0, limits.psi.refuse)
            self._slows = [gauge for gauge, mark in marks.items() if mark.delay > 0]
            self._watch = Watch(marks, self._log)

    def tick(self, now: float) -> None:
        """Look at the load and at the queues when it is time."""
        self._watch.tick(now)
        self._pacing.look(now)

    @property
    def standing(self) -> Standing:
        """The threshold that acts, if any."""
        return self._watch.standing

    @property
    def refusing(self) -> bool:
        """Whether the load allows no new work."""
        return self._watch.standing.level >= REFUSE

    def pause(self) -> float:
        """Return for how long the next answer waits; 0.0 while the load is not high.

        No two are alike, so that clients who came together do not come together again.
        """
        standing = self._watch.standing
        if standing.level < DELAY or standing.gauge not in self._slows:
            return 0.0
        return SLOWED * (0.5 + random.random())

    def recipient(self, address: str, t: Transaction, routed: Routed, now: float) -> Pace:
        """Return what a recipient meets that the client at ``address`` names; counts it."""
        queues = self._pacing.watched(dict.fromkeys([target.queue for target in routed.targets]))
        if not queues:
            return Pace()
        counters = self._counters
        keys = {queue: counters.flow_key(queue, address) for queue in queues}
        for place in dict.fromkeys([(target.queue, target.host) for target in routed.targets]):
            if place[0] in keys and place not in t.places:  # else it joins a job of this message
                counters.add(keys[place[0]], FLOW, now)
                if len(t.places) < PLACES:
                    t.places.add(place)
        pace = self._pacing.pace(queues, lambda queue: counters.rate(keys[queue], FLOW, now) / 60.0)
        pause = 0.0 if pace.refused else max(0.0, pace.pause - t.paced)
        t.paced += pause
        return Pace(pause, pace.refused)
