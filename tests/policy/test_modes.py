"""Delivery modes: who is woken."""

from __future__ import annotations

import pytest

from mta.policy.modes import BACKGROUND, DEFER, INTERACTIVE, MODES, QUEUE, rings


@pytest.mark.parametrize("queue", MODES)
def test_mo1_what_a_message_asks_for_goes_first(queue: str) -> None:
    assert rings(queue, BACKGROUND)
    assert not rings(queue, QUEUE) and not rings(queue, DEFER)


def test_mo1_without_a_wish_the_queue_decides() -> None:
    assert [rings(queue, "") for queue in MODES] == [True, True, False, False]
    assert [rings(queue, "of another version") for queue in MODES] == [True, True, False, False]


def test_mo2_only_queues_that_the_submitter_does_not_try_are_woken() -> None:
    woken = {queue for queue in MODES if rings(queue, INTERACTIVE)}
    assert woken == {BACKGROUND}
    assert rings(INTERACTIVE, ""), "mail from elsewhere is tried at once there, too"
