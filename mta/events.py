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


def _told(e: Event) -> str:
    return "the postmaster" if e["about"] == "orphan" else f"<{e['to']}>"


def _commands(commands: dict[str, list[int]]) -> str:
    return " ".join([f"{word} {good}/{total}" for word, (total, good) in commands.items()])


def _about(e: Event) -> str:
    path = f" from <{e['from']}>" if "from" in e else ""
    return path + (f" to <{e['to']}>" if "to" in e else "")


def _failures(failures: dict[str, int]) -> str:
    return ", ".join([f"{count} {word}" for word, count in failures.items()]) or "none"


_NOTES = {"hold": "held", "release": "released", "due": "to be tried at once"}


def _by(e: Event) -> str:
    return f" by {e['by']}" + (f": {e['text']}" if e["text"] else "")


_TELL: dict[str, Callable[[Event], str]] = {
    "queued": lambda e: (
        f"queued from <{e['from']}>, {e['size']} octets, {e['recipients']} recipient(s)"
        f"{', ' if e['origin'] else ''}{e['origin']}"
    ),
    "attempt": _attempt,
    "connected": lambda e: f"{e['client']} connected",
    "disconnected": lambda e: f"{e['client']} disconnected: {_commands(e['commands'])}",
    "rejected": lambda e: (
        f"refused {e['stage']} of {e['client']}{_about(e)}: {e['code']} {e['status']} {e['text']}"
    ),
    "lost_connection": lambda e: f"{e['client']} was lost after {e['after']}",
    "timeout": lambda e: f"{e['client']} was silent too long after {e['after']}",
    "tls_accepted": lambda e: f"{e['client']} uses {e['protocol']} with {e['cipher']}",
    "auth_failed": lambda e: f"{e['client']} could not log in by {e['mechanism']}: {e['reason']}",
    "tls": lambda e: (
        f"{e['host']} for {e['domain']}, policy {e['policy']}: "
        f"{e['protocol'] or 'no TLS'}{', ' if e['result'] else ''}{e['result']}"
    ),
    "tls_counters": lambda e: (
        f"TLS for {e['domain']}, policy {e['policy']}: {e['successful']} successful, "
        f"failed: {_failures(e['failures'])}"
    ),
    "removed": lambda e: "removed: nothing is left to do",
    "notified": lambda e: f"{e['about']} of {e['id']} reported to {_told(e)} as {e['dsn']}",
    "discarded": lambda e: (
        f"failures of {e['id']} for {e['recipients']} recipient(s) told to nobody: "
        f"a rule for <{e['from']}>"
    ),
    "unreported": lambda e: f"failure of {e['id']} for {e['to']} not reported, as was asked",
    "noted": lambda e: f"job {e['number']} in queue {e['queue']} {_NOTES[e['note']]}{_by(e)}",
    "deleted": lambda e: f"deleted for {', '.join(e['to'])}{_by(e)}",
    "rerouted": lambda e: f"job {e['number']} goes another way, as {e['new']}{_by(e)}",
    "suspended": lambda e: f"{e['what']} suspended until {e['until'] or 'resumed'}{_by(e)}",
    "resumed": lambda e: f"{e['what']} resumed by {e['by']}",
    "dead_host": lambda e: (
        f"host {e['host']} on {e['channel']} is dead until {e['until']}: "
        f"{e['code']} {e['status']} {e['text']}"
    ),
    "revived": lambda e: f"host {e['host']} on {e['channel']} answers again",
    "demotion": lambda e: (
        f"host {e['host']} on {e['channel']} "
        + (f"is demoted to {e['to']}" if e["begins"] else "is demoted no more")
    ),
    "load_level": lambda e: (
        f"{e['level']} {'begins' if e['begins'] else 'ends'}: "
        f"{e['gauge']} {e['value']}, threshold {e['threshold']}"
    ),
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
    except (KeyError, TypeError, AttributeError, ValueError):
        text = f"{event.get('event')}: {json.dumps(event)}"
    return printable(text)
