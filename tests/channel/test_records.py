from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.channel.records import (
    INLINE,
    LINE_LIMIT,
    AddressFact,
    Answer,
    Avoid,
    Dispatch,
    Opening,
    TlsFact,
    decode_mailbox,
    decode_words,
    encode_address,
    encode_answer,
    encode_avoid,
    encode_dispatch,
    encode_opening,
    encode_outcome,
    encode_tls,
    parse,
    read_address,
    read_avoid,
    read_job,
    read_outcome,
    read_recipient,
    read_tls,
    with_param,
)
from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import NULL_PATH, Mailbox, Outcome, Recipient, Reply
from mta.values import replace
from mta.words import quote
from tests.channel import worlds

OK = Outcome(Reply(250, "2.0.0", "ok"))


@given(worlds.dispatches)
def test_r1_a_dispatch_comes_back(dispatch: Dispatch) -> None:
    job, *lines, send = encode_dispatch(dispatch).removesuffix(b"\n").split(b"\n")
    read, people = read_job(parse(job)[1]), {}
    for word, match in map(parse, lines):
        if word == "rcpt":
            recipient = read_recipient(match)
            people[recipient.index] = recipient
        else:
            assert word == "param"
            read = with_param(match, read, people)
    assert replace(read, recipients=tuple(people.values())) == dispatch
    assert send == b"send %d" % dispatch.tag


@given(worlds.outcomes, worlds.names, st.none() | st.integers(0, 10**9))
def test_r1_an_outcome_comes_back(outcome: Outcome, relay: str, index: int | None) -> None:
    line = encode_outcome(7, index, outcome, relay)
    name, match = parse(line.removesuffix(b"\n"))
    assert (name, match[1]) == ("outcome", b"7")
    assert match[2] == (b"*" if index is None else b"%d" % index)
    assert read_outcome(match) == (outcome, Reply.clean(relay))


@given(st.lists(worlds.texts, min_size=6, max_size=6), st.sampled_from(["", "trusted"]))
def test_r1_a_fact_about_tls_comes_back(words: list[str], level: str) -> None:
    fact = TlsFact(*map(Reply.clean, words), level)
    line = encode_tls(TlsFact(*words, level))
    name, match = parse(line.removesuffix(b"\n"))
    assert (name, read_tls(match)) == ("tls", fact)


ADDRESS = st.builds(
    lambda host, port: f"[{host}]:{port}",
    st.sampled_from(["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]),
    st.integers(1, 65535),
)


@given(ADDRESS, worlds.replies.filter(lambda r: not r.permanent), st.integers(0, 10**9))
def test_r1_words_about_addresses_come_back(address: str, reply: Reply, seconds: int) -> None:
    fact = AddressFact(address, reply)
    name, match = parse(encode_address(fact).removesuffix(b"\n"))
    assert (name, read_address(match)) == ("address", fact)
    for what in (address, "host.test"):
        avoid = Avoid(what, seconds, reply)
        name, match = parse(encode_avoid(avoid).removesuffix(b"\n"))
        assert (name, read_avoid(match)) == ("avoid", avoid)


def test_a_param_that_is_not_known_is_passed_over_and_one_for_nobody_is_an_error() -> None:
    job = read_job(parse(b"job 1 x % 1 1.5 % % requiretls,binarymime")[1])
    assert job.requiretls
    assert job.binary
    bob = Recipient(2, Mailbox("bob", "x"))
    people = {2: bob}
    assert with_param(parse(b"param 1 * later yes")[1], job, people) == job
    assert with_param(parse(b"param 1 2 later yes")[1], job, people) == job
    assert people == {2: bob}
    with pytest.raises(RemoteProtocolError, match="recipient 3"):
        with_param(parse(b"param 1 3 notify NEVER")[1], job, people)


@given(st.lists(st.tuples(worlds.texts, worlds.texts), max_size=5))
def test_r1_an_opening_comes_back(options: list[tuple[str, str]]) -> None:
    opening = Opening("local", "a b", "mx.test", tuple(options))
    hello, *lines, go = encode_opening(opening).removesuffix(b"\n").split(b"\n")
    assert decode_words(parse(hello)[1]) == ["1", "local", "a b", "mx.test"]
    assert [tuple(decode_words(parse(line)[1])) for line in lines] == options
    assert go == b"go"


@given(worlds.dispatches, worlds.outcomes, worlds.texts)
def test_r2_lines_hold_no_control_octet(d: Dispatch, outcome: Outcome, text: str) -> None:
    broken = replace(outcome, reply=replace(outcome.reply, text=text))
    lines = encode_dispatch(d, INLINE) + encode_outcome(1, 0, broken, text)
    assert lines.endswith(b"\n")
    assert lines.count(b"\n") == len(d.recipients) + 4 + lines.count(b"\nparam ")
    assert not [c for c in lines if (c < 0x20 and c != 0x0A) or c == 0x7F]


@given(st.binary(max_size=200))
def test_r3_any_octets_are_a_record_or_an_error(line: bytes) -> None:
    try:
        parse(line)
    except RemoteProtocolError as error:
        assert str(error)


KNOWN = [
    b"job 1 x % 1 1.5 % % -",
    b"rcpt 1 2 bob@x % %",
    b"outcome 1 * 250 2.0.0 recipient % ok",
    b"hello 1 each 5 fd",
    b"param 1 2 notify NEVER",
    b"passed 1 *",
    b"tls x.test mx[192.0.2.1]:25 may % TLSv1.3 AES verified",
    b"address [192.0.2.1]:25 421 4.4.1 silent",
    b"avoid [192.0.2.1]:25 900 421 4.4.1 silent",
    b"option a b",
]


@given(st.sampled_from(KNOWN), st.integers(0, 40), st.binary(max_size=3))
def test_r3_a_record_with_any_damage_is_a_record_or_an_error(
    line: bytes, place: int, octets: bytes
) -> None:
    try:
        name, match = parse(line[:place] + octets + line[place + 1 :])
        {"job": read_job, "rcpt": read_recipient, "outcome": read_outcome}.get(name, decode_words)(
            match
        )
    except RemoteProtocolError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello 2 each 1 fd", "version 2"),
        (b"hello 1 some 1 fd", "hello"),
        (b"hello 1 each 0 fd", "hello"),
        (b"sing 1", "unknown word 'sing'"),
        (b"", "unknown word"),
        (b"done  1", "bad words"),
        (b"done 1 ", "bad words"),
        (b"done 1\r", "control character"),
        (b"done -1", "bad words"),
        (b"done " + b"1" * 16, "bad words"),
        (b"outcome 1 * 350 3.0.0 recipient % x", "bad words"),
        (b"outcome 1 * 250 5.0.0 recipient % x", "bad words"),
        (b"outcome 1 * 250 2.0.0 nobody % x", "bad words"),
        (b"outcome 1 * 250 2.0.0 recipient %", "bad words"),
        (b"x" * LINE_LIMIT, "longer than"),
    ],
)
def test_what_is_no_record_is_named(line: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        parse(line, "answer")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("", "%"), ("a b", "a%20b"), ("100%", "100%25"), ("a\r\nb", "a%0D%0Ab"), ("é", "é")],
)
def test_words(text: str, encoded: str) -> None:
    assert quote(text) == encoded


@pytest.mark.parametrize("octets", [b"%", b"%zz", b"a%2", b"\xff"])
def test_bad_words_are_errors_except_the_empty_one(octets: bytes) -> None:
    _, match = parse(b"option a " + octets)
    if octets == b"%":
        assert decode_words(match) == ["a", ""]
        return
    with pytest.raises(RemoteProtocolError):
        decode_words(match)


def test_an_unknown_flag_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown flag"):
        read_job(parse(b"job 1 x % 1 1.5 % % 8bitmime,brandnew")[1])


def test_a_text_with_spaces_needs_no_encoding() -> None:
    outcome, relay = read_outcome(parse(b"outcome 1 0 250 2.0.0 recipient mx%20a as it is")[1])
    assert (outcome.reply.text, relay) == ("as it is", "mx a")


def test_what_no_line_can_hold_is_refused_before_it_is_sent() -> None:
    person = Recipient(0, Mailbox("a", "b"), "|" + "x" * LINE_LIMIT)
    dispatch = Dispatch(1, "i", NULL_PATH, 1, 1.0, "", "", False, False, (person,))
    with pytest.raises(LocalProtocolError, match="octets"):
        encode_dispatch(dispatch)
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        encode_dispatch(replace(dispatch, recipients=(), host="\udc80"))


def test_an_outcome_is_cut_to_fit_its_line() -> None:
    long = Outcome(Reply(250, "2.0.0", "ü \n" * 10000))
    line = encode_outcome(1, None, long, "é" * 5000)
    assert len(line) < LINE_LIMIT
    assert read_outcome(parse(line[:-1])[1])[0].reply.text.startswith("ü ü")


@given(worlds.mailboxes)
def test_a_mailbox_is_told_as_rfc_5321_writes_it(mailbox: Mailbox) -> None:
    assert decode_mailbox(str(mailbox)) == mailbox


@pytest.mark.parametrize("text", ["nobody", '"a@b', ""])
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_mailbox(text)


def test_the_answer_is_one_line() -> None:
    assert encode_answer(Answer("each", 5)) == b"hello 1 each 5 fd\n"
    assert encode_outcome(3, 1, OK, "mx.test") == b"outcome 3 1 250 2.0.0 recipient mx.test ok\n"


def test_a_channel_may_have_any_name() -> None:
    assert parse(b"hello 1 each 1 fd")[0] == "hello"


def test_options_are_found_by_name() -> None:
    opening = Opening("c", "q", "h", (("a", "1"), ("b", "2"), ("a", "3")))
    assert opening.option("a") == "3"
    assert opening.option("z", "none") == "none"
    assert opening.every("a") == ("1", "3")
