"""mta status: who runs, what waits and why, how far intake has come.

Units    Times are float seconds since the epoch.
Source   Queue counts come from lists of files alone; reasons from the SAMPLE oldest
         jobs of each queue, so that a million jobs do not make this slow.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress

from mta.machine.census import delivers, intake_runs, listeners, workers
from mta.machine.clock import monotonic
from mta.machine.flow import read_flows
from mta.machine.load import load_average, pressures
from mta.machine.logline import printable
from mta.pacing import targets
from mta.policy.admission import predicted_age
from mta.policy.load import LEVELS, LOAD, PRESSURE, read_standing
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mta.config.model import Config
    from mta.policy.admission import Flow
    from mta.spool.layout import JobName

__all__ = ["gather", "lines"]

SAMPLE = 200
REASONS = 5


def gather(config: Config, now: float) -> Iterator[dict[str, Any]]:
    """Yield what there is to say, each a mapping with a ``kind``."""
    yield {"kind": "load", **_load(config)}
    for pid, title in listeners(config.runtime):
        served = [{"pid": w, "title": t, "load": _standing(t)} for w, t in workers(pid)]
        yield {"kind": "smtpd", "pid": pid, "title": title, "workers": served}
    for deliver in delivers(config.runtime):
        about = {"queues": list(deliver.queues), "load": _standing(deliver.title)}
        yield {"kind": "deliver", "pid": deliver.pid, "title": deliver.title, **about}
    spool = Spool.open(config.spool)
    segments, octets = _journal(spool)
    intake = {"runs": intake_runs(config.runtime), "segments": segments, "octets": octets}
    yield {"kind": "intake", **intake}
    queues = sorted({*spool.queues(), *config.queues()})
    flows, wanted = read_flows(config.runtime, queues, monotonic()), targets(config)
    for queue in queues:
        flow = _flow(flows.get(queue, []), wanted.get(queue, 0.0))
        yield {"kind": "queue", "queue": queue, **_queue(spool, queue, now), "flow": flow}


def _load(config: Config) -> dict[str, Any]:
    """Return what the machine bears now, and which thresholds that is over."""
    average, found = load_average(), pressures()
    worst = max(found.values(), default=0.0)
    over = [
        {"gauge": gauge, "level": level, "threshold": begins}
        for gauge, value, limits in (
            (LOAD, average, config.load),
            (PRESSURE, worst, config.load.psi),
        )
        for level in LEVELS[1:]
        if 0.0 < (begins := getattr(limits, level)) <= value
    ]
    return {"average": round(average, 2), "pressure": found, "over": over}


def _standing(title: str) -> dict[str, Any] | None:
    """Return the threshold that acts on a process by its title; None if none does."""
    standing = read_standing(title)
    if standing is None:
        return None
    level = LEVELS[standing.level]
    found = {"gauge": standing.gauge, "value": standing.value}
    return {**found, "level": level, "threshold": standing.threshold}


def _flow(flows: list[Flow], target: float) -> dict[str, Any] | None:
    """Return what delivers tell of a queue; None if none does.

    ``drain`` is None where it is not known: the queue has not been long enough.
    """
    if not flows:
        return None
    known = [flow.drain for flow in flows if flow.drain >= 0]
    backlog, paced = max((flow.backlog, flow.paced) for flow in flows)
    return {
        "backlog": backlog,
        "kept_by_rate": paced,
        "per_second": round(sum([flow.rate for flow in flows]), 2),
        "drain": round(sum(known), 2) if known else None,
        "predicted_age": round(predicted_age(flows), 1),
        "target_age": target,
    }


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
    count, trouble = spool.count(queue)
    oldest = _oldest(spool, queue)
    deferred = 0
    reasons: dict[str, int] = {}
    for name in oldest:
        entry = spool.peek(name)
        replies = [s.outcome.reply for _, s in entry.pending if s.outcome] if entry else []
        deferred += bool(replies)
        for reply in dict.fromkeys(map(str, replies)):
            reasons[reply] = reasons.get(reply, 0) + 1
    top = sorted(reasons.items(), key=lambda item: -item[1])[:REASONS]
    return {
        "jobs": count,
        "oldest_seconds": round(now - arrived(oldest[0].id)) if oldest else 0,
        "unread": "" if trouble is None else f"{trouble.filename}: {trouble.strerror}",
        "sampled": len(oldest),
        "deferred": deferred,
        "reasons": [{"reason": reason, "jobs": number} for reason, number in top],
    }


def _oldest(spool: Spool, queue: str) -> list[JobName]:
    found: list[JobName] = []
    with suppress(OSError):  # count() tells of it
        for names in spool.names(queue):
            found += names[: SAMPLE - len(found)]
            if len(found) >= SAMPLE:
                break
    return found


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


def _load_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    each = [f"{name} {value:.1f}%" for name, value in part["pressure"].items()]
    yield f"load      {part['average']:.2f}; pressure {', '.join(each) or 'is not told'}"
    for over in part["over"]:
        yield f"          {over['gauge']} is over {over['level']} {over['threshold']:g}"


def _deliver_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    title = printable(part["title"])
    yield f"deliver   pid {part['pid']} for queue {', '.join(part['queues'])}: {title}"


def _smtpd_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    yield f"smtpd     pid {part['pid']}: {printable(part['title']).removeprefix('smtpd: ')}"
    for worker in part["workers"]:
        yield f"          pid {worker['pid']}: {printable(worker['title'])}"


def _intake_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    runs = "runs" if part["runs"] else "does not run"
    yield f"intake    {runs}; journal of {part['segments']} segment(s), {part['octets']} octets"


def _flowing(flow: dict[str, Any]) -> str:
    drain = "" if flow["drain"] is None else f" of {flow['drain']:g} that it could"
    paced = flow["kept_by_rate"]
    kept = f"{paced} more are kept back by rate, " if paced else ""
    text = f"{flow['backlog'] - paced} could go now, {kept}"
    text += f"{flow['per_second']:g} a second are settled{drain}"
    if flow["predicted_age"]:
        text += f"; new mail will be {flow['predicted_age']:g} s old"
    return text + (f", target {flow['target_age']:g} s" if flow["target_age"] else "")


def _queue_lines(part: dict[str, Any], now: float) -> Iterator[str]:
    since = ""
    if part["jobs"]:
        since = f", the oldest since {time.ctime(now - part['oldest_seconds'])}"
    yield f"queue     {part['queue']}: {part['jobs']} job(s){since}"
    if part["unread"]:
        yield f"          a part of it cannot be read: {printable(part['unread'])}"
    if part["flow"] is not None:
        yield f"          {_flowing(part['flow'])}"
    if part["deferred"]:
        yield f"          of the {part['sampled']} oldest, {part['deferred']} deferred:"
    for reason in part["reasons"]:
        yield f"          {reason['jobs']:6d}  {printable(reason['reason'])}"


_TELL = {
    "load": _load_lines,
    "smtpd": _smtpd_lines,
    "deliver": _deliver_lines,
    "intake": _intake_lines,
    "queue": _queue_lines,
}
