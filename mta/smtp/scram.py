"""SCRAM-SHA-256: proof of a password that neither travels nor is stored.

    client   n,,n=user,r=nonce
    server   r=nonce+ours,s=salt,i=iterations
    client   c=biws,r=nonce+ours,p=proof
    server   v=signature

The server keeps StoredKeys: whoever steals them can try passwords, but cannot
log in with them.  There is no channel binding; "y" is accepted, since no
mechanism with it is offered.

Source   RFC 5802 s3, s5, s7; SHA-256: RFC 7677.  The stored form is Dovecot's:
         {SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey, all but the first base64.
Units    ITERATIONS rounds of PBKDF2; sizes are octets.
State    An exchange is used once.

Invariants, each a property in tests/smtp/test_scram.py
    M1   A client with the password and a server with its keys agree, and each
         has proved itself to the other.
    M2   A proof holds for one exchange: replayed in another, it is wrong.
    M3   Whatever the octets, the server's steps return an event and raise nothing,
         and the client's raise nothing but RemoteProtocolError.
    M4   parse_keys(spell_keys(keys)) == keys.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp import steps
from mta.smtp.saslprep import prepare, user_name
from mta.smtp.steps import CANCELLED, Challenge, Failed, Lookup, Proven
from mta.values import frozen

__all__ = [
    "ITERATIONS",
    "ITERATIONS_MAX",
    "ITERATIONS_MIN",
    "PREFIX",
    "SIZE",
    "ScramClient",
    "ScramServer",
    "StoredKeys",
    "derive",
    "matches",
    "parse_keys",
    "spell_keys",
]

ITERATIONS = 50_000  # for new keys
ITERATIONS_MIN = 4096  # RFC 7677 s4; a client asked for fewer gives no proof
ITERATIONS_MAX = 1_000_000  # a second of work: more is an attack, or a slip of the pen
SALT_MAX = 256
MESSAGE_MAX = 4096
SIZE = 32
PREFIX = "{SCRAM-SHA-256}"

_NONCE = r"[\x21-\x2b\x2d-\x7e]{1,512}"
_NAME = r"(?:[^\x00,=]|=2C|=3D)*"
# attributes that may follow, unless one must be understood: extensions = attr-val *("," attr-val)
_MORE = r"(?:,[A-Za-z]=[^\x00,]*)*"
_FIRST = re.compile(rf"([yn]),(?:a=({_NAME}))?,(n=({_NAME}),r=({_NONCE}){_MORE})")
_FINAL = re.compile(rf"(c=([A-Za-z0-9+/=]*),r=({_NONCE}){_MORE}),p=([A-Za-z0-9+/=]*)")
_SERVER_FIRST = re.compile(rf"r=({_NONCE}),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{{0,9}}){_MORE}")
_SERVER_FINAL = re.compile(rf"v=([A-Za-z0-9+/=]+){_MORE}")


@frozen
class StoredKeys:
    """What a server keeps of a password."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


def derive(password: str, salt: bytes, iterations: int) -> StoredKeys:
    """Return the keys of ``password``; costly.  ValueError if SASLprep refuses it."""
    salted = _salted(password, salt, iterations)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return StoredKeys(iterations, salt, stored, _hmac(salted, b"Server Key"))


def matches(keys: StoredKeys, password: str) -> bool:
    """Say whether ``keys`` were made of ``password``; costly, whatever the answer."""
    try:
        made = derive(password, keys.salt, keys.iterations)
    except ValueError:
        return False
    return hmac.compare_digest(made.stored_key, keys.stored_key)


def spell_keys(keys: StoredKeys) -> str:
    """Return ``keys`` as a password file has them."""
    parts = [_base64(octets) for octets in (keys.salt, keys.stored_key, keys.server_key)]
    return f"{PREFIX}{keys.iterations},{','.join(parts)}"


def parse_keys(text: str) -> StoredKeys:
    """Return the keys that ``text`` spells; ValueError, which does not repeat it, if none."""
    parts = text.removeprefix(PREFIX).split(",")
    if not text.startswith(PREFIX) or len(parts) != 4:
        raise ValueError(f"not {PREFIX}iterations,salt,StoredKey,ServerKey")
    if not re.fullmatch("[1-9][0-9]{0,6}", parts[0]) or int(parts[0]) > ITERATIONS_MAX:
        raise ValueError(f"SCRAM iterations are not a number from 1 to {ITERATIONS_MAX}")
    salt, stored, server = [_octets(part) for part in parts[1:]]
    if not 0 < len(salt) <= SALT_MAX or not len(stored) == len(server) == SIZE:
        raise ValueError("SCRAM salt or keys of a wrong size")
    return StoredKeys(int(parts[0]), salt, stored, server)


class ScramServer:
    """The server's side: step, Lookup → keys, step, step."""

    def __init__(self, nonce: str) -> None:
        """Use ``nonce``, printable ASCII without a comma, never used before."""
        self._nonce = nonce
        self._next = self._begin
        self._user = self._authzid = ""
        self._header = self._talk = b""  # gs2-header; AuthMessage as far as it was said
        self._keys: StoredKeys | None = None

    def begin(self, initial: bytes | None) -> steps.Event:
        """Take what came with the AUTH command, None if nothing did."""
        return Challenge(b"") if initial is None else self.step(initial)

    def step(self, octets: bytes | None) -> steps.Event:
        """Take the client's message; None if it cancelled."""
        if octets is None:
            return CANCELLED
        if len(octets) > MESSAGE_MAX:
            return Failed(steps.MALFORMED, "a SCRAM message that is too long")
        return self._next(octets)

    def keys(self, keys: StoredKeys) -> Challenge:
        """Answer Lookup; of a user who has none, made-up ones, so that nobody sees it."""
        if self._next != self._wait:
            raise LocalProtocolError("SCRAM keys that nobody asked for")
        self._keys = keys
        self._next = self._finish
        salt = _base64(keys.salt)
        message = f"r={self._nonce},s={salt},i={keys.iterations}".encode()
        self._talk += b"," + message
        return Challenge(message)

    def _begin(self, octets: bytes) -> steps.Event:
        self._next = self._over
        found = _FIRST.fullmatch(octets.decode("latin-1"))
        if found is None:
            binding = octets[:2] == b"p="
            return _malformed("channel binding was not offered" if binding else "client-first")
        _, authzid, bare, name, nonce = found.groups()
        try:
            self._user = _unescape(name)
            self._authzid = _unescape(authzid) if authzid else ""
        except ValueError as error:
            return _malformed(str(error))
        self._header = octets[: found.start(3)]
        self._talk = bare.encode("latin-1")
        self._nonce = nonce + self._nonce
        self._next = self._wait
        return Lookup(self._user, self._authzid)

    def _wait(self, octets: bytes) -> steps.Event:
        raise LocalProtocolError("a SCRAM step before its keys")

    def _over(self, octets: bytes) -> steps.Event:
        raise LocalProtocolError("a SCRAM exchange that is over")

    def _finish(self, octets: bytes) -> steps.Event:
        self._next = self._over
        found = _FINAL.fullmatch(octets.decode("latin-1"))
        if found is None or self._keys is None:
            return _malformed("client-final")
        try:
            binding, proof = _octets(found[2]), _octets(found[4])
        except ValueError as error:
            return _malformed(str(error))
        if binding != self._header or len(proof) != SIZE:
            return _malformed("channel binding or proof")
        said = self._talk + b"," + found[1].encode("latin-1")
        key = _xor(proof, _hmac(self._keys.stored_key, said))
        same = hmac.compare_digest(hashlib.sha256(key).digest(), self._keys.stored_key)
        if not same or not hmac.compare_digest(found[3], self._nonce):
            return Failed(steps.WRONG, "wrong SCRAM proof", self._user)
        self._next = self._acknowledged
        return Challenge(b"v=" + _base64(_hmac(self._keys.server_key, said)).encode())

    def _acknowledged(self, octets: bytes) -> steps.Event:
        """RFC 4954 s4: success carries no data, so the signature waits for an empty answer."""
        self._next = self._over
        if octets:
            return _malformed("an answer to the server's signature")
        return Proven(self._user, self._authzid)


class ScramClient:
    """The client's side; ``complete`` once the server has proved that it knows the keys."""

    mechanism = "SCRAM-SHA-256"

    def __init__(self, user: str, password: str, nonce: str) -> None:
        """Raise ValueError if SASLprep refuses ``password``, which no server could know then."""
        self.complete = False
        self._password = prepare(password, stored=True)
        self._nonce = nonce
        name = prepare(user).replace("=", "=3D").replace(",", "=2C")
        self._talk = f"n={name},r={nonce}".encode()
        self._signature = b""
        self._said = 0

    def initial(self) -> bytes | None:
        """Return the first message, for the AUTH command itself."""
        self._said = 1
        return b"n,," + self._talk

    def step(self, challenge: bytes) -> bytes:
        """Return the answer to ``challenge``; RemoteProtocolError if the server is no good."""
        if len(challenge) > MESSAGE_MAX:
            raise RemoteProtocolError("a SCRAM message that is too long")
        if not challenge and not self._said:
            return self.initial() or b""
        if self._said == 1:
            self._said = 2
            return self._prove(challenge.decode("latin-1"))
        self._verify(challenge.decode("latin-1"))
        return b""

    def _prove(self, message: str) -> bytes:
        found = _SERVER_FIRST.fullmatch(message)
        if found is None or not found[1].startswith(self._nonce) or found[1] == self._nonce:
            raise RemoteProtocolError("a server-first message that is no answer to ours (SCRAM)")
        iterations, salt = int(found[3]), _remote(found[2])
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX or len(salt) > SALT_MAX:
            raise RemoteProtocolError(f"the server asks for {iterations} SCRAM iterations")
        final = f"c=biws,r={found[1]}".encode()
        said = b",".join((self._talk, message.encode("latin-1"), final))
        salted = _salted(self._password, salt, iterations)
        key = _hmac(salted, b"Client Key")
        proof = _xor(key, _hmac(hashlib.sha256(key).digest(), said))
        self._signature = _hmac(_hmac(salted, b"Server Key"), said)
        return final + b",p=" + _base64(proof).encode()

    def _verify(self, message: str) -> None:
        found = _SERVER_FINAL.fullmatch(message)
        if self.complete or found is None or not self._signature:
            raise RemoteProtocolError("no server-final message (SCRAM)")
        if not hmac.compare_digest(_remote(found[1]), self._signature):
            raise RemoteProtocolError("the server does not know the password's keys (SCRAM)")
        self.complete = True


def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    prepared = prepare(password, stored=True).encode()
    return hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _unescape(name: str) -> str:
    octets = name.replace("=2C", ",").replace("=3D", "=").encode("latin-1")
    return user_name(octets)


def _base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode()


def _octets(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64") from None


def _remote(text: str) -> bytes:
    try:
        return _octets(text)
    except ValueError:
        raise RemoteProtocolError("not base64 (SCRAM)") from None


def _malformed(what: str) -> Failed:
    return Failed(steps.MALFORMED, f"malformed SCRAM message: {what}")
