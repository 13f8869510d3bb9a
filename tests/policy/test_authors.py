import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.authors import find, fits
from mta.types import NULL_PATH, Mailbox
from mta.values import frozen

LOCALS = st.text("aAb*-", min_size=1, max_size=6)
DOMAINS = st.sampled_from(["x.test", "a.x.test", "b.test"])
PATTERNS = st.sampled_from(["<>", "@x.test", "@.test", "@.x.test", "*@x.test"]) | st.builds(
    lambda local, domain: f"{local.lower()}@{domain}", LOCALS, DOMAINS
)
PATHS = st.just(NULL_PATH) | st.builds(Mailbox, st.text("aAb-", min_size=1, max_size=6), DOMAINS)


@frozen
class Row:
    match: tuple[str, ...]


@given(PATTERNS, PATHS)
def test_b1_a_pattern_fits_what_it_spells(pattern, path):
    if pattern.startswith("@") or "<>" in (pattern, str(path) or "<>"):
        return
    glob = ".*".join(map(re.escape, pattern.split("*")))
    assert fits(pattern, path) == (re.fullmatch(glob, str(path).lower()) is not None)
    for at in range(len(pattern)):
        if fits(pattern, path):
            assert fits(pattern[:at] + "*" + pattern[at:], path) or pattern[at:].startswith("@")


@pytest.mark.parametrize(
    ("pattern", "path", "fit"),
    [
        ("<>", NULL_PATH, True),
        ("*@*", NULL_PATH, False),
        ("<>", Mailbox("a", "x.test"), False),
        ("@x.test", Mailbox("A", "x.test"), True),
        ("@x.test", Mailbox("a", "a.x.test"), False),
        ("@.x.test", Mailbox("a", "a.x.test"), True),
        ("@.x.test", Mailbox("a", "x.test"), False),
        ("news-*@x.test", Mailbox("News-77", "x.test"), True),
        ("news-*@x.test", Mailbox("new", "x.test"), False),
    ],
)
def test_b1_by_example(pattern, path, fit):
    assert fits(pattern, path) == fit


@given(st.lists(st.lists(PATTERNS, max_size=3).map(tuple), max_size=4), PATHS)
def test_b2_the_first_row_that_fits_counts(rows, path):
    made = [Row(match) for match in rows]
    found = find(made, path)
    fitting = [row for row in made if any(fits(p, path) for p in row.match)]
    assert found is (fitting[0] if fitting else None)
