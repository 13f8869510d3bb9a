"""The office of one deliver: its desks, what they gather for authors, and the agers of its queues.

State    A desk for each channel that is served, and one for each channel of an aged
         queue; what those hold.
"""

from __future__ import annotations

import asyncio

from mta.deliver.ageing import Ager
from mta.deliver.desk import Desk
from mta.deliver.gather import Gather
from mta.deliver.returns import Returns
from mta.machine import clock
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.config.model import Channel, Config
    from mta.machine.log import Log
    from mta.spool.spool import Spool

__all__ = ["Office"]

SLICE = 0.01  # seconds of the loop that ageing takes at a time
PAUSE = 0.1  # between them: mail is not held up
REST = 0.5  # between looks whether a walk is due


class Office:
    """Where attempts end, and jobs that nobody attempts."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        log: Log,
        nudge: Callable[[], None],
        expected: Callable[[list[str]], bool],
        watch: Callable[[str], None] | None = None,
    ) -> None:
        """Call ``nudge`` when there may be work to go on with; ``expected`` is gather's."""
        self._config = config
        self._spool = spool
        self._log = log
        self._watch = watch
        self.returns = Returns(config, nudge)
        self._gather = Gather(self.returns, log, clock.monotonic, config.dsn.gather, expected)
        self._desks: list[Desk] = []  # of the lanes
        self._aging: list[Desk] = []
        self._agers: list[Ager] = []
        self._timer: asyncio.TimerHandle | None = None

    def desk(self, channel: Channel) -> Desk:
        """Return a desk for a lane of ``channel``."""
        self._desks.append(self._new_desk(channel))
        return self._desks[-1]

    def _new_desk(self, channel: Channel) -> Desk:
        return Desk(
            *(channel, self._spool, self._log, self._gather, clock),
            authors=self._config.authors,
            watch=self._watch,
        )

    def age(self, queues: Sequence[str]) -> None:
        """Begin to walk these queues in the background."""
        for queue in dict.fromkeys(queues):
            channels = [c for c in self._config.channels if c.queue == queue]
            desks = {channel.name: self._new_desk(channel) for channel in channels}
            self._aging += desks.values()
            self._agers.append(Ager(self._spool, queue, channels, desks, self._gather, clock))
        self._turn()

    def _turn(self) -> None:
        """Give an ager that is due a slice."""
        mono, more = clock.monotonic(), False
        for ager in self._agers:
            if mono >= ager.next_walk or ager.walking:
                more = ager.slice(SLICE) or more
        self._timer = asyncio.get_running_loop().call_later(PAUSE if more else REST, self._turn)

    @property
    def busy(self) -> int:
        """How many jobs that no lane has are being settled."""
        return sum(ager.busy for ager in self._agers)

    def finish(self, in_flight: int) -> bool:
        """Send what waits for nothing else if all ``in_flight`` of the lanes is here.

        Return whether something was sent: its answers come later.
        """
        if not self._gather.held or in_flight > sum(desk.held for desk in self._desks):
            return False
        self._gather.flush()
        return True

    def tick(self, mono: float) -> None:
        """Send what has waited long enough."""
        self._gather.tick()
        self.returns.tick(mono)

    def retry(self) -> None:
        """Try again what the spool would not have."""
        for desk in (*self._desks, *self._aging):
            desk.retry()

    def stop(self) -> None:
        """Begin nothing new."""
        if self._timer is not None:
            self._timer.cancel()
        self._agers = [ager for ager in self._agers if ager.busy]

    async def close(self) -> None:
        """Send what is left, and wait until what was on its way is answered and settled."""
        self.stop()
        self.retry()
        self._gather.flush()
        while self.returns.pending:
            await asyncio.sleep(0.01)
        self.returns.close()
