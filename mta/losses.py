"""mta failures: what failed and what was deferred, by class, as the event log has it.

Source   The events attempt, unreported and discarded of mta-log(5); classes are those of
         dsn/classes.py.
Units    ``since`` is RFC 3339 text in UTC, as events have it.
State    Counts of at most DOMAINS domains; the rest are counted together.

Invariants, each a property in tests/test_losses.py
    U1   Every attempt that failed or was deferred is counted once, in one class and one domain.
    U2   Whatever events hold, nothing is raised and no control character is told.
"""

from __future__ import annotations

import json
import time

from mta.machine.logline import printable
from mta.machine.logread import read_events
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from mta.machine.logread import Event

__all__ = ["Counts", "count", "lines", "since"]

DOMAINS = 10_000
SHOWN = 5  # domains that are told of each class
FAILED, DEFERRED = "failed", "deferred"
REST = "others"


class Counts:
    """What was counted: of each class how many of each state, an example, and the domains."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, int]] = {}
        self.examples: dict[str, str] = {}
        self.domains: dict[str, dict[str, int]] = {}
        self.unreported = 0  # failures that nobody wanted to hear of
        self.discarded = 0  # failures that a rule kept from their authors
        self._known = 0

    def add(self, event: Event) -> None:
        """Count an event, if it is one of those."""
        name = event.get("event")
        if name == "unreported":
            self.unreported += 1
        elif name == "discarded":
            recipients = event.get("recipients")
            self.discarded += recipients if isinstance(recipients, int) else 0
        elif name == "attempt" and event.get("state") in (FAILED, DEFERRED):
            self._attempt(event, str(event.get("class") or "other"))

    def _attempt(self, event: Event, kind: str) -> None:
        states = self.states.setdefault(kind, {FAILED: 0, DEFERRED: 0})
        states[event["state"]] += 1
        said = f"{event.get('code')} {event.get('status')} {event.get('text')}"
        self.examples.setdefault(kind, said)
        domain = str(event.get("to", "")).rpartition("@")[2].lower()
        domains = self.domains.setdefault(kind, {})
        if domain not in domains:
            if self._known >= DOMAINS:
                domain = REST
            else:
                self._known += 1
        domains[domain] = domains.get(domain, 0) + 1


def since(when: float) -> str:
    """Return a wall time as events have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))


def count(events: Iterable[Event], since: str = "") -> Counts:
    """Count ``events`` that are not older than ``since``."""
    counts = Counts()
    for event in events:
        if event["time"] >= since:
            counts.add(event)
    return counts


def lines(directory: str, since: str = "", *, as_json: bool = False) -> Iterator[str]:
    """Yield the summary of the log in ``directory``, the most frequent class first."""
    counts = count(read_events(directory), since)
    for kind, states in sorted(counts.states.items(), key=lambda item: -sum(item[1].values())):
        ranked = sorted(counts.domains[kind].items(), key=lambda item: -item[1])
        if as_json:
            record: dict[str, Any] = {"class": kind, **states, "example": counts.examples[kind]}
            yield json.dumps({**record, "domains": dict(ranked[:SHOWN])})
            continue
        yield f"{states[FAILED]:8d} failed {states[DEFERRED]:8d} deferred  {printable(kind)}"
        yield f"          {printable(counts.examples[kind])}"
        told = ", ".join([f"{domain or '-'} {number}" for domain, number in ranked[:SHOWN]])
        more = f" and {len(ranked) - SHOWN} more" if len(ranked) > SHOWN else ""
        yield f"          {printable(told)}{more}"
    if as_json:
        yield json.dumps({"unreported": counts.unreported, "discarded": counts.discarded})
    elif counts.unreported or counts.discarded:
        yield f"{counts.unreported:8d} failures reported to nobody, as their authors asked"
        yield f"{counts.discarded:8d} failures discarded by rules of senders"
