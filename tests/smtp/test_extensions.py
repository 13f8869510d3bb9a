from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.extensions import (
    NO_EXTENSIONS,
    Extensions,
    Transaction,
    mail_parameters,
    parse,
    rcpt_parameters,
    unmet,
    xtext,
)
from mta.smtp.grammar import WireReply
from mta.types import NULL_PATH, Mailbox

ASCII, WIDE = Mailbox("a", "example.net"), Mailbox("jürgen", "example.net")
EXTENSIONS = st.builds(
    Extensions,
    pipelining=st.booleans(),
    eight_bit=st.booleans(),
    smtputf8=st.booleans(),
    size=st.sampled_from([None, 0, 10, 10**9]),
    chunking=st.booleans(),
    binary=st.booleans(),
    dsn=st.booleans(),
    requiretls=st.booleans(),
)
WISHES = [("", ""), ("NEVER", ""), ("SUCCESS,DELAY", "rfc822;a@b"), ("", "utf-8;ü@b"), ("", "x")]
TRANSACTIONS = st.builds(
    Transaction,
    st.sampled_from([NULL_PATH, ASCII, WIDE]),
    st.sampled_from([(ASCII,), (WIDE,)]),
    st.sampled_from([0, 1, 11, 10**6]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "FULL", "HDRS"]),
    st.sampled_from(["", "id", "a b+=", "ü", "x" * 200]),
    st.sampled_from([(), *[(wish,) for wish in WISHES]]),
)


def offer(*lines: bytes) -> Extensions:
    return parse(WireReply(250, (b"mx", *lines)))


@given(st.lists(st.binary(max_size=40), min_size=1).map(tuple))
def test_e1_any_lines_parse(lines: tuple[bytes, ...]) -> None:
    offered = parse(WireReply(250, lines))
    assert offered.size is None or offered.size >= 0


@given(EXTENSIONS, TRANSACTIONS, st.booleans())
def test_e2_only_what_was_offered(
    offered: Extensions, transaction: Transaction, verified: bool
) -> None:
    line = mail_parameters(offered, transaction) + rcpt_parameters(offered, transaction, 0)
    assert line.isascii()
    needs = {
        "SIZE": offered.size is not None,
        "BODY=8BITMIME": offered.eight_bit,
        "BODY=BINARYMIME": offered.binary,
        "SMTPUTF8": offered.smtputf8,
        "REQUIRETLS": offered.requiretls,
        **dict.fromkeys(("RET", "ENVID", "NOTIFY", "ORCPT"), offered.dsn),
    }
    words = line.split(" ")[1:]
    named = [word if word in needs else word.partition("=")[0] for word in words]
    assert all(needs[name] for name in named)
    assert len(set(named)) == len(named)
    if unmet(offered, transaction, verified) is None:
        assert ("BODY=BINARYMIME" in words) == transaction.binary
        assert ("BODY=8BITMIME" in words) == (transaction.eight_bit and not transaction.binary)
        assert offered.smtputf8 or not transaction.smtputf8
        assert ("REQUIRETLS" in words) == transaction.requiretls
        assert verified or not transaction.requiretls


def from_xtext(text: str) -> str:
    octets = re.sub(rb"\+([0-9A-F]{2})", lambda c: bytes.fromhex(c[1].decode()), text.encode())
    return octets.decode()


def from_unicode_xtext(text: str) -> str:
    return re.sub(r"\\x\{([0-9A-F]+)\}", lambda c: chr(int(c[1], 16)), text)


@given(st.text())
def test_e3_xtext_reads_back(text: str) -> None:
    for form, back in ((xtext(text), from_xtext), (xtext(text, True), from_unicode_xtext)):
        assert form.isascii()
        assert all("!" <= c <= "~" for c in form)
        assert "=" not in form
        assert back(form) == text


@pytest.mark.parametrize(
    ("original", "words"),
    [
        ("rfc822;bob+x@example.net", " ORCPT=rfc822;bob+2Bx@example.net"),
        ("rfc822;jürgen@example.net", " ORCPT=utf-8;j\\x{FC}rgen@example.net"),
        ("utf-8;a+b\\@example.net", " ORCPT=utf-8;a\\x{2B}b\\x{5C}@example.net"),
        ("rfc822;" + "a" * 600, ""),
        ("rfc822;", ""),
        ("no-semicolon", ""),
    ],
)
def test_original_recipients(original: str, words: str) -> None:
    wish = Transaction(ASCII, (ASCII,), dsn=(("", original),))
    assert rcpt_parameters(offer(b"DSN"), wish, 0) == words
    assert rcpt_parameters(NO_EXTENSIONS, wish, 0) == ""


@pytest.mark.parametrize(
    ("envid", "words"),
    [("x" * 100, " ENVID=" + "x" * 100), ("x" * 101, ""), ("+" * 34, ""), ("ü", ""), ("", "")],
)
def test_an_envelope_id_keeps_its_limit(envid: str, words: str) -> None:
    assert mail_parameters(offer(b"DSN"), Transaction(ASCII, (ASCII,), envid=envid)) == words


def test_limits_and_mechanisms() -> None:
    offered = offer(b"LIMITS mailmax=20 RCPTMAX=100 RCPTDOMAINMAX=1 X=2", b"AUTH plain LOGIN")
    limits = (offered.mail_max, offered.rcpt_max, offered.rcpt_domain_max)
    assert limits == (20, 100, 1)
    assert offered.auth == ("PLAIN", "LOGIN")
    for odd in (b"LIMITS", b"LIMITS RCPTMAX", b"LIMITS RCPTMAX=0", b"LIMITS RCPTMAX=9999999"):
        assert offer(odd).rcpt_max == 0


def test_binary_needs_chunking() -> None:
    assert not offer(b"BINARYMIME").binary
    assert offer(b"BINARYMIME", b"CHUNKING").binary


def test_the_greeting_is_no_keyword() -> None:
    assert parse(WireReply(250, (b"PIPELINING",))) == NO_EXTENSIONS


def test_keywords() -> None:
    offered = offer(b"PipeLining", b"SIZE 1000", b"8BITMIME ", b"AUTH=PLAIN LOGIN", b"SIZE 5")
    assert offered.pipelining
    assert offered.eight_bit
    assert not offered.smtputf8
    assert offered.size == 1000
    assert ("AUTH", "PLAIN LOGIN") in offered.keywords


def test_odd_sizes_set_no_limit() -> None:
    for word in (b"SIZE", b"SIZE many", b"SIZE -1", b"SIZE " + b"9" * 30, "SIZE ٣".encode()):
        assert offer(word).size == 0
    assert offer(b"XSIZE 1").size is None


def test_size_at_the_limit_is_taken() -> None:
    at = Transaction(ASCII, (ASCII,), 10)
    over = Transaction(ASCII, (ASCII,), 11)
    assert unmet(offer(b"SIZE 10"), at) is None
    refusal = unmet(offer(b"SIZE 10"), over)
    assert refusal is not None
    assert (refusal.reply.code, refusal.reply.status, refusal.scope) == (552, "5.3.4", "message")


def test_an_international_reverse_path_needs_smtputf8() -> None:
    refusal = unmet(NO_EXTENSIONS, Transaction(WIDE, (ASCII,), 1))
    assert refusal is not None
    assert refusal.reply.status == "5.6.7"
    assert mail_parameters(offer(b"SMTPUTF8"), Transaction(WIDE, (ASCII,))) == " SMTPUTF8"
