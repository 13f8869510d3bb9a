"""Ageing: what nobody attempts is warned of and given up, and what is young costs nothing."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.model import ByClass
from mta.deliver.ageing import GRACE, REPORTS, SHARE, Ager
from mta.deliver.desk import Desk
from mta.deliver.gather import HELD
from mta.spool.layout import arrived, tag
from mta.spool.states import HOLD, Note
from mta.types import NULL_PATH, Outcome, Reply
from mta.values import replace
from tests.deliver.fakes import AUTHOR, EPOCH, Clock, Log, Returns, Spool, channel, gather_of

HOUR = 3600.0
WARN, FAIL = 4 * HOUR, 24 * HOUR
GREY = Outcome(Reply(451, "4.4.1", "connection refused"), "host")


class Queue(Spool):
    """Names by age, as the real one gives them; and how many were read."""

    def __init__(self):
        super().__init__()
        self.listed = 0

    def names(self, queue, *, newer_than=None, older_than=None, sort_limit=0):
        assert sort_limit, "an hour of a million names is not held"
        for names in super().names(queue):
            chosen = [
                n
                for n in names
                if (newer_than is None or arrived(n.id) > newer_than)
                and (older_than is None or arrived(n.id) < older_than)
            ]
            self.listed += len(chosen)
            if chosen:
                yield chosen

    def peek(self, name):
        return self.jobs.get(name)


class World:
    def __init__(self, grace=0.0, **changes):
        self.spool, self.log, self.returns, self.clock = Queue(), Log(), Returns(), Clock()
        row = channel(**{"warn_after": WARN, "fail_after": FAIL, **changes})
        self.gather = gather_of(self.returns, self.log, self.clock)
        desk = Desk(row, self.spool, self.log, self.gather, self.clock)
        self.ager = Ager(self.spool, "smtp", [row], {"smtp": desk}, self.gather, self.clock, grace)
        self.start = EPOCH

    def add(self, offset=0.0, **changes):
        name = self.spool.add("h", self.start + offset, reverse_path=changes.pop("path", AUTHOR))
        entry = self.spool.jobs.pop(name)
        hold = changes.pop("hold", False)
        envelope = replace(entry.envelope, **changes)
        named = replace(name, tag=tag(envelope.kind, 1, 1, AUTHOR))
        notes = (Note(HOLD, EPOCH, "op"),) if hold else ()
        self.spool.jobs[named] = replace(entry, envelope=envelope, notes=notes)
        return named

    def walk(self):
        while self.ager.slice(1.0):
            pass

    def at(self, age):
        self.clock.now = self.start + age
        self.walk()

    @property
    def states(self):
        return [s.state for _, s, _ in self.spool.settled]


MAIL = st.lists(
    st.tuples(
        st.integers(0, 40),  # when it comes, in hours
        st.sampled_from(["urgent", "normal", "bulk"]),
        st.booleans(),  # held
        st.sampled_from([AUTHOR, AUTHOR, NULL_PATH]),
        st.sampled_from([0, 0, -60]),
        st.sampled_from([0, 0, 6]),  # hours until it expires by its own wish
    ),
    max_size=12,
)
TIMES = {
    "warn_after": ByClass(2 * HOUR, WARN, 0.0),
    "fail_after": ByClass(8 * HOUR, FAIL, 48 * HOUR),
}


@settings(deadline=None)
@given(MAIL, st.lists(st.sampled_from([0.3, 1.0, 5.0, 20.0]), min_size=20, max_size=20))
def test_z1_z2_each_job_is_warned_of_and_given_up_once_and_in_time(mail, steps):
    world = World(**TIMES)
    known = {}
    for hours, kind, held, path, precedence, expires in sorted(mail, key=lambda m: m[0]):
        ends = EPOCH + (hours + expires) * HOUR if expires else 0.0
        name = world.add(
            hours * HOUR, kind=kind, hold=held, path=path, precedence=precedence, expires=ends
        )
        known[name] = (kind, held, path, precedence, ends)
    for step in steps:
        world.clock.now += step * HOUR
        before = Counter(world.spool.opened)
        world.walk()
        assert all(n - before[name] <= 1 for name, n in world.spool.opened.items())
        now = world.clock.now
        warned = {name for name, note in world.spool.notes}
        failed = {name: s for name, s, _ in world.spool.settled}
        assert len(warned) == len(world.spool.notes)
        for name, (kind, held, path, precedence, ends) in known.items():
            at = arrived(name.id)
            least = min(TIMES["warn_after"].of(kind) or 1e9, TIMES["fail_after"].of(kind))
            assert name not in world.spool.opened or now - at >= least - 1
            over = min(at + TIMES["fail_after"].of(kind), ends or 1e18)
            found_out = now - at >= least  # who expires before is found out then
            assert (name in failed) == (not held and now >= over and found_out)
            if name in failed:
                assert failed[name].outcome.reply.status == "5.4.7"
            if name in warned:
                assert path is AUTHOR and precedence == 0 and kind != "bulk"


def test_z1_a_warning_says_the_last_reply_and_comes_once():
    world = World()
    name = world.add()
    world.at(WARN - 1)
    assert not world.spool.opened
    world.at(WARN + 1)
    (notice,) = world.returns.notices
    assert [g.action for g in notice.groups] == ["delayed"]
    assert notice.groups[0].until == arrived(name.id) + FAIL
    for hours in range(5, 23):
        world.at(hours * HOUR)
    assert len(world.returns.notices) == 1 and world.spool.opened[name] == 1


def test_z1_who_wants_no_warnings_gets_none_but_is_given_up():
    world = World(warn_after=0.0)
    world.add()
    world.at(FAIL - 1)
    assert not world.spool.opened
    world.at(FAIL + 1)
    assert world.states == ["failed"]
    assert world.returns.notices[0].groups[0].outcome.reply.status == "5.4.7"


def test_z1_held_mail_is_warned_of_without_an_end_and_kept():
    world = World()
    name = world.add(hold=True)
    world.at(FAIL * 3)
    (notice,) = world.returns.notices
    assert [(g.action, g.until) for g in notice.groups] == [("delayed", 0.0)]
    assert name in world.spool.jobs and not world.states


def test_z1_what_another_has_is_left_to_the_next_walk():
    world = World()
    name = world.add()
    claim = world.spool.claim(name)
    world.at(WARN + 1)
    world.at(WARN + 100)
    assert not world.returns.notices
    claim.release()
    world.at(WARN + 200)
    assert len(world.returns.notices) == 1


def test_z1_a_warning_that_is_not_accepted_is_tried_again():
    world = World()
    world.add()
    world.returns.reply = ("", "the disk is full")
    world.at(WARN + 1)
    world.returns.reply = ("DSN", "")
    world.at(WARN + 100)
    world.at(WARN + 200)
    assert len(world.returns.notices) == 2 and len(world.spool.notes) == 1


def test_z1_an_attempt_has_some_grace_to_be_the_last():
    world = World(grace=GRACE)
    world.add()
    world.at(FAIL + GRACE - 1)
    assert not world.states
    world.at(FAIL + GRACE + 1)
    assert world.states == ["failed"]


def test_z1_the_grace_is_no_longer_than_a_part_of_the_time_that_mail_has():
    world = World(grace=GRACE, warn_after=0.0, fail_after=ByClass(40.0, 80.0, 120.0))
    world.add()
    world.at(80.0 + 40.0 / SHARE - 1)
    assert not world.states
    world.at(80.0 + 40.0 / SHARE + 1)
    assert world.states == ["failed"]


def test_z2_young_mail_is_not_even_listed_and_old_mail_once():
    world = World()
    for n in range(50):
        world.add(n * 60.0)
    for n in range(500):
        world.add(5 * HOUR + n)
    world.at(WARN - 1)
    assert world.spool.listed == 0 and not world.spool.opened
    world.at(5 * HOUR + 600)
    assert world.spool.listed == 50
    for minutes in range(0, 180, 10):
        world.at(5 * HOUR + 600 + minutes * 60)
    assert world.spool.listed == 50
    assert set(world.spool.opened.values()) == {1}


def test_z3_a_slice_ends_in_time_and_leaves_room_in_what_is_gathered():
    world = World()
    for n in range(HELD):
        world.add(float(n))
    world.clock.now = EPOCH + WARN + 2 * HELD
    clock = world.clock
    clock.monotonic = lambda: clock.now - EPOCH + 0.01 * sum(world.spool.opened.values())
    assert world.ager.slice(0.05)
    assert sum(world.spool.opened.values()) <= 6
    world.gather.held = HELD // 2
    opened = sum(world.spool.opened.values())
    assert world.ager.slice(10.0)
    assert sum(world.spool.opened.values()) == opened


def test_z3_a_slice_warns_of_few():
    world = World()
    for n in range(5 * REPORTS):
        world.add(float(n))
    world.clock.now = EPOCH + WARN + 5 * HELD
    assert world.ager.slice(1e9)
    assert world.ager.warned == REPORTS
    while world.ager.slice(1e9):
        pass
    assert world.ager.warned == 5 * REPORTS


def test_z3_a_slice_ends_between_lists_of_which_nothing_is_due():
    world = World(**TIMES)
    for n in range(70):
        world.add(float(n), kind="bulk")  # by its name not due before long
    world.clock.now = EPOCH + WARN + HOUR
    clock, calls = world.clock, [0]

    def monotonic():
        calls[0] += 1
        return calls[0] * 1.0

    clock.monotonic = monotonic
    assert world.ager.slice(1.5)
    assert world.spool.listed < 70 and not world.spool.opened
    while world.ager.slice(1.5):
        pass
    assert world.spool.listed == 70
