from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine import dane
from mta.machine.answers import Tlsa
from mta.machine.dane import usable, verdict
from mta.machine.x509 import Certificate
from tests.certificates import Certified, make_ca, make_certificate

HOST = "mx.example.test"
NOW = time.time()
DAY = 86400.0
ROOT = make_ca("Root")
MIDDLE = make_ca("Middle", ROOT)
LOW = make_ca("Low", MIDDLE)
OTHER = make_ca("Other")
LEAF = make_certificate([HOST, "*.wild.test"], LOW)
BARE = make_certificate(["another.test"])  # signed by itself, for somebody else
KINDS = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


def key(one: Certified) -> bytes:
    return one.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def record(usage: int, selector: int, matching: int, one: Certified) -> Tlsa:
    data = one.der() if selector == 0 else key(one)
    if matching:
        data = hashlib.new({1: "sha256", 2: "sha512"}[matching], data).digest()
    return Tlsa(usage, selector, matching, data)


def ders(*chain: Certified) -> tuple[bytes, ...]:
    return tuple([one.der() for one in chain])


WHOLE = ders(LEAF, LOW, MIDDLE, ROOT)


def judge(
    records: Sequence[Tlsa],
    chain: Sequence[bytes] = WHOLE,
    names: Sequence[str] = (HOST,),
    now: float = NOW,
) -> str:
    return verdict(records, chain, names, now)


@given(st.sampled_from(KINDS), st.sampled_from([LEAF, BARE]), st.floats(-1e9, 1e10))
@settings(max_examples=40)
def test_e1_an_end_record_wants_neither_name_nor_date(
    kind: tuple[int, int], leaf: Certified, now: float
) -> None:
    assert judge([record(3, *kind, leaf)], ders(leaf), (), now) == ""
    assert judge([record(3, *kind, leaf)], ders(leaf, OTHER), (HOST,), now) == ""
    assert judge([record(3, *kind, ROOT)], ders(leaf, ROOT), (HOST,), now) != ""
    assert judge([record(3, *kind, ROOT), record(3, *kind, leaf)], ders(leaf), (), now) == ""


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("anchor", [LOW, MIDDLE, ROOT])
def test_e2_any_authority_of_the_chain_may_be_the_anchor(
    selector: int, matching: int, anchor: Certified
) -> None:
    said = [record(2, selector, matching, anchor)]
    assert judge(said) == ""
    assert judge(said, ders(LEAF, ROOT, LOW, OTHER, MIDDLE)) == ""  # in any order
    assert judge(said, names=("x.wild.test",)) == ""
    assert judge(said, names=("nobody.test", HOST)) == ""
    assert judge(said, names=("nobody.test",)) == "certificate-host-mismatch"
    assert judge(said, now=NOW + 31 * DAY) == "certificate-expired"
    assert judge(said, now=NOW - 31 * DAY) == "certificate-expired"
    assert judge(said, ders(LEAF)) == ("" if matching == 0 and anchor is LOW else dane.UNTRUSTED)
    assert judge(said, ders(BARE, LOW, MIDDLE, ROOT)) == dane.UNTRUSTED
    assert judge([record(2, selector, matching, OTHER)]) == dane.UNTRUSTED


@pytest.mark.parametrize("selector", [0, 1])
def test_e2_an_anchor_that_is_not_shown_may_be_in_the_record(selector: int) -> None:
    assert judge([record(2, selector, 0, ROOT)], ders(LEAF, LOW, MIDDLE)) == ""
    assert judge([record(2, selector, 0, OTHER)], ders(LEAF, LOW, MIDDLE)) == dane.UNTRUSTED
    assert judge([record(2, selector, 1, ROOT)], ders(LEAF, LOW, MIDDLE)) == dane.UNTRUSTED


def test_e2_the_leaf_is_no_anchor() -> None:
    own = make_certificate([HOST])
    assert judge([record(2, 0, 1, own)], ders(own)) == dane.UNTRUSTED
    assert judge([record(2, 0, 1, own)], ders(own, own)) == dane.UNTRUSTED


def test_e2_who_is_no_authority_issues_nothing() -> None:
    middle = make_certificate(["middle.test"], ROOT)
    leaf = make_certificate([HOST], middle)
    assert judge([record(2, 0, 1, ROOT)], ders(leaf, middle, ROOT)) == dane.UNTRUSTED
    assert judge([record(2, 0, 1, middle)], ders(leaf, middle, ROOT)) == dane.UNTRUSTED


@pytest.mark.parametrize("question", ["serves", "allows", "may_issue"])
def test_e2_every_certificate_is_asked_what_it_may(
    question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [record(2, 0, 1, ROOT)]
    assert judge(said) == ""
    monkeypatch.setattr(Certificate, question, lambda self, *_: False)
    assert judge(said) == dane.UNTRUSTED
    assert judge([record(3, 0, 1, LEAF)]) == ""


def test_e2_an_authority_knows_how_many_are_below(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def may_issue(self: Certificate, below: int) -> bool:
        asked.append(below)
        return True

    monkeypatch.setattr(Certificate, "may_issue", may_issue)
    assert judge([record(2, 0, 1, ROOT)]) == ""
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("late", range(3))
def test_e2_each_certificate_has_its_date(late: int) -> None:
    root = make_ca("Root", days=-1 if late == 0 else 30)
    middle = make_ca("Middle", root, days=-1 if late == 1 else 30)
    leaf = make_certificate([HOST], middle, days=-1 if late == 2 else 30)
    said = [record(2, 0, 1, root)]
    assert judge(said, ders(leaf, middle, root)) == "certificate-expired"


def test_e2_a_way_round_is_found() -> None:
    old = make_ca("Middle", ROOT, days=-1)
    fresh = make_ca("Middle", ROOT)
    leaf = make_certificate([HOST], fresh)
    assert judge([record(2, 1, 1, ROOT)], ders(leaf, old, fresh, ROOT)) == ""


def test_e2_an_end_record_beside_it_helps() -> None:
    said = [record(2, 0, 1, OTHER), record(3, 1, 1, LEAF)]
    assert judge(said, now=NOW + 1000 * DAY, names=()) == ""
    assert judge(said[:1], now=NOW) == dane.UNTRUSTED


GOOD = record(3, 1, 1, LEAF)
UNUSABLE = [
    *[Tlsa(usage, 1, 1, GOOD.data) for usage in (0, 1, 4, 255)],
    *[Tlsa(3, selector, 1, GOOD.data) for selector in (2, 255)],
    *[Tlsa(3, 1, matching, GOOD.data) for matching in (3, 255)],
    *[Tlsa(3, 1, 1, GOOD.data[:-1]), Tlsa(3, 1, 1, b""), Tlsa(3, 1, 2, GOOD.data)],
    *[Tlsa(3, 1, 0, b""), Tlsa(2, 0, 0, b"x" * 40), Tlsa(2, 1, 0, b"x" * 40)],
    *[Tlsa(2, 0, 0, LEAF.der()[:-1]), Tlsa(2, 1, 0, key(LEAF)[:-1])],
]


@pytest.mark.parametrize("bad", UNUSABLE, ids=range(len(UNUSABLE)))
def test_e3_what_is_not_usable_is_as_if_it_were_not(bad: Tlsa) -> None:
    assert usable([bad]) == ()
    assert usable([bad, GOOD]) == (GOOD,)
    assert judge([bad], ders(BARE)) == ""
    assert judge([bad, GOOD]) == ""
    assert judge([bad, GOOD], ders(BARE)) == dane.UNTRUSTED


def test_e3_no_records() -> None:
    assert usable([]) == ()
    assert judge([], ders(BARE)) == ""
    assert judge([], ()) == ""


def test_of_several_digests_the_strongest_counts() -> None:  # RFC 7671 s9
    weak, strong = record(3, 1, 1, LEAF), record(3, 1, 2, OTHER)
    assert usable([weak, strong]) == (strong,)
    assert judge([weak, strong]) == dane.UNTRUSTED
    assert judge([weak, record(3, 0, 2, OTHER)]) == ""  # of another selector
    assert judge([weak, record(2, 1, 2, OTHER)]) == ""  # or usage
    whole = record(3, 1, 0, LEAF)
    assert usable([whole, record(3, 1, 1, OTHER)]) == (whole, record(3, 1, 1, OTHER))
    assert judge([whole, strong]) == ""


def test_without_a_certificate_nothing_is_proved() -> None:
    assert judge([GOOD], ()) == "validation-failure"
    assert judge([record(2, 0, 1, ROOT)], (b"nonsense", ROOT.der())) == "validation-failure"


def test_an_end_certificate_need_not_be_one_that_we_can_read() -> None:
    odd = b"\x30\x03\x02\x01\x00"
    assert judge([Tlsa(3, 0, 1, hashlib.sha256(odd).digest())], (odd,)) == ""
    assert judge([GOOD], (odd,)) == dane.UNTRUSTED


@pytest.mark.parametrize("one", [LEAF, BARE, ROOT, LOW])
def test_the_key_is_cut_out_as_it_is(one: Certified) -> None:
    assert dane.key_of(one.der()) == key(one)


tlsas = st.builds(
    Tlsa,
    st.sampled_from([0, 2, 3, 9]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 1, 2, 3]),
    st.one_of(st.binary(max_size=70), st.sampled_from([*WHOLE, key(LEAF), GOOD.data])),
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    der = bytearray(draw(st.sampled_from(WHOLE)))
    for at in draw(st.lists(st.integers(0, len(der) - 1), max_size=4)):
        der[at] ^= draw(st.integers(1, 255))
    return bytes(der[: draw(st.integers(0, len(der)))] if draw(st.booleans()) else der)


@given(
    st.lists(tlsas, max_size=5), st.lists(st.one_of(spoilt(), st.binary(max_size=60)), max_size=5)
)
@settings(max_examples=200)
def test_e4_any_octets_give_a_verdict(records: list[Tlsa], chain: list[bytes]) -> None:
    said = judge(records, chain)
    assert said in ("", dane.EXPIRED, dane.MISMATCH, dane.UNTRUSTED, dane.BROKEN)
    if said == "" and usable(records):
        assert chain
    for octets in chain:
        assert dane.key_of(octets) in octets


@given(spoilt())
@settings(max_examples=100)
def test_e2_no_octet_of_a_leaf_may_change(leaf: bytes) -> None:
    said = judge([record(2, 0, 1, ROOT)], (leaf, *WHOLE[1:]))
    assert (said == "") <= (leaf in WHOLE)
    assert said == "" or leaf != WHOLE[0]


def test_many_certificates_cost_little() -> None:
    same = [make_ca("Same", ROOT) for _ in range(30)]
    leaf = make_certificate([HOST], same[-1])
    assert judge([record(2, 0, 1, OTHER)], ders(leaf, *same)) == dane.UNTRUSTED
    assert judge([record(2, 0, 1, ROOT)] * 500, ders(leaf, same[-1], ROOT)) == ""
