"""The intake's check of the spool: in slices, once a day, and told in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta import intake
from mta.config.queues import modes
from mta.machine.log import Log
from mta.machine.logread import read_events
from mta.spool import layout
from mta.spool.spool import Spool
from tests.queued import accept, new_config


def test_the_spool_is_checked_in_slices_and_what_is_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_last", [0])  # other tests give ids of other years
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    names = [name for _ in range(3) for name in spool.find(accept(spool, "bob@far.example"))]
    hour = tmp_path / "spool" / "q.smtp" / names[0].hour
    (hour / "core").write_bytes(b"x")
    (hour / "core").chmod(0o600)
    (tmp_path / "spool" / names[1].path).chmod(0o604)
    (tmp_path / "run").mkdir(exist_ok=True)
    log = Log(config.log.dir, config.log.formats, "intake")
    daemon = intake.Daemon(spool, config.runtime, log, modes(config), intake.order_of(config))
    daemon._intake.step()
    now = daemon._checked
    daemon._check(now + intake.CHECKING - 1)
    assert daemon._checking is None
    monkeypatch.setattr(intake, "FILES", 2)
    slices = 0
    daemon._check(now + intake.CHECKING)
    while daemon._checking is not None:
        slices += 1
        daemon._check(now + intake.CHECKING + slices)
    assert slices > 2
    daemon._check(now + intake.CHECKING + 1000)
    assert daemon._checking is None  # not before tomorrow
    daemon.close()
    told = [e["text"] for e in read_events(config.log.dir) if e["event"] == "warning"]
    core = f"q.smtp/{names[0].hour}/core"
    assert told == [
        f"spool check: {names[1].path}: may be read by others: mode 0604",
        f"spool check: {core}: its name is no job's: set aside as bad/{core.replace('/', '.')}",
    ]
    assert not (hour / "core").exists()


def test_trouble_is_told_of_once_a_pause(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    (tmp_path / "run").mkdir(exist_ok=True)
    log = Log(config.log.dir, config.log.formats, "intake")
    daemon = intake.Daemon(spool, config.runtime, log, modes(config), intake.order_of(config))
    for step in range(100):
        daemon._complain(f"intake: No space left on device: {step}", 100.0 + step / 10)
    daemon.close()
    told = [event["text"] for event in read_events(config.log.dir) if event["event"] == "warning"]
    assert [text.rpartition(" ")[2] for text in told] == ["0", "50"]
