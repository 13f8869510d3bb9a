"""Settlements made durable beside the loop: in a thread, one sync at a time for a spool.

All that deliver settles goes through one of these, also while an old configuration's
flights land beside the new one's: two syncs at once would remove the same jobs twice.
"""

from __future__ import annotations

import asyncio

from mta.deliver.keeper import Keeper
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config
    from mta.deliver.daemon import Daemon
    from mta.machine.log import Log
    from mta.policy.rate import Pace
    from mta.spool.spool import Spool

__all__ = ["Shared", "Syncing", "alone"]

SETTLE_SYNC = 0.05  # from a settlement to the sync that makes it durable; promised: 0.1


class Syncing:
    """The syncs of one spool."""

    def __init__(self, spool: Spool, log: Log) -> None:
        """Sync what was settled in ``spool``; ``log`` hears of trouble."""
        self._spool = spool
        self._log = log
        self._busy = False

    def want(self, nudge: Callable[[], None]) -> None:
        """Have what was settled synced soon; ``nudge`` is called if there is more then."""
        if self._busy or not self._spool.unsynced:
            return
        self._busy = True
        asyncio.get_running_loop().call_later(SETTLE_SYNC, self._sync, nudge)

    def _sync(self, nudge: Callable[[], None]) -> None:
        def synced(done: asyncio.Future[None]) -> None:
            self._busy = False
            if done.exception() is not None:
                self._log.warning(f"settled work could not be synced: {done.exception()}")
            if self._spool.unsynced:
                nudge()

        future = asyncio.get_running_loop().run_in_executor(None, self._spool.sync_marks)
        future.add_done_callback(synced)

    async def finish(self) -> None:
        """Sync what is left, when nothing else is being synced."""
        while self._busy:
            await asyncio.sleep(0.01)
        if self._spool.unsynced:
            self._spool.sync_marks()


@frozen
class Shared:
    """What the daemons of one process share, one configuration after the other.

    ``elders`` tells how many jobs older daemons have in flight on a channel; ``paces``
    has by channel which attempts the rates of its hosts have been used up by.
    """

    keeper: Keeper | None
    syncing: Syncing
    elders: Callable[[str, Daemon], int]
    paces: dict[str, Pace]


def alone(spool: Spool, config: Config, log: Log, background: bool) -> Shared:
    """Return what a daemon has that shares nothing."""
    keeper = Keeper(spool, config.path, log) if background else None
    return Shared(keeper, Syncing(spool, log), lambda channel, asking: 0, {})
