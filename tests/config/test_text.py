import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.text import BadFile, Problem, decode, position


@given(st.binary())
def test_x1_octets_become_text_or_a_bad_file(octets):
    try:
        text = decode(octets)
    except BadFile as error:
        assert len(error.problems) == 1
    else:
        assert text.encode() == octets.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        assert all(c in "\t\n" or c.isprintable() or ord(c) >= 160 for c in text)


@given(st.text(alphabet="ab\né", max_size=30), st.data())
def test_x2_a_position_is_where_an_editor_shows_it(text, data):
    offset = data.draw(st.integers(0, len(text)))
    line, column = position(text, offset)
    assert text.split("\n")[line - 1][: column - 1] == text[:offset].split("\n")[-1]


def test_a_byte_order_mark_and_crlf_are_no_part_of_the_text():
    assert decode(b"\xef\xbb\xbfa\r\nb") == "a\nb"


def test_a_bare_cr_is_refused_where_it_stands():
    with pytest.raises(BadFile) as caught:
        decode(b"a\nb\rc")
    assert caught.value.spell("f") == "f:2:2: the control character U+000D is not allowed"


def test_problems_are_spelt_in_the_order_of_the_file():
    bad = BadFile([Problem(2, 1, "c"), Problem(1, 9, "b"), Problem(1, 2, "a")])
    assert bad.spell("/x") == "/x:1:2: a\n/x:1:9: b\n/x:2:1: c"
