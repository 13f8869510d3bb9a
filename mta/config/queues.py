"""What is said of queues, whose channels may be several: the first that says it is heard."""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import Config

    Paths = dict[str, tuple[tuple[str, int], ...]]

__all__ = ["alike", "modes", "paths"]


def paths(config: Config) -> Paths:
    """Return the directories of each queue that has any, with weights; "" is the spool."""
    found: Paths = {}
    for channel in config.channels:
        if channel.paths:
            found.setdefault(channel.queue, channel.paths)
    return found


def alike(config: Config) -> bool:
    """Whether one user does all the work in the spool: root's smtpd becomes nobody else."""
    return not config.smtpd.user


def modes(config: Config) -> dict[str, str]:
    """Return the delivery mode of each queue: that of its first channel."""
    return {channel.queue: channel.mode for channel in reversed(config.channels)}
