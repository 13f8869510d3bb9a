"""User names and passwords in one normal form, so that what was typed equals what was stored.

A keyboard in Zürich and one in Tokyo give different octets for the same
password; SASLprep makes them one, and refuses what nobody can type twice.

Source   SASLprep: RFC 4013, over stringprep, RFC 3454, with the tables of
         Unicode 3.2 that both are bound to.  Limits: RFC 4616 s2.
Units    NAME_MAX and PASSWORD_MAX are octets of UTF-8.

Invariants, each a property in tests/smtp/test_saslprep.py
    P1   What prepare() returns holds no control character, no space but U+0020,
         and printable ASCII comes back as it was.
    P2   Whatever the octets, user_name() and password() return, or raise ValueError.
"""

from __future__ import annotations

import stringprep
import unicodedata

__all__ = ["NAME_MAX", "PASSWORD_MAX", "password", "prepare", "user_name"]

NAME_MAX = 255
PASSWORD_MAX = 1024

_PROHIBITED = (  # RFC 4013 s2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(text: str, *, stored: bool = False) -> str:
    """Return ``text`` in its SASLprep form; of a ``stored`` one every letter must be assigned.

    Raises ValueError, whose text does not repeat ``text``, for what is prohibited.
    """
    if text.isascii():
        if text.isprintable():
            return text
        raise ValueError("a control character")
    mapped = [
        " " if stringprep.in_table_c12(c) else "" if stringprep.in_table_b1(c) else c for c in text
    ]
    text = unicodedata.ucd_3_2_0.normalize("NFKC", "".join(mapped))
    if any(prohibited(c) for c in text for prohibited in _PROHIBITED):
        raise ValueError("a control or another prohibited character")
    if stored and any(stringprep.in_table_a1(c) for c in text):
        raise ValueError("a character that Unicode 3.2 does not have")
    _check_direction(text)
    return text


def _check_direction(text: str) -> None:
    """RFC 3454 s6: text is written from one side only."""
    rightwards = [stringprep.in_table_d1(c) for c in text]
    if not any(rightwards):
        return
    if any(stringprep.in_table_d2(c) for c in text):
        raise ValueError("letters of both directions")
    if not (rightwards[0] and rightwards[-1]):
        raise ValueError("right-to-left text that does not begin and end so")


def user_name(octets: bytes) -> str:
    """Return the user name in ``octets``, prepared; ValueError tells why it can be none."""
    if len(octets) > NAME_MAX:
        raise ValueError(f"a user name of more than {NAME_MAX} octets")
    name = prepare(_decode(octets, "user name"))
    if not name or len(name.encode()) > NAME_MAX:
        raise ValueError("an empty user name, or one that grows too long")
    return name


def password(octets: bytes) -> str:
    """Return the password in ``octets`` as it came; ValueError tells why it can be none."""
    if not octets or len(octets) > PASSWORD_MAX:
        raise ValueError(f"a password that is empty or longer than {PASSWORD_MAX} octets")
    if b"\0" in octets:
        raise ValueError("a NUL in the password")
    return _decode(octets, "password")


def _decode(octets: bytes, what: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ValueError(f"a {what} that is not UTF-8") from None
