import pytest

from mta.deliver.desk import RETRY_WAIT, Desk, Flight
from mta.types import NULL_PATH, Outcome, Reply
from tests.deliver.fakes import AUTHOR, EPOCH, Clock, Log, Returns, Spool, channel

OK = Outcome(Reply(250, "2.0.0", "ok"))
NO = Outcome(Reply(550, "5.1.1", "no such user"))
GREY = Outcome(Reply(451, "4.7.1", "later"))


class Case:
    def __init__(self, *outcomes, reverse_path=AUTHOR):
        self.spool, self.log, self.returns, self.clock = Spool(), Log(), Returns(), Clock()
        self.lines, self.landed = [], []
        self.desk = Desk(
            channel(), self.spool, self.log, self.returns, self.clock, watch=self.lines.append
        )
        self.name = self.spool.add("a", EPOCH, recipients=len(outcomes), reverse_path=reverse_path)
        claim = self.spool.claim(self.name)
        flight = Flight(claim, claim.entry.pending, EPOCH, 0.0)
        flight.told = {i: (o, "mx") for i, o in enumerate(outcomes)}
        self.clock.now += 2
        self.settle = lambda: self.desk.settle(flight, lambda f, when: self.landed.append(when))

    def states(self):
        return [(s.state, told) for _, s, told in self.spool.settled]


def test_k2_delivered_mail_is_settled_logged_and_given_back():
    case = Case(OK, OK)
    case.settle()
    assert case.states() == [("delivered", "")] * 2
    assert case.landed == [0.0]
    assert not case.spool.claimed and not case.spool.jobs
    assert len(case.log.of("attempt")) == 2
    assert case.log.of("removed") == [(case.name.id,)]
    assert case.lines[0] == f"{case.name.key} smtp <u0@a> delivered: 250 2.0.0 ok"


def test_k1_k3_one_dsn_a_job_and_it_comes_first():
    case = Case(NO, OK, NO)
    case.returns.reply = None
    case.settle()
    assert case.states() == [] and case.landed == [] and case.spool.claimed
    (notice,) = case.returns.notices
    assert notice.to == AUTHOR and notice.header == b"Subject: hi\r\n"
    assert [f.mailbox.local for f in notice.failures] == ["u0", "u2"]
    case.returns.answers[0]("DSN1", "")
    assert case.states() == [("failed", "DSN1"), ("delivered", "DSN1"), ("failed", "DSN1")]
    assert case.log.of("notified") == [(case.name.id, "DSN1", AUTHOR)]
    assert case.landed == [0.0] and not case.spool.claimed


def test_k1_a_failure_that_cannot_be_told_stays():
    case = Case(NO, OK)
    case.returns.reply = ("", "the disk is full")
    case.settle()
    assert case.states() == [("deferred", ""), ("delivered", "")]
    assert "the disk is full" in case.spool.settled[0][1].outcome.reply.text
    assert case.landed == [EPOCH + 2 + RETRY_WAIT]
    assert case.name in case.spool.jobs and not case.spool.claimed


@pytest.mark.parametrize("answer", [None, ("-", "its author is unknown here")])
def test_k1_what_nobody_can_be_told_is_kept_for_a_person(answer):
    case = Case(NO, reverse_path=AUTHOR if answer else NULL_PATH)
    case.returns.reply = answer
    case.settle()
    assert len(case.returns.notices) == (1 if answer else 0)
    assert case.states() == [("failed", "-")]
    assert [name for name, _ in case.spool.kept] == [case.name]
    assert case.name.id in case.log.of("warning")[0][0]
    assert not case.log.of("notified")


def test_k1_without_its_header_a_dsn_is_not_made():
    case = Case(NO)
    case.spool.no_body.add(case.name.id)
    case.settle()
    assert case.states() == [("deferred", "")] and not case.returns.notices


def test_k2_what_the_disk_will_not_have_is_kept_in_hand_and_tried_again():
    case = Case(NO, GREY)
    case.spool.broken = True
    case.settle()
    assert case.landed == [] and case.spool.claimed == {case.name}
    assert not case.desk.retry()
    case.spool.broken = False
    assert case.desk.retry()
    assert case.states() == [("failed", "DSN"), ("deferred", "DSN")]
    assert len(case.returns.notices) == 1
    assert len(case.landed) == 1 and not case.spool.claimed
    assert case.desk.retry() and len(case.landed) == 1


def test_a_message_of_many_jobs_is_removed_with_the_last():
    case = Case(OK)
    entry = case.spool.jobs[case.name]
    from mta.values import replace

    case.spool.jobs[case.name] = replace(entry, envelope=replace(entry.envelope, jobs=2))
    case.settle()
    assert not case.log.of("removed")
