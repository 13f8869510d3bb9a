"""Jobs that the channel table sends elsewhere by now, on a spool of files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.config.load import load_config
from mta.deliver import mover
from mta.deliver.mover import Mover
from mta.detour import Detour
from mta.errors import SpoolError
from mta.listing import jobs
from mta.spool.entry import HOLD, Note
from mta.spool.intake import take_in
from mta.spool.journal import Writer
from mta.spool.spool import Spool
from mta.values import replace
from tests.deliver.fakes import Log
from tests.queued import accept
from tests.test_detour import YAML

FAR, SLOW = "bob@far.example", "bob@slow.example"


class House:
    """A spool whose mail was queued for smtp before the table had a line for turkey."""

    def __init__(self, root: Path, table: str) -> None:
        (root / "aliases").write_text("")
        (root / "slow").write_text(table)
        (root / "mta.yaml").write_text(YAML)
        self.config = load_config(str(root / "mta.yaml"))
        self.spool, self.log = Spool.open(self.config.spool), Log()
        self.landed: list[tuple[str, bool]] = []
        self.taken: list[str] = []
        self.left: dict[str, str] = {}

    def move(self) -> None:
        """Offer each job that waits to a mover, and wait until it rests."""

        async def work() -> None:
            moving = Mover(self.config, self.log, lambda: None)
            for names in self.spool.names("smtp"):
                for name in names:
                    claim = self.spool.claim(name)
                    assert claim is not None
                    if moving.takes(claim, self._landed):
                        self.taken.append(name.host)
                    else:
                        self.left[name.host] = claim.entry.job.next_hop
                        claim.release()
            while moving.busy:
                await asyncio.sleep(0.01)
            assert moving.free
            moving.close()

        asyncio.run(work())
        take_in(self.spool)

    def _landed(self, flight, when: float) -> None:
        self.landed.append((flight.name.host, bool(when)))

    def queues(self) -> list[tuple[str, str]]:
        return sorted((e.job.queue, e.job.host) for e in jobs(self.spool))


def test_mv1_a_job_goes_to_the_queue_that_the_table_names(tmp_path: Path) -> None:
    house = House(tmp_path, "slow.example\n")
    for _ in range(3):
        accept(house.spool, FAR, SLOW)
    house.move()
    assert house.taken == ["slow.example"] * 3 and set(house.left) == {"far.example"}
    assert house.landed == [("slow.example", False)] * 3
    far, slow = ("smtp", "far.example"), ("turkey", "slow.example")
    assert house.queues() == [far] * 3 + [slow] * 3
    assert [line[-2:] for line in house.log.of("rerouted")] == [("deliver", "channel table")] * 3
    tables = Mover(house.config, house.log, lambda: None)
    assert tables.leaves("smtp", "slow.example") and not tables.leaves("turkey", "slow.example")
    assert not tables.leaves("smtp", "far.example") and not tables.leaves("smtp", "")
    assert not tables.leaves("smtp", "un.known") and not tables.leaves("smtp", "a%20b.example")


def test_mv2_what_is_sent_held_or_has_no_way_stays(tmp_path: Path) -> None:
    house = House(tmp_path, "slow.example\n")
    held = accept(house.spool, SLOW)
    (name,) = house.spool.find(held)
    claim = house.spool.claim(name)
    assert claim is not None
    claim.note(Note(HOLD, 1.0, "root"))
    claim.release()
    pinned = accept(house.spool, "bob@nowhere.else")
    house.move()
    assert house.taken == [] and set(house.left) == {"slow.example", "nowhere.else"}
    (name,) = house.spool.find(pinned)
    claim = house.spool.claim(name)
    assert claim is not None
    moving = Mover(house.config, house.log, lambda: None)
    job = replace(claim.entry.job, host="slow.example")
    envelope = replace(claim.entry.envelope, pinned=True)
    claim.entry = replace(claim.entry, job=job, envelope=envelope)
    assert not moving.takes(claim, house._landed)


def test_mv2_mail_whose_user_is_unknown_here_stays_and_is_told_of_once(tmp_path: Path) -> None:
    house = House(tmp_path, "")
    for _ in range(3):
        accept(house.spool, "nobody@sub.example")
    text = (tmp_path / "mta.yaml").read_text()
    (tmp_path / "mta.yaml").write_text(text.replace("[example.test]", "[sub.example]"))
    house.config = load_config(str(tmp_path / "mta.yaml"))
    house.move()
    assert house.taken == [] and len(house.queues()) == 3
    assert len(house.log.of("warning")) == 1


def test_a_new_next_hop_of_the_same_queue_is_used(tmp_path: Path) -> None:
    house = House(tmp_path, "")
    accept(house.spool, FAR)
    text = (tmp_path / "mta.yaml").read_text()
    (tmp_path / "mta.yaml").write_text(text.replace("domains: [.example]", "table: hops"))
    (tmp_path / "hops").write_text("far.example mx.elsewhere.example:26\n")
    house.config = load_config(str(tmp_path / "mta.yaml"))
    house.move()
    assert house.left == {"far.example": "mx.elsewhere.example:26"}


@pytest.mark.parametrize("what", ["take", "sync"])
def test_mv3_each_claim_comes_back_when_the_disk_fails(tmp_path: Path, what, monkeypatch) -> None:
    house = House(tmp_path, "slow.example\n")
    for _ in range(5):
        accept(house.spool, SLOW)

    def fail(*arguments, **more):
        raise SpoolError("the disk is full") if what == "take" else OSError(28, "No space left")

    monkeypatch.setattr(mover, "BATCH", 2)
    if what == "take":
        monkeypatch.setattr(Detour, "take", fail)
    else:
        monkeypatch.setattr(Writer, "sync_batch", staticmethod(fail))
    house.move()
    assert house.landed == [("slow.example", True)] * 5
    assert house.queues() == [("smtp", "slow.example")] * 5
    monkeypatch.undo()
    house.move()
    assert house.queues() == [("turkey", "slow.example")] * 5


def test_mv3_what_was_taken_before_the_disk_failed_is_not_accepted_beside_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a batch was left in the journal, and accepted later though its jobs had stayed."""
    house = House(tmp_path, "slow.example\n")
    for _ in range(4):
        accept(house.spool, SLOW)
    take, calls = Detour.take, []

    def fail(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 2:
            raise SpoolError("the disk is full")
        return take(*arguments, **more)

    monkeypatch.setattr(Detour, "take", fail)
    house.move()
    assert sorted(later for _, later in house.landed) == [False] * 3 + [True]
    assert house.queues() == [("smtp", "slow.example")] + [("turkey", "slow.example")] * 3
    house.move()
    assert house.queues() == [("turkey", "slow.example")] * 4


def test_mv3_a_disk_that_has_failed_is_used_again(tmp_path: Path, monkeypatch) -> None:
    house = House(tmp_path, "slow.example\n")
    for _ in range(6):
        accept(house.spool, SLOW)
    append, calls = Writer.append, []

    def fail(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 1:
            raise SpoolError("the disk is full")
        return append(*arguments, **more)

    monkeypatch.setattr(mover, "BATCH", 2)
    monkeypatch.setattr(Writer, "append", fail)
    house.move()
    assert house.queues() == [("smtp", "slow.example")] * 2 + [("turkey", "slow.example")] * 4
