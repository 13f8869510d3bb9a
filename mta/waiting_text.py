"""What keeps jobs, in words for a person and as records for a program.

Units    Times are float seconds since the epoch; a person reads local time.

Invariants, each a test in tests/test_waiting.py
    WT1  No line holds a control character, whatever a server replied.
    WT2  A job takes a bounded number of lines, however many recipients it has.
"""

from __future__ import annotations

import time

from mta.deliver.rules import IN_FLIGHT
from mta.machine.logline import printable
from mta.policy.decide import NO_RUNNERS
from mta.policy.load import EASE
from mta.spool.layout import arrived
from mta.types import HOST
from mta.values import TYPE_CHECKING
from mta.waiting import BUSY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from mta.config.model import Config
    from mta.policy.decide import Verdict
    from mta.policy.foresee import Alternative, Foresight
    from mta.waiting import Outlook, Wait

__all__ = ["record", "tell"]

NAMED = 3  # recipients that are named for a person
LISTED = 100  # and for a program
OUTLOOKS = 4  # other daemons that are told of
ROOM = ("load", "tokens", "concurrency", "per-host", "share", "rate", "probation", "pause")

_OTHERWISE = {
    "hold": "if it were released (mta release {id})",
    "suspended": "without that suspension",
    "age": "without {ages}",
    "dead": "with mta host revive {host}",
    "due": "with mta requeue {id}",
    "load": "if the load were lower{load}",
    "tokens": "with a token of {pool} more",
    "concurrency": "with a higher concurrency of channel {channel}",
    "per-host": "with a higher per_host of channel {channel}",
    "share": "if its host might have more of the channel (max_share)",
    "rate": "without the rate of its host or channel",
}
_RUNNERS = "if channel {channel} had runners"


def tell(config: Config, wait: Wait, now: float, load: float) -> Iterator[str]:
    """Yield the lines for a person; ``load`` is the machine's load average."""
    lines = [_head(wait, now), *[f"    {line}" for line in _body(config, wait, now, load)]]
    yield from map(printable, lines)


def _head(wait: Wait, now: float) -> str:
    entry, many = wait.job.entry, len(wait.recipients)
    some = ", ".join(str(recipient.mailbox) for recipient in wait.recipients[:NAMED])
    who = some if many <= NAMED else f"{many} recipients ({some} and {many - NAMED} more)"
    job, state = entry.job, wait.state
    where = f"in queue {job.queue} for channel {job.channel}"
    where += f", host {job.host}" if job.host else ""
    since = f"{span(now - arrived(entry.envelope.id))} after arrival"
    how = f"deferred, tried {_times(state.attempts)}" if state.last else "not tried yet"
    return f"{entry.envelope.id}: {who} wait{'s' if many == 1 else ''} {where}: {how}, {since}"


def _body(config: Config, wait: Wait, now: float, load: float) -> Iterator[str]:
    best = wait.outlooks[0] if wait.outlooks else None
    if wait.job.untaken:
        yield "accepted; it is in the journal, and intake has not come to it yet"
    elif best is not None and best.where in BUSY:
        yield _busy(best, now)
    elif wait.locked_by:
        yield f"in the hands of pid {wait.locked_by}, which has its lock"
    yield from _held(wait, best, now)
    yield from _next(wait, best, now)
    state = wait.state
    if state.outcome is not None and state.last:
        yield f"last:  {time.ctime(state.last)}: because {state.outcome.reply}"
    if best is not None and best.where not in BUSY:
        for other in best.others:
            yield _alternative(config, wait, best, other, now, load)
    for pid in wait.silent[:OUTLOOKS]:
        yield f"deliver pid {pid} serves this queue, but did not answer in time"


def _busy(best: Outlook, now: float) -> str:
    since = f" since {_clock(best.at, now)}" if best.at else ""
    doing = "in flight" if best.where == IN_FLIGHT else "being settled"
    return f"{doing} at pid {best.pid} (deliver[{best.channel}]){since}"


def _held(wait: Wait, best: Outlook | None, now: float) -> Iterator[str]:
    """Say which gates are shut, who shut them, and until when."""
    if best is None or best.where in BUSY:
        return
    for verdict in best.gates:
        yield f"held:  {_gate(verdict, now)}"


def _gate(verdict: Verdict, now: float) -> str:
    text = verdict.reason
    if verdict.by or verdict.since:
        text += f"; by {verdict.by}" if verdict.by else ";"
        text += f" since {_clock(verdict.since, now)}" if verdict.since else ""
    return text + (f", until {_clock(verdict.when, now)}" if verdict.when else "")


def _next(wait: Wait, best: Outlook | None, now: float) -> Iterator[str]:
    """Say when the next attempt is, and who makes it."""
    queue = wait.job.entry.job.queue
    if best is None:
        if not wait.job.untaken:
            yield f"next:  nobody serves queue {queue}: no deliver, and no line of mta.yaml would"
        return
    if best.where in BUSY:
        return
    seen = best.foresight
    if not best.pid:
        if not wait.silent:
            yield f"next:  no deliver serves queue {queue}"
        for each in wait.outlooks[:OUTLOOKS]:
            said = f"line {each.line} of mta.yaml ({each.flags})"
            said += "" if wait.silent else " does not run; it"
            yield f"       {said} would {_when(each.foresight, now)}"
        return
    by = f"deliver pid {best.pid}" + (f" ({best.flags})" if best.flags else "")
    if best.earliest:
        sooner = best.earliest > now + 1.0 and _for_host(wait)
        also = ", or once its host has answered another job" if sooner else ""
        yield f"next:  {_at(best.earliest, now)}{also}, by {by}"
    else:
        yield f"next:  {_events(seen, now)}: then {by}"
    for other in wait.outlooks[1:OUTLOOKS]:
        if other.pid and other.pid != best.pid:
            who = f"deliver pid {other.pid} ({other.flags})"
            yield f"       {who} would {_when(other.foresight, now)}"


def _for_host(wait: Wait) -> bool:
    """Tell whether it was deferred for its host's sake: then it goes when that answers."""
    return wait.state.outcome is not None and wait.state.outcome.scope == HOST


def _when(seen: Foresight, now: float) -> str:
    if seen.events:
        return f"not take it: {seen.events[0].reason}"
    return f"take it {_at(seen.when, now)}"


def _events(seen: Foresight, now: float) -> str:
    """Say what has to happen, and when at the earliest."""
    what = " and ".join(dict.fromkeys(_EVENTS.get(v.gate, "that changes") for v in seen.events))
    return f"when {what}" + ("" if seen.when <= now else f", not before {_clock(seen.when, now)}")


_EVENTS = {
    "hold": "it is released",
    "suspended": "the suspension is taken back",
    "age": "its age is one that is served",
    "lane": "its host is of that channel again",
    "load": "the load is lower",
    "tokens": "a token is free",
    "concurrency": "a job of the channel has ended",
    "per-host": "a job of its host has ended",
    "share": "its host has its turn",
    "probation": "hosts have answered",
}


def _alternative(
    config: Config, wait: Wait, best: Outlook, other: Alternative, now: float, load: float
) -> str:
    then = other.then
    if other.minutes:
        words = f"with -l{other.minutes}"
    else:
        ages = [word for word in best.flags.split() if word[:2] in ("-t", "-o")]
        none = other.gate == "tokens" and best.room.token_pool == NO_RUNNERS
        words = (_RUNNERS if none else _OTHERWISE[other.gate]).format(
            id=wait.job.entry.envelope.id,
            host=wait.job.entry.job.host,
            ages=" ".join(ages),
            pool=best.room.token_pool or "queue_children",
            channel=best.channel,
            load=_load(config, load),
        )
    if then.events:
        return f"{words} it would wait for less: {then.events[0].reason}"
    if then.when < now - 1.0:
        return f"{words} it would have gone at {_clock(then.when, now)}"
    return f"{words} it would go {_at(then.when, now)}"


def _load(config: Config, load: float) -> str:
    limit = config.load.queue_only
    return f": below {limit * EASE:g} (it is {load:.1f})" if limit and load >= limit * EASE else ""


def _at(when: float, now: float) -> str:
    if when <= now + 1.0:
        return "now"
    return f"{time.ctime(when)} (in {span(when - now)})"


def _clock(when: float, now: float) -> str:
    """Return a time of today as such, any other with its date."""
    text = time.ctime(when)
    return text[11:19] if text[:10] == time.ctime(now)[:10] and abs(when - now) < 86400 else text


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def span(seconds: float) -> str:
    """Return a length of time in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def record(wait: Wait, now: float) -> dict[str, Any]:
    """Return the same for a program."""
    entry, state = wait.job.entry, wait.state
    best = wait.outlooks[0] if wait.outlooks else None
    return {
        "id": entry.envelope.id,
        "number": entry.job.number,
        "queue": entry.job.queue,
        "channel": entry.job.channel,
        "host": entry.job.host,
        "arrived": arrived(entry.envelope.id),
        "now": now,
        "to": [str(recipient.mailbox) for recipient in wait.recipients[:LISTED]],
        "recipients": len(wait.recipients),
        "state": state.state,
        "attempts": state.attempts,
        "last": state.last,
        "retry_at": state.retry_at,
        "reason": str(state.outcome.reply) if state.outcome is not None else "",
        "untaken": wait.job.untaken,
        "locked_by": wait.locked_by,
        "waits_for_host": _for_host(wait),
        "in_flight": best is not None and best.where in BUSY,
        "gates": [_verdict(v) for v in best.gates] if best is not None else [],
        "earliest": best.earliest if best is not None else 0.0,
        "by": best.pid if best is not None else 0,
        "events": [v.gate for v in best.foresight.events] if best is not None else [],
        "daemons": [_outlook(outlook) for outlook in wait.outlooks],
        "silent": list(wait.silent),
        "otherwise": [_other(other) for other in best.others] if best is not None else [],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "gate": verdict.gate,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "until": verdict.when,
        "by": verdict.by,
        "since": verdict.since,
        "scope": verdict.scope,
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "pid": outlook.pid,
        "line": outlook.line,
        "flags": outlook.flags,
        "channel": outlook.channel,
        "where": outlook.where,
        "at": outlook.at,
        "earliest": outlook.earliest,
        "sweeps_at": outlook.sweep,
        "not_before": outlook.foresight.when,
        "gates": [verdict.gate for verdict in outlook.gates],
        "events": [verdict.gate for verdict in outlook.foresight.events],
        "in_flight": outlook.room.in_flight,
        "load_level": outlook.room.load,
        "paused_until": outlook.room.paused_until,
    }


def _other(other: Alternative) -> dict[str, Any]:
    return {
        "gate": other.gate,
        "dead_ttl": 60.0 * other.minutes,
        "when": other.then.when,
        "events": [verdict.gate for verdict in other.then.events],
    }
