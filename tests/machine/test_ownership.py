"""What root makes belongs to the owner of the directory; nothing changes elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta.machine.flow import Teller
from mta.machine.log import Log
from mta.machine.ownership import give, make_directory
from mta.machine.wake import Ear
from mta.policy.admission import Flow
from mta.spool.intake import take_in
from mta.spool.spool import Spool

OTHER = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root gives things away")


def owners(root: Path) -> set[int]:
    return {path.lstat().st_uid for path in root.rglob("*")}


@root_only
def test_what_root_makes_for_a_service_is_the_service_s(tmp_path: Path) -> None:
    for name in ("run", "log", "spool"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, OTHER, OTHER)
    ear = Ear(str(tmp_path / "run"), "wake/smtp.1")
    teller = Teller(str(tmp_path / "run"), "smtp")
    teller.tell(Flow(3, 1.0, 1.0, 0.0), 1.0)
    log = Log(str(tmp_path / "log"), ("postfix", "json"), "deliver")
    log.started("deliver", [])
    log.flush()
    assert take_in(Spool.open(str(tmp_path / "spool")))
    assert owners(tmp_path / "run") == owners(tmp_path / "log") == {OTHER}
    spool = {p.name: p.lstat().st_uid for p in (tmp_path / "spool").iterdir()}
    assert {spool[name] for name in ("version", "journal", "done", "msg", "bad")} == {OTHER}
    assert (tmp_path / "run" / "wake" / "smtp.1").is_socket()
    ear.close()


def test_ow1_nothing_changes_where_the_directory_is_one_s_own(tmp_path: Path) -> None:
    make_directory(str(tmp_path / "a" / "b"))
    make_directory(str(tmp_path / "a" / "b"))
    (tmp_path / "a" / "b" / "file").touch()
    give(str(tmp_path / "a" / "b" / "file"))
    assert owners(tmp_path) == {os.geteuid()}


def test_ow1_who_is_not_root_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(os, "chown", lambda path, *rest, **more: given.append(path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    make_directory(str(tmp_path / "a"))
    give(str(tmp_path / "a"))
    assert given == []
