from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.extensions import (
    NO_EXTENSIONS,
    Extensions,
    Transaction,
    mail_parameters,
    parse,
    unmet,
)
from mta.smtp.grammar import WireReply
from mta.types import NULL_PATH, Mailbox

ASCII, WIDE = Mailbox("a", "example.net"), Mailbox("jürgen", "example.net")
EXTENSIONS = st.builds(
    Extensions, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, 0, 10, 10**9])
)
TRANSACTIONS = st.builds(
    Transaction,
    st.sampled_from([NULL_PATH, ASCII, WIDE]),
    st.sampled_from([(ASCII,), (ASCII, WIDE), (WIDE,)]),
    st.sampled_from([0, 1, 11, 10**6]),
    st.booleans(),
    st.booleans(),
)


def offer(*lines: bytes) -> Extensions:
    return parse(WireReply(250, (b"mx", *lines)))


@given(st.lists(st.binary(max_size=40), min_size=1).map(tuple))
def test_e1_any_lines_parse(lines: tuple[bytes, ...]) -> None:
    offered = parse(WireReply(250, lines))
    assert offered.size is None or offered.size >= 0


@given(EXTENSIONS, TRANSACTIONS)
def test_e2_only_what_was_offered(offered: Extensions, transaction: Transaction) -> None:
    words = [word.partition("=")[0] for word in mail_parameters(offered, transaction).split()]
    assert "BODY" not in words or offered.eight_bit
    assert "SMTPUTF8" not in words or offered.smtputf8
    assert "SIZE" not in words or offered.size is not None
    if unmet(offered, transaction) is None:
        assert ("BODY" in words) == transaction.eight_bit
        assert offered.smtputf8 or not transaction.smtputf8


def test_the_greeting_is_no_keyword() -> None:
    assert parse(WireReply(250, (b"PIPELINING",))) == NO_EXTENSIONS


def test_keywords() -> None:
    offered = offer(b"PipeLining", b"SIZE 1000", b"8BITMIME ", b"AUTH=PLAIN LOGIN", b"SIZE 5")
    assert offered.pipelining
    assert offered.eight_bit
    assert not offered.smtputf8
    assert offered.size == 1000
    assert ("AUTH", "PLAIN LOGIN") in offered.keywords


def test_odd_sizes_set_no_limit() -> None:
    for word in (b"SIZE", b"SIZE many", b"SIZE -1", b"SIZE " + b"9" * 30, "SIZE ٣".encode()):
        assert offer(word).size == 0
    assert offer(b"XSIZE 1").size is None


def test_size_at_the_limit_is_taken() -> None:
    at = Transaction(ASCII, (ASCII,), 10)
    over = Transaction(ASCII, (ASCII,), 11)
    assert unmet(offer(b"SIZE 10"), at) is None
    refusal = unmet(offer(b"SIZE 10"), over)
    assert refusal is not None
    assert (refusal.reply.code, refusal.reply.status, refusal.scope) == (552, "5.3.4", "message")


def test_an_international_reverse_path_needs_smtputf8() -> None:
    refusal = unmet(NO_EXTENSIONS, Transaction(WIDE, (ASCII,), 1))
    assert refusal is not None
    assert refusal.reply.status == "5.6.7"
    assert mail_parameters(offer(b"SMTPUTF8"), Transaction(WIDE, (ASCII,))) == " SMTPUTF8"
