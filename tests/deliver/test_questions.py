import json

from hypothesis import given
from hypothesis import strategies as st

from mta.deliver import questions
from mta.deliver.flags import parse
from mta.deliver.questions import QUESTIONS, Answer, LaneAnswer, Questions, read_answer
from mta.deliver.rules import UNSEEN
from mta.policy.decide import SKIP, shut
from mta.types import Outcome, Reply
from mta.values import replace
from tests.deliver.fakes import EPOCH, channel
from tests.deliver.test_lane import DOWN, GREY, House
from tests.policy.test_decide import HOSTS, JOBS, NOW, ROOMS

FLAGS = parse(["-b", "-csmtp"])
FACTS = st.tuples(JOBS, HOSTS, ROOMS)


class Told:
    """What a deliver answered, question by question."""

    def __init__(self, monkeypatch):
        self.answers = []
        monkeypatch.setattr(questions, "tell", lambda *words: self.answers.append(words[2]))

    def last(self):
        answer = read_answer(self.answers[-1])
        assert answer is not None
        return answer


@given(st.dictionaries(st.sampled_from(["A.0", "B.1"]), st.lists(FACTS, max_size=2)))
def test_q1_facts_come_out_as_they_went_in(jobs):
    said = {
        key: tuple(LaneAnswer("smtp", UNSEEN, 0.0, *f, tuple(shut(*f, NOW))) for f in facts)
        for key, facts in jobs.items()
    }
    told = Answer("-b", NOW, NOW + 9, 600.0, False, tuple(said.items()))
    plain = questions._plain(told)
    plain["jobs"] = dict(plain["jobs"])
    assert read_answer(json.dumps(plain).encode()) == told


def ask(house, asker, *names, lanes=None):
    datagram = b"\n".join([b"asked.1 0", *[name.file.encode() for name in names]])
    lanes = [house.lane] if lanes is None else lanes
    asker.answer(datagram, lanes, house.clock.now, 600.0)


def test_what_keeps_a_job_is_told_with_what_the_lane_acts_on(monkeypatch):
    told, house = Told(monkeypatch), House()
    fresh, deferred = house.queue("a", "b")
    entry = house.spool.jobs[deferred]
    state = replace(
        entry.states[0],
        state="deferred",
        attempts=1,
        last=EPOCH - 5,
        retry_at=EPOCH + 295,
        outcome=GREY,
    )
    house.spool.jobs[deferred] = replace(entry, states=(state,))
    asker = Questions("run", house.spool, FLAGS)
    ask(house, asker, fresh, deferred)
    answer = told.last()
    assert (answer.flags, answer.sweeps_at, answer.interval) == (
        "-b -csmtp",
        house.clock.now + 600,
        600.0,
    )
    said = dict(answer.jobs)
    (one,), (two,) = said[fresh.key], said[deferred.key]
    assert (one.where, one.gates) == (UNSEEN, ())
    assert [(v.gate, v.when, v.verdict) for v in two.gates] == [("due", EPOCH + 295, SKIP)]
    assert one.room == house.lane.about("a", house.clock.now)[1]

    house.lane.sweep()
    house.pump()
    ask(house, asker, fresh, deferred)
    said = dict(told.last().jobs)
    assert [lane.where for lane in said[fresh.key]] == ["in flight"]
    assert [(lane.where, lane.at) for lane in said[deferred.key]] == [("waiting", EPOCH + 295)]

    house.answer(1, DOWN)
    ask(house, asker, fresh)
    (lane,) = dict(told.last().jobs)[fresh.key]
    assert [v.gate for v in lane.gates] == ["dead", "due"]
    assert lane.host.dead is not None and lane.host.dead.reply == DOWN.reply
    assert lane.host.dead_since > 0


def test_asking_changes_nothing(monkeypatch):
    told, house = Told(monkeypatch), House()
    (name,) = house.queue("a")
    asker = Questions("run", house.spool, FLAGS)
    house.lane.sweep()
    for _ in range(3):
        ask(house, asker, name)
        asker.tick()
    assert not house.spool.claimed and not house.spool.opened and not house.program.sent
    house.pump()
    assert len(house.program.sent) == 1 and len(told.answers) == 3


def test_a_host_that_waits_alone_is_not_told_that_others_do(monkeypatch):
    for hosts, gates in (("aab", ["concurrency", "share"]), ("aa", ["concurrency"])):
        told, house = Told(monkeypatch), House(concurrency=1, per_host=9)
        names = house.queue(*hosts)
        house.lane.hosts.is_unproven = lambda host: False
        house.lane.sweep()
        house.pump()
        ask(house, Questions("run", house.spool, FLAGS), *names[:2])
        lanes = [lane for (lane,) in dict(told.last().jobs).values() if lane.where != "in flight"]
        assert [[verdict.gate for verdict in lane.gates] for lane in lanes] == [gates]


def test_a_lane_that_has_no_use_for_tokens_is_not_said_to_wait_for_one(monkeypatch):
    class Purse:
        may = 0

        def ask(self, busy, want, mono):
            pass

        def due(self, mono):
            return None

    told, house = Told(monkeypatch), House(purse=Purse())
    names = house.queue("a", "b")
    asker = Questions("run", house.spool, FLAGS)
    ask(house, asker, names[0])
    (lane,) = dict(told.last().jobs)[names[0].key]
    assert (lane.where, lane.gates) == (UNSEEN, ())
    house.lane.sweep()
    house.pump()
    ask(house, asker, *names)
    for (lane,) in dict(told.last().jobs).values():
        assert [verdict.gate for verdict in lane.gates] == ["tokens"], "now it wants one"


def test_q2_so_many_between_two_ticks(monkeypatch):
    told, house = Told(monkeypatch), House()
    (name,) = house.queue("a")
    asker = Questions("run", house.spool, FLAGS)
    for _ in range(QUESTIONS + 9):
        ask(house, asker, name)
    assert len(told.answers) == QUESTIONS
    asker.tick()
    ask(house, asker, name)
    assert len(told.answers) == QUESTIONS + 1


def test_q2_an_answer_stays_within_its_bounds(monkeypatch):
    told, house = Told(monkeypatch), House()
    lanes = []
    for _ in range(30):
        lane = house.make(replace(house.lane._rules))
        lane.hosts.learn("a", Outcome(Reply(421, "4.4.1", "x" * 500), "host"), 0.0, 0.0, EPOCH)
        lanes.append(lane)
    names = house.queue(*["a"] * 16)
    ask(house, Questions("run", house.spool, FLAGS), *names, lanes=lanes)
    assert len(told.answers[0]) < questions.ANSWER
    assert dict(told.last().jobs)


@given(st.binary(max_size=60) | st.just(b"asked.1 0\n\nx\n/\nH/0.0.0\n\xff/" + b"\0" * 16))
def test_q3_nonsense_harms_nobody(datagram):
    house = House(**{"name": channel().name})
    asker = Questions("/nonexistent", house.spool, FLAGS)
    asker.answer(datagram, [house.lane], EPOCH, 600.0)
    assert read_answer(datagram) is None


def test_an_answer_of_another_version_is_none():
    assert read_answer(b'{"flags": "", "jobs": {}, "now": 1}') is None
    assert read_answer(b'{"jobs": {"A.0": [{"channel": "x"}]}}') is None


def test_q3_a_job_that_the_disk_does_not_give_is_answered_by_its_name(monkeypatch):
    told, house = Told(monkeypatch), House()
    (name,) = house.queue("a")

    def fail(name):
        raise OSError(5, "Input/output error")

    house.spool.peek = fail
    ask(house, Questions("run", house.spool, FLAGS), name)
    ((key, (one,)),) = told.last().jobs
    assert key == name.key and one.job.host == "a"
