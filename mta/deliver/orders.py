"""What operators have lanes do while they run."""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.deliver.lane import Lane
    from mta.spool.layout import JobName

__all__ = ["recall"]


def recall(lane: Lane, names: Sequence[JobName]) -> None:
    """Have ``lane`` look again at jobs that were changed; at all that it knows if none is named."""
    if lane.stopping:
        return
    if not names:
        lane.index.recall_all()
    for name in names:
        if name.queue == lane.channel.queue:
            lane.index.recall(name)
