"""Every listener's dialogue of tests/dialogs, on a socket, against the real listener."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mta.smtpd import login
from tests.server_dialogues import Dialogue, dialogues, play
from tests.smtpd.stage import SocketWire, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(login, "SHORTEST", 0.0)
        patch.setattr(login, "LONGEST", 0.0)
        opened = Stage(tmp_path_factory.mktemp("stage"))
        yield opened
        opened.close()


@pytest.mark.parametrize("dialogue", dialogues(), ids=lambda d: d.name)
def test_dialogue(dialogue: Dialogue, stage: Stage) -> None:
    play(dialogue, SocketWire(stage, dialogue.options))
