"""mta reload: everybody is told, or after an error in the configuration nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta.config.load import load_config
from mta.reload import NobodyError, reload
from tests.queued import YAML, new_config

# Says "hup" when it is hung up on; bears the socket and the title of a deliver.
DELIVER = """
import os, signal, sys
from mta.machine.process import set_title
from mta.machine.wake import Ear
signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"hup\\n"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ear = Ear(sys.argv[1], f"wake/smtp.{os.getpid()}")
set_title(sys.argv[2])
os.write(1, b"up\\n")  # not print: the signal may come in the middle of it
while True:
    signal.pause()
"""
Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start_deliver(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(title: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", DELIVER, str(tmp_path / "run"), title]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        return process

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=20)


def heard(process: subprocess.Popen[str]) -> str:
    """End the process; return what it has said."""
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=20)[0]


def test_every_deliver_is_told_and_named(tmp_path: Path, start_deliver: Start) -> None:
    config = new_config(tmp_path)
    delivers = [start_deliver(f"deliver[smtp]: idle {n}") for n in range(2)]
    said: list[str] = []
    assert reload(config, said.append) == 0
    for process in delivers:
        assert process.stdout is not None and process.stdout.readline() == "hup\n"
        assert any(f"pid {process.pid}," in line for line in said)


def test_after_an_error_nobody_is_told(tmp_path: Path, start_deliver: Start) -> None:
    new_config(tmp_path)
    (tmp_path / "mta.yaml").write_text(YAML.replace("-clocal,smtp", "-clocal,smpt"))
    process = start_deliver("deliver[smtp]: idle")
    said: list[str] = []
    assert reload(load_config(str(tmp_path / "mta.yaml")), said.append) == 78
    assert any("smpt" in line for line in said)
    assert heard(process) == ""


def test_a_stranger_with_the_pid_of_a_dead_deliver_is_left_alone(
    tmp_path: Path, start_deliver: Start
) -> None:
    config = new_config(tmp_path)
    process = start_deliver("somebody else")
    with pytest.raises(NobodyError):
        reload(config, lambda line: None)
    assert heard(process) == ""


def test_with_nobody_there_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NobodyError, match="no daemon runs"):
        reload(new_config(tmp_path), lambda line: None)
