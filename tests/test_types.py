"""The words: how a mailbox is written, and what a reply says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_mailbox, parse_reverse_path
from mta.types import FINAL, NULL_PATH, Mailbox, NullPath, Outcome, Reply

WRITTEN = {
    ("bob", "a.test"): "bob@a.test",
    ("Bob.Smith+x", "a"): "Bob.Smith+x@a",
    ("", "a"): '""@a',
    ("a b", "a"): '"a b"@a',
    (".a", "a"): '".a"@a',
    ("a.", "a"): '"a."@a',
    ("a..b", "a"): '"a..b"@a',
    ('a"b\\', "a"): '"a\\"b\\\\"@a',
    ("a@b", "[127.0.0.1]"): '"a@b"@[127.0.0.1]',
    ("zoë", "münchen.test"): "zoë@münchen.test",
}


@pytest.mark.parametrize(("halves", "text"), WRITTEN.items())
def test_mailbox_is_written_as_rfc_5321_has_it(halves: tuple[str, str], text: str) -> None:
    assert str(Mailbox(*halves)) == text
    assert parse_mailbox(text) == Mailbox(*halves)


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=31)


@given(printable, st.sampled_from(["a", "b.example", "[192.0.2.1]"]))
def test_what_is_written_reads_back(local: str, domain: str) -> None:
    assert parse_mailbox(str(Mailbox(local, domain))) == Mailbox(local, domain)


def test_null_path() -> None:
    assert NullPath() == NULL_PATH
    assert str(NULL_PATH) == ""
    assert parse_reverse_path(str(NULL_PATH)) == NULL_PATH
    assert Mailbox("", "") != NULL_PATH


@given(st.integers(100, 699))
def test_a_reply_is_of_one_degree(code: int) -> None:
    reply = Reply(code, "2.0.0", "text")
    degrees = {2: reply.positive, 4: reply.transient, 5: reply.permanent}
    assert degrees == {degree: code // 100 == degree for degree in degrees}
    assert str(reply) == f"{code} 2.0.0 text"


@given(st.text(), st.integers(1, 40))
def test_clean_is_one_printable_line(text: str, limit: int) -> None:
    line = Reply.clean(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert "  " not in line
    assert not line.startswith(" ")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=500))
def test_clean_keeps_what_is_clean(word: str) -> None:
    assert Reply.clean(word) == word


def test_clean_by_example() -> None:
    assert Reply.clean("a\r\n250 ok\x00\x1b[2J\u2028b") == "a 250 ok [2J b"
    assert Reply.clean("x" * 5000) == "x" * 500
    assert Reply.clean(" \t ") == ""


def test_outcomes_are_about_the_recipient_unless_they_say_so() -> None:
    assert Outcome(Reply(250, "2.0.0", "ok")).scope == "recipient"
    assert "pending" not in FINAL
    assert "deferred" not in FINAL
