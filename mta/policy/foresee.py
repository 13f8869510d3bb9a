"""Foreseeing: when a job would go if nothing happened, and what would let it go sooner.

``decide`` is asked about later and later times: as long as a gate that is shut names
a time, that time comes; what is shut then waits for an event.  Everything that has
no time (jobs in flight, load, a hold) is taken to stay as it is.

Units    Wall-clock seconds.

Invariants, each a property in tests/policy/test_foresee.py
    F1   decide() says GO at ``when`` iff there are no ``events``, and at no time
         between now and then.
    F2   Of a job that goes now, ``when`` is now.
    F3   Room only helps: with more of it ``when`` is never later, and no event is added.
    F4   An alternative is better: it is sooner, or fewer events keep the job then.
"""

from __future__ import annotations

from mta.policy.deadhosts import pause
from mta.policy.decide import decide, shut
from mta.policy.select import ALL_AGES, Bounds
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.policy.decide import HostFacts, JobFacts, Room, Verdict

    Facts = tuple[JobFacts, HostFacts, Room]
    Change = Callable[[JobFacts, HostFacts, Room, float], Facts]

__all__ = ["MINUTES", "Alternative", "Foresight", "alternatives", "foresee", "sooner_dead"]

STEPS = 32  # times that are asked about: each gate that has a time opens once
NEAR = 0.15  # of a burial: a job that is due so near to its end was deferred until then
TRIFLE = 0.1  # of the time that is left: what comes sooner by less is not worth a word
MINUTES = (60, 30, 15, 5, 1)  # what deliver -l is likely to be given


@frozen
class Foresight:
    """``when`` no gate with a time is shut any more; ``events`` are those that still are."""

    when: float
    events: tuple[Verdict, ...] = ()


@frozen
class Alternative:
    """One thing that could be otherwise, named by the gate that it opens, and what then."""

    gate: str
    then: Foresight
    minutes: int = 0  # of deliver -l, where that is what is changed


def foresee(job: JobFacts, host: HostFacts, room: Room, now: float) -> Foresight:
    """Return when ``job`` goes, or what it waits for then."""
    at, held = now, shut(job, host, room, now)
    for _ in range(STEPS):
        times = [verdict.when for verdict in held if verdict.when]
        if not times:
            break
        at = max(times)
        held = shut(job, host, _aged(room, at - now), at)
    return Foresight(at, tuple(held))


def _aged(room: Room, seconds: float) -> Room:
    """Return ``room`` as it is so much later: the ages that are served move on."""
    bounds = room.bounds
    if bounds is ALL_AGES:
        return room
    newer, older = bounds.newer_than, bounds.older_than
    moved = Bounds(
        None if newer is None else newer + seconds, None if older is None else older + seconds
    )
    return replace(room, bounds=moved)


def _with(**changes: object) -> Change:
    """Return the change that gives each of these fields, where it is one of the room's."""
    return lambda job, host, room, now: (job, host, replace(room, **changes))


def _released(job: JobFacts, host: HostFacts, room: Room, _now: float) -> Facts:
    return replace(job, barrier=None), host, room


def _revived(job: JobFacts, host: HostFacts, room: Room, now: float) -> Facts:
    return replace(job, due_since=now), replace(host, dead=None, dead_until=0.0), room


def _made_due(job: JobFacts, host: HostFacts, room: Room, now: float) -> Facts:
    return replace(job, due_since=now), host, room


def _rested(job: JobFacts, host: HostFacts, room: Room, _now: float) -> Facts:
    return job, replace(host, rate_at=0.0), room


def _wider(job: JobFacts, host: HostFacts, room: Room, _now: float) -> Facts:
    return job, host, replace(room, concurrency=4 * (room.in_flight + 1))


def _wider_host(job: JobFacts, host: HostFacts, room: Room, _now: float) -> Facts:
    return job, host, replace(room, per_host=host.in_flight + 1)


_CHANGES: dict[str, Change] = {
    "hold": _released,
    "suspended": _released,
    "age": _with(bounds=ALL_AGES),
    "dead": _revived,
    "due": _made_due,
    "load": _with(load=0),
    "tokens": _with(tokens=1),
    "concurrency": _wider,
    "per-host": _wider_host,
    "share": _with(max_share=1.0),
    "rate": _rested,
}


def alternatives(job: JobFacts, host: HostFacts, room: Room, now: float) -> list[Alternative]:
    """Return what would let ``job`` go sooner, for each gate that is shut now."""
    plain, found = foresee(job, host, room, now), []
    for verdict in shut(job, host, room, now):
        change = _CHANGES.get(verdict.gate)
        if change is None:
            continue
        then = foresee(*change(job, host, room, now), now)
        if _better(then, plain, now):
            found.append(Alternative(verdict.gate, then))
    return found


def _better(then: Foresight, plain: Foresight, now: float) -> bool:
    """Tell whether ``then`` needs fewer events, or comes sooner by more than a trifle."""
    fewer = len(then.events) < len(plain.events)
    trifle = TRIFLE * max(0.0, plain.when - now)
    same = len(then.events) == len(plain.events)
    return fewer or (same and then.when < plain.when - trifle)


def sooner_dead(
    job: JobFacts, host: HostFacts, room: Room, now: float, *, least: float = 0.0
) -> Alternative | None:
    """Return what a smaller -l would have done for a job whose host is dead; None if nothing.

    ``least`` is the first time that the job's own schedule allows.  Of the -l that would
    have let it go by now the greatest is told, else the one that lets it go first.
    """
    if host.dead is None or host.dead_until <= now or not host.dead_since:
        return None
    plain, sooner = foresee(job, host, room, now), None
    near = NEAR * (host.dead_until - host.dead_since)
    for minutes in MINUTES:
        until = host.dead_since + pause(host.dead.failures, 60.0 * minutes)
        if until >= host.dead_until:
            continue
        # A job that was deferred for its host is due when that host may be tried again.
        due = max(until, least)
        told = job.waits_for_host and job.retry_at > host.dead_until - near
        retry_at = due if told else job.retry_at
        start = min(now, due)
        then = foresee(
            replace(job, retry_at=retry_at), replace(host, dead_until=until), room, start
        )
        if not _better(then, plain if sooner is None else sooner.then, now):
            continue  # no better than a greater one
        sooner = Alternative("dead", then, minutes)
        if then.when <= now:
            break
    return sooner


def goes(job: JobFacts, host: HostFacts, room: Room, now: float, at: float) -> bool:
    """Tell whether ``job`` goes at ``at`` if nothing happens after ``now``."""
    return not decide(job, host, _aged(room, at - now), at).reason
