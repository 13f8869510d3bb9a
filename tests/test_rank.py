"""N1, N2: what a header says of its urgency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.rank import PRECEDENCE, rank
from mta.types import BULK, NORMAL, URGENT

FIELDS = {
    b"": (0, NORMAL),
    b"Precedence: bulk\r\n": (-60, BULK),
    b"precedence:list\r\n": (-30, BULK),
    b"PRECEDENCE: Junk \r\n": (-100, BULK),
    b"Precedence: special-delivery\r\n": (100, URGENT),
    b"Precedence: first-class\r\n": (0, NORMAL),
    b"Precedence: whatever\r\n": (0, NORMAL),
    b"Precedence: bulk and more\r\n": (0, NORMAL),
    b"X-Precedence: bulk\r\n": (0, NORMAL),
    b"Priority: urgent\r\n": (0, URGENT),
    b"Priority: Non-Urgent\r\n": (0, BULK),
    b"Priority: normal\r\nPrecedence: bulk\r\n": (-60, NORMAL),
    b"Precedence: bulk\r\nPriority: urgent\r\n": (-60, URGENT),
}


@pytest.mark.parametrize("field", FIELDS)
def test_n1_what_a_field_means(field):
    for message in (
        field + b"\r\nbody\r\n",
        b"A: b\r\n" + field + b"\r\n",
        field,
        b"A: b\r\n" + field,
    ):
        assert rank(message) == FIELDS[field]


@given(st.binary(max_size=300), st.sampled_from([b"", b"Precedence: ", b"\r\nPriority:"]))
def test_n1_there_is_always_an_answer(octets, prefix):
    precedence, kind = rank(prefix + octets)
    assert precedence in PRECEDENCE.values()
    assert kind in (URGENT, NORMAL, BULK)


@given(st.sampled_from(list(FIELDS)), st.binary(max_size=100))
def test_n2_only_the_header_counts(field, rest):
    assert rank(field + b"A: b\r\n\r\n" + rest + b"\r\nPrecedence: junk\r\n") == FIELDS[field]
