"""mta status: who runs, what waits and why, how far intake has come.

Units    Times are float seconds since the epoch.
Source   Queue counts come from names alone; reasons from the SAMPLE oldest
         jobs of each queue, so that a million jobs do not make this slow.
"""

from __future__ import annotations

import json
import time

from mta.machine.census import delivers, intake_runs, listeners
from mta.machine.logline import printable
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mta.config.model import Config

__all__ = ["gather", "lines"]

SAMPLE = 200
REASONS = 5


def gather(config: Config, now: float) -> Iterator[dict[str, Any]]:
    """Yield what there is to say, each a mapping with a ``kind``."""
    for pid, title in listeners(config.runtime):
        yield {"kind": "smtpd", "pid": pid, "title": title}
    for deliver in delivers(config.runtime):
        queues = list(deliver.queues)
        yield {"kind": "deliver", "pid": deliver.pid, "title": deliver.title, "queues": queues}
    spool = Spool.open(config.spool)
    segments, octets = _journal(spool)
    intake = {"runs": intake_runs(config.runtime), "segments": segments, "octets": octets}
    yield {"kind": "intake", **intake}
    for queue in sorted({*spool.queues(), *config.queues()}):
        yield {"kind": "queue", "queue": queue, **_queue(spool, queue, now)}


def _journal(spool: Spool) -> tuple[int, int]:
    """Return how many segments the journal has, and their octets: what recovery would read."""
    sizes = []
    for name in spool.fs.list("journal"):
        try:
            fd = spool.fs.open(f"journal/{name}")
        except FileNotFoundError:
            continue
        sizes.append(spool.fs.stat(fd)[0])
        spool.fs.close(fd)
    return len(sizes), sum(sizes)


def _queue(spool: Spool, queue: str, now: float) -> dict[str, Any]:
    """Count a queue's jobs, and the reasons why its oldest ones wait."""
    count, oldest = 0, 0.0
    sampled = deferred = 0
    reasons: dict[str, int] = {}
    for names in spool.names(queue):
        count += len(names)
        if names and not oldest:
            oldest = arrived(names[0].id)
        for name in names[: max(0, SAMPLE - sampled)]:
            sampled += 1
            entry = spool.peek(name)
            replies = [s.outcome.reply for _, s in entry.pending if s.outcome] if entry else []
            deferred += bool(replies)
            for reply in dict.fromkeys(map(str, replies)):
                reasons[reply] = reasons.get(reply, 0) + 1
    top = sorted(reasons.items(), key=lambda item: -item[1])[:REASONS]
    return {
        "jobs": count,
        "oldest_seconds": round(now - oldest) if oldest else 0,
        "sampled": sampled,
        "deferred": deferred,
        "reasons": [{"reason": reason, "jobs": number} for reason, number in top],
    }


def lines(config: Config, now: float, *, as_json: bool = False) -> Iterator[str]:
    """Yield the status as lines for a person, or JSON lines for a program."""
    parts = list(gather(config, now))
    if as_json:
        yield from map(json.dumps, parts)
        return
    if not any(part["kind"] == "deliver" for part in parts):
        yield "deliver   none is running: mta up starts them"
    for part in parts:
        yield from _TELL[part["kind"]](part, now)


def _deliver_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    title = printable(part["title"])
    yield f"deliver   pid {part['pid']} for queue {', '.join(part['queues'])}: {title}"


def _smtpd_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    yield f"smtpd     pid {part['pid']}: {printable(part['title']).removeprefix('smtpd: ')}"


def _intake_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    runs = "runs" if part["runs"] else "does not run"
    yield f"intake    {runs}; journal of {part['segments']} segment(s), {part['octets']} octets"


def _queue_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    since = ""
    if part["jobs"]:
        since = f", the oldest since {time.ctime(now - part['oldest_seconds'])}"
    yield f"queue     {part['queue']}: {part['jobs']} job(s){since}"
    if part["deferred"]:
        yield f"          of the {part['sampled']} oldest, {part['deferred']} deferred:"
    for reason in part["reasons"]:
        yield f"          {reason['jobs']:6d}  {printable(reason['reason'])}"


_TELL = {
    "smtpd": _smtpd_lines,
    "deliver": _deliver_lines,
    "intake": _intake_lines,
    "queue": _queue_lines,
}
