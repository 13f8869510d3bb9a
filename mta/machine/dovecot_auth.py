r"""Dovecot's auth socket: passwords, PAM, LDAP and SQL are its business, not ours.

One connection a process carries every exchange, each under a number of its own.
It is made when it is first needed, and again when it has died; what was under
way then is a temporary failure.

    ours     VERSION 1 2 | CPID pid | AUTH id mechanism parameters | CONT id data | CANCEL id
    Dovecot  VERSION 1 n | MECH name properties | DONE | CONT id data | OK id ... | FAIL id ...

Source   Dovecot's "Authentication Protocol v1.2", its client part: lines of words
         parted by tabs, a tab within a word as \001t.  Without ``final-resp-ok``
         what a mechanism says on success comes as one more CONT, as RFC 4954 s4
         wants it; ``nologin``: no master process asks for this login later.
Units    LIMIT seconds for an answer, connecting and greeting included.  LINE_MAX
         octets: Dovecot ends a connection over a longer line of ours, and with it
         the exchanges of everybody else.
State    One connection; a future for each answer that is due.

Invariants, each a property in tests/machine/test_dovecot_auth.py
    K1   Every question is answered, or raises DovecotError, within LIMIT.
    K2   Whatever Dovecot says, nothing but DovecotError is raised, and the next
         question has a connection that works if there is one to be had.
    K3   No line of ours is longer than LINE_MAX, or holds a line end that was foreign.
"""

from __future__ import annotations

import asyncio
import binascii
import os
from typing import TYPE_CHECKING, cast

from mta.smtp import saslprep
from mta.smtp.steps import Challenge
from mta.types import Reply
from mta.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LIMIT",
    "LINE_MAX",
    "Accepted",
    "Answer",
    "Dovecot",
    "DovecotError",
    "Question",
    "Refused",
    "TooLong",
]

LIMIT = 30.0
LINE_MAX = 8000
ANSWER_MAX = 65536  # of a line of Dovecot's
DUE_MAX = 1000  # answers at once
MECHANISMS_MAX = 50
ID_MAX = 0x7FFFFFFF

_ESCAPES = {"0": "\0", "1": "\x01", "t": "\t", "n": "\n", "r": "\r"}
_TO_ESCAPES = str.maketrans({plain: "\x01" + letter for letter, plain in _ESCAPES.items()})


class DovecotError(Exception):
    """Dovecot cannot be asked just now, or made no sense; the text is for a person."""


class TooLong(Exception):
    """The client said more than one line to Dovecot can hold."""


@frozen
class Accepted:
    """OK: the client is ``user``."""

    user: str


@frozen
class Refused:
    """FAIL; ``temporary`` if Dovecot could not tell."""

    temporary: bool
    reason: str
    user: str


Answer = Challenge | Accepted | Refused


class _Wire(asyncio.Protocol):
    """One connection: lines in, each to the future that waits for it."""

    def __init__(self, ready: asyncio.Future[None]) -> None:
        self.mechanisms: list[str] = []
        self.due: dict[int, asyncio.Future[Answer]] = {}
        self.gone = False
        self._ready = ready
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._version = False
        self._last = 0
        self._words: dict[str, Callable[[str, list[str]], None]] = {
            "VERSION": self._on_version,
            "MECH": self._on_mechanism,
            "DONE": self._on_done,
            "OK": self._on_answer,
            "FAIL": self._on_answer,
            "CONT": self._on_answer,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # or uvloop's own kind
        self.send(_spell("VERSION", "1", "2"))
        self.send(_spell("CPID", str(os.getpid())))

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        try:
            for line in lines:
                self._line(line.decode("utf-8", "replace"))
            if len(self._buffer) > ANSWER_MAX:
                raise DovecotError("Dovecot's line does not end")
        except DovecotError as error:
            self.end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(DovecotError("the connection to Dovecot was lost"))

    def end(self, error: DovecotError) -> None:
        """Close the connection; whoever waits for an answer gets ``error``."""
        self.gone = True
        waiting: list[asyncio.Future[Answer] | asyncio.Future[None]] = [
            self._ready,
            *self.due.values(),
        ]
        self.due = {}
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

    def number(self) -> int:
        """Return an id that no exchange under way has."""
        self._last = self._last % ID_MAX + 1
        while self._last in self.due:
            self._last = self._last % ID_MAX + 1
        return self._last

    def send(self, line: bytes) -> None:
        """Send a line, unless the connection is gone: then the answer's future knows."""
        if self._transport is not None and not self.gone:
            self._transport.write(line)

    def _line(self, text: str) -> None:
        word, *rest = text.split("\t")
        act = self._words.get(word)  # what is not known is of a newer version, or not for us
        if act is not None:
            act(word, [_unescape(part) for part in rest])

    def _on_version(self, _: str, words: list[str]) -> None:
        if words[:1] != ["1"]:
            raise DovecotError("Dovecot speaks another version of its protocol")
        self._version = True

    def _on_mechanism(self, _: str, words: list[str]) -> None:
        if words and "private" not in words[1:] and len(self.mechanisms) < MECHANISMS_MAX:
            self.mechanisms.append(words[0].upper())

    def _on_done(self, _: str, words: list[str]) -> None:
        if not self._version:
            raise DovecotError("Dovecot did not say its version")
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_answer(self, word: str, words: list[str]) -> None:
        if not words or not words[0].isascii() or not words[0].isdigit():
            raise DovecotError("Dovecot's answer has no number")
        answer = _READ[word](words[1:])
        future = self.due.pop(int(words[0][:12]), None)
        if future is not None and not future.done():  # else nobody waits for it any more
            future.set_result(answer)


def _continue(words: list[str]) -> Answer:
    try:
        return Challenge(binascii.a2b_base64(words[0] if words else "", strict_mode=True))
    except (binascii.Error, ValueError):
        raise DovecotError("Dovecot's challenge is not base64") from None


def _accept(words: list[str]) -> Answer:
    try:
        return Accepted(saslprep.user_name(_fields(words).get("user", "").encode()))
    except ValueError as error:
        return Refused(True, f"Dovecot's user name is of no use: {error}", "")


def _refuse(words: list[str]) -> Answer:
    fields = _fields(words)
    temporary = "temp" in fields or fields.get("code") == "temp_fail"
    reason = Reply.clean(fields.get("reason", "")) or "refused by Dovecot"
    return Refused(temporary, reason, Reply.clean(fields.get("user", ""), 255))


_READ: dict[str, Callable[[list[str]], Answer]] = {
    "CONT": _continue,
    "OK": _accept,
    "FAIL": _refuse,
}


def _fields(words: list[str]) -> dict[str, str]:
    """Return ``name=value`` words as a table, the first of each name; a lone name has ""."""
    fields: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        fields.setdefault(name, value)
    return fields


def _spell(*words: str) -> bytes:
    return "\t".join([word.translate(_TO_ESCAPES) for word in words]).encode() + b"\n"


def _unescape(word: str) -> str:
    first, *rest = word.split("\x01")
    return first + "".join([_ESCAPES.get(part[:1], part[:1]) + part[1:] for part in rest])


def _base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode()


class Dovecot:
    """The socket of one Dovecot, for one process and its loop."""

    def __init__(self, path: str, limit: float = LIMIT) -> None:
        """Do nothing yet: connect() does, and so does the first question."""
        self.mechanisms: tuple[str, ...] = ()  # as it last said; () if it never did
        self._path = path
        self._limit = limit
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> None:
        """See that there is a connection; DovecotError if there can be none."""
        try:
            async with asyncio.timeout(self._limit):
                await self._connected()
        except TimeoutError:
            raise DovecotError(f"{self._path}: no greeting from Dovecot in time") from None

    def question(self) -> Question:
        """Return a new exchange."""
        return Question(self)

    def close(self) -> None:
        """End the connection; a later question would make another."""
        if self._wire is not None:
            self._wire.end(DovecotError("the connection to Dovecot was closed"))

    async def _connected(self) -> _Wire:
        if self._wire is not None and not self._wire.gone:
            return self._wire
        async with self._connecting:
            if self._wire is not None and not self._wire.gone:
                return self._wire  # somebody else has made it meanwhile
            loop = asyncio.get_running_loop()
            ready: asyncio.Future[None] = loop.create_future()
            wire = _Wire(ready)
            try:
                await loop.create_unix_connection(lambda: wire, self._path)
                await ready
            except OSError as error:
                raise DovecotError(f"{self._path}: {error.strerror or error}") from None
            finally:
                if not ready.done() or ready.cancelled() or ready.exception() is not None:
                    ready.cancel()
                    wire.end(DovecotError("no greeting from Dovecot"))
            self._wire, self.mechanisms = wire, tuple(dict.fromkeys(wire.mechanisms))
            return wire


class Question:
    """One exchange: begin(), then proceed() as long as Challenges come."""

    def __init__(self, dovecot: Dovecot) -> None:
        """Leave it to ``dovecot`` to make this."""
        self._dovecot = dovecot
        self._wire: _Wire | None = None
        self._id = ""

    async def begin(self, mechanism: str, initial: bytes | None, words: tuple[str, ...]) -> Answer:
        """Send AUTH with parameters ``words``; ``initial`` is None if the client sent none."""
        response = () if initial is None else (f"resp={_base64(initial)}",)
        return await self._ask("AUTH", mechanism, *words, *response)  # resp must be the last

    async def proceed(self, octets: bytes) -> Answer:
        """Send what the client answered to the last challenge."""
        return await self._ask("CONT", _base64(octets))

    def cancel(self) -> None:
        """Give the exchange up; Dovecot forgets it."""
        if self._wire is not None:
            self._wire.due.pop(int(self._id), None)
            self._wire.send(_spell("CANCEL", self._id))
            self._wire = None

    async def _ask(self, word: str, *words: str) -> Answer:
        try:
            async with asyncio.timeout(self._dovecot._limit):
                answer = await self._answer(word, *words)
        except TimeoutError:
            self.cancel()
            raise DovecotError("Dovecot did not answer in time") from None
        except asyncio.CancelledError:
            self.cancel()
            raise
        if not isinstance(answer, Challenge):
            self._wire = None  # it is over: nothing to cancel
        return answer

    async def _answer(self, word: str, *words: str) -> Answer:
        if word == "AUTH":
            self._wire = await self._dovecot._connected()
            self._id = str(self._wire.number())
        wire = self._wire
        if wire is None or wire.gone:
            raise DovecotError("the connection to Dovecot was lost")
        if len(wire.due) >= DUE_MAX:
            raise DovecotError("too many questions to Dovecot at once")
        line = _spell(word, self._id, *words)
        if len(line) > LINE_MAX:
            raise TooLong
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        wire.due[int(self._id)] = future
        wire.send(line)
        return await future
