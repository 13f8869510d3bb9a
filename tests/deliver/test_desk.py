import pytest

from mta.config.model import Author
from mta.deliver.desk import RETRY_WAIT, Desk, Flight
from mta.deliver.gather import HELD
from mta.types import NULL_PATH, Outcome, Reply
from mta.values import replace
from tests.deliver.fakes import AUTHOR, BODY, EPOCH, Clock, Log, Returns, Spool, channel, gather_of

OK = Outcome(Reply(250, "2.0.0", "ok"))
NO = Outcome(Reply(550, "5.1.1", "no such user"))
GREY = Outcome(Reply(451, "4.7.1", "later"))


class Case:
    def __init__(
        self, *outcomes, reverse_path=AUTHOR, notify=(), passed=(), program="smtp", rules=(), **env
    ):
        self.spool, self.log, self.returns, self.clock = Spool(), Log(), Returns(), Clock()
        self.lines, self.landed = [], []
        self.desk = Desk(
            channel(program=program),
            self.spool,
            self.log,
            gather_of(self.returns, self.log, self.clock),
            self.clock,
            authors=rules,
            watch=self.lines.append,
        )
        self.name = self.spool.add("a", EPOCH, recipients=len(outcomes), reverse_path=reverse_path)
        entry = self.spool.jobs[self.name]
        people = [
            replace(r, notify=n, orcpt=f"rfc822;o{r.index}@x") if n else r
            for r, n in zip(entry.job.recipients, notify or [""] * len(outcomes), strict=True)
        ]
        self.spool.jobs[self.name] = replace(
            entry,
            job=replace(entry.job, recipients=tuple(people)),
            envelope=replace(entry.envelope, **env),
        )
        claim = self.spool.claim(self.name)
        self.flight = flight = Flight(claim, claim.entry.pending, EPOCH, 0.0)
        flight.told = {i: (o, "mx") for i, o in enumerate(outcomes)}
        flight.passed.update(passed)
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
    assert case.states() == [("delivered", "")] and case.landed == [] and case.spool.claimed
    (notice,) = case.returns.notices
    assert notice.to == AUTHOR and notice.quoted == b"Subject: hi\r\n"
    assert [g.mailbox.local for g in notice.groups] == ["u0", "u2"]
    case.returns.answers[0]("DSN1", "")
    assert case.states() == [("delivered", ""), ("failed", "DSN1"), ("failed", "DSN1")]
    assert case.log.of("notified") == [(case.name.id, "DSN1", AUTHOR, "failure")]
    assert case.landed == [0.0] and not case.spool.claimed


def test_k1_a_failure_that_cannot_be_told_stays():
    case = Case(NO, OK)
    case.returns.reply = ("", "the disk is full")
    case.settle()
    assert case.states() == [("delivered", ""), ("deferred", "")]
    assert "the disk is full" in case.spool.settled[1][1].outcome.reply.text
    assert case.landed == [EPOCH + 2 + RETRY_WAIT]
    assert case.name in case.spool.jobs and not case.spool.claimed


@pytest.mark.parametrize("path", [AUTHOR, NULL_PATH])
def test_k1_what_nobody_can_be_told_is_kept_for_a_person(path):
    case = Case(NO, reverse_path=path)
    case.returns.reply = ("-", "unknown here")
    case.settle()
    assert [n.to for n in case.returns.notices] == [AUTHOR, None][path is NULL_PATH :]
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
    assert case.states() == [("deferred", ""), ("failed", "DSN")]
    assert len(case.returns.notices) == 1
    assert len(case.landed) == 1 and not case.spool.claimed
    assert case.desk.retry() and len(case.landed) == 1


def test_a_message_of_many_jobs_is_removed_with_the_last():
    case = Case(OK)
    entry = case.spool.jobs[case.name]
    case.spool.jobs[case.name] = replace(entry, envelope=replace(entry.envelope, jobs=2))
    case.settle()
    assert not case.log.of("removed")


ASKED = "SUCCESS,FAILURE,DELAY"


def actions(case):
    return [(g.mailbox.local, g.action, g.orcpt) for n in case.returns.notices for g in n.groups]


def test_k4_a_failure_that_nobody_wants_to_hear_of_is_settled_and_logged():
    case = Case(NO, NO, OK, notify=["NEVER", "SUCCESS,DELAY", ""])
    case.settle()
    assert not case.returns.notices
    assert not case.spool.kept
    assert case.states() == [("failed", "-"), ("failed", "-"), ("delivered", "-")]
    assert [r.index for _, r in case.log.of("unreported")] == [0, 1]
    assert case.landed == [0.0]


def test_k4_a_null_path_is_told_nothing_and_asked_silence_keeps_nothing():
    case = Case(NO, OK, notify=["NEVER", "SUCCESS"], reverse_path=NULL_PATH)
    case.settle()
    assert not case.returns.notices
    assert not case.spool.kept
    assert [state for state, _ in case.states()] == ["failed", "delivered"]


@pytest.mark.parametrize(
    ("program", "action"), [("smtp", "relayed"), ("lmtp", "delivered"), ("local", "delivered")]
)
def test_k4_a_success_is_reported_to_who_asked_and_before_it_is_settled(program, action):
    case = Case(OK, OK, OK, NO, notify=[ASKED, "", ASKED, ""], passed=[2], program=program)
    case.returns.reply = None
    case.settle()
    assert case.states() == [("delivered", "")] * 2
    assert actions(case) == [("u0", action, "rfc822;o0@x"), ("u3", "failed", "")]
    case.returns.answers[0]("DSN1", "")
    assert [state for state, _ in case.states()] == ["delivered"] * 3 + ["failed"]


def test_k4_a_dsn_of_success_alone_says_so():
    case = Case(OK, notify=["SUCCESS"], ret="FULL", envid="E1", size=len(BODY))
    case.settle()
    (notice,) = case.returns.notices
    assert (notice.envid, notice.whole, notice.quoted) == ("E1", False, b"Subject: hi\r\n")
    assert case.log.of("notified") == [(case.name.id, "DSN", AUTHOR, "success")]


@pytest.mark.parametrize("reply", [("", "the disk is full"), ("-", "unknown author")])
def test_k5_what_was_delivered_stays_delivered_when_it_cannot_be_reported(reply):
    case = Case(OK, GREY, notify=[ASKED, ASKED])
    case.returns.reply = reply
    case.settle()
    assert sorted(state for state, _ in case.states()) == ["deferred", "delivered"]
    assert reply[1] in case.log.of("warning")[0][0]
    assert not case.spool.kept
    case = Case(OK, NO, notify=[ASKED, ASKED])
    case.returns.reply = reply
    case.settle()
    assert [state for state, _ in case.states()] == [
        "delivered",
        "failed" if reply[0] else "deferred",
    ]


@pytest.mark.parametrize(
    ("env", "whole"),
    [
        ({"ret": "FULL"}, True),
        ({"ret": "HDRS"}, False),
        ({}, False),
        ({"ret": "FULL", "size": (1 << 20) + 1}, False),
        ({"ret": "FULL", "binary": True}, False),
        ({"ret": "FULL", "requiretls": True}, False),
    ],
)
def test_the_whole_message_goes_back_if_that_was_asked_and_can_be(env, whole):
    case = Case(NO, **{"size": len(BODY), **env})
    case.settle()
    (notice,) = case.returns.notices
    assert notice.whole == whole
    assert notice.quoted == (BODY if whole else b"Subject: hi\r\n")
    assert notice.requiretls == env.get("requiretls", False)


def test_k3_one_flight_is_one_dsn_and_what_it_tells_is_one_part():
    case = Case(NO, OK, NO, GREY)
    case.settle()
    assert len(case.returns.notices) == 1
    assert [s for s, _ in case.states()] == ["delivered", "deferred", "failed", "failed"]
    assert case.landed == [case.spool.settled[1][1].retry_at]


@pytest.mark.parametrize(
    ("failures", "to", "told"),
    [("return", [AUTHOR], "DSN"), ("postmaster", [None], "DSN"), ("discard", [], "-")],
)
def test_k4_a_rule_says_who_is_told_of_the_failures_of_an_author(failures, to, told):
    case = Case(NO, OK, notify=["", "SUCCESS"], rules=(Author(("@example.test",), failures),))
    case.settle()
    lost = [n.to for n in case.returns.notices if any(g.action == "failed" for g in n.groups)]
    assert lost == to
    assert sorted(case.states()) == [("delivered", "DSN"), ("failed", told)]
    discarded = [(case.name.id, AUTHOR, 1)] if failures == "discard" else []
    assert case.log.of("discarded") == discarded
    assert case.landed == [0.0] and not case.spool.claimed and case.desk.held == 0


def test_k4_the_mark_of_an_address_that_stands_for_several_is_told_as_expanded():
    case = Case(OK, notify=["SUCCESS"])
    marked = [(replace(r, action="=expanded"), s) for r, s in case.flight.tried]
    case.flight.tried = tuple(marked)
    case.settle()
    assert [g.action for n in case.returns.notices for g in n.groups] == ["expanded"]


def warned(*outcomes, **how):
    case = Case(*outcomes, **how)
    case.desk.warn(case.flight, lambda f, when: case.landed.append(when))
    return case


def test_k6_a_delay_is_told_with_the_last_reply_and_noted_when_that_is_accepted():
    case = Case(GREY, GREY)
    case.returns.reply = None
    tried = [(r, replace(s, outcome=GREY, last=EPOCH)) for r, s in case.flight.tried]
    case.flight.tried = tuple(tried)
    case.desk.warn(case.flight, lambda f, when: case.landed.append(when))
    assert case.spool.notes == [] and case.spool.claimed
    (notice,) = case.returns.notices
    assert {(g.action, g.outcome, g.until) for g in notice.groups} == {
        ("delayed", GREY, EPOCH + 432000.0)
    }
    case.returns.answers[0]("DSN1", "")
    assert [(n.word, n.who) for _, n in case.spool.notes] == [("warned", "DSN1")]
    assert case.log.of("notified") == [(case.name.id, "DSN1", AUTHOR, "delay")]
    assert not case.spool.claimed and len(case.landed) == 1 and case.states() == []


@pytest.mark.parametrize(
    "how",
    [
        {"reverse_path": NULL_PATH},
        {"notify": ["FAILURE", "NEVER"]},
        {"rules": (Author(("@example.test",), "discard"),)},
    ],
)
def test_k6_who_does_not_want_to_hear_of_delays_does_not(how):
    case = warned(GREY, GREY, **how)
    assert not case.returns.notices and not case.spool.notes
    assert not case.spool.claimed and len(case.landed) == 1


def test_k6_a_warning_that_is_not_accepted_is_not_noted():
    case = Case(GREY)
    case.returns.reply = ("", "the disk is full")
    case.desk.warn(case.flight, lambda f, when: case.landed.append(when))
    assert not case.spool.notes and not case.spool.claimed and len(case.landed) == 1


def test_k7_flights_beyond_what_gather_holds_take_turns_while_dsns_are_slow():
    case = Case(NO)
    case.returns.reply = None
    for _ in range(HELD + 5):
        case.settle()
    assert case.desk.held == HELD + 5 and case.desk.aside == HELD
