"""Addresses: RFC 5321 s4.1.2 by table, and A1 to A4 as properties."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta import address
from mta.address import base_local, local_names, parse_domain, parse_mailbox, parse_reverse_path
from mta.types import NULL_PATH, Mailbox

GOOD = {
    "bob@example.test": Mailbox("bob", "example.test"),
    "<bob@example.test>": Mailbox("bob", "example.test"),
    "Bob.Smith+x@EXAMPLE.Test": Mailbox("Bob.Smith+x", "example.test"),
    "bob@example.test.": Mailbox("bob", "example.test"),
    "!#$%&'*+-/=?^_`{|}~@a": Mailbox("!#$%&'*+-/=?^_`{|}~", "a"),
    "a%b@c": Mailbox("a%b", "c"),
    '"bob"@a': Mailbox("bob", "a"),
    '"a b"@c': Mailbox("a b", "c"),
    '"a@b"@c': Mailbox("a@b", "c"),
    '"a\\"b\\\\c"@d': Mailbox('a"b\\c', "d"),
    '"\\b\\o\\b"@d': Mailbox("bob", "d"),
    '".a..b."@c': Mailbox(".a..b.", "c"),
    '""@a': Mailbox("", "a"),
    '"<>"@a': Mailbox("<>", "a"),
    "@a,@b.c:d@e": Mailbox("d", "e"),
    "<@[IPv6:::1],@x:d@e>": Mailbox("d", "e"),
    "d@[127.0.0.1]": Mailbox("d", "[127.0.0.1]"),
    "d@[127.000.0.01]": Mailbox("d", "[127.0.0.1]"),
    "d@[IPv6:::1]": Mailbox("d", "[ipv6:::1]"),
    "d@[ipv6:2001:DB8:0:0::1]": Mailbox("d", "[ipv6:2001:db8::1]"),
    "d@[IPv6:::ffff:192.0.2.1]": Mailbox("d", "[ipv6:::ffff:c000:201]"),
    "zoë@münchen.test": Mailbox("zoë", "münchen.test"),
    "zoë@MÜNCHEN.test": Mailbox("zoë", "münchen.test"),
    "a@mu\u0308nchen.test": Mailbox("a", "münchen.test"),
    "a@\uff4c\uff4f\uff43\uff41\uff4c\uff0etest": Mailbox("a", "local.test"),
    "用户@例子.测试": Mailbox("用户", "例子.测试"),
    "a@mail_one.b": Mailbox("a", "mail_one.b"),
    "a@123": Mailbox("a", "123"),
    "a@1-2.x--y": Mailbox("a", "1-2.x--y"),
    "x" * 64 + "@a": Mailbox("x" * 64, "a"),
    "xx@" + "a." * 125 + "a": Mailbox("xx", "a." * 125 + "a"),
}

BAD = {
    "": "empty",
    "<>": "empty",
    "bob": "no domain",
    "<bob@a": "no '>'",
    "bob@a>": "'>'",
    "@": "before the '@'",
    "@a": "before the '@'",
    "@[IPv6:::1": "before the '@'",
    "@a:": "empty",
    "@a,b:c@d": "no ':'",
    "@a,": "no ':'",
    "@-a:c@d": "hyphen",
    "a@": "domain is empty",
    "a@.": "domain is empty",
    "a@b@c": "'@'",
    "a@b c": "' '",
    "a b@c": "space",
    " a@c": "space",
    "a@c ": "' '",
    "(x)a@c": "quotes",
    "a,b@c": "quotes",
    'a"b"@c': "quotes",
    ".a@c": "dots",
    "a.@c": "dots",
    "a..b@c": "dots",
    "a@b..c": "two dots",
    "a@.b": "two dots",
    "a@b..": "two dots",
    "a@-b": "hyphen",
    "a@b-.c": "hyphen",
    "a@" + "b" * 64: "label",
    '"a@b': "closing quote",
    '"a\\"@b': "closing quote",
    '"a"b@c': "between",
    '"a".b@c': "between",
    "a@[": "']'",
    "a@[]": "neither",
    "a@[1.2.3]": "neither",
    "a@[1.2.3.256]": "neither",
    "a@[1.2.3.0004]": "neither",
    "a@[1.2.3.4": "']'",
    "a@[1.2.3.4].b": "']'",
    "a@[1.2.3.-4]": "neither",
    "a@[IPv6:1]": "no IPv6",
    "a@[IPv6:::1%lo]": "no IPv6",
    "a@[X-tag:y]": "neither",
    "a\x00@b": "control",
    "a@b\r\n": "control",
    '"a\nb"@c': "control",
    '"a\x7f"@c': "control",
    "a\x85@b": "control",
    "a\u202eb@c": "control",
    "a\u2028@c": "control",
    "a\udc80@c": "UTF-8",
    "a@b\u3002c": "dot that is not",
    "a@b\u00a0c": "' '",
    "a@x\u2003é": "' '",
    "a@x\u1680é": "a space or",
    "x" * 65 + "@a": "64 octets",
    "é" * 33 + "@a": "64 octets",
    '"' + " " * 63 + '"@a': "64 octets",
    "x@" + "a." * 127 + "aa": "255 octets",
    "x" * 5000: "322 octets",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_good(text: str, expected: Mailbox) -> None:
    assert parse_mailbox(text) == expected


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_bad_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_mailbox(text)
    assert reason in str(refused.value)


def test_default_domain() -> None:
    assert parse_mailbox("postmaster", "Example.TEST") == Mailbox("postmaster", "example.test")
    assert parse_mailbox("<postmaster>", "a") == Mailbox("postmaster", "a")
    assert parse_mailbox('"a b"', "a") == Mailbox("a b", "a")
    assert parse_mailbox("bob@b", "a") == Mailbox("bob", "b")
    for bad in ("", "<>", "a b", "bob@"):
        with pytest.raises(ValueError, match=r"."):
            parse_mailbox(bad, "a")


def test_reverse_path() -> None:
    assert parse_reverse_path("") is NULL_PATH
    assert parse_reverse_path("<>", "a") is NULL_PATH
    assert parse_reverse_path("bob", "a") == Mailbox("bob", "a")
    with pytest.raises(ValueError, match="no domain"):
        parse_reverse_path("bob")


def test_local_names() -> None:
    assert local_names("Bob") == ("bob",)
    assert local_names("Bob+x+Y") == ("bob+x+y", "bob")
    assert local_names("+x") == ("+x",)
    assert local_names("bob+") == ("bob+", "bob")
    assert base_local("BOB+x") == "bob"
    assert base_local("+") == "+"


# Text near addresses, so that most examples get past the first check.
pieces = st.sampled_from(
    [
        *'aB.@<>[]-+ 1\\",:',
        *"\u0301\u3002\t\x00\ud800",
        "Bob",
        "127.0.0.1",
        "IPv6:",
        "::1",
        "x" * 60,
        "é",
        "İ",
        "ß",
        "ﬃ",
    ]
)
near = st.lists(pieces, max_size=12).map("".join) | st.text(max_size=80)
mailboxes = st.sampled_from([m for m in GOOD if "@" in m[1:]])


def parsed(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text, "default.test")
    except ValueError:
        return None


@given(near)
@example("a@İ.test")
@example("a@ΑΣ.test")
@example("a@" + "İ" * 85 + "." + "b" * 60)
def test_a1_round_trip(text: str) -> None:
    mailbox = parsed(text)
    if mailbox is not None:
        assert parse_mailbox(str(mailbox)) == mailbox
        assert parse_mailbox(f"<{mailbox}>") == mailbox


@given(st.text(max_size=64), st.sampled_from(["a", "b.example", "[ipv6:::1]"]))
def test_a1_every_local_part_can_be_written(local: str, domain: str) -> None:
    mailbox = parsed(str(Mailbox(local, domain)))
    assert mailbox is None or mailbox == Mailbox(local, domain)
    if local.isascii() and local.isprintable() and len(local) <= 31:
        assert mailbox is not None


@given(near, st.sampled_from(["", "default.test"]))
def test_a2_mailbox_or_reason(text: str, default: str) -> None:
    try:
        parse_mailbox(text, default)
    except ValueError as reason:
        assert str(reason).isprintable()
        assert 0 < len(str(reason)) < 100


@given(near)
def test_a2_domain_or_reason(text: str) -> None:
    try:
        domain = parse_domain(text)
    except ValueError as reason:
        assert str(reason).isprintable()
    else:
        assert parse_domain(domain) == domain


@given(near)
def test_a3_fields_are_clean(text: str) -> None:
    mailbox = parsed(text)
    if mailbox is not None:
        for c in str(mailbox):
            assert c >= " "
            assert not "\x7f" <= c <= "\x9f"
        assert mailbox.domain == mailbox.domain.lower()
        written = str(mailbox).encode()
        local = written[: -len(mailbox.domain.encode()) - 1]
        assert len(local) <= address.MAX_LOCAL
        assert len(mailbox.domain.encode()) <= address.MAX_DOMAIN
        assert len(written) + 2 <= address.MAX_PATH


@given(mailboxes, st.booleans(), st.sampled_from(["", "@r:", "@r,@s.t:", "@[1.2.3.4]:"]))
def test_a4_dress_changes_nothing(text: str, brackets: bool, route: str) -> None:
    mailbox = parse_mailbox(text)
    dressed = route + str(mailbox)
    assert parse_mailbox(f"<{dressed}>" if brackets else dressed) == mailbox


@given(mailboxes)
def test_a4_quotes_and_case_change_nothing(text: str) -> None:
    mailbox = parse_mailbox(text)
    if len(mailbox.local) < 30:
        quoted = '"' + "".join("\\" + c for c in mailbox.local) + '"'
        assert parse_mailbox(f"{quoted}@{mailbox.domain}") == mailbox
    if mailbox.domain.isascii():
        assert parse_mailbox(str(Mailbox(mailbox.local, mailbox.domain.upper()))) == mailbox
