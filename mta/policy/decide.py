"""The one verdict: whether a job may go now, and if not, why and when.

``deliver`` asks before it opens a job (with what the name tells) and again
once it has read it; ``mta why`` prints the answer.  The gates stand in one
table, in order; the first that is shut gives the verdict, and ``shut`` tells them all.

    go     hand it to the channel program
    wait   it stays in deliver's hands: room, load or a pause decides when
    skip   it is left in the queue until ``when``

Units    ``now``, ``arrived``, ``since`` and ``when`` are wall-clock seconds.  ``when`` is
         0.0 where an event (a job that ends, a load that falls) decides, not a time.
Source   MMDF's deliver(8) for ages and dead hosts; sendmail's QueueLA, QueueFactor,
         MaxQueueChildren and queue groups (op s2.3.1, s5.6).

Invariants, each a property in tests/policy/test_decide.py
    P1   A job goes iff no gate is shut; the reason is empty iff it goes.
    P2   A job that has never been tried waits for nothing but an operator's word, age,
         lane, a dead host, load, the channel's pause, and room (shares, rates and
         tokens among it): its own schedule does not keep it.
    P3   Room only helps: a job that goes also goes with fewer in flight, more tokens
         and a lower load.
    P4   A verdict with a time names one later than ``now``.
    P5   Hosts that have not answered yet never take the last slot of a channel
         with two or more: hosts that do answer keep half of them.
    P6   One host alone may have the whole channel; while others wait it gets no more
         than its share, and never less than one.
"""

from __future__ import annotations

from mta.policy.deadhosts import DeadHost
from mta.policy.load import DELAY, QUEUE_ONLY
from mta.policy.select import ALL_AGES, Bounds
from mta.types import CHANNEL, HOST, MESSAGE, Host, Scope
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    Gate = Callable[["JobFacts", "HostFacts", "Room", float], "Verdict | None"]

__all__ = [
    "GO",
    "NO_RUNNERS",
    "SKIP",
    "UNBOUNDED",
    "WAIT",
    "Barrier",
    "HostFacts",
    "JobFacts",
    "Room",
    "Verdict",
    "decide",
    "half_of",
    "outweighed",
    "shut",
    "slots",
]

GO, WAIT, SKIP = "go", "wait", "skip"
UNPROVEN_PER_HOST = 1  # one job asks whether a host lives; the rest need not all wait for it
DELAY_DIVISOR = 4  # above load.delay a channel works with a quarter of its slots
UNBOUNDED = 1 << 30
NO_RUNNERS = "held"  # the pool of a channel without runners
JUST_OLDER = 1e-6  # what is older than -o is older, not as old


@frozen
class Barrier:
    """An operator's word that keeps jobs back: a hold of one, or a suspension of many.

    ``until`` 0.0 is until it is taken back; ``what`` is whom it names, "" for one job.
    """

    by: str
    since: float
    until: float = 0.0
    why: str = ""
    what: str = ""


@frozen
class JobFacts:
    """What is known of a job: the first two by its name, the others once it is read.

    ``last`` and ``retry_at`` are those of the attempts of the channel that asks.
    ``priority`` is sendmail's: the smaller, the sooner (policy.order).
    """

    host: Host
    arrived: float
    last: float = 0.0  # the last attempt; 0.0 = never tried, or not read yet
    retry_at: float = 0.0
    waits_for_host: bool = False  # its last deferral was about the host, not about itself
    priority: float = 0.0
    barrier: Barrier | None = None  # its own hold, or the suspension that holds for it
    due_since: float = 0.0  # an operator had it tried now, at this time


@frozen
class HostFacts:
    """What is known of a host on a channel."""

    in_flight: int = 0
    proven: bool = True  # it has answered since it was last unreachable
    dead: DeadHost | None = None
    dead_until: float = 0.0  # ``dead.until`` on the wall clock
    answered: float = 0.0  # when it last answered any job; 0.0 = never
    demoted: float = 0.0  # since when it is served by the slow channel; 0.0 = it is not
    rate_at: float = 0.0  # when its rate allows one attempt more
    dead_since: float = 0.0  # when it was buried; 0.0 = not known


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
    max_share: float = 1.0  # of the slots that one host may have while others wait
    others_wait: bool = False  # whether other hosts' jobs may go
    tokens: int = UNBOUNDED  # free ones that are ours to take
    token_pool: str = ""  # which pool has none left
    demote_to: str = ""  # the channel that serves demoted hosts, "" if there is none
    slow_lane: bool = False  # this is such a channel, and serves them alone
    load_limit: float = 0.0  # above it only jobs whose priority is small enough go: QueueLA
    load_average: float = 0.0
    queue_factor: float = 0.0


@frozen
class Verdict:
    """GO, WAIT or SKIP; ``reason`` is one line for a person, ``scope`` whom the gate keeps.

    ``gate`` is its name in GATES; ``by`` and ``since`` say who shut it and when, if known.
    """

    verdict: str
    reason: str = ""
    when: float = 0.0
    scope: Scope = MESSAGE
    gate: str = ""
    by: str = ""
    since: float = 0.0


_GO = Verdict(GO)


def outweighed(priority: float, above: float, factor: float) -> bool:
    """Tell whether a load ``above`` the limit keeps back a job of ``priority``.

    sendmail's shouldqueue(): the further above, the smaller it must be.
    """
    return not factor or priority > factor / (max(0.0, above) + 1.0)


def half_of(room: Room) -> int:
    """Return how many hosts that have yet to answer the channel may ask at a time (P5)."""
    return max(1, slots(room) // 2)


def slots(room: Room) -> int:
    """Return how many jobs the channel may have in flight under its load."""
    if room.load >= QUEUE_ONLY and not room.queue_factor:
        return 0
    return room.concurrency if room.load < DELAY else max(1, room.concurrency // DELAY_DIVISOR)


def _barrier(job: JobFacts, _host: HostFacts, _room: Room, now: float) -> Verdict | None:
    b = job.barrier
    if b is None or 0.0 < b.until <= now:
        return None
    reason = f"{b.what} is suspended" if b.what else "the job is held"
    why = f": {b.why}" if b.why else ""
    gate = "suspended" if b.what else "hold"
    return Verdict(SKIP, reason + why, b.until, MESSAGE, gate, b.by, b.since)


def _age(job: JobFacts, _host: HostFacts, room: Room, now: float) -> Verdict | None:
    bounds = room.bounds
    if bounds is ALL_AGES or bounds.holds(job.arrived):
        return None
    if bounds.newer_than is not None and job.arrived <= bounds.newer_than:
        return Verdict(SKIP, "it is older than this deliver serves (-t)", 0.0, MESSAGE, "age")
    opens = now + (job.arrived - (bounds.older_than or 0.0)) + JUST_OLDER
    reason = "it is younger than this deliver serves (-o)"
    return Verdict(SKIP, reason, opens, MESSAGE, "age")


def _lane(_job: JobFacts, host: HostFacts, room: Room, _now: float) -> Verdict | None:
    demoted = host.demoted > 0.0
    if room.slow_lane and not demoted:
        reason = "this channel serves only hosts that have failed for long"
    elif room.demote_to and demoted:
        reason = f"its host has failed for long: channel {room.demote_to} serves it"
    else:
        return None
    return Verdict(SKIP, reason, 0.0, HOST, "lane", "", host.demoted)


def _dead(_job: JobFacts, host: HostFacts, _room: Room, now: float) -> Verdict | None:
    if host.dead is None or host.dead_until <= now:
        return None
    reason = f"host is dead: {host.dead.reply}"
    who = host.dead.who
    return Verdict(SKIP, reason, host.dead_until, HOST, "dead", who, host.dead_since)


def _due(job: JobFacts, host: HostFacts, room: Room, now: float) -> Verdict | None:
    if job.last == 0.0 or job.retry_at <= now or job.last < room.force_before:
        return None
    if job.due_since > job.last or (job.waits_for_host and host.answered > job.last):
        return None
    return Verdict(SKIP, "its next attempt is not due", job.retry_at, MESSAGE, "due", "", job.last)


def _pause(_job: JobFacts, _host: HostFacts, room: Room, now: float) -> Verdict | None:
    if room.paused_until <= now:
        return None
    reason = "the channel pauses after trouble of its own"
    return Verdict(WAIT, reason, room.paused_until, CHANNEL, "pause")


def _load(job: JobFacts, _host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if room.load < QUEUE_ONLY:
        return None
    if not room.queue_factor:
        reason = "the load average allows queueing only"
        return Verdict(WAIT, reason, 0.0, CHANNEL, "load")
    if not outweighed(job.priority, room.load_average - room.load_limit, room.queue_factor):
        return None
    reason = f"at a load of {room.load_average:.1f} its priority {job.priority:.0f} is too low"
    return Verdict(WAIT, reason, 0.0, MESSAGE, "load")


def _tokens(_job: JobFacts, _host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if room.tokens > 0:
        return None
    if room.token_pool == NO_RUNNERS:
        return Verdict(WAIT, "the queue is held: it has 0 runners", 0.0, CHANNEL, "tokens")
    pool = room.token_pool or "queue_children"
    reason = f"no token of {pool} is free: other jobs have them"
    return Verdict(WAIT, reason, 0.0, CHANNEL, "tokens")


def _channel(_job: JobFacts, _host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if room.in_flight < slots(room):
        return None
    reason = "the channel has as many jobs in flight as it may"
    return Verdict(WAIT, reason, 0.0, CHANNEL, "concurrency")


def _per_host(_job: JobFacts, host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if host.in_flight < room.per_host:
        return None
    reason = "the host has as many jobs in flight as it may"
    return Verdict(WAIT, reason, 0.0, HOST, "per-host")


def _share(_job: JobFacts, host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if not room.others_wait or host.in_flight < max(1, int(slots(room) * room.max_share)):
        return None
    reason = "the host has its share of the channel, and others wait"
    return Verdict(WAIT, reason, 0.0, HOST, "share")


def _rate(_job: JobFacts, host: HostFacts, _room: Room, now: float) -> Verdict | None:
    if host.rate_at <= now:
        return None
    reason = "the host's rate allows no more attempts just now"
    return Verdict(SKIP, reason, host.rate_at, HOST, "rate")


def _probation(_job: JobFacts, host: HostFacts, room: Room, _now: float) -> Verdict | None:
    if host.proven:
        return None
    if host.in_flight >= UNPROVEN_PER_HOST:
        reason = "a job in flight is finding out whether the host answers"
        return Verdict(WAIT, reason, 0.0, HOST, "probation")
    if room.unproven >= half_of(room):
        reason = "half of the channel waits for hosts yet to answer"
        return Verdict(WAIT, reason, 0.0, HOST, "probation")
    return None


_GATES: tuple[Gate, ...] = (
    _barrier,
    _age,
    _lane,
    _dead,
    _due,
    _pause,
    _load,
    _tokens,
    _channel,
    _per_host,
    _share,
    _rate,
    _probation,
)


def decide(job: JobFacts, host: HostFacts, room: Room, now: float) -> Verdict:
    """Return what becomes of ``job`` at ``now``; pure, so that it can be asked about any time."""
    for gate in _GATES:
        verdict = gate(job, host, room, now)
        if verdict is not None:
            return verdict
    return _GO


def shut(job: JobFacts, host: HostFacts, room: Room, now: float) -> list[Verdict]:
    """Return the verdicts of all gates that are shut at ``now``, in order; none if it goes."""
    verdicts = [gate(job, host, room, now) for gate in _GATES]
    return [verdict for verdict in verdicts if verdict is not None]
