"""SHA-crypt: the hashes ``$5$`` and ``$6$`` of /etc/shadow, which Python no longer brings.

Source   "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, version 0.6:
         the numbered steps there are those of _digest here.
Units    ROUNDS_MAX bounds what one login may cost: the form itself allows a
         thousand times as many, which would be minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from mta.values import frozen

__all__ = ["ROUNDS", "ROUNDS_MAX", "parse", "shacrypt", "verify"]

ROUNDS = 5000  # where the hash names none
ROUNDS_MIN = 1000
ROUNDS_MAX = 1_000_000

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(
    r"\$([56])\$(?:rounds=([0-9]{1,9})\$)?([^$:\n\x00]{0,16})(?:\$([./0-9A-Za-z]*))?"
)


@frozen
class _Kind:
    """SHA-256 or SHA-512: the name, the first octets of the groups of three, the rest."""

    algorithm: str
    start: tuple[int, int, int]
    step: int  # to the next group: each octet moves on by one, and the three turn
    tail: tuple[int, ...]  # the most significant first
    length: int  # of the text


_KINDS = {
    "5": _Kind("sha256", (0, 10, 20), 10, (31, 30), 43),
    "6": _Kind("sha512", (0, 21, 42), 21, (63,), 86),
}


@frozen
class Form:
    """A hash taken apart; ``rounds`` is 0 where the text names none."""

    kind: str
    rounds: int
    salt: str
    text: str


def parse(text: str) -> Form:
    """Return the parts of a hash; ValueError, which does not repeat it, if it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("not a SHA-crypt hash")
    kind, rounds, salt, digest = found.groups()
    if rounds is not None and not ROUNDS_MIN <= int(rounds) <= ROUNDS_MAX:
        raise ValueError(f"SHA-crypt rounds are not from {ROUNDS_MIN} to {ROUNDS_MAX}")
    if digest and len(digest) != _KINDS[kind].length:
        raise ValueError("a SHA-crypt hash of a wrong length")
    return Form(kind, int(rounds or 0), salt, digest or "")


def verify(password: bytes, text: str) -> bool:
    """Say whether the hash ``text`` is that of ``password``; ValueError if it is no hash."""
    form = parse(text)
    if not form.text:
        raise ValueError("a SHA-crypt setting without a hash")
    return hmac.compare_digest(shacrypt(password, text), text)


def shacrypt(password: bytes, setting: str) -> str:
    """Return the hash of ``password`` by ``setting``: ``$6$salt``, or a whole hash."""
    form = parse(setting)
    kind = _KINDS[form.kind]
    digest = _digest(password, form.salt.encode(), form.rounds or ROUNDS, kind.algorithm)
    rounds = f"rounds={form.rounds}$" if form.rounds else ""
    return f"${form.kind}${rounds}{form.salt}${_text(digest, kind)}"


def _digest(password: bytes, salt: bytes, rounds: int, algorithm: str) -> bytes:
    def digest(octets: bytes) -> bytes:
        return hashlib.new(algorithm, octets, usedforsecurity=True).digest()

    size = len(digest(b""))
    b = digest(password + salt + password)  # 4 to 8
    a = password + salt + _cut(b, len(password))  # 1 to 3, 9, 10
    length = len(password)
    while length:  # 11
        a += b if length & 1 else password
        length >>= 1
    a = digest(a)  # 12
    p = _cut(digest(password * len(password)), len(password))  # 13 to 16
    s = _cut(digest(salt * (16 + a[0])), len(salt))  # 17 to 20
    assert len(a) == size
    for number in range(rounds):  # 21
        c = p if number & 1 else a
        if number % 3:
            c += s
        if number % 7:
            c += p
        a = digest(c + (a if number & 1 else p))
    return a


def _cut(digest: bytes, length: int) -> bytes:
    """Return ``digest`` repeated to ``length`` octets."""
    return (digest * (length // len(digest) + 1))[:length]


def _text(digest: bytes, kind: _Kind) -> str:
    """Step 22: each three octets are four letters, the least significant first."""
    out = []
    a, b, c = kind.start
    for _ in range(kind.step):
        out.append(_letters(digest[a] << 16 | digest[b] << 8 | digest[c], 4))
        a, b, c = (b + 1, c + 1, a + 1) if kind.algorithm == "sha512" else (c + 1, a + 1, b + 1)
    number = 0
    for at in kind.tail:
        number = number << 8 | digest[at]
    out.append(_letters(number, len(kind.tail) + 1))
    return "".join(out)


def _letters(number: int, count: int) -> str:
    return "".join([_ALPHABET[number >> 6 * place & 63] for place in range(count)])
