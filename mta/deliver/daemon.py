"""The loop that turns lanes: sweeps, wake-ups, signals, timers, and a clean end.

One pass ends when all that may go has gone.  A daemon (-b) sweeps every
-T seconds and serves new mail as intake rings; both end the same way at
SIGTERM or SIGINT: no new jobs, what is in flight has STOP_LIMIT seconds, what
is not back by then is deferred, everything is given back and written down.

Units    Monotonic seconds, but for next_due, which is wall time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mta.config.model import Channel, Config
from mta.deliver.bars import Laws
from mta.deliver.board import Board
from mta.deliver.flags import Flags
from mta.deliver.flows import Flows
from mta.deliver.hearing import heed
from mta.deliver.lane import Lane
from mta.deliver.mover import Mover
from mta.deliver.office import Office
from mta.deliver.options import options
from mta.deliver.orders import recall
from mta.deliver.programs import ChannelProgram
from mta.deliver.questions import Questions
from mta.deliver.realm import ways_of
from mta.deliver.rules import Rules, rules_of, thresholds_of, tokens_of
from mta.deliver.syncing import Shared, alone
from mta.deliver.timetable import Timetable
from mta.deliver.tls_counts import TlsCounts
from mta.errors import ChannelError, LocalProtocolError, SpoolError
from mta.machine import clock
from mta.machine.load import Watch
from mta.machine.log import Log
from mta.machine.notify import READY, STOPPING, tell
from mta.machine.process import set_title
from mta.machine.wake import Ear
from mta.policy.load import QUEUE_ONLY
from mta.policy.rate import Pace
from mta.spool.entry import Envelope
from mta.spool.hostlog import HostLog
from mta.spool.intake import take_in
from mta.spool.spool import Spool
from mta.values import replace

__all__ = ["Daemon"]

TICK = 0.5
STOP_LIMIT = 30.0
LAST_LIMIT = 5.0  # beyond it: for what is killed to be settled
RECOVERY_LIMIT = 600.0  # how long a pass waits for another's recovery of the spool
SLOW_TICKS = 10  # ticks between looks at what the spool would not take
START_LIMIT = 3  # ends in a row after which a pass gives a channel up


class Daemon:
    """One deliver; run() returns the exit status."""

    def __init__(
        self,
        config: Config,
        channels: Sequence[Channel],
        flags: Flags,
        spool: Spool,
        log: Log,
        *,
        watch: Callable[[str], None] | None = None,
        shared: Shared | None = None,
    ) -> None:
        """Serve ``channels`` of ``config`` as ``flags`` say; alone unless ``shared`` is given."""
        self._daemon = flags.background and not flags.ids
        shared = alone(spool, config, log, self._daemon) if shared is None else shared
        self._config = config
        self._flags = flags
        self._spool = spool
        self._log = log
        self._office = Office(config, spool, log, self._nudge, self._expected, watch)
        self._tls = TlsCounts(log, clock.monotonic())
        self._watch = Watch(thresholds_of(config), log)
        self._names = ",".join(channel.name for channel in channels)
        rules = rules_of(flags, clock.wall(), float(config.load.queue_factor))
        self._board = Board(HostLog(spool.fs), f"deliver[{os.getpid()}]", log.warning)
        self._laws = Laws(spool, log)
        self._tokens = tokens_of(config, channels)
        self._mover = Mover(config, log, self._nudge)
        self._lanes: list[Lane] = []
        self._programs: list[ChannelProgram] = []
        for channel in channels:
            self._enlist(channel, rules, shared)
        self._timetable = Timetable(self._lanes, flags.interval)
        self._keeper = shared.keeper
        self._syncing = shared.syncing
        self._flows: Flows | None = None
        self._questions = Questions(config.runtime, spool, flags)
        self._ears: list[tuple[str, Ear]] = []
        self._recovered = self._pumping = self._retired = False
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Event | None = None
        self._stop_at = 0.0
        self._ticks = self._accepted = 0
        self._title = ""
        self._defect: BaseException | None = None
        self.given_up: list[str] = []

    def _enlist(self, channel: Channel, rules: Rules, shared: Shared) -> None:
        """Make the lane of ``channel``, with its desk and its program."""
        config, log, desk = self._config, self._log, self._office.desk(channel)
        purse = None if self._tokens is None else self._tokens.purse(channel.name)
        mover = self._mover if self._daemon else None
        elders = partial(shared.elders, channel.name, self)
        pace = shared.paces.setdefault(channel.name, Pace())
        ways = ways_of(config, channel, self._board, purse)
        ways = replace(ways, mover=mover, elders=elders, pace=pace)
        lane = Lane(channel, self._spool, log, desk, clock, rules=rules, ways=ways)
        program = ChannelProgram(
            *(channel, config.hostname, options(config, channel), lane, log),
            nudge=self._nudge,
            connected=self._tls.note,
        )
        lane.attach(program)
        self._lanes.append(lane)
        self._programs.append(program)

    async def run(self) -> None:
        """Work until the pass is over or a signal has come and all is in order."""
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        loop.set_exception_handler(self._broken)
        try:
            await self._begin()
            self._recovered = True  # what was heard meanwhile is pumped from now on
            self._board.look(clock.wall())
            self._laws.tick(self._lanes)
            if self._daemon and not self._stop_at:
                self._flows = Flows(self._config.runtime, self._lanes)
                self._office.age([lane.channel.queue for lane in self._lanes])
            self._weigh(clock.monotonic())
            if not self._stop_at:
                self._sweep()
            self._tick()
            await self._ended.wait()
        finally:
            await self._end()
        if self._defect is not None:
            raise self._defect
        if self.given_up:
            raise ChannelError(f"the program of channel {', '.join(self.given_up)} does not run")
        unread = "; ".join([n.sweeps.unread for n in self._lanes if n.sweeps.unread])
        if unread and not self._daemon:  # what could be read has been tried
            raise SpoolError(unread)

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something raised where nobody waits for it: end in order, and let run() raise it."""
        self._defect = context.get("exception") or LocalProtocolError(str(context.get("message")))
        self._log.warning(f"ending after {type(self._defect).__name__}: {self._defect}")
        if self._ended is not None:
            self._ended.set()

    async def _begin(self) -> None:
        """Take in what was accepted, or have it taken in, and wait until jobs may be claimed."""
        self._show("starting")
        if self._keeper is None:
            take_in(self._spool, self._queued)
        else:
            for queue in dict.fromkeys(lane.channel.queue for lane in self._lanes):
                ear = Ear(self._config.runtime, f"wake/{queue}.{os.getpid()}")
                self._ears.append((queue, ear))
                asyncio.get_running_loop().add_reader(ear.fileno(), self._hear, queue, ear)
            tell(READY)  # a recovery of the spool may take longer than who started us waits
        began = clock.monotonic()
        while not self._stop_at:
            if self._keeper is not None:
                self._keeper.tick(clock.monotonic())
            if self._spool.ready:
                return
            if self._keeper is None and clock.monotonic() - began > RECOVERY_LIMIT:
                raise SpoolError("another process holds the intake and does not recover the spool")
            await asyncio.sleep(0.05)

    def _queued(self, envelope: Envelope) -> None:
        e = envelope
        self._log.queued(e.id, e.reverse_path, e.size, e.recipients, e.origin)

    def _sweep(self, further: Sequence[Lane] = ()) -> None:
        """Have lanes look at their queues or at what was named, ``further`` at what had no room."""
        if self._flags.ids:
            for lane in self._lanes:
                for word in self._flags.ids:
                    lane.offer(self._spool.find(word))
        elif further:
            for lane in further:
                lane.sweep(lane.index.missed_at)
        else:
            for lane in self._lanes:
                self._timetable.begin(lane, clock.monotonic())
        self._nudge()

    def _hear(self, queue: str, ear: Ear) -> None:
        """Take in what is rung, and answer what is asked."""
        lanes = [lane for lane in self._lanes if lane.channel.queue == queue]
        for datagram in ear.read():
            if datagram[:1] == b"?":
                left = self._timetable.left(queue, clock.monotonic())
                self._questions.answer(datagram[1:], lanes, clock.wall(), left)
            elif heed(datagram, queue, lanes):
                self._timetable.hurry(queue)
        self._nudge()

    def _expected(self, keys: list[str]) -> bool:
        return not self._stop_at and any(lane.index.awaits(keys) for lane in self._lanes)

    def _nudge(self) -> None:
        """Pump soon, once."""
        if self._recovered and not self._pumping and self._ended is not None:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        self._look()
        more = False
        for lane in self._lanes:
            more = lane.pump() or more
        self._syncing.want(self._nudge)
        if more:
            self._nudge()
            return
        self._set_timer()
        self._look_for_end()

    def _look(self) -> None:
        """Hear what others know; if the clock was put back, look again at all that waits for it."""
        if self._board.look(clock.wall()):
            for lane in self._lanes:
                recall(lane, ())

    def _set_timer(self) -> None:
        """Pump again when the next job is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [t for t in (lane.next_due for lane in self._lanes) if t is not None]
        if times and not self._stop_at:
            wait = max(0.01, min(times) - clock.wall())
            self._timer = asyncio.get_running_loop().call_later(wait, self._nudge)

    def _look_for_end(self) -> None:
        """End when the pass is over, or when nothing is in flight after a signal."""
        assert self._ended is not None
        for lane, program in zip(self._lanes, self._programs, strict=True):
            if not self._daemon and program.failures >= START_LIMIT and not lane.stopping:
                self.given_up.append(lane.channel.name)
                lane.abandon()
        in_flight = sum(lane.in_flight for lane in self._lanes)
        ending = self._stop_at or (not self._daemon and all(lane.idle for lane in self._lanes))
        if ending and self._office.finish(in_flight):
            self._nudge()
            return
        if self._stop_at:
            if not in_flight + self._office.busy + self._mover.busy:
                self._ended.set()
            return
        if self._daemon or in_flight:
            return
        if self._watch.standing.level >= QUEUE_ONLY and not self._config.load.queue_factor:
            self._ended.set()  # a pass does not wait for the load to fall
        if not all(lane.idle or lane.stopping for lane in self._lanes):
            return
        if not self._flags.ids and self._office.returns.accepted > self._accepted:
            self._accepted = self._office.returns.accepted
            take_in(self._spool, self._queued)  # the DSNs of this pass are part of it
            self._sweep()
        elif more := [n for n in self._lanes if n.index.overflow and not n.bars.shut(clock.wall())]:
            self._sweep(more)
        else:
            self._ended.set()

    def _tick(self) -> None:
        """Do twice a second what need not be done at once."""
        mono = clock.monotonic()
        self._ticks += 1
        self._questions.tick()
        for program in self._programs:
            program.tick(mono)
        self._look()
        self._laws.tick(self._lanes)
        self._office.tick(mono)
        self._mover.tick(mono)
        self._tls.tick(mono)
        self._weigh(mono)
        if self._flows is not None:
            self._flows.tick(mono, clock.wall())
        if self._keeper is not None and not self._stop_at:
            self._keeper.tick(mono)
        if self._ticks % SLOW_TICKS == 1:
            self._office.retry()
        if self._daemon and not self._stop_at:
            self._timetable.tick(mono)
        if self._stop_at and mono >= self._stop_at:
            for program in self._programs:
                program.kill()
            if mono >= self._stop_at + LAST_LIMIT and self._ended is not None:
                self._ended.set()  # the disk will not have it; our locks go with us
        self._log.maybe_flush(mono)
        standing = str(self._watch.standing)
        self._show(f"{standing}{': ' if standing else ''}{self._state()}")
        self._nudge()
        if self._ended is not None and not self._ended.is_set():
            asyncio.get_running_loop().call_later(TICK, self._tick)

    def _weigh(self, mono: float) -> None:
        """Look at the load when it is time, and tell the lanes what it allows."""
        before = self._watch.standing.level
        if self._watch.tick(mono):
            for lane in self._lanes:
                lane.standing = self._watch.standing
            if before >= QUEUE_ONLY > self._watch.standing.level:
                self._timetable.hurry()  # for what nobody was woken for meanwhile

    def _state(self) -> str:
        in_flight = sum(lane.in_flight for lane in self._lanes)
        total = in_flight + sum(lane.index.waiting for lane in self._lanes)
        if self._stop_at:
            return f"stopping, {in_flight} in flight"
        if not total:
            return "idle"
        busy = max(self._lanes, key=lambda lane: lane.in_flight)
        return f"{busy.latest_host or busy.channel.name} {in_flight} of {total}"

    def _show(self, state: str) -> None:
        if state != self._title and not self._retired:
            self._title = state
            set_title(f"deliver[{self._names}]: {state}")

    def in_flight_on(self, channel: str) -> int:
        """Return how many jobs the lane of ``channel`` has in flight."""
        return sum(lane.busy for lane in self._lanes if lane.channel.name == channel)

    def stop(self) -> None:
        """End: what is in flight has STOP_LIMIT seconds, or none when told so twice."""
        hurried = 0.0 < self._stop_at < float("inf")  # a second time
        self._stop_at = clock.monotonic() + (0.0 if hurried else STOP_LIMIT)
        self._abandon()

    def retire(self) -> None:
        """End when what is in flight has landed, however long that takes: another goes on."""
        self._retired, self._stop_at = True, float("inf")
        self._keeper = None  # the other's
        self._abandon()
        self._deafen()
        if self._flows is not None:
            self._flows.close()
            self._flows = None

    def _abandon(self) -> None:
        for lane in self._lanes:
            lane.abandon()
        self._office.stop()
        self._nudge()

    def _deafen(self) -> None:
        """Listen no more."""
        for _, ear in self._ears:
            asyncio.get_running_loop().remove_reader(ear.fileno())
            ear.close()
        self._ears = []

    async def _end(self) -> None:
        """Leave all in order: programs gone, settlements synced (once at a time), lines written."""
        if self._daemon and not self._retired:
            tell(STOPPING)
        self._deafen()
        for program in self._programs:
            program.quit()
        limit = clock.monotonic() + STOP_LIMIT
        while any(program.running for program in self._programs):
            if clock.monotonic() > limit:
                for program in self._programs:
                    program.kill()
            await asyncio.sleep(0.01)
        if self._flows is not None:
            self._flows.close()
        await self._office.close()
        self._board.look(clock.wall())
        self._board.close()
        if self._keeper is not None:
            self._keeper.stop()
        await self._syncing.finish()
        self._mover.close()
        self._laws.close()
        if self._tokens is not None:
            self._tokens.close()
        self._tls.write()
        self._log.flush()
