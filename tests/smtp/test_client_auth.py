from __future__ import annotations

from binascii import a2b_base64, b2a_base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import RemoteProtocolError
from mta.smtp.client_auth import Authentication
from mta.smtp.grammar import WireReply


class Told:
    """An exchange that says ``first`` with AUTH, and to each challenge its length."""

    mechanism = "X-TOLD"

    def __init__(self, first: bytes | None, steps: int = 0) -> None:
        self.heard: list[bytes] = []
        self._first, self._steps = first, steps

    @property
    def complete(self) -> bool:
        return len(self.heard) >= self._steps

    def initial(self) -> bytes | None:
        return self._first

    def step(self, challenge: bytes) -> bytes:
        if challenge == b"bad":
            raise RemoteProtocolError("a bad challenge")
        self.heard.append(challenge)
        return b"%d" % len(challenge)


def challenge(octets: bytes) -> WireReply:
    return WireReply(334, (b2a_base64(octets, newline=False),))


DONE = WireReply(235, (b"2.7.0 fine",))


@pytest.mark.parametrize(
    ("first", "line"),
    [
        (None, b"AUTH X-TOLD\r\n"),
        (b"", b"AUTH X-TOLD =\r\n"),
        (b"\0a\0b", b"AUTH X-TOLD AGEAYg==\r\n"),
    ],
)
def test_the_command(first: bytes | None, line: bytes) -> None:
    assert Authentication(Told(first)).begin() == line


@given(st.integers(0, 1000))
def test_a_long_first_answer_waits_to_be_asked_for(size: int) -> None:
    exchange = Told(b"x" * size)
    authentication = Authentication(exchange)
    line = authentication.begin()
    assert len(line) <= 512
    if line != b"AUTH X-TOLD\r\n":
        return
    with pytest.raises(RemoteProtocolError):
        Authentication.end(authentication, DONE)
    answer = authentication.answer(challenge(b""))
    assert a2b_base64(answer) == b"x" * size
    assert exchange.heard == []
    assert authentication.end(DONE) is None


@given(st.lists(st.binary(max_size=40).filter(lambda octets: octets != b"bad"), max_size=4))
def test_each_challenge_gets_its_answer(challenges: list[bytes]) -> None:
    exchange = Told(None, len(challenges))
    authentication = Authentication(exchange)
    authentication.begin()
    for octets in challenges:
        with pytest.raises(RemoteProtocolError):
            authentication.end(DONE)
        answer = authentication.answer(challenge(octets))
        assert answer.endswith(b"\r\n")
        assert a2b_base64(answer) == b"%d" % len(octets)
    assert exchange.heard == challenges
    assert authentication.end(DONE) is None


@pytest.mark.parametrize("line", [b"***", b"YQ", b"YQ==YQ==", b"a b", "ü".encode(), b"YmFk"])
def test_what_makes_no_sense_is_given_up_once(line: bytes) -> None:
    authentication = Authentication(Told(None))
    authentication.begin()
    assert authentication.answer(WireReply(334, (line,))) == b"*\r\n"
    with pytest.raises(RemoteProtocolError):
        authentication.answer(challenge(b"more"))
    refusal = authentication.end(WireReply(501, (b"5.7.0 cancelled",)))
    assert refusal is not None
    assert refusal.reply.transient
    assert refusal.scope == "host"
    assert "given up" in refusal.reply.text
