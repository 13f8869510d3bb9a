"""Every client dialogue of tests/dialogs, on the engine alone."""

from __future__ import annotations

import re

import pytest

from tests.fakes import Dialogue, dialogues
from tests.smtp.play import play, single, whole

CLIENT = dialogues("client") + dialogues("client", special=True)
# A reply out of turn is known for one only if it comes before our command goes.
SPLITTABLE = [d for d in CLIENT if not d.name.startswith("early-reply")]


def test_there_are_enough_and_each_cites_its_section() -> None:
    assert len(CLIENT) >= 155
    for dialogue in CLIENT:
        assert re.match(r"# RFC \d+ s\d[\d.]*[:,]", dialogue.cites), dialogue.name
        assert dialogue.outcomes, dialogue.name


def fits(dialogue: Dialogue, outcomes: list) -> None:
    assert len(outcomes) == len(dialogue.outcomes)
    for expected, outcome in zip(dialogue.outcomes, outcomes, strict=True):
        assert expected.fits(outcome), f"{outcome} is not {expected}"


@pytest.mark.parametrize("dialogue", CLIENT, ids=lambda d: d.name)
def test_dialogue(dialogue: Dialogue) -> None:
    fits(dialogue, play(dialogue, whole).outcomes)


@pytest.mark.parametrize("dialogue", SPLITTABLE, ids=lambda d: d.name)
def test_c1_dialogue_octet_by_octet(dialogue: Dialogue) -> None:
    fits(dialogue, play(dialogue, single).outcomes)


@pytest.mark.parametrize("dialogue", SPLITTABLE, ids=lambda d: d.name)
def test_c1_dialogue_split_once_at_every_octet(dialogue: Dialogue) -> None:
    longest = max((len(step.octets) for step in dialogue.steps), default=0)
    wholly = play(dialogue)
    for at in range(1, min(longest * 3, 200)):
        played = play(dialogue, lambda octets, at=at: [octets[:at], octets[at:]])
        assert played.outcomes == wholly.outcomes
        assert played.events == wholly.events
