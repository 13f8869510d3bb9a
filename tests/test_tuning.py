"""tuning(7) speaks only of what there is: keys, options, commands, files, pages."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mta import cli
from mta.config.kinds import keys
from mta.config.schema import SCHEMA
from mta.deliver.flags import parse
from mta.policy.modes import MODES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "man" / "tuning.7").read_text()


def test_every_key_exists() -> None:
    known = {dotted.rpartition(".")[2] for dotted, _ in keys(SCHEMA)}
    named = set(re.findall(r"\bIc (\w+)", PAGE))
    assert len(named) > 35 and named - known == set()


def test_every_command_of_mta_exists() -> None:
    named = set(re.findall(r"\.Ql (?:\")?mta (\w+)", PAGE))
    assert {"status", "why", "reload", "reroute", "daemons", "check", "host"} <= named
    assert named - set(cli.mta.commands) == set()


def test_every_deliver_line_is_one_that_deliver_understands() -> None:
    lines = re.findall(r"(?m)^(?:  - )?deliver (-.*)$", PAGE)
    assert len(lines) >= 9
    for line in lines:
        assert parse(line.split(" ")).background
    six = re.findall(r"(?m)^deliver (-.*)$", PAGE)
    config = (ROOT / "etc" / "examples" / "brl.yaml").read_text()
    assert [f"  - deliver {line}" for line in six] == re.findall(r"(?m)^  - deliver .*$", config)


def test_the_modes_are_those_that_there_are() -> None:
    modes = PAGE.partition(".Sh MODES")[2].partition(".Ss")[0]
    assert tuple(re.findall(r"\.It Cm (\w+)", modes)) == MODES


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\.(?:Pa|It Pa) (etc/\S+)", PAGE))))
def test_every_file_is_shipped(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_page_exists() -> None:
    pages = {f"{name}.{section}" for name, section in re.findall(r"\.Xr (\S+) (\d)", PAGE)}
    assert pages <= {path.name for path in (ROOT / "man").iterdir()}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_it_is_set_without_complaint() -> None:
    ran = subprocess.run(
        ["groff", "-mdoc", "-Tutf8", "-ww", "-z", str(ROOT / "man" / "tuning.7")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
