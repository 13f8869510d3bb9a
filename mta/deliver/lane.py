"""A lane: one channel's jobs, from its queue through its program to the desk.

The lane picks whose turn it is, claims the job, hands it to the channel
program and takes the outcomes; it asks ``policy.decide`` for every verdict.
It does no waiting: the daemon pumps it when something has happened.

State    The index of names, what is known of hosts, the flights of the program.

Invariants, each a property in tests/deliver/test_lane.py
    A1   Never more in flight than the channel's concurrency, but for those of silent
         hosts, nor to one host than per_host.
    A2   A host that is down costs one attempt for each pause, however much is queued.
    A3   A job is handed over at most once at a time; each flight lands once.
    A4   When a lane is idle, every job that may go has gone; when it has
         stopped, nothing is claimed.
"""

from __future__ import annotations

from mta.deliver.bars import Bars
from mta.deliver.desk import Desk, Flight, our_trouble
from mta.deliver.facts import of_attempts, of_job, of_name
from mta.deliver.index import Index
from mta.deliver.pauses import Pauses
from mta.deliver.picker import Picker, order_of
from mta.deliver.realm import Realm
from mta.deliver.rules import IN_FLIGHT, READY, SETTLING, SWEEPING, UNSEEN, WAITING, Rules
from mta.deliver.shelf import Shelf
from mta.deliver.sweeps import Sweeps
from mta.errors import PosthouseError
from mta.policy.decide import GO, WAIT, JobFacts, Room, Verdict, decide, half_of
from mta.policy.load import QUEUE_ONLY, Standing
from mta.policy.select import ALL_AGES
from mta.route.expanded import arrived_here
from mta.spool.layout import arrived, id_at
from mta.types import CHANNEL, Host, Outcome, Recipient
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.config.model import Channel
    from mta.deliver.desk import Clock
    from mta.deliver.realm import Ways
    from mta.deliver.rules import Program
    from mta.machine.log import Log
    from mta.policy.decide import HostFacts
    from mta.spool.entry import RecipientState
    from mta.spool.layout import JobName
    from mta.spool.spool import Claim, Spool


__all__ = ["Lane", "Rules"]

BACK = 64  # hosts that are well again whose waiting jobs one pump looks through
LOADED = 10.0  # until a job is looked at again that the load kept back
LONG = 3600.0  # until a job is read again that waits for a word, not for a time
FRESH = 60.0  # age beyond which a job that a sweep finds may have been tried before
IN_VAIN = 4  # what a job counts that is probably not due
BATCH = 64  # jobs that one pump looks at, before the program's answers are read again


class Lane:
    """One channel of one deliver."""

    def __init__(
        self,
        channel: Channel,
        spool: Spool,
        log: Log,
        desk: Desk,
        clock: Clock,
        *,
        rules: Rules,
        ways: Ways | None = None,
    ) -> None:
        """``ways`` is what it shares with other lanes; None if it is alone."""
        self.channel = channel
        self.realm = Realm(channel, clock, log, ways, rules, self._shelve)
        self.hosts = self.realm.hosts
        order = order_of(channel, rules.ordered)
        self.index = Index(self.hosts.is_unproven, rules.index_limit, order)
        self.bars = Bars(channel, self.index)
        shelves = self._shelve, self.bars.keep_host, self.realm.leaves
        self._picker = Picker(self.index, self._decide, *shelves, *self.realm.bounds)
        self.standing = Standing()  # of the load
        self.settled = 0  # attempts at hosts that answer, in all
        self.stopping, self.latest_host = False, ""
        self._spool, self._log, self._desk = spool, log, desk
        self._clock, self._rules = clock, rules
        self._program: Program | None = None
        self._flights: dict[int, Flight] = {}
        self._settling: set[str] = set()  # keys of jobs at the desk
        self._shelf = Shelf(spool, desk, self.hosts, clock, channel.fail_after)
        self.sweeps = Sweeps(spool, channel, rules, log.warning)
        self._pauses = Pauses()
        self._newest = 0.0  # when the latest job arrived that was tried for the first time

    def attach(self, program: Program) -> None:
        """Work with ``program``, which calls told(), done() and lost()."""
        self._program, self.realm.reach = program, program.avoid

    @property
    def in_flight(self) -> int:
        """How many jobs are with the program or being settled."""
        return len(self._flights) + len(self._settling) + self._shelf.settling

    @property
    def idle(self) -> bool:
        """Whether all that may go now has gone, as far as the lane knows, or is at the desk."""
        shut, index = self.bars.shut(self._clock.wall()), self.index
        reading = self.sweeps.running and not (shut and index.full)
        going = self.in_flight != self._desk.held or (index.waiting and not shut)
        return not (going or reading or len(self._shelf))

    def age_of_latest(self, now: float) -> float:
        """Return how old new mail was when it went, while the index does not see all that waits."""
        unseen = self.index.overflow or self.sweeps.running
        return max(0.0, now - self._newest) if unseen and self._newest else 0.0

    @property
    def next_due(self) -> float | None:
        """When a pump is worth while though nothing happens; wall time, or None."""
        now, mono = self._clock.wall(), self._clock.monotonic()
        paused = self._pauses.at(now) if self.index.waiting else 0.0
        tokens = self._picker.due(mono)
        asked = 0.0 if tokens is None else now + tokens - mono
        times = [t for t in (self.index.next_due, paused, asked, self.bars.until(now)) if t]
        return min(times) if times else None

    def sweep(self, since: float | None = None) -> None:
        """Begin to read the queue, of what arrived ``since`` then; what is read already goes on."""
        now = self._clock.wall()
        if not (self.stopping or self._picker.held) and self.sweeps.begin(now, since):
            self.index.overflow, self.realm.sweep_due = False, self.realm.sweep_due and bool(since)

    def offer(self, names: Sequence[JobName]) -> None:
        """Take in names that a sweep, a wake-up or the command line brought."""
        bounds = self._rules.ages.at(self._clock.wall())
        for name in names:
            if name.queue != self.channel.queue or self._picker.held:
                continue
            if bounds is not ALL_AGES and not bounds.holds(arrived(name.id)):
                continue
            if self._offer(name):
                self.index.warm(name.host)

    def _offer(self, name: JobName, old: bool = False) -> bool:
        """Take in a name; return whether it is new."""
        new = self.realm.ours(name.host) and self.index.offer(name, old=old)
        if new and self.index.is_shelved(name.host) and not self.bars.has(name.host):
            self._shelf.note(name)
        return new

    def pump(self) -> bool:
        """Do what can be done now, a batch at most; return whether more could be done at once."""
        self.hosts.listen(self._clock.monotonic())
        if self.stopping:
            return False
        more = self.index.revisit(self._clock.wall())
        if hosts := self.realm.back(BACK):
            self.index.hurry(*hosts)
        if self.realm.sweep_due and not self.sweeps.running:
            self.sweep()
        if self.sweeps.running and not self.index.full:
            self._read_on()
        if self._picker.counts:
            self._picker.ask(self.busy, self._room(self._clock.wall()), self._clock.monotonic())
        launched = self._launch()
        self._shelf.tell(self.in_flight > self.hosts.silent)
        reading = self.sweeps.running and not self.index.full
        return more or reading or launched >= BATCH or len(self._shelf) + len(self.realm) > 0

    def _read_on(self) -> None:
        """Read names of the sweep."""
        before = id_at(self._clock.wall() - FRESH)
        self.sweeps.feed(lambda name: self._offer(name, name.id < before))
        if not self.sweeps.running:
            self.index.swept()

    def _launch(self) -> int:
        """Hand over up to BATCH jobs; return how many were looked at."""
        program = self._program
        now = self._clock.wall()
        if program is None or not self.index.waiting or self.bars.shut(now):
            return 0
        program.want()
        looked, probes = 0, half_of(self._room(now))
        while looked < BATCH and program.free > 0 and self.realm.free:
            host = self._picker.next_host(now, self.hosts.unproven < probes)
            if host is None:
                break
            looked += IN_VAIN if self.index.is_cold(host) else 1
            self._launch_to(host, program)
        if looked:
            program.flush()
        return looked

    @property
    def busy(self) -> int:
        """How many jobs take a turn and a token: none of silent hosts, none aside at the desk."""
        return self.in_flight - self.hosts.silent - self._desk.aside

    def _room(self, now: float, host: Host = "", others: bool = False) -> Room:
        """Return the room for ``host``; ``others``: whether other hosts' jobs may go."""
        realm, picker = self.realm, self._picker
        return Room(
            self.channel.concurrency,
            realm.per_host(host),
            self.busy + realm.elders(),
            self.hosts.unproven,
            self._pauses.at(now),
            self.standing.level,
            self._rules.ages.at(now),
            max(self._rules.force_before, realm.asked(host)),
            realm.settings(host).max_share,
            others,
            picker.tokens(self.busy),
            picker.pool,
            realm.demote_to,
            realm.slow,
            self.standing.threshold,
            self.standing.value,
            self._rules.queue_factor,
        )

    def about(self, host: Host, now: float, others: bool = False) -> tuple[HostFacts, Room]:
        """Return what any verdict on a job for ``host`` rests on, beside the job itself.

        ``others``: whether other hosts' jobs may go.
        """
        facts = self.hosts.facts(host, now, self._clock.monotonic())
        rate = self.realm.settings(host).rate
        if rate is not None:
            facts = replace(facts, rate_at=self._picker.rate_at(host, rate, now))
        return facts, self._room(now, host, others)

    def _decide(self, job: JobFacts, now: float, others: bool = False) -> Verdict:
        if job.barrier is None and (bar := self.bars.of_host(job.host, now)) is not None:
            job = replace(job, barrier=bar)
        return decide(job, *self.about(job.host, now, others), now)

    def whereabouts(self, name: JobName) -> tuple[str, float]:
        """Return where in this lane a job is, and since or until when (0.0 = not known)."""
        for flight in self._flights.values():
            if flight.name.key == name.key:
                return IN_FLIGHT, flight.started
        if name.key in self._settling:
            return SETTLING, 0.0
        at = self.index.when(name)
        if at is None:
            return (SWEEPING if self.sweeps.running else UNSEEN), 0.0
        return (WAITING if at else READY), at

    def hurry(self, host: Host) -> None:
        """Try now what waits for ``host`` (as names spell it): it has asked for its mail."""
        if host and not self.stopping:
            self.realm.hurry(host)
            self.index.hurry(host)

    def _launch_to(self, host: Host, program: Program) -> None:
        """Claim the oldest job for ``host``, and hand it over if it is due."""
        now = self._clock.wall()
        name = self.index.pop(host)
        self.index.ready(host)
        claim = None
        if self.bars.keeps(name, now):
            return
        if self.standing.level >= QUEUE_ONLY and self._outweighed(name, now):
            self.index.later(name, now + LOADED)
            return
        try:
            claim = self._spool.claim(name)
            if claim is None:
                self.index.forget(name)
            elif not self._hand_over(claim, program, now):
                claim.release()
        except PosthouseError as error:
            self._log.warning(f"{name.key}: {error}")
            self.index.later(name, now + self.channel.retry.first)
            if claim is not None:
                claim.release()

    def _outweighed(self, name: JobName, now: float) -> bool:
        """Tell whether the load keeps a job back, whatever its file may say."""
        verdict = self._decide(of_name(name, arrived(name.id)), now)
        return verdict.verdict == WAIT and verdict.gate == "load"

    def _hand_over(self, claim: Claim, program: Program, now: float) -> bool:
        """Give a claimed job to the program if it is due; return whether it was."""
        if self.realm.takes(claim, self._landed):
            self._settling.add(claim.name.key)
            return True
        about = self.about(claim.name.host, now)
        tried, facts = self._due(claim, now, about)
        verdict = decide(facts, *about, now)
        if verdict.verdict != GO:
            least = 1.0 if verdict.verdict == WAIT or verdict.when else LONG
            least = LOADED if verdict.gate == "load" else least
            if verdict.gate == "due":
                self.index.cool(claim.name.host)
            attempts = max(state.attempts for _, state in tried)
            if verdict.gate == "suspended":
                self.bars.note(claim.name)
            self.index.later(claim.name, max(verdict.when, now + least), attempts)
            return False
        flight = Flight(claim, tried, now, self._clock.monotonic())
        flight.retry = self.realm.retry(claim.name.host)
        at_once = arrived_here(claim.entry.job) or program.refusal(claim.entry.envelope)
        if at_once is not None:
            flight.told = {recipient.index: (at_once, "") for recipient, _ in tried}
            self._settling.add(flight.name.key)
            self._desk.settle(flight, self._landed)
            return True
        self._flights[program.send(flight, claim.open_body())] = flight
        self.hosts.launch(facts.host, flight.mono)
        self.index.warm(facts.host)
        self._picker.begun(facts.host, self.realm.settings(facts.host).rate, now)
        if not tried[0][1].last:
            self._newest = facts.arrived
        self.latest_host = facts.host
        return True

    def _due(
        self, claim: Claim, now: float, about: tuple[HostFacts, Room]
    ) -> tuple[tuple[tuple[Recipient, RecipientState], ...], JobFacts]:
        """Return the recipients that are due (or all, if none is), and the facts of the job."""
        at, entry, pending = arrived(claim.name.id), claim.entry, claim.entry.pending
        bar = self.bars.of_job(entry, now) or self.bars.of_host(claim.name.host, now)
        known = of_job(entry, claim.name, at, bar)
        own = entry.own(self.channel.name)
        asked = [of_attempts(known, state.seen_by(own)) for _, state in pending]
        goes = [not facts.last or decide(facts, *about, now).verdict == GO for facts in asked]
        due = tuple([pair for pair, does in zip(pending, goes, strict=True) if does])
        return (due, known) if due else (pending, min(asked, key=lambda facts: facts.retry_at))

    def told(
        self,
        tag: int,
        indexes: Sequence[int],
        outcome: Outcome,
        relay: str,
        *,
        passed: bool = False,
    ) -> None:
        """The program told an outcome for some recipients of flight ``tag``.

        ``passed``: their server was told what DSNs they want.
        """
        flight = self._flights[tag]
        if passed:
            flight.passed.update(indexes)
        flight.told.update(dict.fromkeys(indexes, (outcome, relay)))
        host = flight.name.host
        name = flight.claim.entry.job.host
        until = self.realm.learn(host, name, outcome, flight.mono, relay)
        if outcome.scope != CHANNEL:
            self._pauses.over()
        elif not outcome.reply.positive:
            self._pauses.begin(self._clock.wall())
        if until:
            self._shelve(host, until)

    def _shelve(self, host: Host, until: float) -> None:
        for name in self.index.shelve(host, until):
            self._shelf.note(name)

    def done(self, tag: int) -> None:
        """The program is done with flight ``tag``: settle it."""
        flight = self._flights.pop(tag)
        host = flight.name.host
        self.hosts.land(host)
        self.index.ready(host)
        facts = self.hosts.facts(host, self._clock.wall(), self._clock.monotonic())
        flight.not_before = facts.dead_until
        self._settling.add(flight.name.key)
        self._desk.settle(flight, self._landed)

    def _landed(self, flight: Flight, when: float) -> None:
        self._settling.discard(flight.name.key)
        self.settled += not self.hosts.is_unproven(flight.name.host)
        if when:
            attempts = 1 + max(state.attempts for _, state in flight.tried)
            self.index.later(flight.name, when, attempts)
        else:
            self.index.forget(flight.name)

    def lost(self, why: str) -> None:
        """The program ended with flights: what it told stands, the others are deferred."""
        outcome = our_trouble(why)
        for tag, flight in list(self._flights.items()):
            for recipient, _ in flight.tried:
                flight.told.setdefault(recipient.index, (outcome, ""))
            self.done(tag)

    def abandon(self) -> None:
        """Forget what waits in this lane: its program cannot be used in this pass."""
        self.stopping = True
        self.sweeps.stop()
        self._shelf.clear()
