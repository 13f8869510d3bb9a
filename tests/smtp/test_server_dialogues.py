"""Every listener's dialogue of tests/dialogs, on the engine alone, however it is cut."""

from __future__ import annotations

import re

import pytest

from tests.server_dialogues import Dialogue, dialogues, play
from tests.smtp.doorkeeper import CutAt, EngineWire, single, whole

SERVER = dialogues()
SPLITTABLE = [d for d in SERVER if "segment" not in d.options]
CUTS = 120  # at most, of one dialogue


def test_there_are_enough_and_each_cites_its_section() -> None:
    assert len(SERVER) >= 350
    for dialogue in SERVER:
        cites = r"# (RFC \d+ s[\dA-Z][\dA-Z.]*|XCLIENT_README|PROXY s\d[\d.]*)[:,] "
        assert re.match(cites, dialogue.cites), dialogue.name
        assert any(step.kind[0] == "S" for step in dialogue.steps), dialogue.name


@pytest.mark.parametrize("dialogue", SERVER, ids=lambda d: d.name)
def test_dialogue(dialogue: Dialogue) -> None:
    play(dialogue, EngineWire(dialogue.options, whole))


@pytest.mark.parametrize("dialogue", SPLITTABLE, ids=lambda d: d.name)
def test_s1_dialogue_octet_by_octet(dialogue: Dialogue) -> None:
    play(dialogue, EngineWire(dialogue.options, single))


def cuts(dialogue: Dialogue) -> list[int]:
    """Return where to cut: at every octet, but of a word only behind its first letter."""
    sent = b"".join(step.octets for step in dialogue.steps if step.kind == "C")
    inner = [match.span() for match in re.finditer(rb"[A-Za-z0-9]{3,}", sent)]
    within = {at for start, end in inner for at in range(start + 2, end)}
    places = [at for at in range(1, len(sent)) if at not in within]
    return places[:: len(places) // CUTS + 1]


@pytest.mark.parametrize("dialogue", SPLITTABLE, ids=lambda d: d.name)
def test_s1_dialogue_split_once_at_every_octet(dialogue: Dialogue) -> None:
    for at in cuts(dialogue):
        play(dialogue, EngineWire(dialogue.options, CutAt(at)))
