from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import parse_mailbox
from mta.smtp import commands
from mta.smtp.commands import (
    MAIL_WORDS,
    RCPT_WORDS,
    AuthBegin,
    Etrn,
    MailFrom,
    MailParameters,
    RcptParameters,
    RcptTo,
    Xclient,
)
from mta.smtp.grammar import mail_command, rcpt_command
from mta.types import NULL_PATH, Mailbox, Reply
from mta.values import fields

MAIL_ALL = frozenset(MAIL_WORDS)
RCPT_ALL = frozenset(RCPT_WORDS)
A = Mailbox("a", "example.net")

READERS: dict[str, Callable[[str], object]] = {
    "EHLO": commands.hello,
    "MAIL": lambda text: commands.mail(text, MAIL_ALL),
    "RCPT": lambda text: commands.rcpt(text, RCPT_ALL, True),
    "BDAT": commands.chunk,
    "AUTH": commands.auth,
    "ETRN": commands.etrn,
    "XCLIENT": commands.xclient,
}
BIT = st.sampled_from(
    [
        *(" ", "  ", "MAIL FROM:", "RCPT TO:", "EHLO", "BDAT", "AUTH", "XCLIENT", "ETRN", "LAST"),
        *("<", ">", "<>", "<a@b.c>", '<"x y"@b.c>', "@", '"', "\\", "\\x{", "}", "+0A", "=", ";"),
        *("SIZE=", "BODY=", "SMTPUTF8", "ENVID=", "ORCPT=utf-8;", "NOTIFY=", "NEVER", ",", "9"),
        *(
            "ü",
            "\u2028",
            "\x85",
            "\0",
            "\r",
            "\n",
            "\u017f",
            "\u212a",
            "NAME=",
            "ADDR=",
            "[",
            "]",
            "QQ==",
        ),
    ]
)
TEXT = st.lists(BIT, max_size=12).map("".join)


def strings(value: object) -> list[str]:
    """Return all text in a value, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, tuple):
        return [text for part in value for text in strings(part)]
    if isinstance(value, (bytes, int, type(None))):
        return []
    return [text for name in fields(value) for text in strings(getattr(value, name))]


@given(st.sampled_from(sorted(READERS)), TEXT, st.booleans())
@settings(max_examples=400)
def test_k1_k3_whatever_the_text(verb: str, text: str, begin: bool) -> None:
    line = commands.decode((f"{verb} {text}" if begin else text).encode())
    assert isinstance(line, (str, Reply))
    if isinstance(line, Reply):
        assert line.permanent
        return
    for reader in READERS.values():
        value = reader(line)
        if isinstance(value, Reply):
            assert value.permanent
        else:
            for found in strings(value):
                assert not any(c < " " or "\x7f" <= c <= "\x9f" for c in found)


@given(st.binary(max_size=60))
def test_k1_whatever_the_octets(line: bytes) -> None:
    text = commands.decode(line)
    assert isinstance(text, (str, Reply))


LOCAL = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
DOMAIN = st.sampled_from(["example.net", "[192.0.2.1]", "[ipv6:2001:db8::1]", "münchen.example"])


@given(LOCAL, DOMAIN)
def test_k2_our_own_addresses_come_back(local: str, domain: str) -> None:
    try:
        box = parse_mailbox(str(Mailbox(local, domain)))
    except ValueError:
        return
    line = mail_command(box, " SIZE=1 SMTPUTF8")[:-2]
    said = commands.mail(str(commands.decode(line)), MAIL_ALL)
    assert said == MailFrom(box, MailParameters(size=1, smtputf8=True))
    line = rcpt_command(box, " NOTIFY=NEVER")[:-2]
    heard = commands.rcpt(str(commands.decode(line)), RCPT_ALL, True)
    assert heard == RcptTo(box, RcptParameters("NEVER"))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("MAIL FROM:<>", NULL_PATH),
        ("mail from: <a@EXAMPLE.net>", A),
        ("MAIL  FROM:  <a@example.net>", A),
        ("MAIL FROM:<@one.test,@two.test:a@example.net>", A),
        ('MAIL FROM:<"a"@example.net>', A),
        ('MAIL FROM:<"x> \\"y"@example.net>', Mailbox('x> "y', "example.net")),
        ("MAIL FROM:<a@[192.0.2.1]>", Mailbox("a", "[192.0.2.1]")),
        ("MAIL FROM:<a@[IPv6:2001:DB8::1]>", Mailbox("a", "[ipv6:2001:db8::1]")),
    ],
)
def test_reverse_paths(text: str, path: object) -> None:
    assert commands.mail(text, MAIL_ALL) == MailFrom(path, MailParameters())


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        ("size=12345678901234567890", MailParameters(size=12345678901234567890)),
        ("SIZE=0", MailParameters(size=0)),
        ("body=8bitmime", MailParameters(body="8BITMIME")),
        ("BODY=BINARYMIME SMTPUTF8", MailParameters(body="BINARYMIME", smtputf8=True)),
        ("RET=hdrs ENVID=QQ+2B+3D", MailParameters(ret="HDRS", envid="QQ+=")),
        ("ENVID=" + "x" * 100, MailParameters(envid="x" * 100)),
        ("AUTH=<>", MailParameters(auth="<>")),
        ("AUTH=a+2Bb@example.net", MailParameters(auth="a+b@example.net")),
        ("REQUIRETLS", MailParameters(requiretls=True)),
    ],
)
def test_mail_parameters(words: str, parameters: MailParameters) -> None:
    assert commands.mail(f"MAIL FROM:<> {words}", MAIL_ALL) == MailFrom(NULL_PATH, parameters)


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("MAIL", 501, "5.5.4"),
        ("MAIL FROM", 501, "5.5.4"),
        ("MAIL FROM:", 501, "5.5.4"),
        ("MAIL FROM:a@example.net", 501, "5.5.4"),
        ("MAIL FROM:<a@example.net", 501, "5.5.4"),
        ("MAIL FROM:<a@example.net>SIZE=1", 501, "5.5.4"),
        ("MAIL FROM:<a b@example.net>", 501, "5.5.4"),
        ("MAIL FROM:<<a@example.net>>", 501, "5.5.4"),
        ("MAIL TO:<a@example.net>", 501, "5.5.4"),
        ("MAIL FROM:<a>", 501, "5.1.7"),
        ("MAIL FROM:<a@>", 501, "5.1.7"),
        ("MAIL FROM:<a..b@example.net>", 501, "5.1.7"),
        ("MAIL FROM:<" + "a" * 65 + "@example.net>", 501, "5.1.7"),
        ("MAIL FROM:<ü@example.net>", 553, "5.6.7"),
        ("MAIL FROM:<a@ü.example>", 553, "5.6.7"),
        ("MAIL FROM:<> SIZE", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=-1", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=1e3", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=" + "9" * 21, 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=٣", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=1 size=1", 501, "5.5.4"),
        ("MAIL FROM:<> BODY=9BIT", 501, "5.5.4"),
        ("MAIL FROM:<> BODY", 501, "5.5.4"),
        ("MAIL FROM:<> SMTPUTF8=yes", 501, "5.5.4"),
        ("MAIL FROM:<> RET=ALL", 501, "5.5.4"),
        ("MAIL FROM:<> ENVID=", 501, "5.5.4"),
        ("MAIL FROM:<> ENVID=a+0D+0Ab", 501, "5.5.4"),
        ("MAIL FROM:<> ENVID=a+4", 501, "5.5.4"),
        ("MAIL FROM:<> ENVID=" + "x" * 101, 501, "5.5.4"),
        ("MAIL FROM:<> AUTH=nobody", 501, "5.5.4"),
        ("MAIL FROM:<> REQUIRETLS=1", 501, "5.5.4"),
        ("MAIL FROM:<> MT-PRIORITY=3", 555, "5.5.4"),
        ("MAIL FROM:<> NOTIFY=NEVER", 555, "5.5.4"),
        ("MAIL FROM:<> \u017fIZE=3", 555, "5.5.4"),
    ],
)
def test_bad_mail(text: str, code: int, status: str) -> None:
    reply = commands.mail(text, MAIL_ALL)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.status) == (code, status)


def test_a_parameter_that_was_not_offered_is_unknown() -> None:
    for word in ("SIZE=1", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "ENVID=x", "REQUIRETLS", "AUTH=<>"):
        reply = commands.mail(f"MAIL FROM:<> {word}", frozenset())
        assert isinstance(reply, Reply)
        assert reply.code == 555
        assert isinstance(commands.mail(f"MAIL FROM:<> {word}", MAIL_ALL), MailFrom)


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        ("", RcptParameters()),
        (" NOTIFY=never", RcptParameters("NEVER")),
        (" notify=Success,DELAY,failure", RcptParameters("SUCCESS,DELAY,FAILURE")),
        (" ORCPT=rfc822;bob+2Bx@example.net", RcptParameters("", "rfc822;bob+x@example.net")),
        (" ORCPT=RFC822;b NOTIFY=DELAY", RcptParameters("DELAY", "rfc822;b")),
        (" ORCPT=utf-8;\\x{FC}@example.net", RcptParameters("", "utf-8;ü@example.net")),
        (" ORCPT=utf-8;ü@example.net", RcptParameters("", "utf-8;ü@example.net")),
        (" ORCPT=x400;/c=de/".replace("=de", "+3Dde"), RcptParameters("", "x400;/c=de/")),
    ],
)
def test_rcpt_parameters(words: str, parameters: RcptParameters) -> None:
    said = commands.rcpt(f"RCPT TO:<a@example.net>{words}", RCPT_ALL, True)
    assert said == RcptTo(A, parameters)


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_needs_no_domain(name: str) -> None:
    said = commands.rcpt(f"RCPT TO:<{name}>", RCPT_ALL, False)
    assert said == RcptTo(Mailbox("postmaster", ""), RcptParameters())


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("RCPT TO:<>", 501, "5.1.3"),
        ("RCPT TO:<bob>", 501, "5.1.3"),
        ("RCPT TO:bob@example.net", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> NOTIFY=", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> NOTIFY=NEVER,DELAY", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> NOTIFY=DELAY,DELAY", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> NOTIFY=ALWAYS", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=bob@example.net", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=rfc822;", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=;bob", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=rfc822;b+0D+0AX", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=rfc822;ü", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=utf-8;\\x{0A}", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=utf-8;\\x{D800}", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=utf-8;\\x{FFFFFF}", 501, "5.5.4"),
        ("RCPT TO:<a@example.net> ORCPT=rfc822;" + "x" * 501, 501, "5.5.4"),
        ("RCPT TO:<a@example.net> SIZE=1", 555, "5.5.4"),
    ],
)
def test_bad_rcpt(text: str, code: int, status: str) -> None:
    reply = commands.rcpt(text, RCPT_ALL, True)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.status) == (code, status)


def test_utf8_in_rcpt_needs_the_transaction_to_say_so() -> None:
    reply = commands.rcpt("RCPT TO:<ü@example.net>", RCPT_ALL, False)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.status) == (553, "5.6.7")


@pytest.mark.parametrize("name", ["mx.example.net", "[192.0.2.1]", "[IPv6:::1]", "my_host", "x"])
def test_hello(name: str) -> None:
    assert commands.hello(f"EHLO {name}") == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a(b", "<a>", "a@b", "a;b", '"a"', "ü", "x" * 256]
)
def test_bad_hello(name: str) -> None:
    assert isinstance(commands.hello(f"EHLO {name}"), Reply)


def test_chunks() -> None:
    assert commands.chunk("bdat 10 last") == (10, True)
    assert commands.chunk("BDAT 0") == (0, False)
    for text in ("BDAT", "BDAT x", "BDAT -1", "BDAT 1 FIRST", "BDAT " + "9" * 21, "BDAT 0x1"):
        assert isinstance(commands.chunk(text), Reply), text


def test_auth() -> None:
    assert commands.auth("AUTH plain") == AuthBegin("PLAIN", None)
    assert commands.auth("auth PLAIN =") == AuthBegin("PLAIN", b"")
    assert commands.auth("AUTH PLAIN AGEAYg==") == AuthBegin("PLAIN", b"\0a\0b")
    for text in ("AUTH", "AUTH PLAIN AGEAYg", "AUTH PLAIN A===", "AUTH PLAIN AGEA Yg==", "AUTH P,"):
        assert isinstance(commands.auth(text), Reply), text


@pytest.mark.parametrize("text", [b"A", b"AA=A", b"AAAA=", b"A A=", b"AA\xff=", b"AAAAA===", b"*"])
def test_base64_is_strict(text: bytes) -> None:
    assert isinstance(commands.base64(text), Reply)


def test_etrn_and_xclient() -> None:
    assert commands.etrn("ETRN Example.NET") == Etrn("example.net")
    for text in ("ETRN", "ETRN @example.net", "ETRN #q", "ETRN a..b", "ETRN a b"):
        assert isinstance(commands.etrn(text), Reply), text
    said = commands.xclient("XCLIENT addr=192.0.2.1 NAME=[UNAVAILABLE] LOGIN=a+20b")
    attributes = (("ADDR", "192.0.2.1"), ("NAME", "[UNAVAILABLE]"), ("LOGIN", "a b"))
    assert said == Xclient(attributes)
    for text in (
        "XCLIENT",
        "XCLIENT ADDR",
        "XCLIENT X=1",
        "XCLIENT ADDR=1 ADDR=1",
        "XCLIENT NAME=+0A",
    ):
        assert isinstance(commands.xclient(text), Reply), text


def test_decode() -> None:
    assert commands.decode(b"NOOP ") == "NOOP "
    assert commands.decode("RCPT TO:<ü>".encode()) == "RCPT TO:<ü>"
    for line in (b"A\0", b"A\tB", b"A\rB", b"A\nB", b"\x7f", b"\xc2\x85", b"\xff", b"\xc0\xae"):
        assert isinstance(commands.decode(line), Reply), line
