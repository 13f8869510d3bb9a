"""When the author of a job is warned, and when it is given up: its channel, its kind, its own wish.

Units    Wall-clock seconds; 0.0 is never.

Invariants, each a property in tests/deliver/test_limits.py
    Y1   A message is given up when its kind's ``fail_after`` is over, or when it
         expires by its own wish, whichever is the sooner.
    Y2   Nobody is warned of mail of a precedence below 0, nor after it is given up.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import Channel
    from mta.spool.states import Envelope

__all__ = ["gives_up", "warns"]


def gives_up(channel: Channel, envelope: Envelope, arrived: float) -> float:
    """Return when a message that arrived at ``arrived`` is no longer tried."""
    over = arrived + channel.fail_after.of(envelope.kind)
    return min(over, envelope.expires) if envelope.expires else over


def warns(channel: Channel, envelope: Envelope, arrived: float) -> float:
    """Return when its author is told that it still waits; 0.0 if he is not."""
    wait = channel.warn_after.of(envelope.kind)
    if not wait or envelope.precedence < 0:
        return 0.0
    at = arrived + wait
    return at if at < gives_up(channel, envelope, arrived) else 0.0
