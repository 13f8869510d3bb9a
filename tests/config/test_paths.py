"""Paths and modes of queues: read, and what is remarkable about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.build import build
from mta.config.findings import Facts
from mta.config.lint import check, lint
from mta.config.model import Config
from mta.config.queues import modes, paths
from mta.errors import ConfigError


def made(root: Path, *rows: str, daemons: tuple[str, ...] = ()) -> Config:
    channels = "".join(f"- {{program: smtp, name: {row}}}\n" for row in rows)
    text = f"hostname: a.test\nspool: spool\nlocal: {{domains: []}}\nchannels:\n{channels}"
    if daemons:
        text += "daemons:\n" + "".join(f"- {daemon}\n" for daemon in daemons)
    (root / "mta.yaml").write_text(text)
    return build(str(root / "mta.yaml"))[0]


def told(config: Config, **devices: int) -> list[str]:
    """Return what lint says of paths and modes, with directories on these devices."""
    root = Path(config.path).parent
    known = {str(root / name): device for name, device in devices.items()}
    facts = Facts(
        *("ext4", 1, 2, lambda name: True, lambda path: "", lambda path: True, True),
        device=lambda path: known.get(path, -1),
    )
    found = [finding.text.replace(f"{root}/", "") for finding in lint(config, facts)]
    return [text for text in found if "path" in text or "mode" in text or "file system" in text]


def test_paths_are_absolute_with_weights_and_the_spool_has_a_word(tmp_path: Path) -> None:
    config = made(tmp_path, "x, domains: '*', paths: [/disk1/q weight=2, disk2, spool weight=3]")
    expected = (("/disk1/q", 2), (f"{tmp_path}/disk2", 1), ("", 3))
    assert paths(config) == {"x": expected}
    assert paths(made(tmp_path, "x, domains: '*', paths: /disk1")) == {"x": (("/disk1", 1),)}
    assert paths(made(tmp_path, "x, domains: '*'")) == {}


@pytest.mark.parametrize(
    "paths", ["/a weight=0", "/a weight=101", "/a weight=x", "/a weight=", "'/a,b'", "[/a, /a]"]
)
def test_what_is_no_path_is_refused_with_its_line(tmp_path: Path, paths: str) -> None:
    with pytest.raises(ConfigError, match=r"mta\.yaml:5:"):
        made(tmp_path, f"x, domains: '*', paths: {paths}")


def test_the_first_channel_of_a_queue_has_its_mode(tmp_path: Path) -> None:
    rows = ("x, domains: '*', mode: queue", "y, queue: x", "z, domains: [z.test]")
    assert modes(made(tmp_path, *rows)) == {"x": "queue", "z": "background"}
    with pytest.raises(ConfigError, match="delivery mode"):
        made(tmp_path, "x, domains: '*', mode: now")


def test_a_path_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    config = made(tmp_path, "x, domains: '*', paths: [disk1, disk2]")
    (text,) = told(config, disk1=5)
    assert "disk2, which is no directory" in text
    assert any(f.severity == "error" and "disk1" in f.text for f in check(config))


def test_two_paths_on_one_disk_relieve_none(tmp_path: Path) -> None:
    config = made(tmp_path, "x, domains: '*', paths: [disk1, disk2, spool]")
    assert told(config, disk1=5, disk2=6) == []
    (text,) = told(config, disk1=5, disk2=5)
    assert "disk1 and" in text and "on one file system" in text
    (text,) = told(config, disk1=5, disk2=1)
    assert "disk2 and" in text, "the spool is on device 1"


def test_a_path_below_the_spool_is_an_error(tmp_path: Path) -> None:
    config = made(tmp_path, "x, domains: '*', paths: [spool/more]")
    assert any("below the spool" in text for text in told(config, **{"spool/more": 9}))


def test_channels_on_one_queue_that_disagree_are_named(tmp_path: Path) -> None:
    rows = (
        "x, domains: '*', mode: queue, paths: [disk1]",
        "y, queue: x, mode: interactive, paths: [disk2]",
    )
    texts = told(made(tmp_path, *rows), disk1=5, disk2=6)
    assert len(texts) == 2 and all("channel 'y' is on the queue 'x'" in text for text in texts)


@pytest.mark.parametrize(
    ("channel", "deliver", "remarked"),
    [
        ("mode: queue", "deliver -b -cx", False),
        ("mode: queue", "deliver -b -cx -T60", False),
        ("mode: queue", "deliver -b -cx -T3600", True),
        ("mode: defer", "deliver -b -cx -T 3600", True),
        ("mode: queue, interval: 1m", "deliver -b -cx -T3600", False),
        ("mode: queue, interval: 1h", "deliver -b -cx -T60", True),
        ("mode: interactive", "deliver -b -cx -T3600", False),
    ],
)
def test_a_quiet_queue_wants_a_deliver_that_looks_often(
    tmp_path: Path, channel: str, deliver: str, remarked: bool
) -> None:
    config = made(tmp_path, f"x, domains: '*', {channel}", daemons=(deliver,))
    assert bool(told(config)) == remarked
