"""The real disk: files made far apart are files like any others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mta.policy.suspensions import Suspension
from mta.spool import fs as room
from mta.spool.fs import NURSERIES, Fs
from mta.spool.intake import take_in
from mta.spool.rulelog import RuleLog
from mta.spool.spool import Spool
from tests.spool.kit import accept, all_names, job


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fs:
    monkeypatch.setattr(room, "_seeks_long", lambda root: True)
    fs = Fs(str(tmp_path))
    if not fs.spread():
        pytest.skip("this file system takes no such flags")
    fs.mkdir("q.a")
    return fs


def left_over(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "new").glob("*/*"))


def test_a_file_made_far_away_is_where_it_belongs(disk: Fs, tmp_path: Path) -> None:
    for number in range(NURSERIES + 5):
        fd = disk.create(f"q.a/{number}")
        disk.write(fd, b"one")
        disk.write(fd, b"two")
        assert disk.stat(fd) == (6, 1)
        disk.close(fd)
        assert (tmp_path / "q.a" / str(number)).read_bytes() == b"onetwo"
    assert left_over(tmp_path) == []


def test_a_name_that_is_taken_or_has_no_directory_is_refused(disk: Fs, tmp_path: Path) -> None:
    disk.close(disk.create("q.a/x"))
    with pytest.raises(FileExistsError):
        disk.create("q.a/x")
    with pytest.raises(FileNotFoundError):
        disk.create("q.b/x")
    assert left_over(tmp_path) == []


def test_what_a_crash_left_half_made_goes(disk: Fs, tmp_path: Path) -> None:
    (tmp_path / "new" / "07" / "x").write_text("half")
    assert Fs(str(tmp_path)).spread()
    assert left_over(tmp_path) == []


def test_who_tidies_up_does_no_harm(disk: Fs, tmp_path: Path) -> None:
    for directory in (tmp_path / "new").iterdir():
        directory.rmdir()
    disk.close(disk.create("q.a/x"))
    assert (tmp_path / "q.a" / "x").exists()


def test_elsewhere_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_seeks_long", lambda root: False)
    assert not Fs(str(tmp_path)).spread()
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_is_a_mount_of_its_own_does_without(
    disk: Fs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(room.os, "link", link)
    disk.close(disk.create("q.a/x"))
    assert (tmp_path / "q.a" / "x").exists()
    assert left_over(tmp_path) == []


def test_a_place_on_another_disk_does_without_and_the_others_do_not(
    disk: Fs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "q.a,1").symlink_to(tmp_path / "elsewhere")
    linked: list[str] = []
    real = os.link

    def link(near: str, name: str) -> None:
        if "q.a,1/" in name:
            raise OSError(errno.EXDEV, "cross-device link")
        linked.append(name)
        real(near, name)

    monkeypatch.setattr(os, "link", link)
    for number in range(3):
        for place in ("q.a", "q.a,1"):
            fd = disk.create(f"{place}/{number}")
            disk.write(fd, b"x")
            disk.close(fd)
    assert len(list((tmp_path / "q.a").iterdir())) == 3 == len(linked)
    assert [p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()] == [b"x"] * 3
    assert left_over(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_adds_to_another_s_spool_is_that_one_s(tmp_path: Path) -> None:
    """What is below a directory of root's own stays root's."""
    root = tmp_path / "spool"
    spool = Spool.open(str(root))
    os.chown(root, 65534, 65534)
    for part in ("journal", "done", "msg", "bad"):
        os.chown(root / part, 65534, 65534)
    spool.fs.mkdir("q.theirs")
    os.chown(root / "q.theirs", 65534, 65534)
    spool = Spool.open(str(root))
    accept(spool, job(0, queue="ours"), job(1, queue="theirs"))
    RuleLog(spool.fs).suspend(Suspension("queue", "ours", "root", 1.0, 0.0, ""))
    (segment,) = (root / "journal").iterdir()
    take_in(spool)
    (ours,), (theirs,) = all_names(spool, "ours"), all_names(spool, "theirs")
    others = [segment, root / "intake.lock", root / "rules", root / "rules" / "1", root / "boot"]
    others += [root / theirs.path, root / theirs.directory]
    assert {path.stat().st_uid for path in others} == {65534}
    assert {(root / path).stat().st_uid for path in (ours.path, ours.directory)} == {0}
