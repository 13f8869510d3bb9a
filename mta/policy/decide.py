"""The one verdict: whether a job may go now, and if not, why and when.

``deliver`` asks before it opens a job (with what the name tells) and again
once it has read it; ``mta why`` prints the answer.  The gates stand in one
table, in order; the first that is shut gives the verdict.

    go     hand it to the channel program
    wait   it stays in deliver's hands: room, load or a pause decides when
    skip   it is left in the queue until ``when``

Units    ``now``, ``arrived`` and ``when`` are wall-clock seconds.  ``when`` is 0.0
         where an event (a job that ends, a load that falls) decides, not a time.

Invariants, each a property in tests/policy/test_decide.py
    P1   A job goes iff no gate is shut; the reason is empty iff it goes.
    P2   A job that has never been tried waits for nothing but age, a dead
         host, load, the channel's pause and room.
    P3   Room only helps: a job that goes also goes with fewer in flight.
    P4   A verdict with a time names one later than ``now``.
    P5   Hosts that have not answered yet never take the last slot of a channel
         with two or more: hosts that do answer keep half of them.
"""

from __future__ import annotations

from mta.policy.deadhosts import DeadHost
from mta.policy.load import DELAY, QUEUE_ONLY
from mta.policy.select import ALL_AGES, Bounds
from mta.types import CHANNEL, HOST, MESSAGE, Host, Scope
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GO", "SKIP", "WAIT", "HostFacts", "JobFacts", "Room", "Verdict", "decide", "slots"]

GO, WAIT, SKIP = "go", "wait", "skip"
UNPROVEN_PER_HOST = 1  # one job asks whether a host lives; the rest need not all wait for it
DELAY_DIVISOR = 4  # above load.delay a channel works with a quarter of its slots


@frozen
class JobFacts:
    """What is known of a job: the first two by its name, the others once it is read."""

    host: Host
    arrived: float
    last: float = 0.0  # the last attempt; 0.0 = never tried, or not read yet
    retry_at: float = 0.0
    waits_for_host: bool = False  # its last deferral was about the host, not about itself


@frozen
class HostFacts:
    """What this deliver knows of a host on a channel."""

    in_flight: int = 0
    proven: bool = True  # it has answered since it was last unreachable
    dead: DeadHost | None = None
    dead_until: float = 0.0  # ``dead.until`` on the wall clock
    answered: float = 0.0  # when it last answered any job; 0.0 = never


@frozen
class Room:
    """A channel's limits and how much of them is taken."""

    concurrency: int
    per_host: int
    in_flight: int = 0
    unproven: int = 0  # of those, to hosts that have not answered yet
    paused_until: float = 0.0
    load: int = 0  # policy.load level
    bounds: Bounds = ALL_AGES
    force_before: float = 0.0  # a job last tried before this time need not be due


@frozen
class Verdict:
    """GO, WAIT or SKIP; ``reason`` is one line for a person, ``scope`` whom the gate keeps."""

    verdict: str
    reason: str = ""
    when: float = 0.0
    scope: Scope = MESSAGE


_GO = Verdict(GO)


def slots(room: Room) -> int:
    """Return how many jobs the channel may have in flight under its load."""
    if room.load >= QUEUE_ONLY:
        return 0
    return room.concurrency if room.load < DELAY else max(1, room.concurrency // DELAY_DIVISOR)


def _age(job: JobFacts, _host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if room.bounds is ALL_AGES or room.bounds.holds(job.arrived):
        return None
    return Verdict(SKIP, "its age is not what this deliver was told to serve (-t, -o)")


def _dead(_job: JobFacts, host: HostFacts, _room: Room, now: float) -> Verdict | None:
    if host.dead is None or host.dead_until <= now:
        return None
    return Verdict(SKIP, f"host is dead: {host.dead.reply}", host.dead_until, HOST)


def _due(job: JobFacts, host: HostFacts, room: Room, now: float) -> Verdict | None:
    if job.last == 0.0 or job.retry_at <= now or job.last < room.force_before:
        return None
    if job.waits_for_host and host.answered > job.last:
        return None
    return Verdict(SKIP, "its next attempt is not due", job.retry_at)


def _pause(_job: JobFacts, _host: HostFacts, room: Room, now: float) -> Verdict | None:
    if room.paused_until <= now:
        return None
    return Verdict(WAIT, "the channel pauses after trouble of its own", room.paused_until, CHANNEL)


def _load(_job: JobFacts, _host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if room.load < QUEUE_ONLY:
        return None
    return Verdict(WAIT, "the load average allows queueing only", 0.0, CHANNEL)


def _channel(_job: JobFacts, _host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if room.in_flight < slots(room):
        return None
    return Verdict(WAIT, "the channel has as many jobs in flight as it may", 0.0, CHANNEL)


def _per_host(_job: JobFacts, host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if host.in_flight < room.per_host:
        return None
    return Verdict(WAIT, "the host has as many jobs in flight as it may", 0.0, HOST)


def _probation(_job: JobFacts, host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if host.proven:
        return None
    if host.in_flight >= UNPROVEN_PER_HOST:
        return Verdict(WAIT, "a job in flight is finding out whether the host answers", 0.0, HOST)
    if room.unproven >= max(1, slots(room) // 2):
        return Verdict(WAIT, "half of the channel waits for hosts yet to answer", 0.0, HOST)
    return None


_GATES: tuple[Callable[[JobFacts, HostFacts, Room, float], Verdict | None], ...] = (
    _age,
    _dead,
    _due,
    _pause,
    _load,
    _channel,
    _per_host,
    _probation,
)


def decide(job: JobFacts, host: HostFacts, room: Room, now: float) -> Verdict:
    """Return what becomes of ``job`` at ``now``; pure, so that it can be asked about any time."""
    for gate in _GATES:
        shut = gate(job, host, room, now)
        if shut is not None:
            return shut
    return _GO
