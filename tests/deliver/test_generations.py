"""deliver over its configurations, in one process, with a program that takes its time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from mta.config.host_rules import HostRules
from mta.config.load import load_config
from mta.config.model import Config
from mta.deliver.board import Board
from mta.deliver.flags import Flags
from mta.deliver.generations import Generations
from mta.deliver.lane import Rules
from mta.deliver.realm import Ways
from mta.machine.log import Log
from mta.machine.logread import read_events
from mta.spool.spool import Spool
from tests.deliver.test_lane import OK
from tests.deliver.test_lane import House as Lanes
from tests.e2e.house import Sink
from tests.queued import accept

YAML = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {dir: log/, formats: [json]}
local: {domains: [example.test], users: [alice], mailbox: "maildir:mail/{user}/"}
channels:
  - {name: smtp, program: smtp, domains: [.example], relay: ["127.0.0.1:%d"]}
"""


class House:
    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.configure(port)
        config = self.config()
        self.spool = Spool.open(config.spool)
        self.spool.mark_ready()
        log = Log(config.log.dir, ("json",), "deliver")
        flags = Flags(background=True, interval=600.0)
        self.deliver = Generations(config, flags, self.spool, log)

    def configure(self, port: int, more: str = "") -> None:
        (self.root / "mta.yaml").write_text(YAML % port + more)

    def accept(self, address: str) -> None:
        with contextlib.suppress(AssertionError):  # the deliver's own intake takes it in
            accept(self.spool, address)

    def config(self) -> Config:
        return load_config(str(self.root / "mta.yaml"))

    async def until(self, condition) -> None:
        for _ in range(600):
            if condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it does not come to pass")

    def hang_up(self) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    def warnings(self) -> list[str]:
        return [e["text"] for e in read_events(str(self.root / "log")) if e["event"] == "warning"]


def test_gn1_gn2_the_next_one_works_while_the_last_one_lands(tmp_path: Path) -> None:
    slow, fast = Sink(delay=5.0), Sink()
    house = House(tmp_path, slow.port)

    async def work() -> None:
        task = asyncio.get_running_loop().create_task(house.deliver.run())
        house.accept("bob@far.example")
        await house.until(lambda: slow.connections)
        house.configure(fast.port, "broken: [\n")
        house.hang_up()
        await house.until(lambda: any("stays as it was" in text for text in house.warnings()))
        assert len(house.deliver._daemons) == 1, "GN1: one that cannot be used changes nothing"
        house.configure(fast.port)
        house.accept("carol@far.example")
        house.hang_up()
        await house.until(lambda: len(house.deliver._daemons) == 2)
        new = house.deliver._now
        assert new is not None and house.deliver._elders("smtp", new) == 1
        await house.until(lambda: fast.messages)
        assert not slow.messages, "GN1: it did not wait for what is slow"
        await house.until(lambda: len(house.deliver._daemons) == 1)
        assert house.deliver._elders("smtp", new) == 0
        await house.until(lambda: not list(tmp_path.glob("spool/q.smtp/*/*")))
        assert [m[1] for m in slow.messages + fast.messages] == [
            ("bob@far.example",),
            ("carol@far.example",),
        ], "GN2: none was tried twice"
        house.hang_up()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 30)

    try:
        asyncio.run(work())
    finally:
        slow.close()
        fast.close()


def test_gn3_what_an_older_lane_has_in_flight_takes_half_of_the_slots_at_most() -> None:
    for elders, sent in ((0, 4), (1, 3), (3, 2), (9, 2)):
        house = Lanes(concurrency=4, per_host=4)
        own = HostRules((), house.channel)
        house.ways = Ways(Board(), own, elders=lambda elders=elders: elders)
        house.lane = house.make(Rules())
        house.queue(*(f"h{number}.example" for number in range(8)))
        house.lane.hosts.is_unproven = lambda host: False
        house.lane.sweep()
        house.pump()
        assert len(house.program.sent) <= sent
        for _ in range(8):
            for tag in list(house.program.sent):
                house.answer(tag, OK)
            house.pump()
            assert len(house.program.sent) <= sent
        assert not house.spool.jobs


def test_gn4_a_new_configuration_gives_no_attempts_beyond_the_rate(tmp_path: Path) -> None:
    sink = Sink()
    house = House(tmp_path, sink.port)
    house.configure(sink.port, "hosts: [{match: far.example, rate: 1/1h}]\n")
    house.deliver._config = house.config()

    async def work() -> None:
        task = asyncio.get_running_loop().create_task(house.deliver.run())
        house.accept("bob@far.example")
        await house.until(lambda: sink.messages)
        first = house.deliver._now
        house.hang_up()
        await house.until(lambda: house.deliver._now is not first)
        house.accept("carol@far.example")
        house.accept("dan@near.example")
        await house.until(lambda: len(sink.messages) == 2)
        assert [m[1] for m in sink.messages] == [("bob@far.example",), ("dan@near.example",)]
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 30)

    try:
        asyncio.run(work())
    finally:
        sink.close()


def test_gn1_a_channel_that_is_gone_ends_and_one_that_comes_begins(tmp_path: Path) -> None:
    house = House(tmp_path, 9)

    async def work() -> None:
        task = asyncio.get_running_loop().create_task(house.deliver.run())
        await house.until(lambda: list(tmp_path.glob("run/wake/smtp.*")))
        text = (tmp_path / "mta.yaml").read_text()
        (tmp_path / "mta.yaml").write_text(text.replace("name: smtp,", "name: other,"))
        house.hang_up()
        house.hang_up()
        await house.until(lambda: list(tmp_path.glob("run/wake/other.*")))
        await house.until(lambda: len(house.deliver._daemons) == 1)
        assert not list(tmp_path.glob("run/wake/smtp.*"))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 30)

    asyncio.run(work())
