"""The log as it grows, for a person (mta.log's text or events in words) or a program (JSON).

State    Where it has read to.  A file that logrotate renames is followed to its end, then the
         new one from its start.
"""

from __future__ import annotations

import json
import os

from mta.events import clock, tell
from mta.machine.log import EVENTS_FILE, TEXT_FILE
from mta.machine.logline import printable
from mta.machine.logread import Follower, parse_event
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import LogConfig

__all__ = ["Tail"]


class Tail:
    """The lines that were added to the log since it was last asked."""

    def __init__(self, log: LogConfig, *, as_json: bool = False, back: int = 0) -> None:
        """Follow the event log, in words or ``as_json``; where there is none, the text log."""
        if "json" in log.formats:
            path, self._show = EVENTS_FILE, (_as_it_is if as_json else _in_words)
        else:
            path, self._show = TEXT_FILE, (_wrapped if as_json else _as_it_is)
        self._follower = Follower(os.path.join(log.dir, path), back=back)

    _show: Callable[[bytes], str]

    def lines(self) -> list[str]:
        """Return what is new, a line each, without control characters."""
        return [shown for line in self._follower.lines() if (shown := self._show(line))]


def _as_it_is(line: bytes) -> str:
    return printable(line.decode("utf-8", "replace"))


def _wrapped(line: bytes) -> str:
    return json.dumps({"event": "line", "text": line.decode("utf-8", "replace")})


def _in_words(line: bytes) -> str:
    event = parse_event(line)
    if event is None:
        return ""
    subject = f"{event['id']} " if "id" in event else ""
    who = f"{event.get('process', '')}[{event.get('pid', '')}]"
    return printable(f"{clock(event['time'])} {who:<16} {subject}{tell(event)}")
