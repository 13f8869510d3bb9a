from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.saslprep import NAME_MAX, PASSWORD_MAX, password, prepare, user_name


@pytest.mark.parametrize(
    ("text", "prepared"),
    [  # RFC 4013 s3, then what keyboards give
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("u\u0308", "ü"),
        ("x²", "x2"),
        ("a\u200bb", "a b"),  # in two tables: a space, as PostgreSQL has it
        ("\u0627\u0031\u0628", "\u06271\u0628"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_what_becomes_one(text: str, prepared: str) -> None:
    assert prepare(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        *("\u0007", "\u0627\u0031", "a\u0627", "\u0627a\u0627", "\x7f", "\u0085", "\ue000"),
        *("\ufffd", "\ud800", "\u202e", "\u2028", "\U000e0001", "\uffff", "\u2ff0"),
    ],
)
def test_what_is_prohibited(text: str) -> None:
    with pytest.raises(ValueError):
        prepare(text)


def test_what_is_stored_must_be_assigned() -> None:
    with pytest.raises(ValueError, match=r"Unicode 3\.2"):
        prepare("\U0001f600", stored=True)


@given(st.text())
def test_p1_prepared(text: str) -> None:
    try:
        prepared = prepare(text)
    except ValueError as error:
        assert not text.isascii() or not text.isprintable()
        assert str(error).isascii()
        return
    assert not any(c < " " or "\x7f" <= c <= "\xa0" for c in prepared)
    assert not any(c.isspace() and c != " " for c in prepared)
    if text.isascii():
        assert prepared == text


@given(st.one_of(st.binary(max_size=1100), st.text().map(lambda t: t.encode("utf-8", "replace"))))
def test_p2_any_octets(octets: bytes) -> None:
    for read, most in ((user_name, NAME_MAX), (password, PASSWORD_MAX)):
        try:
            text = read(octets)
        except ValueError as error:
            assert str(error).isascii()
        else:
            assert 0 < len(text.encode()) <= most


@pytest.mark.parametrize("octets", [b"", b"\xc2\xad", b"\xff", b"a\0", b"a\n", b"x" * 256])
def test_no_user_name(octets: bytes) -> None:
    with pytest.raises(ValueError):
        user_name(octets)


@pytest.mark.parametrize("octets", [b"", b"\xff", b"a\0b", b"x" * 1025])
def test_no_password(octets: bytes) -> None:
    with pytest.raises(ValueError):
        password(octets)
