"""Bodies as they come, against a scanner that goes line by line."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.data import Stuffer
from mta.smtp.receive import ChunkReader, DataReader

PIECE = st.sampled_from([b"\r", b"\n", b".", b"x", b"\0", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"abc"])
WIRE = st.lists(PIECE, max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 60), max_size=6)


def cut(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(wire)]
    return [wire[a:b] for a, b in pairwise(places)]


def single(wire: bytes) -> list[bytes]:
    return [wire[at : at + 1] for at in range(len(wire))]


def reference(wire: bytes, lenient: bool) -> tuple[bytes, str, bytes] | None:
    """Body, fault and rest as RFC 5321 has them, one line after the other."""
    body, fault = b"", ""
    while True:
        line, found, wire = wire.partition(b"\r\n")
        if not found:
            return None
        if line == b".":
            return (b"" if fault else body), fault, wire
        if line[:1] == b".":
            line = line[1:]
        for octet in single(line + b"!")[:-1]:
            bare = octet in (b"\r", b"\n")
            fault = "bare" if bare and not lenient else fault
            body += b"\r\n" if bare else octet
        body += b"\r\n"


def read(pieces: list[bytes], lenient: bool, limit: int = 0) -> tuple[bytes, str, bytes] | None:
    reader = DataReader(limit, lenient)
    body = b""
    for at, piece in enumerate(pieces):
        body += reader.feed(piece)
        if reader.ended:
            rest = reader.rest + b"".join(pieces[at + 1 :])
            return (b"" if reader.fault else body), reader.fault, rest
    return None


@pytest.mark.parametrize("lenient", [False, True])
def test_r2_every_short_mix_of_line_ends_at_every_border(lenient: bool) -> None:
    """All of CR, LF, dot, NUL and x, up to seven, between a line and the true end."""
    for length in range(8):
        for octets in product((b"\r", b"\n", b".", b"x", b"\0"), repeat=length):
            inner = b"".join(octets)
            wire = b"a" + inner + b"\r\n.\r\nQUIT"
            expected = reference(wire, lenient)
            assert read([wire], lenient) == expected, wire
            if length < 6:
                assert read(single(wire), lenient) == expected, wire
            if length < 5:
                for at in range(1, len(wire)):
                    assert read([wire[:at], wire[at:]], lenient) == expected, (wire, at)


@pytest.mark.parametrize("lenient", [False, True])
def test_r2_at_the_very_start(lenient: bool) -> None:
    for length in range(6):
        for octets in product((b"\r", b"\n", b".", b"x"), repeat=length):
            wire = b"".join(octets)
            for tail in (b"", b"\r\n.\r\n"):
                expected = reference(wire + tail, lenient)
                assert read([wire + tail], lenient) == expected
                assert read(single(wire + tail), lenient) == expected


@given(WIRE, CUTS, st.booleans())
@settings(max_examples=200)
def test_r1_r5_splits_do_not_matter(wire: bytes, cuts: list[int], lenient: bool) -> None:
    expected = reference(wire, lenient)
    assert read(cut(wire, cuts), lenient) == expected
    if expected is not None:
        left = wire[: len(wire) - len(expected[2])].replace(b"\r\n", b"")
        bare = b"\r" in left or b"\n" in left
        assert expected[1] == ("bare" if bare and not lenient else "")


@given(WIRE, CUTS)
@settings(max_examples=200)
def test_r4_only_crlf_comes_out(wire: bytes, cuts: list[int]) -> None:
    for reader in (DataReader(lenient=True), DataReader()):
        body = b"".join([reader.feed(piece) for piece in cut(wire, cuts) if not reader.ended])
        left = body.replace(b"\r\n", b"")
        assert b"\r" not in left
        assert b"\n" not in left
        assert not (reader.ended and not reader.fault) or body[-2:] in (b"", b"\r\n")


@given(st.lists(st.sampled_from([b"", b".", b"..", b"x", b"\0", b".x"])), CUTS)
def test_r3_what_the_stuffer_sent_comes_out(lines: list[bytes], cuts: list[int]) -> None:
    body = b"".join([line + b"\r\n" for line in lines])
    stuffer = Stuffer()
    wire = stuffer.feed(body) + stuffer.end()
    assert read(cut(wire, cuts), False) == (body, "", b"")


@given(WIRE, CUTS, st.integers(1, 30), st.booleans())
def test_r6_the_limit(wire: bytes, cuts: list[int], limit: int, lenient: bool) -> None:
    whole = reference(wire, lenient)
    got = read(cut(wire, cuts), lenient, limit)
    assert (got is None) == (whole is None)
    if whole is None or got is None:
        return
    if whole[1]:
        assert got == whole  # "bare" goes before "size", however it is cut
    elif len(whole[0]) > limit:
        assert got == (b"", "size", whole[2])
    else:
        assert got == whole
    reader = DataReader(limit, lenient)
    pieces = cut(wire, cuts)
    assert sum(len(reader.feed(piece)) for piece in pieces if not reader.ended) <= limit


def test_r6_the_limit_is_exact() -> None:
    assert read([b"12345678\r\n.\r\n"], False, 10) == (b"12345678\r\n", "", b"")
    assert read([b"12345678\r\n.\r\n"], False, 9) == (b"", "size", b"")
    assert read([b"..2345678\r\n.\r\n"], False, 10) == (b".2345678\r\n", "", b"")


def test_r6_bare_goes_before_size() -> None:
    for pieces in ([b"abcdef\r\nx\ny\r\n.\r\n"], [b"abcdef\r\n", b"x", b"\ny\r\n.\r\n"]):
        assert read(pieces, False, 4) == (b"", "bare", b"")
        assert read(pieces, True, 4) == (b"", "size", b"")


def chunks(pieces: list[bytes], lenient: bool, binary: bool = False) -> tuple[bytes, str]:
    reader = ChunkReader(0, lenient, binary)
    body = b"".join([reader.feed(piece) for piece in pieces]) + reader.end()
    return (b"" if reader.fault else body), reader.fault


@pytest.mark.parametrize("lenient", [False, True])
def test_r1_r4_r5_chunks(lenient: bool) -> None:
    for length in range(6):
        for octets in product((b"\r", b"\n", b".", b"x"), repeat=length):
            wire = b"".join(octets)
            left = wire.replace(b"\r\n", b"")
            bare = b"\r" in left or b"\n" in left
            if bare and not lenient:
                expected = (b"", "bare")
            else:
                text = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
                text += b"" if text.endswith(b"\r\n") or not text else b"\r\n"
                expected = (text, "")
            for pieces in ([wire], single(wire), [wire[:2], wire[2:]]):
                assert chunks(pieces, lenient) == expected, wire


@given(st.lists(st.binary(max_size=20)))
def test_binary_chunks_are_untouched(pieces: list[bytes]) -> None:
    assert chunks(pieces, False, binary=True) == (b"".join(pieces), "")


def test_r6_chunks() -> None:
    reader = ChunkReader(4)
    assert reader.feed(b"abc") == b"abc"
    assert reader.feed(b"de") == b""
    assert reader.fault == "size"
    assert reader.feed(b"\n") == b""
    assert reader.fault == "bare"  # as if it had come in one piece
