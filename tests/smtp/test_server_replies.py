from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.grammar import ReplyReader
from mta.smtp.server_replies import FAULTS, FIXED, GO_AHEAD, Terms, challenge, greeting, offer, wire
from mta.types import Reply
from mta.values import replace

TERMS = Terms("mx.example.test", message_size=1000, tls=True, mechanisms=("PLAIN", "LOGIN"))


@given(st.integers(200, 599), st.sampled_from(["", "5.1.1"]), st.text(max_size=1500))
def test_y1_any_reply_is_whole_lines(code: int, status: str, text: str) -> None:
    octets = wire(Reply(code, status, text))
    lines = octets.split(b"\r\n")
    assert lines.pop() == b""
    for at, line in enumerate(lines):
        assert len(line) <= 510
        assert line.isascii()
        assert line.decode("ascii").isprintable()
        mark = b" " if at == len(lines) - 1 else b"-"
        assert line.startswith(b"%d%s%s" % (code, mark, status.encode()))
    reader = ReplyReader()
    reader.feed(octets)
    reply = reader.next()
    assert reply is not None
    assert reply.code == code
    assert not reader.pending


def test_y1_a_long_text_is_kept() -> None:
    text = "all of it " * 90
    reader = ReplyReader()
    reader.feed(wire(Reply(550, "5.7.1", text)))
    reply = reader.next()
    assert reply is not None
    said = b"".join([line.removeprefix(b"5.7.1 ") for line in reply.lines])
    assert said.decode() == text.strip()[: len(said)]
    assert len(said) > 800


def test_y1_what_is_fixed() -> None:
    for octets in FIXED.values():
        assert re.fullmatch(rb"[245][0-9]{2} [245]\.[0-9]\.[0-9]+ [ -~]{1,60}\r\n", octets)
        assert octets[:1] == octets[4:5]
    assert all(reply.permanent for reply in FAULTS.values())
    assert wire(GO_AHEAD).startswith(b"354 go ahead")


def keywords(terms: Terms, secured: bool) -> list[str]:
    lines = offer(terms, secured).decode().split("\r\n")
    assert lines.pop() == ""
    assert all(line.startswith("250-") for line in lines[:-1])
    assert lines[-1].startswith("250 ")
    return [line[4:] for line in lines[1:]]


def test_y2_what_is_offered() -> None:
    always = ["PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
    always += ["CHUNKING", "BINARYMIME", "LIMITS RCPTMAX=1000"]
    assert keywords(TERMS, False) == [*always, "STARTTLS"]
    assert keywords(TERMS, True) == [*always, "AUTH PLAIN LOGIN", "REQUIRETLS"]
    bare = Terms("mx", recipients=0)
    assert keywords(bare, False) == ["PIPELINING", "SIZE", *always[2:-1]]
    rich = keywords(replace(bare, etrn=True, xclient=True), False)
    assert rich[-2] == "ETRN"
    assert rich[-1].startswith("XCLIENT NAME ADDR ")


def test_greetings_and_challenges() -> None:
    assert greeting(TERMS) == b"220 mx.example.test ESMTP Posthouse\r\n"
    assert greeting(Terms("mx", "lmtp")) == b"220 mx LMTP Posthouse\r\n"
    assert challenge(b"") == b"334 \r\n"
    assert challenge(b"x" * 100).count(b"\n") == 1
