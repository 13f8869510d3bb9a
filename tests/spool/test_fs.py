"""The real disk: files made far apart are files like any others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mta.spool import fs as room
from mta.spool.fs import NURSERIES, Fs


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
