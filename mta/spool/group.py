"""Many commits, one sync: what a process with an event loop accepts mail through.

Whoever commits while a sync is under way waits for the next one, which then
covers all of them: the more sessions, the fewer syncs a message.

Invariants, each a property in tests/spool/test_group.py
    G1   commit() returns only after a sync that began after its record was appended.
    G2   When a sync or an append fails, everyone whose record is not synced yet
         gets SpoolError (S10).
    G3   No segment is closed or cut while a sync of it is under way.
"""

from __future__ import annotations

import asyncio

from mta.errors import SpoolError
from mta.types import PLAIN
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.spool.journal import Draft, Synced, Writer
    from mta.types import Job, ReversePath, Wishes

__all__ = ["GroupWriter"]


class GroupWriter:
    """A Writer for one event loop; not for several."""

    def __init__(self, writer: Writer, on_synced: Callable[[list[Synced]], None]) -> None:
        """Commit through ``writer``; tell ``on_synced`` how far each sync went (to wake intake)."""
        self._writer = writer
        self._on_synced = on_synced
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None

    def begin(self) -> Draft:
        """Begin a message."""
        return self._writer.begin()

    async def commit(
        self,
        draft: Draft,
        jobs: Sequence[Job],
        reverse_path: ReversePath,
        wishes: Wishes = PLAIN,
    ) -> str:
        """Accept ``draft`` as Writer.commit() does.

        A caller that is cancelled while it waits has a message that may be
        accepted: it must answer nobody, as after a lost connection.
        """
        try:
            self._writer.append(draft, jobs, reverse_path, wishes)
        except SpoolError as error:
            # The segment was cut back, and with it all that waits for the next sync.
            failed, self._waiting = self._waiting, []
            _refuse(failed, SpoolError(str(error)))
            raise
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())
        await future
        return draft.id

    async def _sync(self) -> None:
        """Sync until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                batch = self._writer.take()
                try:
                    synced = await loop.run_in_executor(None, self._writer.sync_batch, batch)
                except Exception as error:
                    self._writer.fail(batch)
                    failed, self._waiting = waiting + self._waiting, []
                    why = getattr(error, "strerror", None) or error
                    _refuse(failed, SpoolError(f"cannot sync the journal: {why}"))
                    continue
                for future in waiting:  # first of all: whatever fails below, they are accepted
                    if not future.done():
                        future.set_result(None)
                try:
                    self._writer.settle(batch)
                    self._on_synced(synced)
                except Exception as error:  # the others that wait are to hear, too
                    told = {"message": "behind a sync", "exception": error}
                    loop.call_exception_handler(told)
        finally:
            self._syncing = None


def _refuse(waiting: list[asyncio.Future[None]], error: SpoolError) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
