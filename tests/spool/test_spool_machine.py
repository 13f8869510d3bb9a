"""S0 to S10: everything the spool promises, under kills and power cuts at any system call.

The model is a few dicts: what was accepted, what each recipient was last
settled as, and how often each was delivered.  Four processes share one
forgetful disk: a writer, an intake and two delivers.
"""

from __future__ import annotations

import os
import zlib
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mta.errors import SpoolError
from mta.policy.order import RANDOM, Order
from mta.spool import journal, layout, line
from mta.spool.entry import Entry, Envelope, Settlement
from mta.spool.intake import BATCH, Intake, try_lock
from mta.spool.places import Places
from mta.spool.spool import Spool
from mta.types import DEFERRED, DELIVERED, FAILED, FINAL, Job, Mailbox, Outcome, Recipient, Reply
from tests.spool.disk import Disk, Killed, Process

REPLIES = {
    DELIVERED: Outcome(Reply(250, "2.0.0", "taken")),
    DEFERRED: Outcome(Reply(451, "4.2.0", "busy just now")),
    FAILED: Outcome(Reply(550, "5.1.1", "nobody here")),
}
HOSTS = ["one.test", "two.test", "three.test"]
fuses = st.one_of(st.none(), st.integers(0, 25))
LINE = line.LIMIT
seeds = st.integers(0, 2**32)


class TwoPlaces(Places):
    """Sends every other message to the queue's second place."""

    def __init__(self) -> None:
        pass

    def of(self, queue: str, message_id: str, now: float) -> int:
        return zlib.crc32(message_id.encode()) & 1


def jobs_for(hosts: int, recipients: int) -> list[Job]:
    jobs, index = [], 0
    for number in range(hosts):
        host = HOSTS[number]
        people = tuple(Recipient(index + i, Mailbox(f"u{i}", host)) for i in range(recipients))
        index += recipients
        path = Mailbox("s", "x.test")
        jobs.append(Job(number, "smtp", "smtp", host, "", path, people))
    return jobs


class SpoolMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        line.LIMIT = 2 * line.EACH  # so that it is full often, and some pass it
        self.disk = Disk()
        self.now = 1_800_000_000.0
        self.bodies: dict[str, bytes] = {}
        self.jobs: dict[str, list[Job]] = {}
        self.accepted: set[str] = set()
        self.refused: set[str] = set()  # commit raised: must never be seen
        self.state: dict[tuple[str, int], str] = {}
        self.delivered: dict[tuple[str, int], int] = {}
        self.excused: dict[tuple[str, int], int] = {}  # second deliveries that S8 allows
        self.unsynced: dict[str, set[tuple[str, int]]] = {"d1": set(), "d2": set()}
        self.killed = False
        first = Process(self.disk)
        spool = Spool(first)  # the layout is made before the machine starts
        for name in ("journal", "done", "msg", "bad", "q.smtp,1"):
            first.mkdir(name)
        self.disk.root.sync()
        assert spool.names("smtp") is not None
        self.process: dict[str, Process] = {}
        self.spool: dict[str, Spool] = {}
        self.intake: Intake | None = None
        for name in ("writer", "intake", "d1", "d2"):
            self._start(name)

    def _clock(self) -> float:
        self.now += 0.01
        return self.now

    def _start(self, name: str) -> None:
        self.process[name] = Process(self.disk)
        self.spool[name] = Spool(self.process[name])
        if name == "writer":
            self.writer = journal.Writer(self.process[name], self._clock, TwoPlaces())
        if name == "intake":
            self.intake = None

    def _die(self, name: str) -> None:
        self.killed = True
        self.process[name].kill()
        if name in self.unsynced:
            # What it wrote is in the cache, only nobody syncs it any more.
            self.unsynced.setdefault("orphaned", set()).update(self.unsynced[name])
            self.unsynced[name] = set()
        self._start(name)

    def _running(self) -> Intake | None:
        if self.intake is None:
            if try_lock(self.spool["intake"]) is None:
                return None
            self.intake = Intake(
                *(self.spool["intake"], lambda names: None, self._seen, self._clock),
                order=Order(RANDOM, draw=Random(4).random),  # the promises rest on no order
            )
        return self.intake

    def _seen(self, envelope: Envelope) -> None:
        message_id = envelope.id
        assert message_id not in self.refused, "J3: a refused message was taken in"
        self._accept(message_id)

    def _accept(self, message_id: str) -> None:
        if message_id not in self.accepted:
            self.accepted.add(message_id)
            for job in self.jobs[message_id]:
                for recipient in job.recipients:
                    self.state[message_id, recipient.index] = "pending"

    @rule(hosts=st.integers(1, 3), recipients=st.integers(1, 2), large=st.booleans(), fuse=fuses)
    def commit(self, hosts: int, recipients: int, large: bool, fuse: int | None) -> None:
        """S1, S2: told accepted only when it is; then all its jobs are."""
        self.process["writer"].fuse = fuse
        draft = None
        try:
            draft = self.writer.begin()
            body = f"Subject: {draft.id}\r\n\r\n".encode() + b"x" * (4000 if large else 50)
            self.bodies[draft.id], self.jobs[draft.id] = body, jobs_for(hosts, recipients)
            for at in range(0, len(body), 900):
                draft.write(body[at : at + 900])
            self.writer.commit(draft, self.jobs[draft.id], Mailbox("s", "x.test"))
            self._accept(draft.id)
        except Killed:
            self._die("writer")
        self.process["writer"].fuse = None

    @rule(hosts=st.integers(1, 3), large=st.booleans(), fails=st.integers(1, 2))
    def commit_on_failing_disk(self, hosts: int, large: bool, fails: int) -> None:
        """S10: a failed sync accepts nothing, and is not tried again on that segment."""
        draft = self.writer.begin()
        self.bodies[draft.id], self.jobs[draft.id] = b"y" * 3000, jobs_for(hosts, 1)
        self.process["writer"].fail_syncs = fails
        with pytest.raises(SpoolError):
            draft.write(b"y" * (3000 if large else 10))
            self.writer.commit(draft, self.jobs[draft.id], Mailbox("s", "x.test"))
        self.process["writer"].fail_syncs = 0
        self.refused.add(draft.id)

    @rule()
    def abort(self) -> None:
        draft = self.writer.begin()
        draft.write(b"z" * 3000)
        draft.abort()

    @rule(fuse=fuses, survey=st.booleans(), most=st.sampled_from([1, BATCH]))
    def take_in(self, fuse: int | None, survey: bool, most: int = BATCH) -> None:
        self.process["intake"].fuse = fuse
        try:
            intake = self._running()
            if intake is not None:
                intake.step(survey or not self.spool["intake"].ready, most)
        except Killed:
            self._die("intake")
        self.process["intake"].fuse = None

    @rule(fuse=fuses, at_once=st.booleans())
    def checkpoint(self, fuse: int | None, at_once: bool) -> None:
        self.process["intake"].fuse = fuse
        try:
            intake = self._running()
            if intake is not None:
                intake.checkpoint(at_once)
        except Killed:
            self._die("intake")
        self.process["intake"].fuse = None

    @rule(
        who=st.sampled_from(["d1", "d2"]),
        pick=st.integers(0, 20),
        fates=st.lists(st.sampled_from([DELIVERED, DELIVERED, DEFERRED, FAILED]), min_size=2),
        fuse=fuses,
    )
    def deliver(self, who: str, pick: int, fates: list[str], fuse: int | None) -> None:
        """S3, S5, S7, S8: the body is right, states are final, deliveries are counted."""
        spool = self.spool[who]
        if not spool.ready:
            with pytest.raises(SpoolError):
                spool.claim(layout.JobName("smtp", "x", "x", 0, "x"))
            return
        names = [name for names in spool.names("smtp") for name in names]
        if not names:
            return
        self.process[who].fuse = fuse
        attempted: list[tuple[str, int]] = []
        try:
            self._attempt(who, names[pick % len(names)], fates, attempted)
        except Killed:
            for key in attempted:
                self.excused[key] = self.excused.get(key, 0) + 1
            self._die(who)
        self.process[who].fuse = None

    def _attempt(
        self, who: str, name: layout.JobName, fates: list[str], attempted: list[tuple[str, int]]
    ) -> None:
        spool = self.spool[who]
        claim = spool.claim(name)
        if claim is None:
            return
        other = self.spool["d2" if who == "d1" else "d1"]
        if other.ready:
            assert other.claim(name) is None, "S6: two hold one job"
        self._accept(name.id)  # of a commit that was cut short: taken in, so accepted
        job = self.jobs[name.id][name.number]
        assert claim.entry.job.recipients == job.recipients, "S2"
        self._check_states(claim.entry)
        body = claim.open_body()
        data = self.process[who].read(body, 1 << 20, 0)
        assert data == self.bodies[name.id], "S3: a body that is not what was accepted"
        self.process[who].close(body)
        settlements = []
        for (recipient, _), fate in zip(claim.entry.pending, fates, strict=False):
            outcome = REPLIES[fate]
            settlements.append(Settlement(recipient.index, fate, self.now, self.now, outcome))
            key = (name.id, recipient.index)
            if fate in FINAL:
                attempted.append(key)
                self.delivered[key] = self.delivered.get(key, 0) + 1
        if any(s.state == FAILED for s in settlements):
            with pytest.raises(SpoolError):
                claim.settle(settlements)  # S7: no DSN, no settlement
        claim.settle(settlements, told="DSN" if any(s.state == FAILED for s in settlements) else "")
        for s in settlements:
            self.state[name.id, s.index] = s.state
            if s.state in FINAL:
                self.unsynced[who].add((name.id, s.index))
        attempted.clear()
        claim.release()

    def _check_states(self, entry: Entry) -> None:
        """S5: what the file says is what was settled last, unless a crash excuses it."""
        for recipient, state in zip(entry.job.recipients, entry.states, strict=True):
            key = (entry.envelope.id, recipient.index)
            if self.state[key] in FINAL and not state.final:
                assert self.excused.get(key, 0) >= self.delivered.get(key, 0), key

    @rule(who=st.sampled_from(["d1", "d2"]))
    def sync_marks(self, who: str) -> None:
        self.spool[who].sync_marks()
        assert not self.spool[who].unsynced
        self.unsynced[who] = set()

    @rule(who=st.sampled_from(["writer", "intake", "d1", "d2"]))
    def kill(self, who: str) -> None:
        self._die(who)

    @rule(seconds=st.sampled_from([1.0, 61.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(seed=seeds)
    def crash(self, seed: int) -> None:
        """The power goes: what was settled and not synced may come again."""
        for keys in self.unsynced.values():
            for key in keys:
                self.excused[key] = max(self.excused.get(key, 0), self.delivered.get(key, 0))
        self.unsynced = {"d1": set(), "d2": set()}
        for name in ("writer", "intake", "d1", "d2"):
            self.process[name].kill()
        self.disk.cut_power(Random(seed))
        self.killed = True
        for name in ("writer", "intake", "d1", "d2"):
            self._start(name)

    @invariant()
    def no_more_than_excused(self) -> None:
        """S8: nobody gets a message more often than crashes excuse."""
        for key, count in getattr(self, "delivered", {}).items():
            assert count <= 1 + self.excused.get(key, 0), f"{key} delivered {count} times"

    @invariant()
    def refused_is_not_queued(self) -> None:
        if hasattr(self, "refused") and self.refused:
            for path in self.disk.paths():
                assert not any(r in path for r in self.refused if path.startswith(("q.", "msg/")))

    @precondition(lambda self: not self.killed)
    @invariant()
    def no_body_without_a_job(self) -> None:
        """S9, where no crash can have left an orphan."""
        paths = self.disk.paths()
        bodies = {p.rpartition("/")[2] for p in paths if p.startswith("msg/") and "." not in p}
        jobs = {p.split("/")[2].split(".")[0] for p in paths if p.startswith("q.")}
        assert bodies <= jobs

    def teardown(self) -> None:
        """S1, S2, S4: after it all, everyone who was promised a message has had it."""
        if not hasattr(self, "disk"):
            return
        line.LIMIT = LINE
        for name in ("writer", "intake", "d1", "d2"):
            self.process[name].kill()
            self._start(name)
        for _ in range(4):
            self.take_in(None, True)
            self._deliver_all()
        owed = [k for k in self.state if not self.delivered.get(k)]
        assert owed == [], f"lost: {owed}"
        for message_id, body in self.bodies.items():
            assert message_id in self.accepted or not self.disk.paths().get(
                layout.body_path(message_id)
            ), body[:40]
        self.no_more_than_excused()
        self.now += 4000
        intake = self._running()
        assert intake is not None
        intake.step()
        assert intake.checkpoint(at_once=True) == 0
        left = [p for p in self.disk.paths() if p.startswith(("q.", "journal/", "done/"))]
        assert left == [], "S4: segments, marks and jobs go when all is finished"

    def _deliver_all(self) -> None:
        names = [name for names in self.spool["d1"].names("smtp") for name in names]
        for name in names:
            self._attempt("d1", name, [DELIVERED] * 9, [])
        self.spool["d1"].sync_marks()


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MEMORY", 2000)
    monkeypatch.setattr(journal, "PIECE", 1500)
    monkeypatch.setattr(journal, "SEGMENT_LIMIT", 6000)


SpoolMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SPOOL_EXAMPLES", "100")),
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.usefixtures("_small_limits")
class TestSpoolS0ToS10(SpoolMachine.TestCase):
    pass
