"""FL1 to FL3: what delivers tell, and whom nobody believes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mta.machine.flow import STALE, Teller, read_flows
from mta.policy.admission import Flow

FLOW = Flow(1200, 30.5, 28.25, 3.0, 7)


def told(runtime: Path, mono: float = 100.0) -> dict[str, list[Flow]]:
    return read_flows(str(runtime), ("smtp", "a.b"), mono)


def test_fl1_what_is_told_is_read(tmp_path: Path) -> None:
    assert told(tmp_path) == {}
    one, other = Teller(str(tmp_path), "smtp"), Teller(str(tmp_path), "a.b")
    one.tell(FLOW, 99.5)
    other.tell(Flow(0, 0.0, -1.0), 99.5)
    assert told(tmp_path) == {"smtp": [FLOW], "a.b": [Flow(0, 0.0, -1.0)]}
    assert read_flows(str(tmp_path), (), 100.0) == {}
    one.close()
    other.close()
    assert told(tmp_path) == {}
    assert os.listdir(tmp_path / "flow") == []


@pytest.mark.parametrize(
    "text",
    ["", "2", "2 5 x 3 0 0 99", "1 5 1.0 1.0 0.0 99.0", "2 5 1.0 1.0 0.0 99.0", "\0\xff" * 50],
)
def test_fl1_what_is_no_record_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / f"smtp.{os.getpid()}").write_text(text)
    assert told(tmp_path) == {}


def test_fl2_the_dead_and_the_stuck_do_not_count(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    teller = Teller(str(tmp_path), "smtp")
    teller.tell(FLOW, 100.0)
    left = tmp_path / "flow" / f"smtp.{dead.pid}"
    left.write_text("2 5 1.0 1.0 0.0 0 100.0\n")
    assert told(tmp_path, 100.0) == {"smtp": [FLOW]}
    assert told(tmp_path, 100.0 + STALE) == {}
    assert told(tmp_path, 99.0) == {}  # of another boot
    Teller(str(tmp_path), "smtp")
    assert not left.exists()


def test_fl3_nothing_is_written_while_nothing_waits(tmp_path: Path) -> None:
    teller = Teller(str(tmp_path), "smtp")
    path = tmp_path / "flow" / f"smtp.{os.getpid()}"
    teller.tell(Flow(0, 5.0, -1.0), 1.0)
    path.unlink()
    teller.tell(Flow(0, 4.0, -1.0), 2.0)
    assert not path.exists()
    teller.tell(FLOW, 3.0)
    teller.tell(Flow(0, 4.0, -1.0), 4.0)
    assert path.read_text().startswith("2 0 4.0 ")


def test_a_folder_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    teller = Teller(str(tmp_path), "smtp")
    os.rmdir(tmp_path / "flow")
    teller.tell(FLOW, 1.0)
    teller.close()


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """The folder may be another user's, and we root."""
    (tmp_path / "passwd").write_text("precious")
    teller = Teller(str(tmp_path), "smtp")
    (tmp_path / "flow" / f"smtp.{os.getpid()}.new").symlink_to(tmp_path / "passwd")
    teller.tell(Flow(5, 1.0, 1.0, 1.0), 100.0)
    assert (tmp_path / "passwd").read_text() == "precious"
    assert read_flows(str(tmp_path), {"smtp"}, 100.0)["smtp"]
