from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.headers import (
    MAX_FIELDS,
    MAX_HEADER_OCTETS,
    DotText,
    Header,
    HeaderError,
    LineEnds,
    Normaliser,
    date_time,
    encoded_phrase,
    received,
    wire,
)
from tests.inlet import email_data

# Texts dense in what matters here.
mixed = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b".", b"a", b":", b" ", b"\t", b"To: x", b"From ", b"\xff"]
    )
).map(b"".join)
unix = st.lists(st.sampled_from([b"\n", b".", b"a", b"\x0b", b"\x85", b" ", b"To: x"])).map(
    b"".join
)
cuts = st.lists(st.integers(0, 60), max_size=8)


def pieces(octets: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(min(n, len(octets)) for n in at), len(octets)]
    return [octets[a:b] for a, b in pairwise(places)]


def normalised(parts: list[bytes]) -> bytes:
    normaliser = Normaliser()
    return b"".join([*map(normaliser.feed, parts), normaliser.end()])


def read(parts: list[bytes]) -> tuple[Header, bytes]:
    """Return the header of a message, and its body as text."""
    ends, header, body = LineEnds(), Header(), b""
    for text in [*map(ends.feed, parts), ends.end()]:
        if header.complete:
            body += text
        elif header.feed(text):
            body = header.rest
    if not header.complete:
        header.end()
        body = header.rest
    return header, body


@given(mixed, cuts)
def test_h1_any_split_gives_the_same_octets(octets: bytes, at: list[int]) -> None:
    assert normalised(pieces(octets, at)) == normalised([octets])
    whole, body = read([octets])
    split, body_of_split = read(pieces(octets, at))
    assert split.fields == whole.fields
    assert body_of_split == body
    assert split.mbox_line == whole.mbox_line


@given(mixed)
def test_h2_what_leaves_has_only_crlf(octets: bytes) -> None:
    header, body = read([octets])
    for out in (normalised([octets]), header.octets(), wire(body)):
        bare = out.replace(b"\r\n", b"")
        assert b"\r" not in bare
        assert b"\n" not in bare
    out = normalised([octets])
    assert not out or out.endswith(b"\r\n")


@given(unix)
def test_h3_only_lf_or_only_crlf_comes_back(text: bytes) -> None:
    ended = text if not text or text.endswith(b"\n") else text + b"\n"
    assert normalised([text]).replace(b"\r\n", b"\n") == ended
    assert normalised([text.replace(b"\n", b"\r\n")]).replace(b"\r\n", b"\n") == ended


@given(mixed)
def test_h4_fields_and_body_are_the_text(octets: bytes) -> None:
    ends = LineEnds()
    text = ends.feed(octets) + ends.end()
    header, body = read([octets])
    assert text.startswith(header.mbox_line)
    rest = text.removeprefix(header.mbox_line)
    fields = b"".join(field for _, field in header.fields)
    assert rest in (fields + body, fields + b"\n" + body)


@given(st.lists(st.sampled_from([b"\n", b".", b"..", b"a"])).map(b"".join), cuts)
def test_h5_stuffed_text_comes_back(text: bytes, at: list[int]) -> None:
    text = text if text.endswith(b"\n") or not text else text + b"\n"
    stuffed = (b"\n" + text).replace(b"\n.", b"\n..")[1:] + b".\n"
    dots, out, rest = DotText(stuffed=True), b"", b""
    for part in pieces(stuffed + b"quit\n", at):
        if dots.ended:
            rest += part
            continue
        piece, after = dots.feed(part)
        out, rest = out + piece, rest + after
    assert (out, rest, dots.ended) == (text, b"quit\n", True)


@pytest.mark.parametrize(
    ("octets", "out"),
    [
        (b"a\r\r\nb", b"a\r\nb\r\n"),
        (b"10%\r20%\rdone\n", b"10%\r\n20%\r\ndone\r\n"),
        (b"a\n\rb", b"a\r\n\r\nb\r\n"),
        (b"\r", b"\r\n"),
        (b"", b""),
    ],
)
def test_lone_carriage_returns_end_lines_of_a_body(octets: bytes, out: bytes) -> None:
    assert normalised([octets]) == out


def test_a_carriage_return_makes_no_field() -> None:
    header, _ = read([b"Subject: a\rBcc: mallory@example.test\n\nx\n"])
    assert header.octets() == b"Subject: a Bcc: mallory@example.test\r\n\r\n"
    assert not header.has(b"bcc")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r\n"])
def test_line_ends_do_not_move_the_end_of_the_header(end: bytes) -> None:
    header, body = read([end.join([b"A: 1", b"B: 2", b"", b"text", b""])])
    assert [name for name, _ in header.fields] == [b"a", b"b"]
    assert body == b"text\n"


def test_fields_keep_their_octets() -> None:
    header, body = read([b"X-Odd :  \xff folded\n\tmore \n and more\nB:\n\nbody"])
    assert header.fields == [
        (b"x-odd", b"X-Odd :  \xff folded\n\tmore \n and more\n"),
        (b"b", b"B:\n"),
    ]
    assert header.octets(["Received: r"], ["Date: d"]) == (
        b"Received: r\r\nX-Odd :  \xff folded\r\n\tmore \r\n and more\r\nB:\r\nDate: d\r\n\r\n"
    )
    assert body == b"body"
    assert header.values([b"b"]) == [b"\n"]


@pytest.mark.parametrize(
    ("octets", "fields", "body"),
    [
        (b"", 0, b""),
        (b"\n", 0, b""),
        (b"\n\nx", 0, b"\nx"),
        (b"A: b", 1, b""),
        (b"A: b\n", 1, b""),
        (b"A: b\nno field here\nC: d\n", 1, b"no field here\nC: d\n"),
        (b" starts with a space\n", 0, b" starts with a space\n"),
        (b"no header at all", 0, b"no header at all"),
        (b": nameless\n", 0, b": nameless\n"),
        (b"From alice Thu Sep 12 10:00:00 2002\nA: b\n\nx\n", 1, b"x\n"),
        (b"From alice\n", 0, b""),
        (b"A: b\nFrom alice Thu\n\nx\n", 1, b"From alice Thu\n\nx\n"),
        (b"From : alice@example.test\n\nx\n", 1, b"x\n"),
        (b"A: b\n \nC: d\n\nx\n", 2, b"x\n"),
    ],
)
def test_where_the_header_ends(octets: bytes, fields: int, body: bytes) -> None:
    header, rest = read([octets])
    assert (len(header.fields), rest) == (fields, body)


def test_fields_left_out_and_a_last_line_without_end() -> None:
    header, _ = read([b"Bcc: a,\n b\nTo: c\nBCC: d\nSubject: x"])
    assert header.octets(without=[b"bcc"]) == b"To: c\r\nSubject: x\r\n\r\n"


def test_limits_of_the_header() -> None:
    read([b"A:\n" * MAX_FIELDS + b"\n"])
    with pytest.raises(HeaderError) as refused:
        read([b"A:\n" * (MAX_FIELDS + 1) + b"\n"])
    assert (refused.value.code, refused.value.status) == (554, "5.6.0")
    for field in (b"A: " + b"x" * MAX_HEADER_OCTETS, b"A:\n" + b" x\n" * (MAX_HEADER_OCTETS // 3)):
        with pytest.raises(HeaderError) as refused:
            read([field + b"\n\nbody"])
        assert (refused.value.code, refused.value.status) == (552, "5.3.4")


@pytest.mark.parametrize("chunk", [1000, 65536, 1 << 22])
def test_one_long_line_without_a_header_is_a_body(chunk: int) -> None:
    octets = b"x" * (MAX_HEADER_OCTETS + 5000) + b"\nA: b\n"
    header, body = read([octets[at : at + chunk] for at in range(0, len(octets), chunk)])
    assert header.fields == []
    assert body == octets


def test_h1_at_the_limit_of_the_header() -> None:
    filler = b"A: " + b"x" * (MAX_HEADER_OCTETS - 200) + b"\n"
    for last in (b"B: " + b"y" * 300 + b"\n", b"no field " * 40 + b"\n", b"y" * 1200 + b": z\n"):
        octets = filler + last + b"\nbody\n"
        results = set()
        for cut in (len(octets), MAX_HEADER_OCTETS - 1, MAX_HEADER_OCTETS + 1, len(filler) + 3):
            try:
                header, body = read([octets[:cut], octets[cut:]])
                results.add((len(header.fields), body))
            except HeaderError as error:
                results.add((error.code, b""))
        assert len(results) == 1


def test_a_header_that_comes_octet_by_octet_is_read_once() -> None:
    octets = b"A: b\n" + b" c\n" * 30_000 + b"\nbody"
    header, body = read([octets[at : at + 1] for at in range(len(octets))])
    assert (len(header.fields), body) == (1, b"body")  # the test's time limit catches a slower walk


def test_loops() -> None:
    read([b"Received: x\n" * 100 + b"\n"])[0].check_loop()
    with pytest.raises(HeaderError) as refused:
        read([b"Received: x\n" * 50 + b"RECEIVED : x\n" * 51 + b"\n"])[0].check_loop()
    assert (refused.value.code, refused.value.status) == (554, "5.4.6")


def test_received() -> None:
    field = received(
        "mx.example.test", "25W", "Sun, 22 Nov 2026 06:48:49 +0000", origin="from userid 7"
    )
    assert field == (
        "Received: by mx.example.test (Posthouse) with local id 25W\r\n"
        "\t(from userid 7); Sun, 22 Nov 2026 06:48:49 +0000"
    )
    with pytest.raises(ValueError, match="control"):
        received("mx", "1", "x", origin="a\r\nBcc: b")


@pytest.mark.parametrize(
    ("moment", "offset", "text"),
    [
        ((2026, 11, 22, 6, 4, 9, 6), 0, "Sun, 22 Nov 2026 06:04:09 +0000"),
        ((2024, 2, 29, 23, 59, 60, 3), -12600, "Thu, 29 Feb 2024 23:59:60 -0330"),
        ((1999, 1, 1, 0, 0, 0, 4), 20700, "Fri, 01 Jan 1999 00:00:00 +0545"),
    ],
)
def test_dates(moment: tuple[int, ...], offset: int, text: str) -> None:
    assert date_time(moment, offset) == text


@given(st.integers(0, 4_000_000_000))
def test_dates_are_those_that_the_email_package_reads(now: int) -> None:
    from email.utils import parsedate_to_datetime

    assert parsedate_to_datetime(date_time(time.gmtime(now), 0)).timestamp() == now


@given(st.text(max_size=60).filter(str.isprintable))
def test_full_names_are_read_back(name: str) -> None:
    from email.header import decode_header, make_header

    phrase = encoded_phrase(name)
    assert phrase.isascii()
    if name.isascii():
        quoted = phrase.startswith('"')
        assert (
            (phrase[1:-1].replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")) == name
            if quoted
            else phrase == name
        )
    else:
        assert str(make_header(decode_header(phrase))) == name
        assert max(map(len, phrase.split(" "))) <= 75


def test_full_names_with_control_characters_are_refused() -> None:
    with pytest.raises(ValueError, match="control"):
        encoded_phrase("a\r\nBcc: b")


@pytest.mark.skipif(not email_data(), reason="this interpreter has no test_email/data")
def test_every_message_of_the_email_package_keeps_its_octets() -> None:
    """Header and body, byte for byte, with LF and with CRLF line ends; text files only."""
    for path in email_data():
        octets = path.read_bytes()
        if path.suffix != ".txt":
            continue
        unix = octets.replace(b"\r\n", b"\n")
        assert b"\r" not in unix, path
        for given_octets in (octets, unix, unix.replace(b"\n", b"\r\n")):
            header, body = read(
                [given_octets[at : at + 7] for at in range(0, len(given_octets), 7)]
            )
            fields = b"".join(field for _, field in header.fields)
            out = header.octets(["Received: r"], ["Date: d"]).replace(b"\r\n", b"\n")
            ended = fields if fields.endswith(b"\n") or not fields else fields + b"\n"
            assert out == b"Received: r\n" + ended + b"Date: d\n\n", path
            rest = unix.removeprefix(header.mbox_line).removeprefix(fields)
            assert body in (rest, rest.removeprefix(b"\n")), path
