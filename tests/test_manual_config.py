"""mta.yaml(5) and the schema name the same keys, with the same defaults."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mta.config.kinds import MapOf, keys
from mta.config.schema import SCHEMA

MANUAL = Path(__file__).parents[1] / "man" / "mta.yaml.5"
ABSENT = {(), None}


def manual_keys():
    """Return dotted key → text of its item; items are ``.It Ic key`` in nested lists."""
    found: dict[str, str] = {}
    section, depth, path = "", 0, []
    for line in MANUAL.read_text().split("\n"):
        if line.startswith(".Sh "):
            section, path = line[4:], ["channels"] if line == ".Sh CHANNELS" else []
            base = depth
        elif line.startswith(".Bl"):
            depth += 1
        elif line.startswith(".El"):
            depth -= 1
        elif (item := re.match(r"\.It Ic (\w+) :", line)) and section in ("KEYS", "CHANNELS"):
            outer = 1 if section == "CHANNELS" else 0
            path = [*path[: depth - base - 1 + outer], item[1]]
            found[".".join(path)] = ""
        elif path and ".".join(path) in found:
            # after a nested list ends, its text belongs to the item around it
            found[".".join(path)] += line + "\n"
    return found


def test_every_key_is_in_the_manual_and_no_other():
    assert set(manual_keys()) == {dotted for dotted, _ in keys(SCHEMA)}


@pytest.mark.parametrize("dotted", [dotted for dotted, _ in keys(SCHEMA)])
def test_the_manual_gives_the_defaults(dotted):
    key = dict(keys(SCHEMA))[dotted]
    text = manual_keys()[dotted]
    defaults = {key.default, *(value for _, value in key.defaults)}
    for default in defaults - ABSENT:
        if isinstance(default, tuple):
            assert "Default: both." in text or "Default: all." in text
        else:
            assert f".Ql {default}" in text.partition("Default:")[2], text
    for program, _ in key.defaults:
        assert re.search(rf"\bfor {program}\b", text), text
    if defaults <= ABSENT and not key.required and not isinstance(key.kind, MapOf):
        assert re.search("[Dd]efault: ", text), text


def test_the_manual_says_which_program_a_key_belongs_to():
    text = manual_keys()
    for dotted, key in keys(SCHEMA):
        if key.programs:
            assert text[dotted].startswith(f"Only for {' and '.join(key.programs)}"), dotted


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_manual_is_good_mdoc():
    ran = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(MANUAL)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == ""
