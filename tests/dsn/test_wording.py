"""The text of a DSN as a site may change it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.wording import HOUSE, LIMIT, PLACES, WORDS, TemplateError, fill, parse

SOME = st.lists(
    st.sampled_from(
        ["[failed]", "[ class other ]", "[opening]", "[nothing]", "$hostname", "$$", "$", "${id}",
         "${", "}", "\n", "\n", " ", "#", "]", "[", "Hello", "ü", "\t", "$recipient"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@given(SOME | st.text(max_size=60))
def test_t1_what_is_taken_can_be_filled_and_what_is_not_has_a_line(text: str) -> None:
    try:
        sections = parse(text)
    except TemplateError as error:
        assert 1 <= error.line <= text.count("\n") + 1 and error.column >= 1
        return
    for name, words in sections.items():
        assert all("\n" not in line for line in fill(words, dict.fromkeys(PLACES[name], "x")))


@given(st.text(max_size=20))
def test_t2_what_stands_in_a_place_is_not_looked_at(value: str) -> None:
    filled = fill("a $id b ${id}$$id", {"id": value})
    assert filled == [f"a {value} b {value}$id"]


def test_t3_what_a_text_leaves_out_is_the_houses() -> None:
    assert parse("[failed]\nNo.\n") == {"failed": "No."}
    assert set(HOUSE) == set(PLACES)


def test_the_shipped_text_is_the_houses() -> None:
    shipped = Path(__file__).parent.parent.parent / "etc" / "dsn.txt"
    assert shipped.read_text(encoding="utf-8") == WORDS


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("hello\n", 1, 1, "before the first section"),
        ("[failed]\nx\n[faled]\n", 3, 1, "no section is called 'faled'"),
        ("[failed]\n[failed]\n", 2, 1, "twice"),
        ("[failed]\nDear $name,\n", 2, 6, "no place is called $name here"),
        ("[failed]\n10$ off\n", 2, 3, "write $$"),
        ("[failed]\n\n$until\n", 3, 1, "no place is called $until"),
        ("[class other]\none\ntwo\n", 3, 1, "one line only"),
        ("[subject failed]\n\n[failed]\nx\n", 1, 1, "is empty"),
        ("[failed]\nbad\x1b[31m\n", 2, 4, "control character"),
        ("[failed]\n" + "x" * 901, 2, 901, "more than 900"),
        ("#" * (LIMIT + 1), 1, 1, "longer than"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert says in str(caught.value)


def test_lines_that_places_leave_empty_go_and_others_stay() -> None:
    assert fill("a\n\n  $id\n$$", {"id": ""}) == ["a", "", "$"]
