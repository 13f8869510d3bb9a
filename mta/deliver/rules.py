"""What a lane is told: the command line's share of a verdict; and what it needs of a program.

Units    Times are wall-clock seconds.
"""

from __future__ import annotations

from mta.deliver.flags import SORT_LIMIT
from mta.deliver.index import LIMIT
from mta.machine.tokens import Tokens
from mta.policy.load import LOAD, PRESSURE, Thresholds
from mta.policy.select import Ages
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from mta.config.model import Channel, Config
    from mta.deliver.desk import Flight
    from mta.deliver.flags import Flags
    from mta.spool.entry import Envelope
    from mta.types import Outcome, Reply

    class Program(Protocol):
        """The channel program as a lane sees it."""

        @property
        def free(self) -> int:
            """How many more jobs it takes now."""

        def want(self) -> None:
            """Start it if it does not run and may be started."""

        def send(self, flight: Flight, body: int) -> int:
            """Hand over a job with its body's descriptor; return the job's tag."""

        def flush(self) -> None:
            """Write what send() has gathered."""

        def refusal(self, envelope: Envelope) -> Outcome | None:
            """Return the failure of a message that it cannot take, None if it can."""

        def avoid(self, what: str, seconds: float, reply: Reply | None) -> None:
            """Tell it for how long an address is left alone; 0.0: it, or a host, is well."""


__all__ = ["Rules", "rules_of", "thresholds_of", "tokens_of"]

READY, WAITING = "ready", "waiting"  # in the index: its turn decides, or a time
IN_FLIGHT, SETTLING = "in flight", "settling"
SWEEPING, UNSEEN = "sweeping", "unseen"  # not known here: a sweep reads on, or one will come


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
    queue_factor: float = 0.0
    sort_limit: int = SORT_LIMIT


def rules_of(flags: Flags, now: float, queue_factor: float = 0.0) -> Rules:
    """Return the lanes' rules; a pass by hand tries every job once, due or not."""
    named = bool(flags.ids)
    return Rules(
        Ages() if named else Ages(flags.younger, flags.older),
        not flags.unsorted,
        flags.dead_ttl,
        0.0 if flags.background and not named else now,
        queue_factor=queue_factor,
        sort_limit=flags.sort_threshold,
    )


def tokens_of(config: Config, channels: Sequence[Channel]) -> Tokens | None:
    """Return the tokens that all delivers share; None if nothing bounds these channels."""
    limits = {c.name: c.runners for c in config.channels if c.runners}
    if not config.queue_children and not any(channel.name in limits for channel in channels):
        return None
    return Tokens(config.runtime, config.queue_children, limits)


def thresholds_of(config: Config) -> dict[str, Thresholds]:
    """Return what of the load matters here: who delivers refuses nobody."""
    load, psi = config.load, config.load.psi
    return {
        LOAD: Thresholds(load.delay, load.queue_only),
        PRESSURE: Thresholds(psi.delay, psi.queue_only),
    }
