from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from mta.machine import maildir
from mta.machine.maildir import Place, deliver, owner_of, unique_name

HEADER = b"Return-Path: <>\n"
BODY = b"Subject: x\r\n\r\nhello\r\n.\r\n"
WHOLE = HEADER + BODY.replace(b"\r\n", b"\n")


def put(root: Path, below: str = "alice") -> str:
    return deliver(Place(str(root), below), HEADER, io.BytesIO(BODY), 1785000000.25, "mx/a:b")


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def test_l1_the_message_is_in_new_whole(tmp_path: Path) -> None:
    names = [put(tmp_path), put(tmp_path)]
    assert files(tmp_path) == sorted(f"alice/new/{name}" for name in names)
    for name in names:
        path = tmp_path / "alice" / "new" / name
        assert path.read_bytes() == WHOLE
        assert path.stat().st_mode & 0o777 == 0o600
    assert {p.name for p in (tmp_path / "alice").iterdir()} == {"tmp", "new", "cur"}


def test_l1_file_and_directories_are_synced_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path)
    calls: list[str] = []
    real_sync, real_rename = os.fsync, os.rename

    def sync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        calls.append(
            "sync " + os.path.basename(os.path.dirname(path) if os.path.isfile(path) else path)
        )
        if os.path.isfile(path):
            assert Path(path).read_bytes() == WHOLE
        real_sync(fd)

    def rename(*arguments: object, **options: object) -> None:
        calls.append("rename")
        real_rename(*arguments, **options)

    monkeypatch.setattr(maildir.os, "fsync", sync)
    monkeypatch.setattr(maildir.os, "rename", rename)
    put(tmp_path)
    assert calls == ["sync tmp", "rename", "sync new"]


@pytest.mark.parametrize("broken", ["fsync", "rename", "write"])
def test_l2_when_it_fails_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    put(tmp_path)
    before = files(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    if broken == "write":
        monkeypatch.setattr(maildir, "as_lf", fail)
    else:
        monkeypatch.setattr(maildir.os, broken, fail)
    with pytest.raises(OSError, match="no space"):
        put(tmp_path)
    assert files(tmp_path) == before


def test_l2_without_rename_it_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no rename here")

    monkeypatch.setattr(maildir.os, "rename", refuse)
    name = put(tmp_path)
    assert files(tmp_path) == [f"alice/new/{name}"]


def test_l3_what_lies_there_stays_and_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path)
    monkeypatch.setattr(maildir, "unique_name", lambda *_: "same")
    stale = tmp_path / "alice" / "tmp" / "same"
    stale.write_bytes(b"left behind")
    with pytest.raises(FileExistsError):
        put(tmp_path)
    assert stale.read_bytes() == b"left behind"
    monkeypatch.undo()
    put(tmp_path)
    assert stale.read_bytes() == b"left behind"


def test_a_missing_mail_root_is_an_error_and_stays_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "mail")
    assert not (tmp_path / "mail").exists()


def test_what_is_below_the_root_is_made(tmp_path: Path) -> None:
    name = put(tmp_path, "alice/Maildir/")
    assert files(tmp_path) == [f"alice/Maildir/new/{name}"]


@pytest.mark.parametrize("link", ["alice", "alice/new", "alice/tmp"])
def test_a_planted_link_is_not_followed(tmp_path: Path, link: str) -> None:
    root, away = tmp_path / "mail", tmp_path / "away"
    (root / link).parent.mkdir(parents=True)
    away.mkdir()
    (root / link).symlink_to(away)
    with pytest.raises(OSError) as caught:
        put(root)
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    assert files(away) == []


@pytest.mark.parametrize("below", ["", ".", "../alice", "a/../../b"])
def test_a_place_that_leaves_the_root_is_none(tmp_path: Path, below: str) -> None:
    with pytest.raises(ValueError, match="not a mailbox"):
        put(tmp_path, below)


def test_names_are_unique_and_hold_no_separator() -> None:
    names = {unique_name(1785000000.25, 7, "mx/a:b") for _ in range(100)}
    assert len(names) == 100
    assert all("/" not in name and ":" not in name for name in names)
    assert all(name.startswith("1785000000.M250000P7Q") for name in names)


def test_the_owner_is_of_the_deepest_directory_there_is(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "alice/Maildir")
    assert owner_of(place) == (os.getuid(), os.stat(tmp_path).st_gid)
    if os.geteuid() == 0:
        (tmp_path / "alice").mkdir()
        os.chown(tmp_path / "alice", 12345, 54321)
        assert owner_of(place) == (12345, 54321)
