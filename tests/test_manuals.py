"""The manuals of the operator's commands say what the code does, option by option."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from mta import cli
from mta.machine.log import Log
from mta.machine.logline import DEFAULT_LEVEL, LEVELS, TEXT
from tests.machine.test_log import GOLDEN

MAN = Path(__file__).parents[1] / "man"
OURS = ("mta.8", "mta-log.5", "mailq.1", "checkque.8", "cleanque.8", "hoststat.8")


def manual(name: str) -> str:
    return (MAN / name).read_text()


def flags_of(text: str) -> set[str]:
    """Return the options that a manual speaks of: "--json", "-n"."""
    return {f"-{flag}" for flag in re.findall(r"\bFl (-?[\w-]+)", text)}


def test_mta_8_has_every_command_and_no_other() -> None:
    described = re.findall(r"(?m)^\.It Nm mta Ic (\w+)", manual("mta.8"))
    assert sorted(described) == sorted(cli.mta.commands)


@pytest.mark.parametrize("name", sorted(cli.mta.commands))
def test_mta_8_has_the_options_of_each_command(name: str) -> None:
    line = next(
        item for item in manual("mta.8").split("\n") if item.startswith(f".It Nm mta Ic {name}")
    )
    options = {
        parameter.opts[-1] if parameter.opts[0].startswith("--") else parameter.opts[0]
        for parameter in cli.mta.commands[name].params
        if isinstance(parameter, click.Option)
    }
    assert flags_of(line) == options - {"--config"}


@pytest.mark.parametrize(
    ("page", "flags"),
    [
        ("mailq.1", {"-j", "--json", "-p", "-v", "--config", "-C"}),
        ("checkque.8", {"-fhpsz", "-f", "-h", "-p", "-s", "-z", "-t", "-c", "--config"}),
        ("cleanque.8", {"-n", "-w", "--check", "--config"}),
        ("hoststat.8", {"-v", "--config", "-C"}),
    ],
)
def test_pages_name_their_options(page: str, flags: set[str]) -> None:
    assert flags_of(manual(page)) == flags


def events_of_manual() -> dict[str, tuple[str, list[str]]]:
    """Return event → (level, fields) as mta-log(5) has them."""
    events: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in manual("mta-log.5").split("\n"):
        if head := re.fullmatch(r"\.Ss (\w+) \((\w+)\)", line):
            name = head[1]
            events[name] = (head[2], [])
        elif line.startswith(".Sh "):
            name = ""
        elif name and (field := re.fullmatch(r"\.It Ic (\w+)", line)):
            events[name][1].append(field[1])
    return events


def test_mta_log_5_has_every_event_with_its_level() -> None:
    described = {name: level for name, (level, _) in events_of_manual().items()}
    assert described == {name: LEVELS[level] for name, (level, _) in TEXT.items()}
    assert f"{LEVELS[DEFAULT_LEVEL]} (the default)" in manual("mta-log.5")


def test_mta_log_5_has_the_fields_of_each_event_in_order(tmp_path: Path) -> None:
    written: dict[str, list[str]] = {}
    for number, (event, act, *_) in enumerate(GOLDEN):
        log = Log(str(tmp_path / str(number)), ("json",), "deliver")
        act(log)
        log.close()
        record = json.loads((tmp_path / str(number) / "events.jsonl").read_text())
        common, fields = list(record)[:4], list(record)[4:]
        assert common == ["time", "event", "process", "pid"]
        written[event] = fields if len(fields) > len(written.get(event, [])) else written[event]
    written["lost"] = ["file", "lines", "reason"]  # tests/machine/test_log.py fills a disk for it
    assert {name: fields for name, (_, fields) in events_of_manual().items()} == written


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", OURS)
def test_mandoc_has_nothing_to_say(page: str) -> None:
    ran = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(MAN / page)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == ""
