"""Every short mix of CR, LF, NUL and dot around the end of data, on the engine alone.

R2 and R5 of mta/smtp/receive.py, seen from outside the whole listener: one message or a
refusal, never two, and the same whatever the cut.
"""

from __future__ import annotations

import pytest

from mta.smtp.server import Chunk, Closed, DataBegin, DataEnd, Server, Terms
from mta.smtp.server_replies import FAULTS, GO_AHEAD
from mta.types import Reply
from tests.smuggling import (
    BARE,
    ENVELOPE,
    HEADER,
    NOT_A_COMMAND,
    OK,
    TAIL,
    Reading,
    alone,
    borders,
    codes,
    ends,
    mixes,
    read,
)

YES = Reply(250, "2.0.0", "yes")
STRICT = Terms("mx.example.test", errors=0)
LENIENT = Terms("mx.example.test", errors=0, lenient=True)
STARTS = (HEADER, HEADER + b"a", b"")


class Ear:
    """A session that takes every message, and keeps the last."""

    def __init__(self, terms: Terms) -> None:
        self._server = Server(terms)
        self._server.greet()
        self._pieces: list[bytes] = []
        self.bodies: list[bytes] = []
        self.say([b"EHLO client.test\r\n"])

    def say(self, pieces: list[bytes]) -> bytes:
        """Hear ``pieces``; return all replies."""
        server = self._server
        for piece in pieces:
            server.feed(piece)
            while (event := server.next_event()) is not None:
                if isinstance(event, Chunk):
                    self._pieces.append(event.octets)
                elif isinstance(event, DataEnd):
                    if not event.fault:
                        self.bodies.append(b"".join(self._pieces))
                    self._pieces.clear()
                    server.answer(FAULTS.get(event.fault, YES))
                else:
                    assert not isinstance(event, Closed)
                    server.answer(GO_AHEAD if isinstance(event, DataBegin) else YES)
        return server.take()

    def data(self, pieces: list[bytes]) -> Reading:
        """Hear a message by DATA."""
        assert b"\r\n354 " in self.say([ENVELOPE])
        self.bodies.clear()
        replies = codes(self.say(pieces))
        assert len(self.bodies) <= 1
        return Reading(replies, self.bodies[0] if self.bodies else None)


def single(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]


@pytest.mark.parametrize(("terms", "longest"), [(STRICT, 5), (LENIENT, 4)])
def test_r2_every_mix_at_every_border(terms: Terms, longest: int) -> None:
    ear = Ear(terms)
    for start in STARTS:
        for mix in mixes(longest):
            octets = start + mix + TAIL
            told = read(octets, terms.lenient)
            for pieces in ([octets], single(octets), *borders(octets, mix)):
                assert ear.data(pieces) == told, (start, mix, pieces)


def test_r2_longer_mixes() -> None:
    ear = Ear(STRICT)
    for mix in mixes(6, 6):
        octets = HEADER + b"a" + mix + TAIL
        told = read(octets)
        assert ear.data([octets]) == told, mix
        assert ear.data([octets[:16], octets[16:18], octets[18:]]) == told, mix


def test_r2_the_true_end_at_every_border() -> None:
    ear = Ear(STRICT)
    for mix in mixes(3):
        octets = HEADER + mix + TAIL
        told = read(octets)
        for pieces in ends(octets):
            assert ear.data(pieces) == told, (mix, pieces)


@pytest.mark.parametrize("body", ["", " BODY=BINARYMIME"])
def test_r5_every_mix_at_every_border_of_chunks(body: str) -> None:
    ear = Ear(STRICT)
    begin = ENVELOPE.replace(b">\r\n", b">" + body.encode() + b"\r\n", 1).removesuffix(b"DATA\r\n")
    for mix in mixes(4):
        message = HEADER + mix
        good = body != "" or not alone(message)
        told = message if body or message.endswith(b"\r\n") else message + b"\r\n"
        for at in range(len(HEADER), len(message) + 1):
            chunks = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (
                *(at, message[:at]),
                *(len(message) - at, message[at:]),
            )
            for pieces in ([chunks + b"NOOP\r\n"], single(chunks + b"NOOP\r\n")):
                ear.say([begin])
                ear.bodies.clear()
                assert codes(ear.say(pieces)) == (OK, OK if good else BARE, OK), (mix, at)
                assert ear.bodies == ([told] if good else []), (mix, at)


def test_the_oracle_knows_an_end_when_it_sees_one() -> None:
    ended = read(b"a\r\n.\r\nNOOP\r\n.\r\n")
    assert ended == Reading((OK, OK, NOT_A_COMMAND), b"a\r\n")
    assert read(b"a\n.\r\nNOOP\r\n.\r\n") == Reading((BARE,), None)
    assert read(b"a\n.\r\nNOOP\r\n.\r\n", True).body == b"a\r\n.\r\nNOOP\r\n"
    assert read(b".\r\n") == Reading((OK,), b"")
