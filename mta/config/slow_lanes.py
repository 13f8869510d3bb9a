"""Slow lanes: which channel serves the hosts that another one gives up on for a while.

``mta check`` says what is wrong with one; where something is, no host is demoted,
so that no mail waits for a deliver that would not take it.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import Channel, Config

__all__ = ["fault", "origins", "slow_lane"]


def fault(config: Config, channel: Channel) -> str:
    """Return what is wrong with ``channel.demote_to``, "" if nothing is or none is named."""
    name = channel.demote_to
    other = next((each for each in config.channels if each.name == name), None)
    if not name or other is None:
        return f"names {name!r}, which does not exist" if name else ""
    elsewhere = f"names {name!r}, which has another queue: give it queue: {channel.queue}"
    wrong = (
        (other is channel, "names itself"),
        (other.queue != channel.queue, elsewhere),
        (
            bool(other.domains or other.table),
            f"names {name!r}, which has domains of its own: it would leave them be",
        ),
        (bool(other.demote_to), f"names {name!r}, which demotes hosts itself"),
    )
    return next((text for is_so, text in wrong if is_so), "")


def slow_lane(config: Config, channel: Channel) -> str:
    """Return the channel that hosts of ``channel`` are demoted to; "" if none are."""
    return "" if fault(config, channel) else channel.demote_to


def origins(config: Config, channel: Channel) -> tuple[Channel, ...]:
    """Return the channels that demote hosts to ``channel``."""
    return tuple([c for c in config.channels if slow_lane(config, c) == channel.name])
