"""W1, W2: any text is one word, and comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.words import printable, quote, unquote

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts)
def test_w1_a_word_gives_its_text_back(text):
    assert unquote(quote(text)) == text


@given(texts)
def test_w2_a_word_has_no_space_and_is_never_empty(text):
    word = quote(text)
    assert word and word.isprintable() and " " not in word


@given(st.text())
def test_w3_a_line_can_be_printed(text):
    assert printable(text).isprintable() and len(printable(text)) == len(text)
    assert printable(text) == text or not text.isprintable()


@pytest.mark.parametrize("word", ["a%", "%4", "a%zz", "%FF"])
def test_what_quote_never_makes_is_refused(word):
    with pytest.raises(ValueError):
        unquote(word)
