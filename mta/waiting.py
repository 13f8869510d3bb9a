"""What keeps a job, and until when: what running delivers say, or what can be said without them.

Each deliver of the job's queue is asked, and answers from the facts it acts on; of
those that could take the job the one that will do so first is told of.  Where none
answers, the lines of ``daemons`` in mta.yaml are asked what they would do if they ran.

Units    Times are float seconds since the epoch.

Invariants, each a test in tests/test_waiting.py
    WG1  Recipients whose attempts came to the same are told of together, and all are told of.
    WG2  ``earliest`` is the first time at which one that runs would take the job, 0.0 where
         an event decides, or nobody.
    WG3  No answer within LIMIT seconds from when looking for the jobs began is told as
         that, and nothing is waited for beyond; but each has LEAST seconds.
"""

from __future__ import annotations

import shlex

from mta.config.host_rules import HostRules
from mta.deliver.facts import of_attempts, of_recipients
from mta.deliver.flags import parse
from mta.deliver.questions import read_answer
from mta.deliver.rules import IN_FLIGHT, SETTLING, UNSEEN
from mta.errors import UsageError
from mta.machine.asking import ask
from mta.machine.locks import Holders
from mta.policy.deadhosts import dead
from mta.policy.decide import NO_RUNNERS, Barrier, HostFacts, Room, shut
from mta.policy.foresee import alternatives, foresee, sooner_dead
from mta.policy.retry import next_try
from mta.policy.select import Ages
from mta.policy.suspensions import Suspensions
from mta.spool.hostlog import read_hosts
from mta.spool.layout import arrived
from mta.spool.rulelog import RuleLog
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mta.config.model import Channel, Config, Retry
    from mta.deliver.flags import Flags
    from mta.deliver.questions import Answer, LaneAnswer
    from mta.finding import Found, Job
    from mta.policy.deadhosts import DeadHosts
    from mta.policy.decide import JobFacts, Verdict
    from mta.policy.foresee import Alternative, Foresight
    from mta.spool.states import Entry, RecipientState
    from mta.types import Recipient

__all__ = ["BUSY", "LIMIT", "Outlook", "Wait", "gather", "outlook"]

PLAIN = ("local", "pipe", "list")  # programs that connect to nobody
LIMIT, LEAST = 0.3, 0.15  # seconds that finding jobs and all answers may take; that answers may
BUSY = (IN_FLIGHT, SETTLING)


@frozen
class Outlook:
    """What one lane, of a deliver or of a line of mta.yaml, would do with a job, and when.

    ``pid`` 0: no such deliver runs; then ``line`` is where mta.yaml has it.  ``earliest``
    is 0.0 where an event decides.  ``sweep`` is its next look at the queue.
    """

    channel: str
    flags: str
    where: str
    at: float
    gates: tuple[Verdict, ...]
    foresight: Foresight
    room: Room
    host: HostFacts
    pid: int = 0
    line: int = 0
    sweep: float = 0.0
    earliest: float = 0.0
    others: tuple[Alternative, ...] = ()

    @property
    def rank(self) -> tuple[bool, bool, int, float]:
        """Whose outlook is told: who has the job, who runs, who takes it, and soonest."""
        taking = self.earliest or self.foresight.when
        return self.where not in BUSY, not self.pid, len(self.foresight.events), taking


@frozen
class Wait:
    """Recipients of a job that wait for the same, with the ``outlooks``, the best first.

    ``silent`` are delivers of the queue that did not answer; ``locked_by`` is the
    process that has the job's lock, 0 if none.
    """

    job: Job
    recipients: tuple[Recipient, ...]
    state: RecipientState
    outlooks: tuple[Outlook, ...]
    silent: tuple[int, ...] = ()
    locked_by: int = 0


def gather(config: Config, found: Found, now: float) -> Iterator[Wait]:
    """Yield what keeps the recipients that were ``found``, job by job."""
    jobs = found.jobs
    files: dict[str, list[str]] = {}
    for job in jobs:
        if not job.untaken:
            files.setdefault(job.name.queue, []).append(job.name.file)
    answers = ask(config.runtime, files, max(LEAST, LIMIT - found.took))
    said: dict[str, list[tuple[int, Answer, tuple[LaneAnswer, ...]]]] = {}
    shared = _Shared(config, now)
    strange: set[int] = set()  # who said what we do not understand
    for pid, octets in answers.came:
        answer = read_answer(octets)
        if answer is None:
            strange.add(pid)
            continue
        for key, lanes in answer.jobs:
            said.setdefault(key, []).append((pid, answer, lanes))
    for job in jobs:
        # Attempts of other channels come to other times: alike are those that all see alike.
        groups: dict[RecipientState, list[Recipient]] = {}
        for recipient, state in job.entry.pending:
            if found.about(recipient):
                groups.setdefault(state, []).append(recipient)
        heard = said.get(job.name.key, [])
        silent = strange | {pid for queue, pid in answers.silent if queue == job.name.queue}
        yield from _of_job(config, job, groups, heard, tuple(sorted(silent)), shared, now)


def _of_job(
    config: Config,
    job: Job,
    groups: Mapping[RecipientState, list[Recipient]],
    said: list[tuple[int, Answer, tuple[LaneAnswer, ...]]],
    silent: tuple[int, ...],
    shared: _Shared,
    now: float,
) -> Iterator[Wait]:
    lock = 0 if job.untaken else shared.holder(job)
    for state, recipients in groups.items():
        found = [
            outlook(config, job.entry, state, pid, answer, lane)
            for pid, answer, lanes in said
            if not answer.stopping
            for lane in lanes
        ]
        if not said and not job.untaken:
            found = list(_unheard(config, job, state, shared, now))
        found.sort(key=lambda outlook: outlook.rank)
        yield Wait(job, tuple(recipients), state, tuple(found), silent, lock)


def outlook(
    config: Config, entry: Entry, state: RecipientState, pid: int, answer: Answer, lane: LaneAnswer
) -> Outlook:
    """Return the outlook of a lane that answered, for recipients in ``state``."""
    own = state.seen_by(entry.own(lane.channel))
    blank = replace(lane.job, last=0.0, retry_at=0.0, waits_for_host=False)
    facts = of_attempts(blank, own)
    gates = (
        lane.gates if facts == lane.job else tuple(shut(facts, lane.host, lane.room, answer.now))
    )
    seen = foresee(facts, lane.host, lane.room, answer.now)
    return Outlook(
        lane.channel,
        answer.flags,
        lane.where,
        lane.at,
        gates,
        seen,
        lane.room,
        lane.host,
        pid,
        sweep=answer.sweeps_at,
        earliest=_earliest(lane, gates, seen, answer, _interval(config, lane.channel)),
        others=_others(config, lane.channel, facts, own, lane.host, lane.room, answer.now),
    )


def _interval(config: Config, name: str) -> float:
    """Return how long the sweeps of a channel are apart; 0.0 where deliver decides."""
    return next((c.interval for c in config.channels if c.name == name), 0.0)


def _earliest(
    lane: LaneAnswer, gates: tuple[Verdict, ...], seen: Foresight, answer: Answer, interval: float
) -> float:
    """Return when a lane that foresees ``seen`` takes a job; 0.0: at an event."""
    if lane.where in BUSY:
        return answer.now
    if seen.events:
        return 0.0
    if lane.where != UNSEEN:
        return max(seen.when, lane.at)
    learned = max(answer.now, answer.sweeps_at)
    opens = max([verdict.when for verdict in gates if verdict.gate == "age"], default=0.0)
    if opens > learned:
        # Too young for -o until then: the first sweep after that learns of it.
        interval = interval or answer.interval
        learned += -(-(opens - learned) // interval) * interval
    return max(seen.when, learned)  # who has learned of it keeps it until its time


def _others(
    config: Config,
    name: str,
    facts: JobFacts,
    state: RecipientState,
    host: HostFacts,
    room: Room,
    now: float,
) -> tuple[Alternative, ...]:
    """Return what would let the job go sooner on that channel."""
    channel = next((c for c in config.channels if c.name == name), None)
    found = alternatives(facts, host, room, now)
    if channel is not None and host.dead is not None:
        rules = HostRules(config.hosts, channel).find(facts.host).retry
        least = _schedule(rules, facts, state)
        sooner = sooner_dead(facts, host, room, now, least=least)
        found = [*([sooner] if sooner is not None else []), *found]
    return tuple(found)


def _schedule(retry: Retry, facts: JobFacts, state: RecipientState) -> float:
    """Return the first time that the schedule alone would allow."""
    if not state.attempts:
        return 0.0
    return next_try(
        state.attempts,
        facts.last,
        first=retry.first,
        factor=retry.factor,
        limit=retry.max,
        steps=retry.steps,
        age=facts.last - facts.arrived,
        min_age=retry.min_age,
        max_age=retry.max_age,
    )


def _unheard(
    config: Config, job: Job, state: RecipientState, shared: _Shared, now: float
) -> Iterator[Outlook]:
    """Yield what each line of mta.yaml would do whose deliver serves the job's queue."""
    for line, text, flags in deliver_lines(config):
        for channel in config.channels:
            mine = not flags.channels or channel.name in flags.channels
            if mine and channel.queue == job.name.queue:
                yield _supposed(config, job, state, shared, now, channel, flags, (line, text))


def _supposed(
    config: Config,
    job: Job,
    state: RecipientState,
    shared: _Shared,
    now: float,
    channel: Channel,
    flags: Flags,
    said: tuple[int, str],
) -> Outlook:
    """Return the outlook of a lane that does not run, from what lies in the spool."""
    own = state.seen_by(job.entry.own(channel.name))
    hosts, rules = shared.look()
    bar, since = _suspended(rules, job, channel, now), arrived(job.name.id)
    (first, *_) = of_recipients(job.entry, job.name, since, channel.name, bar)
    facts = of_attempts(replace(first, last=0.0, retry_at=0.0, waits_for_host=False), own)
    settings = HostRules(config.hosts, channel).find(facts.host)
    ages = Ages(flags.younger, flags.older).at(now)
    slots = channel.concurrency, settings.per_host
    room = Room(*slots, bounds=ages, max_share=channel.max_share)
    if channel.runners == 0:
        room = replace(room, tokens=0, token_pool=NO_RUNNERS)
    ttl = settings.dead_ttl if flags.dead_ttl is None else flags.dead_ttl
    host = _known(hosts, channel, facts.host, ttl, now)
    gates, seen = tuple(shut(facts, host, room, now)), foresee(facts, host, room, now)
    others = _others(config, channel.name, facts, own, host, room, now)
    line, text = said
    return Outlook(channel.name, text, "", 0.0, gates, seen, room, host, line=line, others=others)


class _Shared:
    """What holds for all jobs, read once and when first needed.

    Of hosts and rules the spool is asked only about what no deliver answers for.
    """

    def __init__(self, config: Config, now: float) -> None:
        self._root, self._now = config.spool, now
        self._read: tuple[DeadHosts, Suspensions] | None = None
        self._holders: Holders | None = None

    def holder(self, job: Job) -> int:
        """Return which process has the job's lock, 0 if none."""
        if self._holders is None:
            self._holders = Holders()
        return self._holders.of(f"{self._root}/{job.name.path}")

    def look(self) -> tuple[DeadHosts, Suspensions]:
        """Return the hosts that fail, and the rules of operators."""
        if self._read is None:
            fs = Spool.open(self._root).fs
            log = RuleLog(fs)
            self._read = read_hosts(fs, self._now), log.read() or Suspensions()
            log.close()
        return self._read


def _suspended(rules: Suspensions, job: Job, channel: Channel, now: float) -> Barrier | None:
    """Return the rule that keeps a job from a channel."""
    told, to = job.entry.job, [recipient.mailbox for recipient, _ in job.entry.pending]
    lane = channel.name, channel.queue
    rule = rules.of_job(lane, told.host, to, told.reverse_path, now)
    if rule is None:
        return None
    return Barrier(rule.by, rule.since, rule.until, rule.why, rule.name)


def _known(known: DeadHosts, channel: Channel, host: str, ttl: float, now: float) -> HostFacts:
    """Return what all delivers know of a host together; little, but whether it is dead."""
    failing = None
    if host and channel.program not in PLAIN:
        failing = known.of(channel.name).get(host)
    found = None if failing is None else dead(host, failing, ttl)
    if failing is None or found is None or found.until <= now:
        return HostFacts()
    since = 0.0 if failing.hold else failing.at
    return HostFacts(0, False, found, found.until, dead_since=since)


def deliver_lines(config: Config) -> Iterator[tuple[int, str, Flags]]:
    """Yield line, command and flags of each deliver in mta.yaml that can be understood."""
    for daemon in config.daemons:
        try:
            name, *words = shlex.split(daemon.command) or [""]
            if name == "deliver":
                yield daemon.line, daemon.command, parse(words)
        except (ValueError, UsageError):
            continue  # mta check speaks of it
