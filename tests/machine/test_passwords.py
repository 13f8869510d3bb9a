from __future__ import annotations

import bcrypt
import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from mta.machine import passwords
from mta.machine.passwords import CLEAR_TEXT, SCHEMES, SCRAM, Hash, make, parse, scram_keys, verify
from mta.smtp import scram

SECRET = "correct horse ²"
MADE = {scheme: make(scheme, SECRET) for scheme in SCHEMES}
WORDS = {
    SCRAM: "{SCRAM-SHA-256}",
    "argon2id": "{ARGON2ID}$argon2id$",
    "bcrypt": "{BLF-CRYPT}$2b$",
    "sha512-crypt": "{SHA512-CRYPT}$6$",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_h1_what_is_made_is_verified(scheme: str) -> None:
    assert MADE[scheme].startswith(WORDS[scheme])
    assert ":" not in MADE[scheme]
    assert make(scheme, SECRET) != MADE[scheme]  # the salt differs
    hashed = parse(MADE[scheme])
    assert verify(hashed, SECRET)
    assert verify(hashed, "correct\u00a0horse 2")  # the same to SASLprep
    for wrong in ("", "correct horse", SECRET + " ", SECRET.upper(), "\x07", "\U0001f600"):
        assert not verify(hashed, wrong)


def test_every_scheme_has_its_word() -> None:
    assert set(WORDS) == set(SCHEMES)


@given(st.text(min_size=1, max_size=20))
def test_h1_any_text_for_clear_text(text: str) -> None:
    try:
        hashed = parse("{PLAIN}" + text)
    except ValueError:
        assert "\0" in text or not text.isprintable()
        return
    assert verify(hashed, text) or not text.isprintable() or not text.isascii()
    assert not verify(hashed, text + "x")


WHOLE = [text.partition("}")[2] for text in MADE.values()]
PIECE = st.one_of(
    st.text(max_size=20),
    st.sampled_from([*WHOLE, *MADE.values(), "{PLAIN}", "{CRYPT}", "{", "}", "$6$", "$argon2id$"]),
)


@given(st.lists(PIECE, max_size=3).map("".join))
def test_h2_any_text(text: str) -> None:
    try:
        hashed = parse(text)
    except ValueError as error:
        assert len(text) < 3 or text not in str(error)
    else:
        assert hashed.kind in passwords._VERIFY
        assert repr(hashed) == f"Hash({hashed.kind!r})"


@pytest.mark.parametrize(
    ("word", "made"),
    [
        ("", "argon2id"),
        ("", "bcrypt"),
        ("", "sha512-crypt"),
        ("{crypt}", "argon2id"),
        ("{CRYPT}", "bcrypt"),
        ("{CRYPT}", "sha512-crypt"),
        ("{argon2id}", "argon2id"),
        ("{blf-crypt}", "bcrypt"),
    ],
)
def test_words_of_others(word: str, made: str) -> None:
    assert verify(parse(word + MADE[made].partition("}")[2]), SECRET)


ARGON2 = MADE["argon2id"].partition("}")[2]
BCRYPT = MADE["bcrypt"].partition("}")[2]


NO_HASH = [
    "",
    "secret",
    "{",
    "{PLAIN",
    "{PLAIN}",
    "{MD5}x",
    "{SSHA}x",
    "$1$salt$hash",
    "$y$j9T$salt$hash",
    "{ARGON2ID}" + BCRYPT,
    "{BLF-CRYPT}" + ARGON2,
    "{SHA512-CRYPT}$5$salt$" + "x" * 43,
    "$6$salt",
    "$2b$11$short",
    BCRYPT.replace("$11$", "$31$"),
    BCRYPT.replace("$11$", "$03$"),
    BCRYPT.replace("$2b$", "$2x$"),
    ARGON2.replace("m=19456", "m=99999999"),
    ARGON2.replace("m=19456", "m=7"),
    ARGON2.replace("t=2", "t=999"),
    ARGON2.replace("p=1", "p=0"),
    ARGON2.replace("p=1", "p=99"),
    ARGON2.replace("v=19", "v=16"),
    ARGON2 + "$",
    "{SCRAM-SHA-256}4096,x",
    "{PLAIN}a\0b",
    "{PLAIN}\ud800",
]


@pytest.mark.parametrize("text", NO_HASH, ids=range(len(NO_HASH)))  # salts are new each time
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert len(text) < 3 or text not in str(raised.value)


def test_hashes_made_by_others() -> None:
    assert verify(parse(PasswordHasher(1, 8, 1).hash("secret")), "secret")
    assert verify(parse(bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()), "secret")
    # of a password that nobody prepared: it counts as it came
    unprepared = parse(bcrypt.hashpw("x²".encode(), bcrypt.gensalt(4)).decode())
    assert verify(unprepared, "x²")
    assert not verify(unprepared, "x2")


def test_bcrypt_counts_72_octets() -> None:
    hashed = parse(bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode())
    assert verify(hashed, "x" * 100)
    assert not verify(hashed, "x" * 71)
    with pytest.raises(ValueError, match="72"):
        make("bcrypt", "x" * 73)


@pytest.mark.parametrize("password", ["", "x" * 1025, "\x07", "a\0b", "\ud800"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_hash_of_what_nobody_can_type(scheme: str, password: str) -> None:
    with pytest.raises(ValueError):
        make(scheme, password)


def test_keys_for_scram() -> None:
    assert scram_keys(parse(MADE[SCRAM]), b"other") == scram.parse_keys(MADE[SCRAM])
    assert scram_keys(parse("{PLAIN}pencil"), b"salt") == scram.derive("pencil", b"salt", 4096)
    assert scram_keys(parse("{PLAIN}\U0001f600"), b"salt") is None
    assert scram_keys(parse(MADE["bcrypt"]), b"salt") is None


def test_clear_text_counts_in_its_prepared_form() -> None:
    hashed = parse("{plain}u\u0308 : {x}")
    assert hashed == Hash(CLEAR_TEXT, "u\u0308 : {x}")
    assert verify(hashed, "ü : {x}")
    assert not verify(hashed, "u : {x}")
