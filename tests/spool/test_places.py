"""Places: jobs of one queue on several disks, and disks that are not mounted."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import SpoolError
from mta.spool import cleaning, layout
from mta.spool.fs import Fs
from mta.spool.intake import Intake, take_in, try_lock
from mta.spool.layout import JobName
from mta.spool.places import Places, prepare_places
from mta.spool.spool import Spool
from mta.types import DEFERRED, DELIVERED
from tests.spool.kit import BUSY, OK, PATH, all_names, job, settle


def open_with(root: Path, **weights: int) -> tuple[Spool, dict]:
    """Open a spool whose queue "smtp" has paths ``disk1=3``…; ``spool`` is its own directory."""
    rows = []
    for name, weight in weights.items():
        if name != "spool":
            (root / name).mkdir(exist_ok=True)
        rows.append(("" if name == "spool" else str(root / name), weight))
    paths = {"smtp": tuple(rows)}
    return Spool.open(str(root / "spool"), paths=paths), paths


def accept(spool: Spool, paths: dict, count: int = 1, hosts: int = 1) -> list[str]:
    writer = spool.writer(paths)
    idents = []
    for _ in range(count):
        draft = writer.begin()
        draft.write(b"Subject: x\r\n\r\nhello\r\n")
        jobs = [job(number, f"host{number}.test") for number in range(hosts)]
        idents.append(writer.commit(draft, jobs, PATH))
    writer.close()
    return idents


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 10_000))
def test_pl1_places_get_jobs_by_weight_and_one_message_s_share_a_place(
    weights: list[int], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _, paths = open_with(root, **{f"disk{n}": weight for n, weight in enumerate(weights)})
        places = Places(Fs(str(root / "spool")), paths)
        total, count = sum(weights), 2000
        got: dict[int, int] = {}
        for number in range(count):
            ident = layout.new_id(1_800_000_000.0 + seed + number / 100)
            place = places.of("smtp", ident, 1_800_000_000.0)
            assert places.of("smtp", ident, 1_800_000_001.0) == place
            assert places.of("other", ident, 1_800_000_000.0) == 0
            got[place] = got.get(place, 0) + 1
        assert set(got) == set(range(1, len(weights) + 1))
        for number, weight in enumerate(weights):
            assert abs(got[number + 1] / count - weight / total) < 0.08


def test_pl2_a_path_keeps_its_number_whatever_is_configured_later(tmp_path: Path) -> None:
    open_with(tmp_path, disk1=1, disk2=1)
    before = {n: os.readlink(tmp_path / "spool" / n) for n in ("q.smtp,1", "q.smtp,2")}
    open_with(tmp_path, disk3=1, disk2=1)
    open_with(tmp_path, disk2=1, disk1=4, spool=1)
    after = {p.name: os.readlink(p) for p in (tmp_path / "spool").glob("q.smtp,*")}
    assert after == before | {"q.smtp,3": f"{tmp_path}/disk3/q.smtp"}


def test_pl2_several_at_once_make_one_link_for_each_path(tmp_path: Path) -> None:
    for round_ in range(10):
        root = tmp_path / str(round_)
        root.mkdir()
        failed: list[BaseException] = []

        def prepare(root: Path = root, failed: list[BaseException] = failed) -> None:
            try:
                open_with(root, disk1=1, disk2=1, disk3=1)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=prepare) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        links = [os.readlink(p) for p in (root / "spool").glob("q.smtp,*")]
        assert sorted(links) == [f"{root}/disk{n}/q.smtp" for n in (1, 2, 3)]
        open_with(root, disk1=1, disk2=1, disk3=1)
        assert not list((root / "spool").glob("identity.*"))


def test_pl3_a_disk_that_is_not_mounted_is_an_error_and_nothing_is_made_there(
    tmp_path: Path,
) -> None:
    spool, paths = open_with(tmp_path, disk1=1)
    accept(spool, paths, 3)
    assert take_in(spool)
    (tmp_path / "disk1").rename(tmp_path / "unmounted")
    for mounted in (False, True):  # not even the mount point; an empty mount point
        if mounted:
            (tmp_path / "disk1").mkdir()
        with pytest.raises(SpoolError, match=r"q\.smtp,1 leads to .*disk1/q\.smtp.*mounted\?"):
            Spool.open(str(tmp_path / "spool"), paths=paths)
        assert not mounted or list((tmp_path / "disk1").iterdir()) == []
    (tmp_path / "disk1").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "disk1")
    assert len(all_names(Spool.open(str(tmp_path / "spool"), paths=paths))) == 3


def test_pl3_a_new_path_that_is_no_directory_or_another_spool_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no directory"):
        Spool.open(str(tmp_path / "spool"), paths={"smtp": ((str(tmp_path / "none"), 1),)})
    assert not (tmp_path / "none").exists()
    open_with(tmp_path, disk1=1)
    with pytest.raises(SpoolError, match="belongs to another spool"):
        Spool.open(str(tmp_path / "other"), paths={"smtp": ((str(tmp_path / "disk1"), 1),)})


def test_pl3_a_mark_that_a_crash_has_torn_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "disk1" / "q.smtp").mkdir(parents=True)
    (tmp_path / "disk1" / "q.smtp" / "spool").write_text("torn")
    spool, paths = open_with(tmp_path, disk1=1)
    mark = (tmp_path / "disk1" / "q.smtp" / "spool").read_text()
    assert mark == (tmp_path / "spool" / "identity").read_text() and mark.endswith("\n")
    assert accept(spool, paths)


def test_intake_makes_nothing_on_a_disk_that_goes_away_and_all_of_it_when_it_is_back(
    tmp_path: Path,
) -> None:
    spool, paths = open_with(tmp_path, disk1=1)
    (tmp_path / "disk1").rename(tmp_path / "unmounted")
    idents = accept(spool, paths, 4)
    with pytest.raises(SpoolError, match="intake"):
        take_in(spool)
    assert not (tmp_path / "disk1").exists() and all_names(spool) == []
    (tmp_path / "unmounted").rename(tmp_path / "disk1")
    assert take_in(Spool.open(str(tmp_path / "spool"), paths=paths))
    assert sorted(name.id for name in all_names(spool)) == sorted(idents)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["one", "many"]), min_size=1, max_size=12), st.booleans())
def test_pl4_jobs_of_all_places_come_in_order_and_go(messages: list[str], synced: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spool, paths = open_with(root, spool=1, disk1=1, disk2=2)
        idents = []
        for kind in messages:
            idents += accept(spool, paths, hosts=1 if kind == "one" else 3)
        assert take_in(spool)
        if synced:
            lock = try_lock(spool)
            intake = Intake(spool, lambda names: None, lambda envelope: None)
            intake.step()
            assert intake.checkpoint(at_once=True) == 0
            intake.close()
            spool.fs.close(lock)
        names = all_names(spool)
        keys = [(name.id, name.number) for name in names]
        assert keys == sorted(keys) and {name.id for name in names} == set(idents)
        assert all_names(spool, ordered=False) and len(names) == len(set(keys))
        assert spool.queues() == ["smtp"] and spool.places("smtp") == [0, 1, 2]
        for ident in idents:
            found = spool.find(ident)
            assert found == [name for name in names if name.id == ident]
            assert len({name.place for name in found}) == 1
            assert [spool.find(name.key) for name in found] == [[name] for name in found]
        for name in names:
            assert (root / "spool" / name.path).is_file()
            assert JobName.parse(name.queue, name.file) == name
            claim = spool.claim(name)
            assert claim is not None
            claim.settle([settle(claim.entry.job.recipients[0].index, OK, DELIVERED)])
            claim.release()
        spool.sync_marks()
        assert all_names(spool) == [] and not list((root / "spool" / "msg").glob("*/*"))
        cleaning.clean(spool, 0, 4e9)
        left = [p for p in root.glob("disk*/q.smtp/*") if p.name != "spool"]
        assert left == [], "empty hours go in all places"


def test_a_body_with_a_job_in_another_place_is_no_orphan(tmp_path: Path) -> None:
    spool, paths = open_with(tmp_path, disk1=1)
    (ident,) = accept(spool, paths)
    lock = try_lock(spool)
    intake = Intake(spool, lambda names: None, lambda envelope: None)
    intake.step()
    intake.checkpoint(at_once=True)
    shard = int(layout.body_path(ident).split("/")[1], 16)
    assert cleaning.clean(spool, shard, 4e9) == 0
    assert (tmp_path / "spool" / layout.body_path(ident)).exists()
    intake.close()
    spool.fs.close(lock)


def test_a_path_that_is_configured_no_more_is_served_until_it_is_empty(tmp_path: Path) -> None:
    spool, paths = open_with(tmp_path, disk1=1)
    (old,) = accept(spool, paths)
    spool, paths = open_with(tmp_path, spool=1)
    (new,) = accept(spool, paths)
    assert take_in(spool)
    assert [(name.id, name.place) for name in all_names(spool)] == [(old, 1), (new, 0)]
    claim = spool.claim(all_names(spool)[0])
    assert claim is not None
    claim.settle([settle(0, BUSY, DEFERRED)])
    claim.release()


def test_a_job_accepted_for_a_place_whose_link_is_gone_goes_to_the_first(tmp_path: Path) -> None:
    spool, paths = open_with(tmp_path, disk1=1)
    (ident,) = accept(spool, paths)
    os.unlink(tmp_path / "spool" / "q.smtp,1")
    shutil.rmtree(tmp_path / "disk1")
    spool = Spool.open(str(tmp_path / "spool"), paths={})
    assert take_in(spool)
    assert [(name.id, name.place) for name in all_names(spool)] == [(ident, 0)]
    assert not (tmp_path / "spool" / "q.smtp,1").exists()


def test_a_writer_uses_places_only_once_their_links_are_made(tmp_path: Path) -> None:
    (tmp_path / "disk1").mkdir()
    paths = {"smtp": ((str(tmp_path / "disk1"), 1),)}
    spool = Spool.open(str(tmp_path / "spool"))
    places = Places(spool.fs, paths)
    assert places.of("smtp", layout.new_id(1.0), 1000.0) == 0
    prepare_places(spool.fs, paths)
    assert places.of("smtp", layout.new_id(1.0), 1001.0) == 0, "it has just looked"
    assert places.of("smtp", layout.new_id(1.0), 1006.0) == 1


@pytest.mark.parametrize("part", ["journal", "done", "msg", "bad"])
def test_parts_may_be_links_to_other_disks_and_are_missed(tmp_path: Path, part: str) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "lost+found").mkdir()  # it may be a mount itself
    (tmp_path / "disk" / "part").mkdir(parents=True)
    (tmp_path / "disk" / "part" / "lost+found").mkdir()
    (tmp_path / "spool" / part).symlink_to(tmp_path / "disk" / "part")
    spool = Spool.open(str(tmp_path / "spool"))
    (ident,) = accept(spool, {})
    assert take_in(spool) and spool.find(ident)
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    with pytest.raises(SpoolError, match=rf"{part} is missing, or leads nowhere"):
        Spool.open(str(tmp_path / "spool"))


def test_pl3_a_disk_that_goes_away_costs_neither_bodies_nor_segments(tmp_path: Path) -> None:
    spool, paths = open_with(tmp_path, disk1=1)
    (old,) = accept(spool, paths)
    lock = try_lock(spool)
    assert lock is not None
    intake = Intake(spool, lambda names: None, lambda envelope: None)
    intake.step()
    intake.checkpoint(at_once=True)
    (new,) = accept(spool, paths)
    intake.step()
    os.rename(tmp_path / "disk1", tmp_path / "away")
    (tmp_path / "disk1").mkdir()  # where it was mounted
    later = layout.arrived(new) + 10_000
    with pytest.raises(SpoolError, match="is its disk mounted"):
        for shard in range(cleaning.SHARDS):
            cleaning.clean(spool, shard, later)
    with pytest.raises(SpoolError, match="is its disk mounted"):
        intake.checkpoint(at_once=True)
    os.rmdir(tmp_path / "disk1")
    os.rename(tmp_path / "away", tmp_path / "disk1")
    assert intake.checkpoint(at_once=True) == 0
    assert sum(cleaning.clean(spool, shard, later) for shard in range(cleaning.SHARDS)) == 0
    assert {name.id for name in all_names(spool)} == {old, new}
    for ident in (old, new):
        assert (tmp_path / "spool" / layout.body_path(ident)).exists()
