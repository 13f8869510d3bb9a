"""mta status on load: what the machine bears, what acts on whom, how queues flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mta import status
from mta.config.load import load_config
from mta.config.model import Config
from mta.machine import census
from mta.machine.census import Deliver
from mta.machine.clock import monotonic
from mta.machine.flow import Teller
from mta.policy.admission import Flow
from mta.spool.spool import Spool
from tests.inlet import write_site
from tests.queued import accept

LOAD = "load: {delay: 6, queue_only: 12, refuse: 8, psi: {delay: 20, refuse: 60}}\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = write_site(tmp_path)
    text = path.read_text().replace("program: smtp,", "program: smtp, target_age: 10m,")
    path.write_text(text + LOAD)
    return load_config(str(path))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    delivers = [Deliver(7, "deliver[smtp]: pressure 22.0 over delay 20: a.test 1 of 5", ("smtp",))]
    monkeypatch.setattr(status, "load_average", lambda: 9.125)
    monkeypatch.setattr(status, "pressures", lambda: {"cpu": 22.0, "io": 1.5})
    monkeypatch.setattr(status, "listeners", lambda runtime: [(5, "smtpd: mx at 127.0.0.1:25")])
    monkeypatch.setattr(
        status, "workers", lambda pid: [(pid + 1, "smtpd[0]: load 9.1 over refuse 8: 3 clients")]
    )
    monkeypatch.setattr(status, "delivers", lambda runtime: delivers)


def parts(config: Config, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in status.lines(config, 0.0, as_json=True)]
    return [part for part in found if part["kind"] == kind]


def test_the_load_and_what_it_is_over(config: Config) -> None:
    (load,) = parts(config, "load")
    assert (load["average"], load["pressure"]) == (9.12, {"cpu": 22.0, "io": 1.5})
    over = [(each["gauge"], each["level"], each["threshold"]) for each in load["over"]]
    assert over == [("load", "delay", 6.0), ("load", "refuse", 8.0), ("pressure", "delay", 20.0)]
    said = list(status.lines(config, 0.0))
    assert said[:4] == [
        "load      9.12; pressure cpu 22.0%, io 1.5%",
        "          load is over delay 6",
        "          load is over refuse 8",
        "          pressure is over delay 20",
    ]


def test_each_process_names_what_acts_on_it(config: Config) -> None:
    (smtpd,), (deliver,) = parts(config, "smtpd"), parts(config, "deliver")
    (worker,) = smtpd["workers"]
    acting = {"gauge": "load", "value": 9.1, "level": "refuse", "threshold": 8.0}
    assert (worker["pid"], worker["load"]) == (6, acting)
    assert deliver["load"]["level"] == "delay"
    said = "\n".join(status.lines(config, 0.0))
    assert "          pid 6: smtpd[0]: load 9.1 over refuse 8: 3 clients" in said


def test_queues_and_how_they_flow(config: Config, tmp_path: Path) -> None:
    assert [queue["flow"] for queue in parts(config, "queue")] == [None, None]
    Teller(str(tmp_path / "run"), "smtp").tell(Flow(1200, 3.5, 4.0), monotonic())
    Teller(str(tmp_path / "run"), "local").tell(Flow(3, 0.25, -1.0, paced=2), monotonic())
    flows = {queue["queue"]: queue["flow"] for queue in parts(config, "queue")}
    assert flows["smtp"] == {
        "backlog": 1200,
        "kept_by_rate": 0,
        "per_second": 3.5,
        "drain": 4.0,
        "predicted_age": 300.0,
        "target_age": 600.0,
    }
    assert (flows["local"]["drain"], flows["local"]["predicted_age"]) == (None, 0.0)
    said = "\n".join(status.lines(config, 0.0))
    could = "1200 could go now, 3.5 a second are settled of 4 that it could"
    assert f"          {could}; new mail will be 300 s old, target 600 s" in said
    kept = "1 could go now, 2 more are kept back by rate, 0.25 a second are settled"
    assert f"          {kept}\n" in f"{said}\n"
    assert flows["local"]["backlog"] == 3 and flows["local"]["kept_by_rate"] == 2


def test_what_cannot_be_read_of_a_queue_is_said_beside_the_rest(config: Config) -> None:
    spool = Spool.open(config.spool)
    accept(spool, "bob@far.example")
    (Path(config.spool) / "q.smtp" / "2020010100").write_text("no directory")
    (smtp,) = [queue for queue in parts(config, "queue") if queue["queue"] == "smtp"]
    where = f"{config.spool}/q.smtp/2020010100: Not a directory"
    assert (smtp["jobs"], smtp["unread"], smtp["sampled"]) == (1, where, 1)
    assert f"          a part of it cannot be read: {where}" in status.lines(config, 0.0)


def test_workers_are_the_children_of_their_master() -> None:
    assert census.workers(1 << 30) == []
