"""FW1 to FW3: what a deliver tells of its queues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta.config.model import HostRule
from mta.deliver.flows import EVERY, SELDOM, Flows
from mta.machine.flow import read_flows
from mta.policy.admission import Flow, predicted_age
from mta.types import HOST, Outcome, Reply
from tests.deliver.test_lane import House

OK = Outcome(Reply(250, "2.0.0", "ok"))
DOWN = Outcome(Reply(421, "4.4.1", "connection refused"), HOST)


def told(folder: Path, mono: float, *queues: str) -> list[Flow]:
    return read_flows(str(folder), queues or ("smtp",), mono).get("smtp", [])


class Lane:
    """What Flows wants to know of a lane."""

    def __init__(self, target: float = 0.0, queue: str = "smtp") -> None:
        self.channel: Any = type("Row", (), {"queue": queue, "target_age": target})
        self.index = self
        self.answering, self.settled = (0, 0), 0
        self.age = 0.0

    def age_of_latest(self, wall: float) -> float:
        return self.age


def test_fw1_channels_of_one_queue_add_up(tmp_path: Path) -> None:
    one, other, third = Lane(60.0), Lane(), Lane(queue="x")
    flows = Flows(str(tmp_path), [one, other, third])  # type: ignore[list-item]
    for second in range(8):
        one.answering, other.answering = (90, 90), (100, 40)
        flows.tick(float(second), 1e9)
        one.settled, other.settled = one.settled + 3, other.settled + 2
    (flow,) = told(tmp_path, 8.0)
    assert (flow.backlog, flow.paced, flow.drain) == (100, 40, 5.0)
    assert predicted_age([flow]) == 20.0
    flows.close()
    assert told(tmp_path, 8.0) == []


def test_fw2_it_is_told_now_and_then(tmp_path: Path) -> None:
    for target, every in ((60.0, EVERY), (0.0, SELDOM)):
        lane = Lane(target)
        flows = Flows(str(tmp_path), [lane])  # type: ignore[list-item]
        for step in range(1, 200):
            lane.answering = step, 0
            flows.tick(step / 8, 1e9)
            (flow,) = told(tmp_path, step / 8)
            assert flow.backlog == 1 + int((step - 1) / 8 / every) * every * 8
        flows.close()


def test_fw3_the_dead_and_those_who_say_nothing_do_not_count(tmp_path: Path) -> None:
    house = House(concurrency=4, per_host=1)
    flows = Flows(str(tmp_path), [house.lane])

    def backlog() -> int:
        house.clock.now += SELDOM
        flows.tick(house.clock.monotonic(), house.clock.wall())
        return sum(flow.backlog for flow in told(tmp_path, house.clock.monotonic()))

    house.queue(*["silent"] * 30, *["dead"] * 30, *["good"] * 30)
    house.lane.sweep()
    house.pump()
    assert backlog() == 0  # nobody has answered yet
    by_host = {flight.name.host: tag for tag, flight in house.program.sent.items()}
    house.answer(by_host["dead"], DOWN)
    house.pump()
    by_host = {flight.name.host: tag for tag, flight in house.program.sent.items()}
    house.answer(by_host["good"], OK)
    house.pump()
    assert house.lane.settled == 1
    assert backlog() == 28  # 30 less the one that went and the one that goes
    flows.close()


def test_fw4_what_a_rate_keeps_back_counts_and_is_told_apart(tmp_path: Path) -> None:
    house = House(hosts=(HostRule(("slow",), rate=(1, 10.0)),))
    flows = Flows(str(tmp_path), [house.lane])
    house.lane.offer(house.queue(*["slow"] * 100))
    mono = house.clock.monotonic
    for _ in range(40):
        house.pump()
        for tag in list(house.program.sent):
            house.answer(tag, OK)
        house.pump()
        house.clock.now += SELDOM
        flows.tick(mono(), house.clock.wall())
    (flow,) = told(tmp_path, mono())
    assert flow.backlog == 100 - house.lane.settled and flow.paced == flow.backlog > 50
    assert flow.drain == pytest.approx(0.1, rel=0.3)  # its rate is what the queue drains at
    assert predicted_age([flow]) == pytest.approx(flow.backlog / 0.1, rel=0.3)
    house.queue(*["free"] * 3)
    house.lane.sweep()
    house.pump()
    for tag in list(house.program.sent):
        house.answer(tag, OK)
    house.clock.now += SELDOM
    flows.tick(mono(), house.clock.wall())
    (flow,) = told(tmp_path, mono())
    assert flow.paced >= flow.backlog - 3
    flows.close()


def test_a_queue_that_is_not_seen_whole_is_as_old_as_what_goes(tmp_path: Path) -> None:
    house = House()
    house.queue(*"abcdefghij" * 300)
    assert house.lane.age_of_latest(house.clock.now) == 0.0
    house.clock.now += 500
    house.lane.sweep()
    house.lane.pump()
    assert 499 <= house.lane.age_of_latest(house.clock.now) <= 500  # the sweep goes on
    house.pump()
    assert house.lane.age_of_latest(house.clock.now) == 0.0
