"""What authors are owed, gathered: one DSN a message, whoever of its jobs failed when."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.deliver.gather import ASKED, HELD, LONGEST, ORPHAN, Case, Gather
from mta.dsn.report import Group
from mta.types import NULL_PATH, Mailbox, Outcome, Reply
from mta.values import replace
from tests.deliver.fakes import AUTHOR, EPOCH, Clock, Log, Returns, Spool

NO = Outcome(Reply(550, "5.1.1", "no"))
WAIT = 5.0


class World:
    def __init__(self, wait=WAIT, expected=True):
        self.spool, self.log, self.returns, self.clock = Spool(), Log(), Returns(), Clock()
        self.due = expected
        self.gather = Gather(
            self.returns, self.log, self.clock.monotonic, wait, lambda keys: self.due
        )
        self.told = []

    def message(self, jobs, path=AUTHOR, **env):
        names = [self.spool.add(f"h{n}", EPOCH, reverse_path=path) for n in range(jobs)]
        made = []
        for number, name in enumerate(names):
            entry = self.spool.jobs.pop(name)
            made.append(replace(name, id=names[0].id, number=number))
            envelope = replace(entry.envelope, id=names[0].id, jobs=jobs, **env)
            self.spool.jobs[made[-1]] = replace(entry, envelope=envelope)
        return made

    def fail(self, name, way="return", action="failed"):
        claim = self.spool.claim(name)
        path = claim.entry.job.reverse_path
        group = Group(Mailbox("u", name.host), None, NO, "", EPOCH, action)

        def answer(told):
            self.told.append((name.key, told))
            claim.release()

        self.gather.add(Case(claim, EPOCH, (group,), answer), path, way)


ACTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([0.0, 0.5, 3.0, 7.0])),
    max_size=25,
)


@settings(deadline=None)
@given(ACTS, st.sampled_from([("DSN", ""), ("-", "unknown"), ("", "full")]), st.booleans())
def test_j1_every_case_is_answered_once_and_in_time(acts, reply, expected):
    world = World(expected=expected)
    world.returns.reply = reply
    messages = [world.message(4) for _ in range(6)]
    done, since = set(), {}
    for message, job, wait in acts:
        name = messages[message][job]
        if name not in done:
            done.add(name)
            world.fail(name)
            since.setdefault(name.key, world.clock.monotonic())
        world.clock.now += wait
        world.gather.tick()
        answered = {key for key, _ in world.told}
        for key, at in since.items():
            late = world.clock.monotonic() - at >= LONGEST * WAIT
            assert key in answered or not (late or not expected)
    world.gather.flush()
    assert sorted(key for key, _ in world.told) == sorted(name.key for name in done)
    assert world.gather.held == 0 and not world.spool.claimed


def test_j2_a_hundred_hosts_that_fail_in_one_pass_are_one_dsn():
    world = World()
    for name in world.message(100):
        assert not world.returns.notices
        world.fail(name)
        world.clock.now += 0.1
        world.gather.tick()
    (notice,) = world.returns.notices
    assert len(notice.groups) == 100 and notice.to == AUTHOR
    assert {told.dsn for _, told in world.told} == {"DSN"}
    assert len(world.log.of("notified")) == 1


def test_j2_what_no_others_are_awaited_for_does_not_wait():
    world = World()
    world.fail(*world.message(1))
    assert len(world.returns.notices) == 1
    world.fail(world.message(2)[0])
    assert len(world.returns.notices) == 1
    world.gather.tick()
    assert len(world.returns.notices) == 1
    world.due = False
    world.gather.tick()
    assert len(world.returns.notices) == 2


def test_j3_no_case_waits_for_ever_and_no_more_than_so_many_are_held():
    world = World()
    names = world.message(50)
    for name in names[: LONGEST * 2 + 1]:
        world.fail(name)
        world.clock.now += WAIT / 2
        world.gather.tick()
    assert len(world.returns.notices) == 1
    for _ in range(HELD + 1):
        world.fail(world.message(2)[0])
        assert world.gather.held <= HELD


def test_j3_of_a_message_with_very_many_jobs_nobody_is_asked(monkeypatch):
    world = World(expected=False)
    monkeypatch.setattr(world.gather, "expected", lambda keys: pytest.fail("asked"))
    world.fail(world.message(ASKED + 2)[0])
    world.gather.tick()
    assert not world.returns.notices
    world.clock.now += WAIT
    monkeypatch.setattr(world.gather, "expected", lambda keys: True)
    world.gather.tick()
    assert len(world.returns.notices) == 1


def test_two_messages_and_two_authors_are_told_apart():
    world = World()
    first, second = world.message(2), world.message(2, Mailbox("other", "x.test"))
    for a, b in zip(first, second, strict=True):
        world.fail(a)
        world.fail(b)
    assert [len(n.groups) for n in world.returns.notices] == [2, 2]
    assert {str(n.to) for n in world.returns.notices} == {str(AUTHOR), "other@x.test"}


@pytest.mark.parametrize(
    ("path", "env", "way", "replies", "to", "dsn", "kept"),
    [
        (AUTHOR, {}, "return", [("D", "")], [AUTHOR], "D", False),
        (AUTHOR, {}, "return", [("-", "unknown"), ("D", "")], [AUTHOR, None], "D", False),
        (AUTHOR, {}, "return", [("-", "?"), ("-", "?")], [AUTHOR, None], "-", True),
        (AUTHOR, {}, "return", [("", "full")], [AUTHOR], "", False),
        (AUTHOR, {}, "postmaster", [("D", "")], [None], "D", False),
        (AUTHOR, {}, "discard", [], [], "-", False),
        (NULL_PATH, {}, "postmaster", [("D", "")], [None], "D", False),
        (NULL_PATH, {"origin": "dsn"}, "postmaster", [("D", "")], [None], "D", False),
        (NULL_PATH, {"origin": ORPHAN}, "postmaster", [], [], "-", True),
    ],
)
def test_j4_author_then_postmaster_then_dead_letter(path, env, way, replies, to, dsn, kept):
    world = World()
    answers = iter(replies)
    world.returns.accept = lambda notice, answer: (
        world.returns.notices.append(notice),
        answer(*next(answers)),
    )
    world.fail(*world.message(1, path, **env), way)
    assert [n.to for n in world.returns.notices] == to
    assert [bool(n.why) for n in world.returns.notices] == [where is None for where in to]
    ((_, told),) = world.told
    assert (told.dsn, told.kept) == (dsn, kept)
    assert len(world.log.of("discarded")) == (way == "discard")


def test_j4_the_postmaster_gets_the_message_whole_and_no_success():
    world = World()
    world.returns.reply = ("-", "unknown")
    first, second = world.message(2, size=100)
    world.fail(first)
    world.fail(second, action="delivered")
    author, postmaster = world.returns.notices
    assert not author.whole and postmaster.whole and b"hello" in postmaster.quoted
    assert [len(author.groups), len(postmaster.groups)] == [2, 1]


def test_without_a_wait_every_job_is_told_at_once():
    world = World(wait=0.0)
    for name in world.message(3):
        world.fail(name)
    assert len(world.returns.notices) == 3
