"""LT1 to LT4: the octets of a message, watched and completed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.model import Limits
from mta.errors import SpoolError
from mta.headers import Header
from mta.smtpd import letter as room
from mta.smtpd.letter import FULL, TROUBLE, Letter
from mta.smtpd.transaction import missing_fields
from mta.types import NULL_PATH, Mailbox

TRACE = b"Received: by mx.test\r\n\twith ESMTP id ID1; DATE\r\n"
LIMITS = Limits(10**7, 1000, 5000, 3, 12288, 20, 300.0, 3600.0, 100, 20000, 0, 0, 0, 0, 0, 10)


class Draft:
    """A draft in memory."""

    def __init__(self, error: str = "") -> None:
        self.id = "ID1"
        self.octets = b""
        self.gone = False
        self.error = error

    def write(self, octets: bytes) -> None:
        if self.error:
            raise SpoolError(self.error)
        assert not self.gone
        self.octets += octets

    def abort(self) -> None:
        self.gone = True


def letter(submitted: bool = False, error: str = "") -> tuple[Letter, Draft]:
    draft = Draft(error)

    def missing(header: Header) -> list[str]:
        return missing_fields(header, "ID1", "mx.test", "DATE", Mailbox("a", "c.test"))

    return Letter(draft, TRACE, LIMITS, missing if submitted else None), draft


def send(octets: bytes, cuts: list[int], submitted: bool = False) -> tuple[Letter, Draft]:
    one, draft = letter(submitted)
    at = 0
    for cut in sorted({min(c, len(octets)) for c in cuts}):
        one.feed(octets[at:cut])
        at = cut
    one.feed(octets[at:])
    one.end()
    return one, draft


LINES = st.sampled_from(
    [b"Subject: x", b"X-A:b", b"Received: from y", b"\tfolded", b" ", b"", b"body", b"From x", b":"]
)
MESSAGES = st.lists(LINES, max_size=12).map(lambda ls: b"".join(line + b"\r\n" for line in ls))
CUTS = st.lists(st.integers(0, 120), max_size=6)


def header_of(octets: bytes) -> list[bytes]:
    """The lines of the header, as RFC 5322 s2.2 has it, found line by line."""
    lines = []
    for line in octets.split(b"\r\n")[:-1]:
        name, colon, _ = line.partition(b":")
        fits = bool(colon) and bool(name.rstrip()) and not set(name.rstrip()) & set(b" \t")
        if not (fits or (line[:1] in (b" ", b"\t") and lines)):
            break
        lines.append(line)
    return lines


@given(MESSAGES, CUTS)
@settings(max_examples=200, deadline=None)
def test_lt1_what_came_goes_through_below_our_field(octets: bytes, cuts: list[int]) -> None:
    one, draft = send(octets, cuts)
    header = header_of(octets)
    hops = sum(line.startswith(b"Received:") for line in header)
    if hops > LIMITS.hops:
        assert one.refusal is not None
        assert (one.refusal.code, one.refusal.status) == (554, "5.4.6")
        return
    assert one.refusal is None
    bare = not header and not octets.startswith(b"\r\n")
    assert draft.octets == TRACE + (b"\r\n" if bare else b"") + octets


@given(MESSAGES, CUTS)
@settings(max_examples=200, deadline=None)
def test_lt2_submitted_nothing_is_changed_and_fields_are_added(
    octets: bytes, cuts: list[int]
) -> None:
    one, draft = send(octets, cuts, submitted=True)
    if one.refusal is not None:
        return
    header = header_of(octets)
    kept = b"".join(line + b"\r\n" for line in header)
    rest = octets[len(kept) :]
    body = rest.removeprefix(b"\r\n")
    added = b"Message-ID: <ID1@mx.test>\r\nDate: DATE\r\nFrom: a@c.test\r\n"
    assert draft.octets == TRACE + kept + added + b"\r\n" + body


def test_lt2_fields_that_are_there_are_not_added_and_bcc_stays() -> None:
    whole = b"Date: d\r\nmessage-id : <m>\r\nFROM: f\r\nBcc: b\r\n\r\nx\r\n"
    assert send(whole, [], submitted=True)[1].octets == TRACE + whole


def test_a_null_reverse_path_gets_our_postmaster() -> None:
    assert "From: postmaster@mx.test" in missing_fields(Header(), "I", "mx.test", "D", NULL_PATH)


def test_binary_octets_behind_the_header_are_not_touched() -> None:
    octets = b"Subject: x\r\n\r\n\r\x00\n\xff\n\r\r"
    for cut in range(len(octets)):
        assert send(octets, [cut])[1].octets == TRACE + octets
    assert send(octets, [], submitted=True)[1].octets.endswith(b"\r\n\r\n\r\x00\n\xff\n\r\r")


# what came → the refusal
REFUSED = [
    (b"X: " + b"y" * 6000 + b"\r\n\r\n", "552 5.3.4"),
    (b"X: y\r\n" * 900 + b"\r\n", "552 5.3.4"),
    (b"Received: x\r\n" * 4 + b"\r\n", "554 5.4.6"),
    (b"rEcEiVeD : x\r\n" * 4 + b"\r\n", "554 5.4.6"),
]


@pytest.mark.parametrize(("octets", "wanted"), REFUSED)
@pytest.mark.parametrize("size", [1 << 16, 1000, 7])
def test_lt3_a_refused_letter_is_gone(octets: bytes, wanted: str, size: int) -> None:
    one, draft = send(octets + b"body\r\n", list(range(size, len(octets), size)))
    assert one.refusal is not None
    assert f"{one.refusal.code} {one.refusal.status}" == wanted
    assert draft.gone
    assert draft.octets == b""


def test_a_long_body_without_any_header_is_no_header() -> None:
    octets = b"x" * 9000 + b"\r\n"
    assert send(octets, list(range(500, 9000, 500)))[1].octets == TRACE + b"\r\n" + octets
    octets = b"Subject: x\r\n" + b"y" * 9000 + b"\r\n"
    assert send(octets, list(range(500, 9000, 500)))[1].octets == TRACE + octets


def test_received_in_the_body_counts_for_nothing() -> None:
    octets = b"Subject: x\r\n\r\n" + b"Received: x\r\n" * 9
    assert send(octets, [])[0].refusal is None


@pytest.mark.parametrize(
    ("error", "wanted"),
    [("cannot write the journal: No space left on device", FULL), ("Input/output error", TROUBLE)],
)
def test_lt3_a_disk_that_will_not_take_it(error: str, wanted: object) -> None:
    one, draft = letter(error=error)
    one.feed(b"Subject: x\r\n\r\nbody\r\n")
    one.feed(b"more\r\n")
    one.end()
    assert one.refusal == wanted
    assert draft.gone


LONG = st.integers(900, 2500).map(lambda n: b"X-Long: " + b"y" * n)
LARGE = st.lists(LINES | LONG, min_size=3, max_size=12).map(
    lambda ls: b"Subject: x\r\n" + b"".join(line + b"\r\n" for line in ls)
)


@given(LARGE, st.lists(st.integers(0, 9000), max_size=12))
@settings(max_examples=200, deadline=None)
def test_lt4_a_large_header_goes_through_as_a_small_one_does(
    octets: bytes, cuts: list[int]
) -> None:
    whole, wanted = send(octets, cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "HELD", 40)
        one, draft = letter()
        at = 0
        for cut in [*sorted({min(c, len(octets)) for c in cuts}), len(octets)]:
            one.feed(octets[at:cut])
            held = one._head
            assert held is None or len(held) <= 40 + room._SEEN + cut - at
            at = cut
        one.end()
    assert one.refusal == whole.refusal
    if one.refusal is None:
        assert draft.octets == wanted.octets
