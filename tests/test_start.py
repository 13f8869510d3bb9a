"""Nothing reads the whole spool before it begins to work, however much waits in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta import cleanque
from mta.config.model import Config
from mta.spool import names as listing
from mta.spool import spool as room
from mta.spool.fs import Fs
from mta.spool.intake import Intake
from mta.spool.layout import JobName, arrived, hour_of
from mta.spool.spool import Spool
from tests.queued import accept, new_config
from tests.spool.kit import checkpoint

JOBS = 60
HOURS = 12  # in which they came


class Counted(Fs):
    """Notes which directories are listed and which files are opened."""

    calls: list[tuple[str, str]] = []

    def list(self, path: str) -> list[str]:
        self.calls.append(("list", path))
        return super().list(path)

    def lists(self, path: str, most: int) -> Iterator[list[str]]:
        self.calls.append(("list", path))
        return super().lists(path, most)

    def open(self, path: str, append: bool = False) -> int:
        self.calls.append(("open", path))
        return super().open(path, append)


def of_queue(calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the calls that grow with the queue: hours that are listed, jobs and bodies opened."""
    return [c for c in calls if (c[1].startswith("q.") and "/" in c[1]) or c[1].startswith("msg/")]


def first(spool: Spool) -> JobName:
    return next(name for names in spool.names("smtp") for name in names)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    for _ in range(JOBS):
        accept(spool, "bob@far.example")
    # As if they had come over some hours: the directory is what is looked at.
    (hour,) = (Path(config.spool) / "q.smtp").iterdir()
    now = arrived(first(spool).id)
    for number in range(1, HOURS):
        (hour.parent / hour_of(now - 3600 * number)).mkdir()
    monkeypatch.setattr(room, "Fs", Counted)
    monkeypatch.setattr(Counted, "calls", [])
    return config


def test_intake_looks_at_the_journal_only(config: Config) -> None:
    spool = Spool.open(config.spool)
    checkpoint(spool)  # of what the fixture made
    Counted.calls.clear()
    intake = Intake(spool, lambda found: None, lambda envelope: None)
    intake.step()
    intake.close()
    assert of_queue(Counted.calls) == []


def test_a_sweep_begins_with_the_oldest_hour(config: Config, monkeypatch: Any) -> None:
    monkeypatch.setattr(listing, "LISTED", 7)
    spool = Spool.open(config.spool)
    found: list[Any] = []
    Counted.calls.clear()
    for some in spool.names("smtp"):
        found += some
        if found:
            break
    assert len(found) <= 7
    listed = of_queue(Counted.calls)
    assert {kind for kind, _ in listed} == {"list"} and len(listed) <= HOURS
    spool.claim(found[0])
    assert len([c for c in of_queue(Counted.calls) if c[0] == "open"]) == 1


def test_cleanque_opens_no_job_that_is_young_and_lists_no_hour_for_it(
    config: Config, tmp_path: Path
) -> None:
    now = arrived(first(Spool.open(config.spool)).id)
    arguments = ["--config", str(tmp_path / "mta.yaml")]
    cleanque.run(arguments, now, lambda text: None)  # makes a checkpoint
    Counted.calls.clear()
    cleanque.run(arguments, now + 60, lambda text: None)
    calls = of_queue(Counted.calls)
    assert [c for c in calls if c[0] == "open"] == []
    listed = [c[1].removeprefix("q.smtp/") for c in calls if c[1].startswith("q.smtp/")]
    assert all(hour <= hour_of(now + 60 - 4 * 3600) for hour in listed)
