"""Events in words: what ``mta trace`` and ``mta tail`` print of an event of the log.

Units    ``time`` of an event is RFC 3339 text in UTC; people are shown local time.

Invariants, each a property in tests/test_events.py
    E3   What is told about an event holds no control character, whatever the event holds.
"""

from __future__ import annotations

import json
from datetime import datetime

from mta.machine.logline import printable
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.machine.logread import Event

__all__ = ["clock", "tell"]


def clock(when: str) -> str:
    """Return an event's time as local time of day, "06:34:23.250"; as it is if it is none."""
    try:
        at = datetime.fromisoformat(when).astimezone()
    except ValueError:
        return printable(when)
    return at.strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def _attempt(e: Event) -> str:
    by = f" by {e['relay']}" if e["relay"] else ""
    was = f" (for {e['original']})" if "original" in e else ""
    said = f"{e['code']} {e['status']} {e['text']}"
    return f"{e['state']} {e['to']}{was} on {e['channel']}{by} after {e['delay']} s: {said}"


_TELL: dict[str, Callable[[Event], str]] = {
    "queued": lambda e: (
        f"queued from <{e['from']}>, {e['size']} octets, {e['recipients']} recipient(s)"
        f"{', ' if e['origin'] else ''}{e['origin']}"
    ),
    "attempt": _attempt,
    "removed": lambda e: "removed: nothing is left to do",
    "notified": lambda e: f"failure of {e['id']} reported to <{e['to']}> as {e['dsn']}",
    "dead_host": lambda e: (
        f"host {e['host']} on {e['channel']} is dead until {e['until']}: "
        f"{e['code']} {e['status']} {e['text']}"
    ),
    "revived": lambda e: f"host {e['host']} on {e['channel']} answers again",
    "program_started": lambda e: f"channel program of {e['channel']} started, pid {e['child']}",
    "program_ended": lambda e: (
        f"channel program of {e['channel']} ended, pid {e['child']}, status {e['exit']}"
    ),
    "started": lambda e: f"started: {' '.join([e['command'], *e['arguments']])}",
    "stopped": lambda e: f"stopped: {e['command']}",
    "warning": lambda e: f"warning: {e['text']}",
    "lost": lambda e: f"warning: {e['lines']} lines of {e['file']} lost: {e['reason']}",
}


def tell(event: Event) -> str:
    """Return ``event`` as one line for a person, without its time; events of later versions too."""
    try:
        text = _TELL[event["event"]](event)
    except (KeyError, TypeError, AttributeError):
        text = f"{event.get('event')}: {json.dumps(event)}"
    return printable(text)
