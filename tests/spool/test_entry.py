"""E1 to E6: a job file is read back as it was written, or not at all."""

from hypothesis import given
from hypothesis import strategies as st

from mta.spool.entry import (
    DUE,
    HOLD,
    RELEASE,
    WARNED,
    Entry,
    Envelope,
    Note,
    RecipientState,
    Settlement,
    decode,
    decode_envelope,
    encode,
    encode_lines,
    encode_note,
)
from mta.types import (
    DEFERRED,
    DELIVERED,
    FAILED,
    NULL_PATH,
    PENDING,
    Job,
    Mailbox,
    Outcome,
    Recipient,
    Reply,
)
from mta.values import replace

times = st.floats(0, 4e9)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.text("abcxyz-.0", min_size=1, max_size=20)
mailboxes = st.builds(Mailbox, texts, names)
paths = st.one_of(mailboxes, st.just(NULL_PATH))
recipients = st.lists(
    st.builds(
        Recipient,
        st.integers(0, 999),
        mailboxes,
        texts,
        st.one_of(st.none(), mailboxes),
        st.sampled_from(["", "NEVER", "SUCCESS,FAILURE"]),
        st.one_of(st.just(""), texts),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda r: r.index,
).map(tuple)
jobs = st.builds(Job, st.integers(0, 99), names, names, texts, texts, paths, recipients)
envelopes = st.builds(
    Envelope,
    names,
    paths,
    st.integers(0, 1 << 40),
    st.booleans(),
    st.booleans(),
    texts,
    st.integers(1, 99),
    st.integers(1, 99),
    st.sampled_from(["", "FULL", "HDRS"]),
    st.one_of(st.just(""), texts),
    st.booleans(),
    st.booleans(),
)
states = st.sampled_from([DEFERRED, DELIVERED, FAILED])

JOB = Job(
    0,
    "smtp",
    "smtp",
    "mx.example.test",
    "",
    Mailbox("alice", "example.test"),
    (Recipient(0, Mailbox("bob", "mx.example.test")), Recipient(1, Mailbox("c", "x.test"))),
)
ENVELOPE = Envelope("25WZSN34LG4009YR", Mailbox("alice", "example.test"), 4096, origin="uid 1000")


def settled(index: int, state: str, at: float) -> Settlement:
    return Settlement(index, state, at, at + 300, Outcome(Reply(451, "4.4.1", f"at {at}"), "host"))


@given(envelopes, jobs)
def test_e1_envelope_and_job_come_back(envelope, job):
    entry = decode(encode(envelope, job, "SEGMENT", 4711))
    states = (RecipientState(),) * len(job.recipients)
    assert entry == Entry(envelope, job, "SEGMENT", 4711, states)


@given(envelopes, jobs)
def test_e1_the_envelope_alone_is_the_same(envelope, job):
    assert decode_envelope(encode(envelope, job, "SEGMENT")) == envelope


def test_e1_a_file_from_before_dsn_parameters_is_read():
    text = encode(ENVELOPE, JOB, "S").decode()
    assert "dsn" not in text
    assert "\nflags -\n" in text
    assert "\nto 0 bob@mx.example.test % %\nto 1 c@x.test % %\nend " in text
    assert decode(text.encode()).job == JOB


def test_e2_a_torn_or_changed_envelope_is_no_entry():
    whole = encode(ENVELOPE, JOB, "S")
    for cut in range(len(whole)):
        assert decode(whole[:cut]) is None, cut
    for at in range(len(whole) - 1):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert decode(changed) is None, at


@given(st.lists(st.tuples(st.integers(0, 1), states), max_size=6), st.data())
def test_e3_a_state_is_the_last_whole_line(history, data):
    base = encode(ENVELOPE, JOB, "S")
    lines = [encode_lines([settled(i, s, float(n))], n + 1) for n, (i, s) in enumerate(history)]
    tail = b"".join(lines)
    cut = data.draw(st.integers(0, len(tail)))
    entry = decode(base + tail[:cut])
    expected = [PENDING, PENDING]
    at = 0
    for (index, state), line in zip(history, lines, strict=True):
        at += len(line)
        if at <= cut and expected[index] not in (DELIVERED, FAILED):
            expected[index] = state
    assert [s.state for s in entry.states] == expected
    assert [r.index for r, _ in entry.pending] == [
        i for i in (0, 1) if expected[i] in (PENDING, DEFERRED)
    ]


def test_e3_zeros_where_a_line_was_are_no_line():
    whole = encode(ENVELOPE, JOB, "S") + bytes(80) + b"\n"
    assert [s.state for s in decode(whole).states] == [PENDING, PENDING]


def test_e3_a_line_with_zeros_in_its_text_is_no_line():
    line = encode_lines([settled(0, DELIVERED, 5.0)], 1).replace(b"at 5.0", b"at \0\0\0")
    assert decode(encode(ENVELOPE, JOB, "S") + line).states[0].state == PENDING


def test_an_outcome_keeps_its_words():
    line = encode_lines([settled(0, DEFERRED, 5.0)], 3)
    state = decode(encode(ENVELOPE, JOB, "S") + line).states[0]
    assert state.attempts == 3 and state.last == 5.0 and state.retry_at == 305.0
    assert state.outcome == Outcome(Reply(451, "4.4.1", "at 5.0"), "host")


@given(texts)
def test_a_reply_cannot_add_lines(text):
    s = Settlement(0, DEFERRED, 1.0, 2.0, Outcome(Reply(451, "4.0.0", text + "\n= 1 delivered")))
    entry = decode(encode(ENVELOPE, JOB, "S") + encode_lines([s], 1))
    assert entry.states[1].state == PENDING


def test_e4_one_recipient_stays_under_512_octets():
    one = replace(JOB, recipients=JOB.recipients[:1])
    assert len(encode(ENVELOPE, one, "25WZSN34LG4009YR")) < 400


NOTES = st.builds(
    Note,
    st.sampled_from([HOLD, RELEASE, DUE, WARNED]),
    times,
    texts,
    st.sampled_from(["", "why", "a b"]),
)


@given(st.lists(NOTES, max_size=6))
def test_e5_the_last_note_of_a_word_counts(notes):
    data = encode(ENVELOPE, JOB, "S") + b"".join(map(encode_note, notes))
    entry = decode(data)
    for word, words in ((HOLD, (HOLD, RELEASE)), (DUE, (DUE,)), (WARNED, (WARNED,))):
        last = next((note for note in reversed(notes) if note.word in words), None)
        found = entry.note(word)
        if last is None or last.word == RELEASE:
            assert found is None
        else:
            assert (found.word, found.who, found.text) == (last.word, last.who, last.text)
            assert abs(found.at - last.at) < 1e-5
    if notes:
        assert decode(data[:-1]).notes == decode(data[: data.rfind(b"\n", 0, -1) + 1]).notes


@given(st.lists(st.tuples(st.sampled_from(["", "dial", "third"]), st.integers(0, 1)), max_size=8))
def test_e6_each_channel_has_its_own_state(attempts):
    data, seen = encode(ENVELOPE, JOB, "S"), {}
    for number, (channel, index) in enumerate(attempts, 1):
        one = settled(index, DEFERRED, 1000.0 + number)
        data += encode_lines([one], number, channel)
        seen[channel, index] = one.at
    for index, state in enumerate(decode(data).states):
        for channel in ("", "dial", "third"):
            assert state.seen_by(channel).last == seen.get((channel, index), 0.0)


@given(
    envelopes, jobs, st.sampled_from(["urgent", "normal", "bulk"]), st.integers(-100, 100), times
)
def test_e1_kind_precedence_expiry_and_mode_come_back(envelope, job, kind, precedence, expires):
    way = replace(
        envelope,
        kind=kind,
        precedence=precedence,
        expires=round(expires, 6),
        mode="queue",
        pinned=True,
    )
    assert decode(encode(way, job, "S")).envelope == way
