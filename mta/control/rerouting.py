"""Jobs rerouted by hand, some at a time: one sync of the journal serves them all.

State    The claims of jobs that were taken in again and wait for that sync.
"""

from __future__ import annotations

import os

from mta.config.places import relay
from mta.config.routing import router
from mta.detour import Detour, Forced, StaysError, finish
from mta.errors import PosthouseError, UsageError
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config
    from mta.control.acts import Order
    from mta.machine.log import Log
    from mta.spool.spool import Claim, Spool

__all__ = ["Rerouting"]

BATCH = 100
DONE, SAME, KEPT = "done", "same", "kept"


class Rerouting:
    """Takes jobs in for their new ways."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        log: Log,
        forced: tuple[str, str],
        done: Callable[[Claim, str], None],
    ) -> None:
        """``forced`` are channel and next hop, "" for what the tables say.

        ``done`` gets each claim back, with "" or why the job stays.  ConfigError or
        UsageError if there is no such way.
        """
        self._forced = _forced(config, *forced)
        self._detour = Detour(config, spool, router(config))
        self._spool = spool
        self._log = log
        self._done = done
        self._taken: list[tuple[Claim, str, Order]] = []

    def act(self, claim: Claim, order: Order, _log: Log) -> str:
        """Take a job in again; KEPT: its claim is ours until ``done`` gets it."""
        if claim.entry.held is not None:
            raise StaysError("it is held: release it first")
        jobs = self._detour.way(claim.entry, self._forced)
        if not jobs:
            return SAME
        body = claim.open_body()
        try:
            new = self._detour.take(claim.entry, body, jobs, self._forced is not None)
        finally:
            os.close(body)
        self._taken.append((claim, new, order))
        if len(self._taken) >= BATCH:
            self.sync()
        return KEPT

    def sync(self) -> None:
        """Accept what was taken, and finish the old jobs."""
        taken, self._taken = self._taken, []
        if not taken:
            return
        try:
            self._detour.sync()
        except PosthouseError as error:
            for claim, _, _ in taken:
                self._done(claim, str(error))
            return
        for claim, new, order in taken:
            self._done(claim, self._finish(claim, new, order))

    def _finish(self, claim: Claim, new: str, order: Order) -> str:
        name = claim.name
        try:
            finish(claim, new, order.at)
        except PosthouseError as error:
            return f"it may be delivered twice, also as {new}: {error}"
        self._log.rerouted(name.id, name.number, name.queue, new, order.who, order.text)
        if claim.message_gone:
            self._log.removed(name.id)
        return ""

    def close(self) -> None:
        """Finish with what was taken."""
        self.sync()
        self._detour.close()


def _forced(config: Config, channel: str, next_hop: str) -> Forced | None:
    """Return the way that was typed, None if none was."""
    if not channel and not next_hop:
        return None
    if channel:
        config.channel(channel)
    try:
        return Forced(channel, relay(next_hop) if next_hop else "")
    except ValueError as error:
        raise UsageError(f"--next-hop: {next_hop!r} {error}") from None
