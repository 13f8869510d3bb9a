"""deliver's loop: how a pass ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mta.deliver import daemon, syncing
from mta.deliver.desk import Flight
from mta.deliver.flags import Flags
from mta.deliver.lane import Lane
from mta.deliver.office import Office
from mta.machine import clock
from mta.machine.log import Log
from mta.policy.suspensions import Suspension
from mta.spool.rulelog import RuleLog
from mta.spool.spool import Spool
from tests.deliver.test_lane import NO
from tests.queued import accept, new_config


class SlowSpool(Spool):
    """Its syncs take long, and it counts those that meet."""

    at_once = 0
    most = 0

    def sync_marks(self) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        time.sleep(0.3)
        super().sync_marks()
        self.at_once -= 1


def test_a_pass_ends_with_one_sync_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would remove the same jobs, and close the same descriptors twice."""
    monkeypatch.setattr(syncing, "SETTLE_SYNC", 0.0)
    config = new_config(tmp_path)
    spool = SlowSpool.open(config.spool)
    spool.mark_ready()
    accept(spool, "alice@example.test")
    log = Log(config.log.dir, ("json",), "deliver")
    channels = [channel for channel in config.channels if channel.name == "local"]
    asyncio.run(daemon.Daemon(config, channels, Flags(), spool, log).run())
    assert spool.most == 1 and not spool.unsynced
    assert not list(tmp_path.glob("spool/q.local/*/*"))


def background(root: Path, spool: Spool | None = None) -> daemon.Daemon:
    """Return a deliver of the local channel that goes on until it is told to end."""
    config = new_config(root)
    if spool is None:
        spool = Spool.open(config.spool)
        spool.mark_ready()
    channels = [channel for channel in config.channels if channel.name == "local"]
    log = Log(config.log.dir, ("json",), "deliver")
    about = Idle(), syncing.Syncing(spool, log), lambda channel, asking: 0, {}
    shared = syncing.Shared(*about)
    return daemon.Daemon(config, channels, Flags(background=True), spool, log, shared=shared)


class Idle:
    """Keeps no intake."""

    def tick(self, mono: float) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("retired", [False, True])
def test_only_who_works_says_that_the_service_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retired: bool
) -> None:
    """systemd would kill a service that has said so and goes on."""
    told: list[str] = []
    monkeypatch.setattr(daemon, "tell", told.append)

    async def work() -> None:
        deliver = background(tmp_path)
        task = asyncio.get_running_loop().create_task(deliver.run())
        await asyncio.sleep(0.1)
        if retired:
            deliver.retire()
        deliver.stop()
        await asyncio.wait_for(task, 30)

    asyncio.run(work())
    assert told == ["READY=1"] + ["STOPPING=1"] * (not retired)


def test_who_is_told_to_end_before_the_spool_is_ready_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged: list[object] = []
    monkeypatch.setattr(Office, "age", lambda office, queues: aged.append(queues))

    async def work() -> None:
        deliver = background(tmp_path, Spool.open(new_config(tmp_path).spool))
        task = asyncio.get_running_loop().create_task(deliver.run())
        await asyncio.sleep(0.1)
        deliver.stop()
        await asyncio.wait_for(task, 30)

    asyncio.run(work())
    assert aged == [] and not list(tmp_path.glob("run/flow/*"))


def test_what_dsns_under_way_tell_of_is_settled_before_the_last_sync(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    spool, log = Spool.open(config.spool), Log(config.log.dir, ("json",), "deliver")
    spool.mark_ready()
    accept(spool, "alice@example.test")
    landed: list[float] = []

    async def work() -> None:
        office = Office(config, spool, log, lambda: None, lambda keys: True)
        (channel,) = [channel for channel in config.channels if channel.name == "local"]
        desk = office.desk(channel)
        ((name,),) = [names for names in spool.names("local") if names]
        claim = spool.claim(name)
        assert claim is not None
        flight = Flight(claim, claim.entry.pending, clock.wall(), clock.monotonic())
        flight.told = {0: (NO, "")}
        desk.settle(flight, lambda flight, when: landed.append(when))
        await office.close()
        assert landed == [0.0] and not office.returns.pending

    asyncio.run(work())


def test_a_pass_does_not_sweep_for_ever_what_is_suspended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = new_config(tmp_path)
    spool, log = Spool.open(config.spool), Log(config.log.dir, ("json",), "deliver")
    spool.mark_ready()
    accept(spool, "alice@example.test")
    RuleLog(spool.fs).suspend(Suspension("channel", "local", "root", 1.0))
    sweep, sweeps = Lane.sweep, []

    def overflowing(lane: Lane, since: float | None = None) -> None:
        sweep(lane, since)
        sweeps.append(lane)
        assert len(sweeps) < 100, "it sweeps for ever"
        lane.index.overflow = True  # as if it had no room for all of it

    monkeypatch.setattr(Lane, "sweep", overflowing)
    channels = [channel for channel in config.channels if channel.name == "local"]
    asyncio.run(daemon.Daemon(config, channels, Flags(), spool, log).run())
    assert len(sweeps) == 1 and list(tmp_path.glob("spool/q.local/*/*"))


def test_a_clock_that_is_put_back_has_all_that_waits_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recalled: list[Lane] = []
    monkeypatch.setattr(daemon, "recall", lambda lane, names: recalled.append(lane))

    async def work() -> None:
        deliver = background(tmp_path)
        task = asyncio.get_running_loop().create_task(deliver.run())
        await asyncio.sleep(1.2)
        assert not recalled
        wall = clock.wall
        monkeypatch.setattr(clock, "wall", lambda: wall() - 3600.0)
        await asyncio.sleep(1.2)
        deliver.stop()
        await asyncio.wait_for(task, 30)

    asyncio.run(work())
    assert len(recalled) == 1
