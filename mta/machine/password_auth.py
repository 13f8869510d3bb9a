"""AUTH by the password file: what is done for a name, and on which threads.

What a client can learn from a refusal, or from how long it takes, does not
depend on whether a user exists: for a name that does not, the same is done as
for some name that does, and the result is thrown away.  Nothing is remembered
of a success: each login costs its hash.

Source   Made-up salts: RFC 5802 s9.  Two threads hash, since the packages let go of
         the interpreter meanwhile, and no more: argon2 on demand is a way to hold a
         processor for anyone who can connect.
Units    WAITING hashes may wait for a thread: the next is refused for now.
State    The users of the file, and ``secret``, of which salts for unknown users are
         made: processes that answer at one address share it.

Invariants, each a property in tests/machine/test_password_auth.py
    J4   Only the right password, or a proof of it, of a user of the file is Granted.
    J5   Whatever a client sends, each step is a Challenge, Granted, or Denied with
         one of REPLIES; nothing is raised.
    J6   For an unknown user, the client sees and the threads do what they would for
         a known one with a wrong password.
    J7   At most THREADS hashes are computed at once, and WAITING wait.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import secrets
import threading
from collections.abc import Callable
from typing import TypeVar

from mta.machine import passwords
from mta.machine.auth_steps import TEMPORARY, Denied, Granted, Step, denied
from mta.machine.passwordfile import PasswordFile, User, fold
from mta.smtp import sasl, scram, steps
from mta.smtp.scram import ScramServer, StoredKeys
from mta.smtp.steps import Challenge, Credentials, Failed, Lookup

__all__ = ["THREADS", "WAITING", "FileExchange", "PasswordAuth"]

THREADS = 2
WAITING = 100
SECRET = 32

T = TypeVar("T")


class _Crowded(Exception):
    """More work waits for the threads than there should."""


class _Threads:
    """A few threads for hashing, and a bounded waiting room before them."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS, "password")
        self._lock = threading.Lock()
        self._present = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns; _Crowded if too much waits."""
        with self._lock:
            if self._present >= THREADS + WAITING:
                raise _Crowded
            self._present += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._left)  # also when whoever waited has gone
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _left(self, _: object) -> None:
        with self._lock:
            self._present -= 1


class PasswordAuth:
    """The password file, and the threads that work through it."""

    def __init__(self, file: PasswordFile, warn: Callable[[str], None], secret: bytes) -> None:
        """Use ``file``, which is read already or will be; an empty ``secret`` is made up."""
        self.file = file
        self._warn = warn
        self._secret = secret or secrets.token_bytes(SECRET)
        self._threads = _Threads()
        self._told: set[str] = set()

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What can be served now; SCRAM only if anybody has keys for it."""
        self.file.refresh()
        return sasl.MECHANISMS if self.file.users.scram else sasl.CLEAR

    def exchange(self, made: sasl.ServerExchange) -> FileExchange:
        """Return a new exchange that follows ``made``."""
        return FileExchange(self, made)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    async def verify(self, user: User | None, stand_in: User | None, password: str) -> User | None:
        """Return ``user`` if ``password`` is right, at the same cost if there is no user."""
        chosen = user or stand_in
        if chosen is None:
            return None
        right = await self._threads.run(lambda: passwords.verify(chosen.hashed, password))
        return user if right else None

    async def keys(self, user: User | None, stand_in: User, name: str) -> tuple[StoredKeys, bool]:
        """Return the SCRAM keys of ``user`` and True, or some for ``name`` and False."""
        hashed = (user or stand_in).hashed
        salt = self._derive("salt", name, passwords.SALT)
        if hashed.kind == passwords.SCRAM:
            keys = passwords.scram_keys(hashed, salt)
        else:
            keys = await self._threads.run(lambda: passwords.scram_keys(hashed, salt))
        if keys is not None and user is not None:
            return keys, True
        iterations, size = scram.ITERATIONS_MIN, passwords.SALT
        if keys is not None:  # else it is a clear password that SASLprep refuses
            iterations, size = keys.iterations, len(keys.salt)
        key = self._derive("key", name, scram.SIZE)
        return StoredKeys(iterations, self._derive("salt", name, size), key, key), False

    def number(self, name: str) -> int:
        """Return the number that picks the stand-in for ``name``."""
        return int.from_bytes(self._derive("stand-in", name, 8), "big")

    def _derive(self, purpose: str, name: str, size: int) -> bytes:
        """Return octets that nobody can tell from random ones, always the same for a name."""
        text = f"{purpose}\0{fold(name)}".encode()
        return hashlib.shake_256(self._secret + text).digest(size)

    def failed(self, error: Exception) -> Denied:
        """Tell the operator that a hash could not be verified; return the refusal."""
        if isinstance(error, _Crowded):
            return denied(TEMPORARY, "too many logins at once")
        text = f"a password could not be verified: {type(error).__name__}"
        if text not in self._told:  # once: clients decide how often it happens
            self._told.add(text)
            self._warn(f"auth: {text}")
        return denied(TEMPORARY, text)


class FileExchange:
    """One exchange against the password file."""

    def __init__(self, auth: PasswordAuth, exchange: sasl.ServerExchange) -> None:
        self._auth = auth
        self._file = auth.file
        self._exchange = exchange
        self._user: User | None = None

    async def begin(self, initial: bytes | None) -> Step:
        """Take what came with the AUTH command."""
        if self._file.trouble:
            return denied(TEMPORARY, self._file.trouble)
        return await self._react(self._exchange.begin(initial))

    async def proceed(self, octets: bytes | None) -> Step:
        """Take the client's answer; None if it cancelled."""
        return await self._react(self._exchange.step(octets))

    def close(self) -> None:
        """Nothing to let go of."""

    async def _react(self, event: steps.Event) -> Step:
        try:
            return await self._step(event)
        except Exception as error:  # whatever a hashing package may raise
            return self._auth.failed(error)

    async def _step(self, event: steps.Event) -> Step:
        match event:
            case Challenge():
                return event
            case Credentials():
                return await self._verify(event)
            case Lookup():
                return await self._look_up(event)
            case Failed() if event.fault != steps.WRONG or self._user is not None:
                return denied(event.fault, event.reason, event.user)
        if self._user is None:
            return denied(steps.WRONG, "unknown user, or one without SCRAM keys", event.user)
        return Granted(self._user.name)

    async def _verify(self, said: Credentials) -> Step:
        if not _same(said.authzid, said.user):
            return denied(steps.WRONG, "wants to be somebody else", said.user)
        user = self._file.users.find(said.user)
        number = self._auth.number(said.user)
        stand_in = self._file.users.stand_in(number, scram=False)
        right = await self._auth.verify(user, stand_in, said.password)
        if right is not None:
            return Granted(right.name)
        return denied(steps.WRONG, "wrong password" if user else "unknown user", said.user)

    async def _look_up(self, said: Lookup) -> Step:
        if not isinstance(self._exchange, ScramServer) or not _same(said.authzid, said.user):
            return denied(steps.WRONG, "wants to be somebody else", said.user)
        user = self._file.users.find(said.user)
        user = user if user is not None and user.scram else None
        number = self._auth.number(said.user)
        stand_in = self._file.users.stand_in(number, scram=True)
        if stand_in is None:
            return denied(steps.WRONG, "nobody has keys for SCRAM", said.user)
        keys, own = await self._auth.keys(user, stand_in, said.user)
        self._user = user if own else None
        return self._exchange.keys(keys)


def _same(authzid: str, user: str) -> bool:
    return not authzid or fold(authzid) == fold(user)
