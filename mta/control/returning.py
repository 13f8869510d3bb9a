"""Jobs given up by hand: their authors get the DSN that a failed delivery would have sent.

It is deliver's own desk that settles, so that what RFC 3461 asks, what cannot be
returned and what the disk refuses are treated as they always are.  Jobs of one
message that are given up together are one DSN.

State    The desks, one a channel; the jobs on their way to them, BATCH at a time, and
         LEFT_MOST that the disk would not settle: they stay ours to the end.
"""

from __future__ import annotations

import asyncio

from mta.deliver.desk import Desk, Flight
from mta.deliver.gather import Gather
from mta.deliver.returns import Returns
from mta.errors import SpoolError
from mta.machine import clock
from mta.types import MESSAGE, Outcome, Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Channel, Config
    from mta.control.acts import Order
    from mta.machine.log import Log
    from mta.spool.spool import Claim, Spool

__all__ = ["Returning"]

BATCH = 100
LEFT_MOST = 200
PATIENCE = 20.0  # until jobs are left alone that cannot be settled
IMPATIENCE = 1.0  # the same once there are such
GATHERED = 1e6  # seconds that a DSN waits for other jobs of its message: until sync() ends it
TEXT = "returned by the administrator of this mail system"
UNTOLD = "its DSN could not be accepted: see the log"
UNSETTLED = "the disk would not take what became of it: see the log"
KEPT = "kept"


class Returning:
    """Gives jobs up, some at a time."""

    def __init__(
        self, config: Config, spool: Spool, log: Log, done: Callable[[Claim, str], None]
    ) -> None:
        """``done`` gets each claim back, with "" or why the job stays."""
        self._config = config
        self._spool = spool
        self._log = log
        self._done = done
        self._loop = asyncio.new_event_loop()
        self._returns = Returns(config, lambda: None)
        self._gather = Gather(self._returns, log, clock.monotonic, GATHERED)
        self._desks: dict[str, Desk] = {}
        self._flights: dict[str, Flight] = {}  # on their way, by the key of the job
        self._left: dict[str, Flight] = {}

    def act(self, claim: Claim, order: Order, _log: Log) -> str:
        """Fail all of a job's recipients that wait; KEPT: ``done`` gets the claim."""
        if len(self._left) >= LEFT_MOST:
            raise SpoolError(UNSETTLED)
        self._loop.run_until_complete(self._settle(claim, order))
        if len(self._flights) >= BATCH:
            self.sync()
        return KEPT

    async def _settle(self, claim: Claim, order: Order) -> None:
        flight = Flight(claim, claim.entry.pending, clock.wall(), clock.monotonic())
        outcome = Outcome(Reply(554, "5.0.0", Reply.clean(order.text or TEXT)), MESSAGE)
        flight.told = {recipient.index: (outcome, "") for recipient, _ in flight.tried}
        self._flights[claim.name.key] = flight
        self._desk(claim.entry.job.channel).settle(flight, self._landed)

    def _landed(self, flight: Flight, when: float) -> None:
        key = flight.name.key
        if self._flights.pop(key, None) or self._left.pop(key, None):
            self._done(flight.claim, UNTOLD if when else "")

    def sync(self) -> None:
        """Send the DSNs, and wait until all has been settled, for some time."""
        if self._flights:
            self._loop.run_until_complete(self._wait())
            self._left.update(self._flights)
            self._flights = {}

    async def _wait(self) -> None:
        limit = clock.monotonic() + (IMPATIENCE if self._left else PATIENCE)
        self._gather.flush()
        ticks = 0
        while self._flights and clock.monotonic() < limit:
            await asyncio.sleep(0.005)
            ticks += 1
            if ticks % 100 == 0:
                for desk in self._desks.values():
                    desk.retry()

    def _desk(self, name: str) -> Desk:
        desk = self._desks.get(name)
        if desk is None:
            channel = self._channel(name)
            desk = self._desks[name] = Desk(
                *(channel, self._spool, self._log, self._gather, clock),
                authors=self._config.authors,
            )
        return desk

    def _channel(self, name: str) -> Channel:
        """Return the channel called ``name``, or another, of a job whose channel is gone."""
        channels = self._config.channels
        return next((c for c in channels if c.name == name), channels[0])

    def close(self) -> None:
        """Wait for what is on its way; give back what could not be settled."""
        self.sync()
        self._returns.close()
        self._loop.close()  # from now on nothing settles them
        for flight in list(self._left.values()):
            self._done(flight.claim, UNSETTLED)
        self._left = {}
