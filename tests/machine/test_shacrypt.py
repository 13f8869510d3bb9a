from __future__ import annotations

import importlib
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine.shacrypt import ROUNDS_MAX, parse, shacrypt, verify

# "Unix crypt using SHA-256 and SHA-512": vectors of its reference code; settings
# are what follows from their hashes, which end in 43 or 86 letters of digest.
LONG = "a very much longer text to encrypt.  This one even stretches over morethan one line."
SHORT = "we have a short salt string but not a short password"
VECTORS = [
    ("Hello world!", "$5$saltstring$", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    (
        "Hello world!",
        "$5$rounds=10000$saltstringsaltst$",
        "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
    ),
    (LONG, "$5$rounds=1400$anotherlongsalts$", "Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
    (SHORT, "$5$rounds=77777$short$", "JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/"),
    (
        "Hello world!",
        "$6$saltstring$",
        "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "This is just a test",
        "$6$rounds=5000$toolongsaltstrin$",
        "lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
    ),
    (
        LONG,
        "$6$rounds=1400$anotherlongsalts$",
        "POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
    ),
]


@pytest.mark.parametrize(("password", "setting", "digest"), VECTORS)
def test_the_published_vectors(password: str, setting: str, digest: str) -> None:
    assert shacrypt(password.encode(), setting.removesuffix("$")) == setting + digest
    assert verify(password.encode(), setting + digest)
    assert not verify(password.encode() + b"x", setting + digest)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python brings no crypt any more")
@settings(max_examples=15)
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80),
    st.sampled_from(["5", "6"]),
    st.sampled_from(["", "rounds=1000$", "rounds=1001$"]),
    st.text("./abcXYZ019", max_size=16),
)
def test_it_is_what_the_c_library_makes(password: str, kind: str, rounds: str, salt: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = importlib.import_module("crypt").crypt(password, f"${kind}${rounds}{salt}")
    assert shacrypt(password.encode(), f"${kind}${rounds}{salt}") == theirs
    assert verify(password.encode(), theirs)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$1$salt$hash",
        "$6$saltsaltsaltsalts$x",
        "$6$rounds=999$salt",
        f"$6$rounds={ROUNDS_MAX + 1}$salt",
        "$6$rounds=5000",
        "$6$salt$short",
        "$6$salt$" + "x" * 87,
        "$5$salt$" + "x" * 42 + "!",
        "$5$salt$" + "x" * 43 + "\n",
    ],
)
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        verify(b"x", text)
    assert not text or text not in str(raised.value)


def test_a_setting_is_no_hash() -> None:
    assert parse("$6$salt").text == ""
    with pytest.raises(ValueError, match="without a hash"):
        verify(b"x", "$6$salt")
