"""Every listener's dialogue of tests/dialogs, on a socket, against the real listener."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mta.smtpd import login
from tests.server_dialogues import Dialogue, dialogues, play
from tests.smtp.doorkeeper import at_ends
from tests.smtpd.stage import SocketWire, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(login, "SHORTEST", 0.0)
        patch.setattr(login, "LONGEST", 0.0)
        opened = Stage(tmp_path_factory.mktemp("stage"))
        yield opened
        opened.close()


SERVER = dialogues()
# What comes behind a session's end may take the listener's last words with it (TCP's reset).
SPLITTABLE = [d for d in SERVER if "segment" not in d.options and d.name != "quit-behind"]


@pytest.mark.parametrize("dialogue", SERVER, ids=lambda d: d.name)
def test_dialogue(dialogue: Dialogue, stage: Stage) -> None:
    play(dialogue, SocketWire(stage, dialogue.options))


@pytest.mark.parametrize("dialogue", SPLITTABLE, ids=lambda d: d.name)
def test_dialogue_cut_at_line_ends_dots_and_nul(dialogue: Dialogue, stage: Stage) -> None:
    play(dialogue, SocketWire(stage, dialogue.options, at_ends))
