"""Bounce classes: examples of what hosts say, and a table in which every row counts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.classes import CLASSES, ROWS, classify, row_of
from mta.types import Reply

LINES = (Path(__file__).parent / "examples.txt").read_text(encoding="utf-8").splitlines()
PAIRS = [line.split(" | ", 1) for line in LINES if not line.startswith("#")]


def reply_of(text: str) -> Reply:
    code, status, said = text.split(" ", 2)
    return Reply(int(code), status, said)


@pytest.mark.parametrize(("name", "said"), PAIRS)
def test_what_large_hosts_say_is_told_apart(name: str, said: str) -> None:
    reply = reply_of(said)
    assert (classify(reply), row_of(reply)) == (name, row_of(reply))


@given(
    st.integers(200, 599),
    st.sampled_from(["5.7.1", "4.4.1", "", "5.1.1", "x"]) | st.text(max_size=9),
    st.text(max_size=300),
)
def test_c1_every_reply_that_is_not_positive_has_one_class(code: int, status: str, text: str):
    found = classify(Reply(code, status, text))
    assert (found == "") == (200 <= code < 300)
    assert found in ("", *CLASSES)


@pytest.mark.parametrize(("name", "said"), PAIRS)
def test_c2_the_case_of_letters_and_the_degree_do_not_matter(name: str, said: str) -> None:
    reply = reply_of(said)
    degree = "4" if reply.permanent else "5"
    other = Reply(450 if degree == "4" else 550, degree + reply.status[1:], reply.text.upper())
    assert classify(other) == name


def test_c3_every_row_decides_an_example() -> None:
    decided = {row_of(reply_of(said)) for _, said in PAIRS}
    idle = [ROWS[n] for n in range(len(ROWS)) if n not in decided]
    assert not idle


def test_every_class_has_examples() -> None:
    assert {name for name, _ in PAIRS} == set(CLASSES)
