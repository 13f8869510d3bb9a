from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.channel.records import (
    ALL,
    EACH,
    FD,
    INLINE,
    LINE_LIMIT,
    AddressFact,
    Answer,
    Avoid,
    Dispatch,
    Done,
    Opening,
    TlsFact,
    Told,
)
from mta.channel.states import JOB, SESSION, walk
from mta.channel.talk import DeliverEnd, Part, ProgramEnd, Quit
from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import NULL_PATH, Job, Mailbox, Outcome, Recipient, Reply
from mta.values import replace
from tests.channel import worlds

OK = Outcome(Reply(250, "2.0.0", "ok"))
NO = Outcome(Reply(550, "5.1.1", "no such user"))


def people(count: int) -> tuple[Recipient, ...]:
    return tuple([Recipient(10 + n, Mailbox(f"u{n}", "x.test")) for n in range(count)])


def job(count: int) -> Job:
    return Job(0, "q", "c", "h.test", "", NULL_PATH, people(count))


def opened(settles: str = EACH, jobs: int = 4, body: str = FD) -> tuple[DeliverEnd, ProgramEnd]:
    deliver, program = DeliverEnd("c", "q", "mx.test", [("a", "b")], jobs), ProgramEnd()
    (opening,) = program.receive(deliver.opening())
    assert opening == Opening(
        "c", "q", "mx.test", (("jobs", str(jobs)), ("hostname", "mx.test"), ("a", "b"))
    )
    answer = Answer(settles, jobs, body)
    assert deliver.receive(program.answer(answer)) == [answer]
    return deliver, program


def sent(deliver: DeliverEnd, count: int, size: int = 5) -> tuple[int, bytes]:
    work = job(count)
    return deliver.send_job(work, "1ab", size, 1.5, work.recipients)


def test_one_job_from_end_to_end() -> None:
    deliver, program = opened()
    tag, lines = sent(deliver, 2)
    (dispatch,) = program.receive(lines)
    assert dispatch == Dispatch(
        tag, "1ab", NULL_PATH, 5, 1.5, "h.test", "", False, False, people(2)
    )
    assert deliver.receive(program.outcome(tag, 10, NO, "mx")) == [Told(tag, (10,), NO, "mx")]
    assert deliver.untold(tag) == program.untold(tag) == (11,)
    events = deliver.receive(program.outcome(tag, None, OK) + program.done(tag))
    assert events == [Told(tag, (11,), OK, ""), Done(tag)]
    assert program.receive(deliver.quit()) == [Quit()]
    deliver.eof()
    assert deliver.quit() == b""


def transcript(body: str) -> tuple[bytes, bytes]:
    """Return all that deliver and all that the program say in one conversation."""
    deliver, program = opened(body=body)
    said = DeliverEnd("c", "q", "mx.test", [("a", "b")], 4).opening()
    told = b"hello 1 each 4 " + body.encode() + b"\n"
    for count, octets in ((2, b"ab\ncd"), (1, b""), (3, b"send 1\ndone 1\n")):
        tag, lines = sent(deliver, count, len(octets))
        lines += octets if body == INLINE else b""
        said += lines
        program.receive(lines)
        told += program.outcome(tag, 10, NO) + program.outcome(tag, None, OK) + program.done(tag)
    return said + b"quit\n", told


def program_events(pieces: list[bytes], body: str) -> list[object]:
    program = ProgramEnd()
    events: list[object] = []
    for piece in pieces:
        for event in program.receive(piece):
            if isinstance(event, Opening):
                program.answer(Answer(EACH, 4, body))
            events.append(event)
    joined: list[object] = []
    for event in events:
        before = joined[-1] if joined else None
        if isinstance(event, Part) and isinstance(before, Part) and not before.last:
            joined[-1] = Part(event.tag, before.octets + event.octets, event.last)
        else:
            joined.append(event)
    return joined


@pytest.mark.parametrize("body", [FD, INLINE])
def test_t1_split_at_every_octet_the_program_hears_the_same(body: str) -> None:
    said, _ = transcript(body)
    greeting = said.index(b"go\n") + 3  # what follows waits for the program's answer
    whole = program_events([said[:greeting], said[greeting:]], body)
    assert len([e for e in whole if isinstance(e, Dispatch)]) == 3
    if body == INLINE:
        assert [e.octets for e in whole if isinstance(e, Part)] == [
            b"ab\ncd",
            b"",
            b"send 1\ndone 1\n",
        ]
    assert program_events([said[n : n + 1] for n in range(len(said))], body) == whole
    for place in range(greeting, len(said)):
        assert program_events([said[:greeting], said[greeting:place], said[place:]], body) == whole


def deliver_events(pieces: list[bytes]) -> list[object]:
    deliver = DeliverEnd("c", "q", "mx.test", [("a", "b")], 4)
    deliver.opening()
    greeting = b"hello 1 each 4 fd\n"
    deliver.receive(greeting)
    for count in (2, 1, 3):
        sent(deliver, count)
    return [event for piece in pieces for event in deliver.receive(piece)]


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_t1_however_it_is_cut_deliver_hears_the_same(places: list[int]) -> None:
    _, told = transcript(FD)
    told = told.partition(b"\n")[2]
    whole = deliver_events([told])
    assert len([e for e in whole if isinstance(e, Done)]) == 3
    assert deliver_events(worlds.cut(told, places)) == whole
    assert deliver_events([told[n : n + 1] for n in range(len(told))]) == whole


@settings(max_examples=150)
@given(st.data(), st.sampled_from([EACH, ALL]), st.integers(1, 5))
def test_t2_any_interleaving_tells_everyone_once(
    data: st.DataObject, settles: str, jobs: int
) -> None:
    deliver, program = opened(settles, jobs)
    owed: dict[int, set[int]] = {}
    told: dict[int, list[int]] = {}
    done: list[int] = []
    left = data.draw(st.integers(1, 8))
    while left or owed:
        assert deliver.free == jobs - len(owed)
        choice = data.draw(st.integers(0, 2)) if owed else 0
        if choice == 0 and left and deliver.free:
            tag, lines = sent(deliver, data.draw(st.integers(1, 3)))
            (dispatch,) = program.receive(lines)
            assert isinstance(dispatch, Dispatch)
            owed[tag] = {r.index for r in dispatch.recipients}
            told[tag] = []
            left -= 1
            continue
        if not owed:
            continue
        tag = data.draw(st.sampled_from(sorted(owed)))
        if owed[tag] and choice == 1:
            index = data.draw(st.sampled_from(sorted(owed[tag])))
            octets = program.outcome(tag, index, NO)
            owed[tag].discard(index)
        else:
            octets = program.outcome(tag, None, OK) if owed[tag] else b""
            octets += program.done(tag)
            del owed[tag]
        for event in deliver.receive(octets):
            if isinstance(event, Told):
                told[event.tag] += event.indexes
            else:
                assert isinstance(event, Done)
                done.append(event.tag)
    assert sorted(done) == sorted(told)
    assert all(len(set(indexes)) == len(indexes) > 0 for indexes in told.values())
    assert deliver.in_flight == ()
    assert program.in_flight == 0


@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
def test_t3_babble_is_a_protocol_error(pieces: list[bytes], in_flight: bool) -> None:
    deliver, program = opened()
    if in_flight:
        sent(deliver, 2)
    for end in (deliver, program):
        try:
            for piece in pieces:
                end.receive(piece)
        except RemoteProtocolError as error:
            assert str(error)


def test_t4_a_program_that_settles_all_settles_nobody_before_done() -> None:
    deliver, program = opened(ALL)
    tag, lines = sent(deliver, 3)
    program.receive(lines)
    assert deliver.receive(program.outcome(tag, 11, NO) + program.outcome(tag, None, OK)) == []
    assert sorted(deliver.untold(tag)) == [10, 11, 12]
    assert deliver.receive(program.done(tag)) == [
        Told(tag, (11,), NO, ""),
        Told(tag, (10, 12), OK, ""),
        Done(tag),
    ]


def test_t5_deliver_sends_no_more_jobs_than_were_declared() -> None:
    deliver, program = opened(jobs=2)
    program.receive(sent(deliver, 1)[1] + sent(deliver, 1)[1])
    assert deliver.free == 0
    with pytest.raises(LocalProtocolError, match="no more jobs"):
        sent(deliver, 1)
    with pytest.raises(RemoteProtocolError, match="more than 2 jobs"):
        program.receive(b"job 9 x % 1 1.5 % % -\n")


def test_the_lines_of_a_job_are_a_walk_in_the_tables() -> None:
    for body in (FD, INLINE):
        deliver, _ = opened(body=body)
        session, state = "open", "absent"
        for line in sent(deliver, 3)[1].split(b"\n")[:-1]:
            word = line.split(b" ")[0].decode()
            session, state = walk(SESSION, session, word), walk(JOB[body], state, word)
        assert (session, state) == ("open", "sent")


@pytest.mark.parametrize(
    ("babble", "reason"),
    [
        (b"outcome 2 * 250 2.0.0 recipient % ok\n", "job 2, which is not in flight"),
        (b"outcome 1 99 250 2.0.0 recipient % ok\n", "recipient 99"),
        (b"done 7\n", "job 7"),
        (b"passed 7 *\n", "not in flight"),
        (b"passed 1 99\n", "recipient 99"),
        (b"param 1 * ret FULL\n", "not a word for a channel program"),
        (b"hello 1 each 1 fd\n", "may not come when open"),
        (b"job 1 x % 1 1.5 % % -\n", "not a word for a channel program"),
        (b"Traceback (most recent call last):\n", "unknown word 'Traceback'"),
        (b"x" * LINE_LIMIT, "longer than"),
        (b"outcome 1 10 550 5.1.1 recipient % no\n" * 2, "recipient 10"),
        (b"outcome 1 * 250 2.0.0 recipient % ok\ndone 1\ndone 1\n", "job 1"),
    ],
)
def test_a_babbling_program_is_named_with_the_reason(babble: bytes, reason: str) -> None:
    deliver, _ = opened()
    sent(deliver, 2)
    with pytest.raises(RemoteProtocolError, match=reason):
        deliver.receive(babble)


def test_whom_a_program_forgets_is_deferred_when_the_job_is_done() -> None:
    deliver, _ = opened()
    tag, _ = sent(deliver, 2)
    told, done = deliver.receive(b"done %d\n" % tag)
    assert isinstance(told, Told)
    assert told.indexes == (10, 11)
    assert told.outcome.reply.transient
    assert done == Done(tag)


def test_a_program_may_not_take_more_jobs_than_were_offered() -> None:
    deliver = DeliverEnd("c", "q", "mx.test", jobs=2)
    deliver.opening()
    with pytest.raises(RemoteProtocolError, match="2 were offered"):
        deliver.receive(b"hello 1 each 3 fd\n")


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"", "jobs in flight"), (b"outcome 1 ", "middle of a line")],
)
def test_an_end_with_jobs_in_flight_is_an_error(said: bytes, reason: str) -> None:
    deliver, _ = opened()
    sent(deliver, 1)
    deliver.receive(said)
    with pytest.raises(RemoteProtocolError, match=reason):
        deliver.eof()


def test_an_end_that_nobody_asked_for_is_an_error() -> None:
    deliver, _ = opened()
    with pytest.raises(RemoteProtocolError, match="unasked"):
        deliver.eof()


def asking(deliver: DeliverEnd) -> tuple[int, bytes]:
    """Send a job with all that RFC 3461, RFC 8689 and RFC 3030 let it ask for."""
    one, two = people(2)
    work = replace(
        job(0), recipients=(replace(one, notify="SUCCESS,DELAY", orcpt="rfc822;o@x"), two)
    )
    dsn = {"ret": "FULL", "envid": "E 1", "requiretls": True, "binary": True}
    return deliver.send_job(work, "1ab", 5, 1.5, work.recipients, **dsn)


@pytest.mark.parametrize("params", [True, False])
def test_what_was_asked_is_told_to_a_program_that_takes_it(params: bool) -> None:
    deliver, program = DeliverEnd("c", "q", "mx.test", jobs=4), ProgramEnd()
    program.receive(deliver.opening())
    deliver.receive(program.answer(Answer(EACH, 4, FD, params)))
    tag, lines = asking(deliver)
    (dispatch,) = program.receive(lines)
    assert isinstance(dispatch, Dispatch)
    first, second = dispatch.recipients
    assert second == people(2)[1]
    if params:
        assert (first.notify, first.orcpt) == ("SUCCESS,DELAY", "rfc822;o@x")
        assert (dispatch.ret, dispatch.envid) == ("FULL", "E 1")
    else:
        assert first == people(2)[0]
        assert b"param" not in lines
    assert dispatch.requiretls == dispatch.binary == params
    program.outcome(tag, None, OK)
    program.done(tag)


def test_who_was_passed_on_is_told_apart() -> None:
    deliver, program = DeliverEnd("c", "q", "mx.test", jobs=4), ProgramEnd()
    program.receive(deliver.opening())
    deliver.receive(program.answer(Answer(ALL, 4, FD, params=True)))
    tag, lines = asking(deliver)
    program.receive(lines)
    said = program.outcome(tag, 10, OK, "mx", dsn_passed=True)
    assert said.startswith(b"passed 1 10\n")
    said += program.outcome(tag, 11, OK, "mx") + program.done(tag)
    assert deliver.receive(said) == [
        Told(tag, (10,), OK, "mx", True),
        Told(tag, (11,), OK, "mx"),
        Done(tag),
    ]
    tag, lines = asking(deliver)
    program.receive(lines)
    said = b"passed %d 10\n" % tag + program.outcome(tag, None, OK) + program.done(tag)
    assert deliver.receive(said) == [
        Told(tag, (10,), OK, "", True),
        Told(tag, (11,), OK),
        Done(tag),
    ]


def test_nothing_more_is_said_where_nobody_asked_for_success() -> None:
    deliver, program = opened()
    tag, lines = sent(deliver, 1)
    program.receive(lines)
    assert program.outcome(tag, None, OK, dsn_passed=True).startswith(b"outcome")


def test_a_fact_about_tls_is_heard_in_any_open_state() -> None:
    deliver, program = opened()
    fact = TlsFact("x.test", "mx[192.0.2.1]:25", "dane", "", "TLSv1.3", "AES", "verified")
    assert program.tls(fact) != b""
    assert deliver.receive(program.tls(fact)) == [fact]
    program.receive(deliver.quit())
    assert deliver.receive(program.tls(fact)) == [fact]
    assert ProgramEnd().tls(fact) == b""


def test_what_a_program_may_not_say_it_cannot_say() -> None:
    deliver, program = opened()
    tag, lines = sent(deliver, 2)
    with pytest.raises(LocalProtocolError):
        program.outcome(tag, 10, OK)
    program.receive(lines)
    with pytest.raises(LocalProtocolError, match="99"):
        program.outcome(tag, 99, OK)
    with pytest.raises(LocalProtocolError, match="not told"):
        program.done(tag)
    program.outcome(tag, None, OK)
    program.done(tag)
    with pytest.raises(LocalProtocolError):
        program.done(tag)
    with pytest.raises(LocalProtocolError):
        program.answer(Answer(EACH, 1))


def test_a_job_needs_recipients_each_with_its_own_index() -> None:
    deliver, _ = opened()
    work = job(1)
    for recipients in ((), work.recipients * 2):
        with pytest.raises(LocalProtocolError):
            deliver.send_job(work, "i", 1, 1.5, recipients)
    assert deliver.in_flight == ()


def test_an_inline_body_is_as_long_as_its_job_said() -> None:
    deliver, program = opened(body=INLINE)
    lines = sent(deliver, 1)[1]
    with pytest.raises(RemoteProtocolError, match="long as its job"):
        program.receive(lines.replace(b"body 1 5", b"body 1 6"))


def test_addresses_are_spoken_of_where_the_hello_said_so() -> None:
    fact = AddressFact("[192.0.2.1]:25", Reply(421, "4.4.1", "connection timed out"))
    avoid = Avoid("[2001:db8::1]:25", 900, Reply(421, "4.4.1", "no route 100%"))
    deliver, program = opened()
    assert deliver.avoid(avoid) == program.address(fact) == b""
    deliver, program = DeliverEnd("c", "q", "mx.test", [("addresses", "yes")], 4), ProgramEnd()
    program.receive(deliver.opening())
    assert program.address(fact) == deliver.avoid(avoid) == b""
    deliver.receive(program.answer(Answer(ALL, 4, FD, addresses=True)))
    assert deliver.answer is not None and deliver.answer.addresses and not deliver.answer.params
    assert deliver.receive(program.address(fact)) == [fact]
    assert program.receive(deliver.avoid(avoid)) == [avoid]
    program.receive(deliver.quit())
    assert deliver.avoid(avoid) == b""
    assert deliver.receive(program.address(fact)) == [fact]
