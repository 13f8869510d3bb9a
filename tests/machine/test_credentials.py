"""The credentials file: who may read it, what it says, and what becomes of a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta.machine.credentials import LOOK, Credentials

TEXT = """
# smart hosts
hub.example.test   ours   two words
hub.example.test:587 other word#1
HUB.example.test  third  one
[2001:db8::1]:25 six pass
192.0.2.1\tfour\tpass
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A file, and what reads it."""

    def __init__(self, folder: Path, text: str = TEXT, mode: int = 0o640) -> None:
        self.path = folder / "credentials"
        self.warned: list[str] = []
        self.clock = Clock()
        self.write(text, mode)
        self.credentials = Credentials(str(self.path), self.warned.append, self.clock)

    def write(self, text: str, mode: int = 0o640) -> None:
        self.path.unlink(missing_ok=True)
        self.path.write_text(text)
        self.path.chmod(mode)

    def later(self) -> None:
        self.clock.now += LOOK

    def find(self, host: str = "hub.example.test", port: int = 25) -> tuple[str, str] | None:
        return self.credentials.find(host, port)


def test_what_it_says(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.find() == ("ours", "two words")
    assert desk.find(port=587) == ("other", "word#1")
    assert desk.find("Hub.Example.test") == ("ours", "two words")
    assert desk.find("2001:DB8:0::1") == ("six", "pass")
    assert desk.find("2001:db8::1", 26) is None
    assert desk.find("192.0.2.1", 2525) == ("four", "pass")
    assert desk.find("example.test") is None


def test_no_file_says_nothing() -> None:
    assert Credentials("", print).find("hub.example.test", 25) is None


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_j1_a_file_for_everybody_is_not_used(tmp_path: Path, mode: int) -> None:
    desk = Desk(tmp_path, mode=mode)
    with pytest.raises(ValueError, match=r"credentials: everybody may read or change this file"):
        desk.find()
    desk.write(TEXT, 0o600)
    assert desk.find() == ("ours", "two words")


def test_a_change_is_seen_within_a_second(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.find() == ("ours", "two words")
    desk.write("hub.example.test new word\n")
    assert desk.find() == ("ours", "two words")
    desk.later()
    assert desk.find() == ("new", "word")
    assert desk.warned == []


@pytest.mark.parametrize("trouble", ["absent", "mode", "nonsense", "folder"])
def test_j2_a_file_gone_bad_leaves_what_it_said(tmp_path: Path, trouble: str) -> None:
    desk = Desk(tmp_path)
    desk.find()
    if trouble == "mode":
        desk.path.chmod(0o644)
    elif trouble == "nonsense":
        desk.write("hub.example.test\n")
    else:
        desk.path.unlink()
        if trouble == "folder":
            desk.path.mkdir()
    for _ in range(3):
        desk.later()
        assert desk.find() == ("ours", "two words")
    assert len(desk.warned) == 1
    assert "what it said before stays in force" in desk.warned[0]
    if trouble == "folder":
        desk.path.rmdir()
    desk.write("hub.example.test new word\n")
    desk.later()
    assert desk.find() == ("new", "word")


@pytest.mark.parametrize(
    "line", ["secret", "host secret", "a:b:c user secret", "host user \udcff", "host:0 user secret"]
)
def test_j3_no_text_of_a_line_is_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(b"# first\n" + os.fsencode(line) + b"\n")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="line 2 is not host") as caught:
        Credentials(str(path), print).find("host", 25)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "#" * (1 << 20) + "\n")
    with pytest.raises(ValueError, match="octets"):
        desk.find()
