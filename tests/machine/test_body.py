from __future__ import annotations

import errno
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.machine.body import PIECE, as_lf, deliver_header, fields, loop_of, prepared, trouble
from mta.types import NULL_PATH, Mailbox

CRLF_TEXT = st.lists(st.sampled_from([b"a", b"\r\n", b"\r", b"\n", b"From "]), max_size=30).map(
    b"".join
)


@given(CRLF_TEXT, st.integers(1, 5))
def test_b1_as_lf_changes_crlf_and_nothing_else(octets: bytes, piece: int) -> None:
    body = io.BytesIO(octets)
    body.read(3)  # wherever it stands, it is read from its beginning
    assert b"".join(as_lf(body, piece)) == octets.replace(b"\r\n", b"\n")


@given(CRLF_TEXT, CRLF_TEXT)
def test_b2_only_the_header_block_has_fields(before: bytes, after: bytes) -> None:
    header = b"Subject: x\r\nDELIVERED-to : a@b \r\n" + before.replace(b"\n", b"").replace(
        b"\r", b""
    )
    body = io.BytesIO(header + b"\r\n\r\nDelivered-To: c@d\r\n" + after)
    assert fields(body, b"delivered-to") == [b"a@b"]


def test_b2_a_line_longer_than_a_piece_is_one_line() -> None:
    body = io.BytesIO(b"Subject: " + b"x" * (PIECE - 9) + b"Delivered-To: no\r\nX: y\r\n\r\n")
    assert fields(body, b"delivered-to") == []
    assert fields(body, b"x") == [b"y"]


def test_a_loop_is_found_whatever_the_case() -> None:
    body = io.BytesIO(b"Delivered-To: Alice@Example.Test\r\n\r\n")
    found = loop_of(body, Mailbox("alice", "example.test"))
    assert found is not None
    assert (found.reply.code, found.reply.status) == (554, "5.4.6")
    assert loop_of(body, Mailbox("bob", "example.test")) is None


@pytest.mark.parametrize(
    ("crlf", "expected"), [(False, b"A: b\nx\ny\n"), (True, b"A: b\r\nx\r\ny\r\n")]
)
def test_a_prepared_body_has_the_line_ends_asked_for(crlf: bool, expected: bytes) -> None:
    with prepared(b"A: b\n", io.BytesIO(b"x\r\ny\r\n"), crlf=crlf) as file:
        assert file.read() == expected


def test_the_null_path_is_empty_brackets() -> None:
    assert deliver_header(NULL_PATH, Mailbox("a", "b")) == b"Return-Path: <>\nDelivered-To: a@b\n"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_machine_is_a_deferral(number: int) -> None:
    outcome = trouble(OSError(number, "so\nit is"), "/mail")
    assert outcome.reply.transient
    assert outcome.reply.text == "/mail: so it is"
    assert outcome.reply.status[0] == "4"


def test_a_full_disk_and_a_quota_say_so() -> None:
    full, quota = (trouble(OSError(n, "x"), "y").reply for n in (errno.ENOSPC, errno.EDQUOT))
    assert (full.code, full.status) == (452, "4.3.1")
    assert (quota.code, quota.status) == (452, "4.2.2")
