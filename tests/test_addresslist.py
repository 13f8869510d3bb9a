from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_mailbox
from mta.addresslist import header_recipients, split_addresses


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        (" alice@example.test\n", ["alice@example.test"]),
        (
            "Alice <alice@example.test>, bob@example.test",
            ["alice@example.test", "bob@example.test"],
        ),
        ('"Last, First" <a@b.test>', ["a@b.test"]),
        ('"a@evil.test, b@evil.test" <a@b.test>', ["a@b.test"]),
        ('"a \\" b@evil.test, " <a@b.test>', ["a@b.test"]),
        ("(x@evil.test, (y@evil.test)) a@b.test (z)", ["a@b.test"]),
        ("a@b.test (paren \\) still, inside)", ["a@b.test"]),
        ("Friends: a@b.test, B <b@b.test>;, c@b.test", ["a@b.test", "b@b.test", "c@b.test"]),
        ("undisclosed-recipients:;", []),
        (",, ,", []),
        ("", []),
        ("a\n @\n b.test", ["a@b.test"]),
        ("a . b @ c . test", ["a.b@c.test"]),
        ('"a b"@c.test', ['"a b"@c.test']),
        ('<"a > b, c"@c.test>', ['"a > b, c"@c.test']),
        ("=?utf-8?q?x=40evil=2Etest=2C?= <a@b.test>", ["a@b.test"]),
        ("a@x.test <a@b.test>", ["a@b.test"]),
        ("<@relay.test,@two.test:a@b.test>", ["@relay.test,@two.test:a@b.test"]),
        ("user@[IPv6:2001:db8::1], <b@[192.0.2.1]>", ["user@[IPv6:2001:db8::1]", "b@[192.0.2.1]"]),
        ("alice; bob", ["alice", "bob"]),
        ("grüße@exämple.test", ["grüße@exämple.test"]),
        ("<alice@example.test> Alice", ["alice@example.test"]),
    ],
)
def test_a2_addresses_are_found(value: str, addresses: list[str]) -> None:
    assert split_addresses(value) == addresses


@pytest.mark.parametrize(
    "value",
    [
        "alice bob@example.test",
        "<a@x.test> <b@x.test>",
        '"a@x.test',
        "a@x.test (never closed",
        "<a@x.test",
        "a@x.test>",
        "<>",
        '"Alice" alice@x.test',
        "\\a b@x.test",
        "a@x.test b@x.test",
    ],
)
def test_what_cannot_be_told_apart_is_one_bad_address(value: str) -> None:
    (text,) = split_addresses(value)
    with pytest.raises(ValueError, match=r"\w"):
        parse_mailbox(text, "example.test")


def test_a_bad_address_costs_only_itself() -> None:
    assert split_addresses("alice@a.test, x y@a.test, bob@a.test")[::2] == [
        "alice@a.test",
        "bob@a.test",
    ]


plain = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?@[a-z]{1,8}\.test", fullmatch=True)
noise = st.text(st.sampled_from(list("ab@,;:<>. \t")), max_size=12)


@given(st.lists(st.tuples(plain, noise, noise, st.integers(0, 2)), max_size=5))
def test_a3_quotes_and_comments_hide_everything(parts: list[tuple[str, str, str, int]]) -> None:
    written = []
    for address, name, comment, form in parts:
        shapes = (
            f'"{name}" <{address}>',
            f"({comment}) {address}\n\t({name})",
            f"<{address}> ({comment})",
        )
        written.append(shapes[form])
    assert split_addresses(", ".join(written)) == [address for address, *_ in parts]


@given(st.text(st.sampled_from(list('ab@,;:<>.\\"()[] \n')), max_size=60))
def test_any_text_gives_addresses_or_texts_that_are_refused(value: str) -> None:
    for text in split_addresses(value):
        try:
            parse_mailbox(text, "example.test")
        except ValueError:
            pass


@pytest.mark.parametrize("sign", ['"', "(", "<", ",", ":", "\\", "[", "a ", "<a>", "@", "\r"])
def test_a1_time_is_linear(sign: str) -> None:
    value = sign * (200_000 // len(sign))
    assert sum(map(len, split_addresses(value))) <= len(value)  # a slower walk runs out of time


def test_resent_fields_count_alone() -> None:
    fields = [
        (b"to", b"To: a@x.test\n"),
        (b"cc", b"Cc: b@x.test,\n c@x.test\n"),
        (b"bcc", b"Bcc: d@x.test\n"),
        (b"reply-to", b"Reply-To: e@x.test\n"),
    ]
    assert header_recipients(fields) == ["a@x.test", "b@x.test", "c@x.test", "d@x.test"]
    resent = [
        *fields,
        (b"resent-to", b"Resent-To: f@x.test\n"),
        (b"resent-bcc", b"Resent-Bcc: g@x.test\n"),
    ]
    assert header_recipients(resent) == ["f@x.test", "g@x.test"]
    assert header_recipients([*fields, (b"resent-from", b"Resent-From: h@x.test\n")]) == []


def test_octets_that_are_not_utf8_are_refused_by_name() -> None:
    (text,) = header_recipients([(b"to", b"To: \xff@x.test\n")])
    with pytest.raises(ValueError, match=r"\w"):
        parse_mailbox(text)
