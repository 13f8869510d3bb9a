"""A job's detour, cut off at every system call: whatever happens, nobody is lost, none thrice."""

from __future__ import annotations

from random import Random

import pytest

from mta.control.acts import Order, delete
from mta.detour import finish
from mta.spool import journal
from mta.spool.journal import Writer
from mta.spool.layout import JobName
from mta.spool.spool import Spool
from mta.types import Job, Mailbox, Wishes
from tests.deliver.fakes import Log
from tests.spool.disk import Killed, Process
from tests.spool.test_schedules import BODY, CALLS, House

ORDER = Order("root", 1.0)


@pytest.fixture(autouse=True, params=[1 << 17, 100], ids=["small", "large"])
def _memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MEMORY", request.param)


def waiting(spool: Spool) -> list[JobName]:
    """Return the jobs that wait."""
    return [name for names in spool.names("smtp") for name in names]


def reroute(house: House, fuse: int | None, *, bad_order: bool = False) -> bool:
    """Reroute the first job that waits as mta.detour does; tell whether it came to an end."""
    process = Process(house.disk)
    spool = Spool(process)
    names = waiting(spool)
    process.fuse = fuse
    try:
        claim = spool.claim(names[0])
        assert claim is not None
        if bad_order:
            finish(claim, "", 1.0)
        body, writer = claim.open_body(), Writer(process)
        draft = writer.begin(claim.name.id)
        draft.write(process.read(body, 1 << 20, 0))
        job = claim.entry.job
        to = tuple(recipient for recipient, _ in claim.entry.pending)
        moved = Job(0, "smtp", "smtp", "elsewhere.test", "", job.reverse_path, to)
        new = writer.commit(draft, [moved], Mailbox("s", "x.test"), Wishes("rerouted="))
        if not bad_order:
            finish(claim, new, 1.0)
        claim.release()
        spool.sync_marks()
        return True
    except Killed:
        return False
    finally:
        process.kill()


def bodies(house: House) -> int:
    house.take_in(at_once=True)
    return len([path for path in house.disk.paths() if path.startswith("msg/")])


@pytest.mark.parametrize("before", ["", "checkpoint"])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("fuse", range(CALLS))
def test_dt2_a_detour_that_dies_anywhere_loses_nobody(fuse: int, cut: bool, before: str) -> None:
    for seed in range(4):
        house = House()
        house.accept(2)
        house.take_in(at_once=before == "checkpoint")
        whole = reroute(house, fuse)
        if cut:
            house.disk.cut_power(Random(seed))
        house.take_in()
        handed = house.deliver()
        assert len(handed) in (2, 3), "each recipient, and none but the one on its way twice"
        assert len(handed) == 2 or not whole, "what was synced never comes again"
        house.take_in()
        assert house.deliver() == []


def test_dt2_the_schedule_finds_a_detour_in_the_wrong_order() -> None:
    lost = 0
    for fuse in range(CALLS):
        house = House()
        house.accept(1)
        house.take_in(at_once=True)
        reroute(house, fuse, bad_order=True)
        house.take_in()
        lost += not house.deliver()
    assert lost, "finished before it was accepted: somebody must be lost at some call"


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("fuse", range(CALLS))
def test_ac2_a_delete_that_dies_anywhere_is_whole_or_not_done(fuse: int, cut: bool) -> None:
    for before in (False, True):
        for seed in range(3):
            house = House()
            house.accept(2)
            house.take_in(at_once=before)
            process, whole = Process(house.disk), False
            spool = Spool(process)
            name = waiting(spool)[0]
            process.fuse = fuse
            try:
                claim = spool.claim(name)
                assert claim is not None
                delete(claim, ORDER, Log())  # type: ignore[arg-type]
                claim.release()
                spool.sync_marks()
                whole = True
            except Killed:
                pass
            finally:
                process.kill()
            if cut:
                house.disk.cut_power(Random(seed))
            house.take_in()
            handed = house.deliver()
            assert len(handed) in (1, 2) and (not whole or name.key not in handed)


def test_dt1_the_body_and_the_arrival_are_the_same() -> None:
    house = House()
    house.accept(1)
    house.take_in()
    old = waiting(Spool(Process(house.disk)))[0]
    assert reroute(house, None)
    house.take_in()
    spool = Spool(Process(house.disk))
    (name,) = waiting(spool)
    assert name.hour == old.hour and name.id != old.id and name.host == "elsewhere.test"
    assert house.deliver() == [name.key]  # it compares the octets
    assert bodies(house) == 0 and BODY
