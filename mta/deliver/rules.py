"""How one deliver was told to work, as its lanes need it: the command line's share of a verdict.

Units    Times are wall-clock seconds.
"""

from __future__ import annotations

from mta.deliver.index import LIMIT
from mta.policy.select import Ages
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from mta.deliver.flags import Flags

__all__ = ["Rules", "rules_of"]


@frozen
class Rules:
    """How this deliver was told to work: its flags, as the lane needs them.

    A job last tried before ``force_before`` need not be due: a pass by hand
    tries all once.
    """

    ages: Ages = Ages()
    ordered: bool = True
    dead_ttl: float | None = None
    force_before: float = 0.0
    index_limit: int = LIMIT


def rules_of(flags: Flags, now: float) -> Rules:
    """Return the lanes' rules; a pass by hand tries every job once, due or not."""
    named = bool(flags.ids)
    return Rules(
        Ages() if named else Ages(flags.younger, flags.older),
        not flags.unsorted,
        flags.dead_ttl,
        0.0 if flags.background and not named else now,
    )
