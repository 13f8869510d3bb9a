"""TR1: the Received field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_mailbox
from mta.machine.tls import TlsFacts
from mta.smtpd.trace import Stamp, protocol, received, tls_comment, where_from
from mta.types import Mailbox

# lmtp, esmtp, secured, login, utf8 → the type (RFC 3848, RFC 6531 s4.3)
TYPES = [
    ((False, False, False, False, False), "SMTP"),
    ((False, True, False, False, False), "ESMTP"),
    ((False, True, True, False, False), "ESMTPS"),
    ((False, True, False, True, False), "ESMTPA"),
    ((False, True, True, True, False), "ESMTPSA"),
    ((False, True, False, False, True), "UTF8SMTP"),
    ((False, True, True, True, True), "UTF8SMTPSA"),
    ((True, True, False, False, False), "LMTP"),
    ((True, True, True, True, False), "LMTPSA"),
    ((True, True, True, False, True), "UTF8LMTPS"),
]


@pytest.mark.parametrize(("given_", "wanted"), TYPES)
def test_the_type_of_a_session(given_: tuple[bool, ...], wanted: str) -> None:
    names = ("lmtp", "esmtp", "secured", "login", "utf8")
    assert protocol(**dict(zip(names, given_, strict=True))) == wanted


def test_the_field_of_a_secured_session() -> None:
    facts = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, False, (), "")
    origin = where_from("c.test", "mail.c.test", "2001:db8::1")
    field = received(
        origin, tls_comment(facts), "mx.test", "ESMTPS", "ID1", Mailbox("bob", "b.test"), "DATE"
    )
    assert field == (
        b"Received: from c.test (mail.c.test [IPv6:2001:db8::1])\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits))\r\n"
        b"\tby mx.test (Posthouse) with ESMTPS id ID1\r\n"
        b"\tfor <bob@b.test>; DATE\r\n"
    )


def test_several_recipients_are_not_told_and_utf8_only_where_it_was_asked_for() -> None:
    assert b"for" not in received("x", "", "mx.test", "ESMTP", "ID1", None, "DATE")
    odd = Mailbox("bj\u00f6rn", "b.test")
    assert b"for" not in received("x", "", "mx.test", "ESMTP", "ID1", odd, "DATE")
    assert "for <bj\u00f6rn@".encode() in received("x", "", "mx.test", "UTF8SMTP", "I", odd, "D")


@given(st.text(max_size=300), st.text(max_size=50))
def test_tr1_whatever_the_client_says_it_is_one_field(helo: str, name: str) -> None:
    origin = where_from(helo, name, "192.0.2.1")
    field = received(origin, "", "mx.test", "ESMTP", "ID1", None, "DATE")
    assert field.count(b"\r\n") == field.count(b"\n") == field.count(b"\r") == 2
    assert field.count(b"(") == field.count(b")") == 2
    assert field.isascii()


@given(st.text(max_size=60))
def test_tr1_nor_does_a_recipient_break_it(text: str) -> None:
    try:
        mailbox = parse_mailbox(text, "b.test")
    except ValueError:
        return
    field = received("x", "", "mx.test", "UTF8SMTP", "ID1", mailbox, "DATE")
    lines = field.split(b"\r\n")
    assert lines[-1] == b""
    assert all(line[:1] == b"\t" for line in lines[1:-1])
    assert b"\n" not in field.replace(b"\r\n", b"")


def test_a_stamp_is_made_once_a_second() -> None:
    stamp = Stamp()
    first = stamp.date(1_000_000_000.0)
    assert stamp.date(1_000_000_000.9) is first
    assert stamp.date(1_000_000_001.0) != first
    assert first.endswith(("+0000", first[-5:]))
