"""Delivery modes: whether mail that has just been accepted wakes the delivers of its queue.

Source   sendmail's DeliveryMode (background, interactive, queue-only, deferred).  We look
         nothing up when mail is accepted, so that queue and defer are the same here.

Invariants, each a property in tests/policy/test_modes.py
    MO1  What a message asks for goes before what its queue says.
    MO2  An interactive message wakes nobody where its submitter tries it himself, and is
         tried at once everywhere else.
"""

from __future__ import annotations

__all__ = ["BACKGROUND", "DEFER", "INTERACTIVE", "MODES", "QUEUE", "rings"]

BACKGROUND, INTERACTIVE, QUEUE, DEFER = "background", "interactive", "queue", "defer"
MODES = (BACKGROUND, INTERACTIVE, QUEUE, DEFER)

# What a message says → the modes of a queue with which it wakes that queue's delivers.
# "interactive": it was submitted by a program that tries the interactive queues itself.
_RINGS = {
    "": (BACKGROUND, INTERACTIVE),
    BACKGROUND: MODES,
    INTERACTIVE: (BACKGROUND,),
    QUEUE: (),
    DEFER: (),
}


def rings(queue_mode: str, message_mode: str) -> bool:
    """Tell whether a message wakes the delivers of a queue; an unknown mode says nothing."""
    return queue_mode in _RINGS.get(message_mode, _RINGS[""])
