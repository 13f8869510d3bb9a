"""The configurations in etc/examples are read, pass `mta check`, and can be started as they are."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from mta.config.lint import check
from mta.config.load import load_config
from mta.config.model import Config
from mta.config.queues import modes
from mta.daemons import named
from mta.deliver.flags import Flags, parse
from mta.up import commands

ETC = Path(__file__).parents[1] / "etc"
WHOLE = ("brl", "campaign", "queue-groups")


def example(root: Path, name: str) -> Config:
    shutil.copytree(ETC, root / "etc")
    return load_config(str(root / "etc" / "examples" / f"{name}.yaml"))


def delivers(config: Config) -> list[Flags]:
    words = [shlex.split(daemon.command) for daemon in config.daemons]
    return [parse(arguments) for command, *arguments in words if command == "deliver"]


def test_no_example_is_left_out() -> None:
    whole = {p.stem for p in (ETC / "examples").glob("*.yaml") if "\nhostname:" in p.read_text()}
    assert whole == set(WHOLE)


@pytest.mark.parametrize("name", WHOLE)
def test_mta_check_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    config = example(tmp_path, name)
    told = [f.text for f in check(config) if "on one file system" not in f.text]
    assert told == [], "but that a folder for trying it is on one disk"
    assert len(named(commands(config))) == len(config.daemons)


def test_the_six_daemons_are_as_they_were_typed(tmp_path: Path) -> None:
    config = example(tmp_path, "brl")
    first, second, third, fourth, ucl, dial = delivers(config)
    assert all(flags.background for flags in delivers(config))
    assert first.channels == ("local", "brlnet", "list", "uucp", "bb") and first.dead_ttl == 900
    assert [flags.channels for flags in (second, third, fourth)] == [("smtp",)] * 3
    assert [flags.younger for flags in (second, third, fourth)] == [24 * 3600, 48 * 3600, None]
    assert (ucl.unsorted, ucl.interval, ucl.dead_ttl) == (True, 300, 900)
    assert (dial.sort_threshold, dial.older, dial.channels) == (300, 48 * 3600, ("ucl-dial",))
    assert len(config.queues()) == 7 and config.channel("ucl-dial").queue == "ucl"


def test_the_queue_groups_have_the_printed_figures(tmp_path: Path) -> None:
    config = example(tmp_path, "queue-groups")
    rows = {c.name: (c.runners, c.max_recipients, c.interval) for c in config.channels}
    assert rows == {
        "local": (2, 1000, 60.0),
        "one": (3, 50, 0.0),
        "two": (4, 30, 0.0),
        "remote": (8, 5, 120.0),
    }
    assert set(modes(config).values()) == {"queue"} and config.queue_children == 50
    assert {c.retry.min_age for c in config.channels} == {27 * 60}
    assert all(flags.interval == 300 for flags in delivers(config))
