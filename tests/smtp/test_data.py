from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta.errors import LocalProtocolError
from mta.smtp.data import Raw, Stuffer, unstuff, whole

LINE = st.sampled_from([b"", b".", b"..", b".x", b"x", b"x.", b"a.b", b"\0", b"\xff\xfe"])
BODY = st.tuples(st.lists(LINE), st.sampled_from([b"", b"x", b".", b".."])).map(
    lambda t: b"".join([line + b"\r\n" for line in t[0]]) + t[1]
)
CUTS = st.lists(st.integers(0, 60), max_size=8)


def stuff(pieces: list[bytes]) -> bytes:
    stuffer = Stuffer()
    return b"".join([stuffer.feed(piece) for piece in pieces]) + stuffer.end()


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(body)]
    return [body[a:b] for a, b in pairwise(places)]


@given(BODY)
def test_b1_unstuffed_it_is_the_body(body: bytes) -> None:
    closed = body if body.endswith(b"\r\n") or not body else body + b"\r\n"
    assert unstuff(stuff([body])) == closed


@given(BODY, CUTS)
@example(b"\r\n.\r\n", [1, 2, 3, 4])
def test_b2_splits_do_not_matter(body: bytes, cuts: list[int]) -> None:
    expected = stuff([body])
    assert stuff(cut(body, cuts)) == expected
    assert stuff([body[i : i + 1] for i in range(len(body))]) == expected


@given(BODY, CUTS)
def test_b3_one_end_and_no_bare_line_end(body: bytes, cuts: list[int]) -> None:
    wire = b"\r\n" + stuff(cut(body, cuts))
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    left = wire.replace(b"\r\n", b"")
    assert b"\r" not in left
    assert b"\n" not in left


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\r\n"]), max_size=12), CUTS)
@example([b"\r", b"x", b"\n"], [])
def test_b3_a_bare_cr_or_lf_is_refused_wherever_it_is_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(parts)
    left = body.replace(b"\r\n", b"")
    if b"\r" in left or b"\n" in left:
        halves = [[body[:at], body[at:]] for at in range(len(body))]
        for pieces in (cut(body, cuts), [body[i : i + 1] for i in range(len(body))], *halves):
            with pytest.raises(LocalProtocolError):
                stuff(pieces)
    else:
        assert stuff(cut(body, cuts)) == stuff([body])


@pytest.mark.parametrize(
    "bait", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\r\n.\r\r\n"]
)
def test_b3_smuggling_line_ends_go_nowhere(bait: bytes) -> None:
    body = b"Subject: x\r\n\r\nfirst" + bait + b"MAIL FROM:<evil@example.test>\r\n"
    for at in range(len(body)):
        with pytest.raises(LocalProtocolError):
            stuff([body[:at], body[at:]])


@pytest.mark.parametrize("wire", [b"", b".", b"x\r\n", b".\r\n.\r\n", b"a\r\n.\r\nb\r\n.\r\n"])
def test_unstuff_refuses_what_is_not_one_message(wire: bytes) -> None:
    with pytest.raises(ValueError, match="not one message"):
        unstuff(wire)


@given(BODY)
def test_b4_whole_is_what_comes_out_of_data(body: bytes) -> None:
    assert whole(body) == unstuff(stuff([body]))


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\r\n"]), max_size=12))
def test_b4_whole_refuses_what_the_stuffer_refuses(parts: list[bytes]) -> None:
    body = b"".join(parts)
    try:
        stuffed = stuff([body])
    except LocalProtocolError:
        with pytest.raises(LocalProtocolError):
            whole(body)
    else:
        assert whole(body) == unstuff(stuffed)


@given(st.binary(), CUTS)
def test_a_binary_body_is_not_touched(body: bytes, cuts: list[int]) -> None:
    raw = Raw()
    assert b"".join([raw.feed(piece) for piece in cut(body, cuts)]) + raw.end() == body
