"""Jobs given up by hand: their authors get the DSN that a failed delivery would have sent.

It is deliver's own desk that settles, so that what RFC 3461 asks, what cannot be
returned and what the disk refuses are treated as they always are.

State    The desks, one a channel; the jobs on their way to them.
"""

from __future__ import annotations

import asyncio

from mta.deliver.desk import Desk, Flight
from mta.deliver.gather import Gather
from mta.deliver.returns import Returns
from mta.machine import clock
from mta.types import MESSAGE, Outcome, Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import Channel, Config
    from mta.control.acts import Order
    from mta.machine.log import Log
    from mta.spool.spool import Claim, Spool

__all__ = ["Returning"]

PATIENCE = 20.0  # until a job is left alone that cannot be settled
TEXT = "returned by the administrator of this mail system"


class Returning:
    """Gives jobs up, one at a time."""

    def __init__(self, config: Config, spool: Spool, log: Log) -> None:
        self._config = config
        self._spool = spool
        self._log = log
        self._loop = asyncio.new_event_loop()
        self._returns = Returns(config, lambda: None)
        self._gather = Gather(self._returns, log, clock.monotonic, 0.0)
        self._desks: dict[str, Desk] = {}

    def act(self, claim: Claim, order: Order, _log: Log) -> str:
        """Fail all of a job's recipients that wait, and return when it is settled."""
        return self._loop.run_until_complete(self._act(claim, order))

    async def _act(self, claim: Claim, order: Order) -> str:
        landed = asyncio.Event()
        flight = Flight(claim, claim.entry.pending, clock.wall(), clock.monotonic())
        outcome = Outcome(Reply(554, "5.0.0", Reply.clean(order.text or TEXT)), MESSAGE)
        flight.told = {recipient.index: (outcome, "") for recipient, _ in flight.tried}
        waits = [0.0]

        def back(_flight: Flight, when: float) -> None:
            waits[0] = when
            landed.set()

        desk = self._desk(claim.entry.job.channel)
        desk.settle(flight, back)
        limit = clock.monotonic() + PATIENCE
        while not landed.is_set() and clock.monotonic() < limit:
            try:
                await asyncio.wait_for(landed.wait(), 0.5)
            except TimeoutError:
                desk.retry()
        return "done" if landed.is_set() and not waits[0] else "failed"

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
        """Wait for what is on its way."""
        self._returns.close()
        self._loop.close()
