"""Lints of where the jobs of a queue lie, and of what its channels disagree on."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mta.config.findings import Facts, Finding
from mta.config.model import Config
from mta.config.queues import modes, paths

__all__ = ["RULES"]


def _directories(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each queue with each directory that it names."""
    for queue, rows in paths(config).items():
        for path, _ in rows:
            yield queue, path or config.spool


def _missing(config: Config, facts: Facts) -> Iterator[Finding]:
    """A path that is no directory: nobody makes it, since it may be a disk not mounted."""
    for queue, path in _directories(config):
        if path != config.spool and facts.device(path) < 0:
            text = f"the queue {queue!r} has the path {path}, which is no directory: no deliver"
            yield Finding(None, "error", f"{text} starts without it; it is never made")


def _one_device(config: Config, facts: Facts) -> Iterator[Finding]:
    """Several directories of a queue on one disk."""
    seen: dict[tuple[str, int], str] = {}
    for queue, path in _directories(config):
        device = facts.spool_device if path == config.spool else facts.device(path)
        other = seen.setdefault((queue, device), path)
        if device >= 0 and other != path:
            text = f"the queue {queue!r} has {other} and {path} on one file system:"
            yield Finding(None, "warning", f"{text} jobs are spread, but no disk is relieved")


def _inside(config: Config, facts: Facts) -> Iterator[Finding]:
    """A path below the spool or of another queue: what lies there would be listed twice."""
    for queue, path in _directories(config):
        if path != config.spool and os.path.commonpath((path, config.spool)) == config.spool:
            text = f"the queue {queue!r} has the path {path} below the spool"
            yield Finding(None, "error", f"{text}; a directory beside it will do")


def _disagreements(config: Config, facts: Facts) -> Iterator[Finding]:
    """Channels on one queue of which only the first is heard."""
    mode_of, paths_of = modes(config), paths(config)
    for channel in config.channels:
        text = f"channel {channel.name!r} is on the queue {channel.queue!r}, whose"
        if channel.mode not in (mode_of[channel.queue], "background"):
            mode = mode_of[channel.queue]
            yield Finding(None, "warning", f"{text} first channel has the mode {mode}: that counts")
        if channel.paths and channel.paths != paths_of[channel.queue]:
            yield Finding(None, "warning", f"{text} paths another channel has named: those count")


RULES = (_missing, _one_device, _inside, _disagreements)
