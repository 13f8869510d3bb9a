"""Jobs that the channel table sends another way by now: deliver takes them in again for it.

A lane asks here about each host whose turn it is.  One whose mail another queue
takes now is not tried: its jobs are accepted anew, some at a time in a thread of
their own, and finished where they were (mta.detour).  Where only the next hop has
changed, the job goes there at once.

State    What the table says of hosts, memo of HOSTS_MAX; jobs on their way; a writer.

Invariants, each a test in tests/deliver/test_mover.py
    MV1  A job whose host the table sends to another queue is taken in for that queue,
         and not handed over here; dead or due makes no difference.
    MV2  A job that an operator sent, or holds, or that has no way, stays and is treated
         as ever.
    MV3  Each claim comes back once, moved or not, whatever the disk does.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from mta.config.routing import router
from mta.deliver.desk import Flight
from mta.detour import Detour, StaysError, finish
from mta.errors import PosthouseError
from mta.machine import clock
from mta.spool.spool import Spool
from mta.types import Reply
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config
    from mta.machine.log import Log
    from mta.route.router import Router
    from mta.spool.entry import Entry
    from mta.spool.spool import Claim
    from mta.types import Host, Job

    Landed = Callable[[Flight, float], None]
    Taken = tuple[Entry, int, tuple[Job, ...]]

__all__ = ["Mover"]

BATCH = 64
HOSTS_MAX = 100_000
RETRY = 60.0  # until a job is looked at again that the disk would not take
IDLE = 10.0  # until the writer is closed, so that intake can finish with its segment


class Mover:
    """Moves jobs for all lanes of one configuration."""

    def __init__(self, config: Config, log: Log, nudge: Callable[[], None]) -> None:
        """Go by the tables of ``config``; ``nudge`` when there may be work to go on with."""
        self._config = config
        self._log = log
        self._nudge = nudge
        self._router: Router | None = None
        self._ways: dict[Host, tuple[str, str] | None] = {}
        self._stays: dict[Host, None] = {}  # hosts whose jobs cannot be moved, told of once
        self._pool = ThreadPoolExecutor(1, "mover")
        self._detour: Detour | None = None
        self._waiting: list[tuple[Flight, int, tuple[Job, ...], Landed]] = []
        self._used = 0.0
        self.busy = 0

    @property
    def free(self) -> bool:
        """Whether a job more may come: each holds two descriptors."""
        return self.busy < 2 * BATCH

    def _tables(self) -> Router:
        if self._router is None:
            self._router = router(self._config)
        return self._router

    def _way(self, host: Host) -> tuple[str, str] | None:
        """Return queue and next hop of ``host`` as the table has them, None for an unknown one."""
        if host not in self._ways:
            if len(self._ways) >= HOSTS_MAX:
                self._ways.clear()
            match = self._tables().table.find(host)
            hop = "" if match is None or match.channel.local else match.row.next_hop
            self._ways[host] = None if match is None else (match.channel.queue, hop)
        return self._ways[host]

    def leaves(self, queue: str, host: Host) -> bool:
        """Tell whether jobs in ``queue`` for ``host``, as names spell it, are to be moved."""
        if not host or "%" in host or host in self._stays:
            return False
        way = self._way(host)
        return way is not None and way[0] != queue

    def takes(self, claim: Claim, landed: Landed) -> bool:
        """Take over a claim whose job goes another way; else see that its next hop is the present.

        ``landed`` gets the flight back, with 0.0 or when to look at the job again.
        """
        entry = claim.entry
        job, way = entry.job, self._way(entry.job.host) if entry.job.host else None
        if way is None or entry.envelope.pinned or entry.held is not None:
            return False
        if way[0] == job.queue:
            if way[1] != job.next_hop:
                claim.entry = replace(entry, job=replace(job, next_hop=way[1]))
            return False
        if job.host in self._stays:
            return False
        try:
            jobs = Detour(self._config, None, self._tables()).way(entry)
        except StaysError as error:
            self._stay(job.host, str(error))
            return False
        if not jobs:
            return False
        body = claim.open_body()
        flight = Flight(claim, entry.pending, clock.wall(), clock.monotonic())
        self._waiting.append((flight, body, jobs, landed))
        if not self.busy:
            asyncio.get_running_loop().call_soon(self._start)
        self.busy += 1
        return True

    def _stay(self, host: Host, why: str) -> None:
        if len(self._stays) >= HOSTS_MAX:
            self._stays.clear()
        self._stays[host] = None
        self._log.warning(f"mail for {Reply.clean(host)} stays in its queue: {why}")

    def _start(self) -> None:
        """Take some jobs in, in the thread."""
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        taken = [(flight.claim.entry, body, jobs) for flight, body, jobs, _ in batch]
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._take, taken)

        def have(done: asyncio.Future[list[str]]) -> None:
            self._used = clock.monotonic()
            error = done.exception()
            found = [] if error is not None else done.result()
            for number, (flight, _, _, landed) in enumerate(batch):
                self._land(flight, found[number] if found else f"!{error}", landed)
            self.busy -= len(batch)
            if self._waiting:
                self._start()
            self._nudge()

        future.add_done_callback(have)

    def _take(self, taken: list[Taken]) -> list[str]:
        """Accept jobs anew (in the thread); return their new ids, or "!" and why not."""
        found = []
        try:
            if self._detour is None:
                spool = Spool.open(self._config.spool)
                self._detour = Detour(self._config, spool, self._tables())
            for entry, body, jobs in taken:
                try:
                    found.append(self._detour.take(entry, body, jobs, forced=False))
                except (PosthouseError, OSError) as error:
                    found.append(f"!{error}")
            self._detour.sync()  # whatever was taken: half a batch must not be left for the next
        except (PosthouseError, OSError) as error:
            return [f"!{error}"] * len(taken)
        finally:
            for _, body, _ in taken:
                os.close(body)
        return found

    def _land(self, flight: Flight, new: str, landed: Landed) -> None:
        """Finish a job that was taken in again, or give it back."""
        name, claim, now = flight.name, flight.claim, clock.wall()
        when = 0.0
        try:
            if new.startswith("!"):
                raise StaysError(new[1:])
            finish(claim, new, now)
            self._log.rerouted(name.id, name.number, name.queue, new, "deliver", "channel table")
            if claim.message_gone:
                self._log.removed(name.id)
        except PosthouseError as error:
            when = now + RETRY
            self._log.warning(f"{name.key} could not be rerouted: {error}")
        claim.release()
        landed(flight, when)

    def tick(self, mono: float) -> None:
        """Give the writer away when it has not been used for a while."""
        if self._detour is not None and not self.busy and mono - self._used > IDLE:
            self._pool.submit(self._close)
            self._used = mono

    def _close(self) -> None:
        if self._detour is not None:
            self._detour.close()
            self._detour = None

    def close(self) -> None:
        """Give the writer away; nothing is on its way any more."""
        self._pool.submit(self._close)
        self._pool.shutdown(wait=True)
