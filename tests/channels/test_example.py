from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mta.channel.records import Answer
from tests.channels.driver import ALICE, Program, recipients

EXAMPLE = Path(__file__).parents[2] / "etc" / "examples" / "folder"

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="the example is in Perl")


def test_a_program_in_another_language_delivers(tmp_path: Path) -> None:
    program = Program(str(EXAMPLE), [("folder", str(tmp_path)), ("with space", "100% é\n")])
    assert program.answer == Answer("all", 1, "inline")
    bodies = [b"Subject: one\r\n\r\nsend 1\r\ndone 1\r\n", b"", b"x" * 200_000 + b"\r\n\xff\x00"]
    for body in bodies:
        assert program.one(body, ALICE).reply.code == 250
    assert program.close() == 0
    assert sorted(p.read_bytes() for p in tmp_path.iterdir()) == sorted(bodies)


def test_it_defers_what_it_cannot_write_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    program = Program(str(EXAMPLE), [("folder", str(folder))])
    outcome = program.one(b"x\r\n", ALICE)
    assert (outcome.reply.code, outcome.scope) == (451, "channel")
    assert "No such file" in outcome.reply.text
    folder.mkdir()
    program.send(b"y\r\n", recipients(ALICE))
    program.finish()
    assert program.close() == 0
    assert [p.read_bytes() for p in folder.iterdir()] == [b"y\r\n"]


def test_it_is_as_short_as_it_is_said_to_be() -> None:
    assert len(EXAMPLE.read_text().split("\n")) <= 31
