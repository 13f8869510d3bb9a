"""Hashes of passwords: which forms are known, does a password match, and new ones.

A hash comes from a file that a person wrote, so it is checked when it is read,
not when somebody waits to log in; and what it costs is bounded, since a slip of
the pen in it could hold a processor for days.

Source   argon2: RFC 9106, parameters for new hashes as OWASP's sheet on password
         storage has them; bcrypt; SHA-crypt: shacrypt.py; SCRAM: scram.py.  The
         words in braces are Dovecot's, as ``doveadm pw -l`` lists them.
Units    Memory is KiB in MEMORY and ARGON2_MEMORY_MAX.

Invariants, each a property in tests/machine/test_passwords.py
    H1   verify(parse(make(scheme, password)), password) for every scheme, and for no
         other password.
    H2   Whatever the text, parse returns or raises ValueError, which does not repeat it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable

from mta.machine import shacrypt
from mta.smtp import saslprep, scram
from mta.values import frozen

__all__ = [
    "CLEAR_TEXT",
    "SCHEMES",
    "SCRAM",
    "Hash",
    "make",
    "parse",
    "scram_keys",
    "verify",
]

CLEAR_TEXT = "plain"
SCRAM = "scram-sha-256"

MEMORY, PASSES, LANES = 19_456, 2, 1
ARGON2_MEMORY_MAX = 1 << 20
ARGON2_PASSES_MAX = 64
BCRYPT_COST = 11
BCRYPT_COST_MAX = 16
BCRYPT_MAX = 72  # octets: the rest of a longer password never counted
SHA_ROUNDS = 20_000
SALT = 16

_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=([0-9]{1,8}),t=([0-9]{1,4}),p=([0-9]{1,3})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,172}"
)
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


@frozen
class Hash:
    """A hash of a known form: ``kind`` is a key of _VERIFY."""

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"Hash({self.kind!r})"  # it has no place in a log


# What may follow a word in braces; without one, the same by its beginning alone.
_PREFIXES: dict[str, tuple[str, ...]] = {
    "": ("$argon2", "$2", "$5$", "$6$"),
    "CRYPT": ("$argon2", "$2", "$5$", "$6$"),
    "ARGON2ID": ("$argon2id$",),
    "ARGON2I": ("$argon2i$",),
    "BLF-CRYPT": ("$2",),
    "SHA256-CRYPT": ("$5$",),
    "SHA512-CRYPT": ("$6$",),
}


def parse(text: str) -> Hash:
    """Return the hash that ``text`` spells; ValueError, which does not repeat it, if none."""
    if text.startswith(scram.PREFIX):
        scram.parse_keys(text)
        return Hash(SCRAM, text)
    word, hashed = "", text
    if text.startswith("{"):
        word, brace, hashed = text[1:].partition("}")
        word = word.upper() if brace and len(word) < 20 else "?"
    if word == "PLAIN":
        saslprep.password(hashed.encode("utf-8", "surrogatepass"))
        return Hash(CLEAR_TEXT, hashed)
    if word not in _PREFIXES:
        raise ValueError("a scheme that is not known")
    if not hashed.startswith(_PREFIXES[word]):
        raise ValueError(
            "not the hash that its scheme names" if word else "not a hash of a known form"
        )
    return _bounded(hashed)


def _bounded(text: str) -> Hash:
    """Return the hash ``text`` if its form is whole and its cost within reason."""
    if text.startswith("$argon2"):
        found = _ARGON2.fullmatch(text)
        if found is None:
            raise ValueError("not a whole argon2 hash")
        memory, passes, lanes = [int(number) for number in found.groups()]
        if not (8 * lanes <= memory <= ARGON2_MEMORY_MAX and 0 < lanes <= 64):
            raise ValueError(f"argon2 lanes or memory out of reason ({ARGON2_MEMORY_MAX} KiB)")
        if not 0 < passes <= ARGON2_PASSES_MAX:
            raise ValueError(f"argon2 passes are not from 1 to {ARGON2_PASSES_MAX}")
        return Hash("argon2", text)
    if text.startswith("$2"):
        cost = _BCRYPT.fullmatch(text)
        if cost is None or not 4 <= int(cost[1]) <= BCRYPT_COST_MAX:
            raise ValueError(f"not a whole bcrypt hash of a cost from 4 to {BCRYPT_COST_MAX}")
        return Hash("bcrypt", text)
    if not shacrypt.parse(text).text:
        raise ValueError("a SHA-crypt setting without a hash")
    return Hash("shacrypt", text)


def verify(hashed: Hash, password: str) -> bool:
    """Say whether ``hashed`` is that of ``password``; costly, whatever the answer.

    The password counts in its SASLprep form, and as it came if that differs: it
    may have been hashed by somebody who did not prepare it.  Raises whatever the
    packages raise when they cannot do their work: MemoryError, ImportError...
    """
    try:
        prepared = saslprep.prepare(password)
    except ValueError:
        return False  # RFC 4616 s2
    check = _VERIFY[hashed.kind]
    return check(hashed.text, prepared) or (
        password != prepared and hashed.kind != SCRAM and check(hashed.text, password)
    )


def scram_keys(hashed: Hash, salt: bytes) -> scram.StoredKeys | None:
    """Return the keys for SCRAM, made with ``salt`` from clear text, None if there are none."""
    if hashed.kind == SCRAM:
        return scram.parse_keys(hashed.text)
    if hashed.kind != CLEAR_TEXT:
        return None
    try:
        return scram.derive(hashed.text, salt, scram.ITERATIONS_MIN)
    except ValueError:
        return None


def _argon2(text: str, password: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import VerifyMismatchError

    try:
        return PasswordHasher().verify(text, password)
    except VerifyMismatchError:
        return False


def _bcrypt(text: str, password: str) -> bool:
    import bcrypt

    return bcrypt.checkpw(password.encode()[:BCRYPT_MAX], text.encode())


def _shacrypt(text: str, password: str) -> bool:
    return shacrypt.verify(password.encode(), text)


def _scram(text: str, password: str) -> bool:
    return scram.matches(scram.parse_keys(text), password)


def _clear(text: str, password: str) -> bool:
    try:
        prepared = saslprep.prepare(text)
    except ValueError:
        prepared = text
    same = [hmac.compare_digest(form.encode(), password.encode()) for form in (text, prepared)]
    return any(same)


_VERIFY: dict[str, Callable[[str, str], bool]] = {
    "argon2": _argon2,
    "bcrypt": _bcrypt,
    "shacrypt": _shacrypt,
    SCRAM: _scram,
    CLEAR_TEXT: _clear,
}


def make(scheme: str, password: str) -> str:
    """Return a new hash of ``password`` for a password file, its scheme in braces.

    Raises ValueError for a password that cannot be used; KeyError unless
    ``scheme`` is one of SCHEMES.
    """
    saslprep.password(password.encode("utf-8", "surrogatepass"))
    return _MAKE[scheme](saslprep.prepare(password))


def _make_argon2(password: str) -> str:
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY, parallelism=LANES)
    return "{ARGON2ID}" + hasher.hash(password)


def _make_bcrypt(password: str) -> str:
    import bcrypt

    octets = password.encode()
    if len(octets) > BCRYPT_MAX:
        raise ValueError(f"bcrypt takes at most {BCRYPT_MAX} octets; choose another scheme")
    return "{BLF-CRYPT}" + bcrypt.hashpw(octets, bcrypt.gensalt(BCRYPT_COST)).decode()


def _make_shacrypt(password: str) -> str:
    salt = "".join([secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(SALT)])
    setting = f"$6$rounds={SHA_ROUNDS}${salt}"
    return "{SHA512-CRYPT}" + shacrypt.shacrypt(password.encode(), setting)


def _make_scram(password: str) -> str:
    keys = scram.derive(password, secrets.token_bytes(SALT), scram.ITERATIONS)
    return scram.spell_keys(keys)


_MAKE: dict[str, Callable[[str], str]] = {
    SCRAM: _make_scram,  # the one that serves every mechanism comes first
    "argon2id": _make_argon2,
    "bcrypt": _make_bcrypt,
    "sha512-crypt": _make_shacrypt,
}
SCHEMES = tuple(_MAKE)
