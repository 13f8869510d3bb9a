from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp.grammar import (
    LINE_MAX,
    LINES_MAX,
    REPLY_MAX,
    ReplyReader,
    WireReply,
    command,
    enhanced_status,
    mail_command,
    rcpt_command,
)
from mta.types import NULL_PATH, Mailbox

TEXT = st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").rstrip(b"\r"))
REPLY = st.builds(
    WireReply, st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=4).map(tuple)
)


def wire(reply: WireReply) -> bytes:
    code = b"%d" % reply.code
    *first, last = reply.lines
    return b"".join([code + b"-" + line + b"\r\n" for line in first]) + code + b" " + last + b"\r\n"


def read_all(pieces: list[bytes]) -> list[WireReply]:
    reader, replies = ReplyReader(), []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.next()) is not None:
            replies.append(reply)
    return replies


@given(st.lists(REPLY, max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_g1_splits_do_not_matter(replies: list[WireReply], cuts: list[int]) -> None:
    octets = b"".join([wire(reply) for reply in replies])
    places = [0, *sorted(cuts), len(octets)]
    pieces = [octets[a:b] for a, b in pairwise(places)]
    assert read_all(pieces) == replies
    assert read_all([octets[i : i + 1] for i in range(len(octets))]) == replies


@given(st.lists(st.one_of(st.binary(max_size=3000), REPLY.map(wire)), max_size=8))
def test_g2_fuzz(pieces: list[bytes]) -> None:
    reader = ReplyReader()
    for piece in pieces:
        reader.feed(piece)
        try:
            while reader.next() is not None:
                pass
        except RemoteProtocolError:
            return
        held = len(reader._buffer) + sum(len(line) for line in reader._lines)
        assert held <= REPLY_MAX + LINE_MAX


@pytest.mark.parametrize(
    "octets",
    [
        b"250-" + b"x" * LINE_MAX + b"\r\n",
        b"250 " + b"x" * LINE_MAX,
        b"250-x\r\n" * (LINES_MAX + 1),
        (b"250-" + b"x" * 1000 + b"\r\n") * 9,
        b"250-a\r\n251 b\r\n",
        b"hello\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"\xb250 ok\r\n",
        b" 250 ok\r\n",
        b"\r\n",
        b"\n",
    ],
)
def test_g2_refused(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_all([octets])


def test_limits_are_reached_not_passed() -> None:
    assert len(read_all([b"250-x\r\n" * (LINES_MAX - 1) + b"250 x\r\n"])[0].lines) == LINES_MAX
    assert len(read_all([b"250 " + b"x" * (LINE_MAX - 6) + b"\r\n"])) == 1


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"250 2.1.5 fine\r\n", "2.1.5"),
        (b"550 5.7.26\r\n", "5.7.26"),
        (b"550 5.007.026 padded\r\n", "5.7.26"),
        (b"450 5.1.1 lies\r\n", ""),
        (b"550 5.1.1.2 no\r\n", ""),
        (b"550 5.1.1no\r\n", ""),
        (b"550 x 5.1.1\r\n", ""),
        (b"550\r\n", ""),
        (b"550-5.1.1 a\r\n550 5.1.2 b\r\n", "5.1.2"),
    ],
)
def test_status(octets: bytes, status: str) -> None:
    assert enhanced_status(read_all([octets])[0]) == status


def test_text_is_one_clean_line_without_statuses() -> None:
    reply = read_all([b"550-5.1.1 no\x07 such\r\n550-5.1.1\r\n550 5.1.1 us\xc3\xa9r\r\n"])[0]
    assert reply.text() == "no such usér"


@given(st.text(), st.text(), st.text())
def test_g3_a_command_is_one_line(local: str, domain: str, parameters: str) -> None:
    try:
        line = mail_command(Mailbox(local, domain), parameters)
    except LocalProtocolError:
        return
    assert line.endswith(b"\r\n")
    assert not any(octet < 32 or octet == 127 for octet in line[:-2])


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b", "\x7f", "\x85", "\ud800"])
def test_g3_control_characters_are_a_defect_of_ours(bad: str) -> None:
    with pytest.raises(LocalProtocolError):
        command(bad)
    with pytest.raises(LocalProtocolError):
        rcpt_command(Mailbox(bad, "example.net"))


def test_commands() -> None:
    assert mail_command(NULL_PATH, " SIZE=1") == b"MAIL FROM:<> SIZE=1\r\n"
    assert rcpt_command(Mailbox("a b", "x.net")) == b'RCPT TO:<"a b"@x.net>\r\n'
