"""Who runs is told by sockets that bear a pid, and by the titles of those processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mta.machine import census
from mta.machine.wake import Ear


def test_an_smtpd_shows_itself_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "_title", lambda pid: {os.getpid(): "smtpd: mx"}.get(pid, ""))
    assert census.listeners(str(tmp_path / "nowhere")) == []
    ear = Ear(str(tmp_path), f"smtpd.{os.getpid()}")
    assert census.listeners(str(tmp_path)) == [(os.getpid(), "smtpd: mx")]
    ear.close()
    assert census.listeners(str(tmp_path)) == []


def test_what_a_dead_one_left_is_forgotten(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ear = Ear(str(tmp_path), f"smtpd.{dead.pid}")
    living = Ear(str(tmp_path), f"smtpd.{os.getpid()}")
    census.forget_dead(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [f"smtpd.{os.getpid()}"]
    living.close()
    ear.close()
