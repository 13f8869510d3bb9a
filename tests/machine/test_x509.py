from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine.x509 import Certificate, is_key
from tests.certificates import make_ca, make_certificate

NOW = datetime.datetime.now(datetime.UTC)
KEY: Any = ec.generate_private_key(ec.SECP256R1())
USAGES: tuple[str, ...] = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
)
USAGES += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def spki(key: Any) -> bytes:
    octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(octets, bytes)
    return octets


def make(
    *extensions: tuple[x509.ExtensionType, bool],
    key: Any = KEY,
    digest: Any = hashes.SHA256(),  # noqa: B008
    pss: bool = False,
    common: Sequence[str] = ("name.test",),
) -> Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in common])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    how = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else None
    made = builder.sign(key, digest, rsa_padding=how)
    return Certificate(made.public_bytes(Encoding.DER))


def usage(*wanted: str) -> tuple[x509.ExtensionType, bool]:
    return x509.KeyUsage(**{name: name in wanted for name in USAGES}), True


def basic(ca: bool, most: int | None = None) -> tuple[x509.ExtensionType, bool]:
    return x509.BasicConstraints(ca, most), True


def limits(
    permitted: Sequence[str] | None = None, excluded: Sequence[str] | None = None
) -> tuple[x509.ExtensionType, bool]:
    trees = [None if t is None else [x509.DNSName(n) for n in t] for t in (permitted, excluded)]
    return x509.NameConstraints(*trees), True


RSA = rsa.generate_private_key(65537, 2048)
SIGNED = [
    make(),
    make(digest=hashes.SHA512()),
    make(key=RSA),
    make(key=RSA, pss=True),
    make(key=ed25519.Ed25519PrivateKey.generate(), digest=None),
    make(key=ed448.Ed448PrivateKey.generate(), digest=None),
]


@pytest.mark.parametrize("one", SIGNED)
def test_signatures(one: Certificate) -> None:
    assert one.signed_by(one.key)
    assert one.issued_by(one)
    for other in SIGNED:
        assert one.signed_by(other.key) == (one.key == other.key)
    assert not one.signed_by(b"nonsense")
    assert not one.signed_by(spki(dsa.generate_private_key(1024)))
    assert is_key(one.key)
    assert not is_key(one.key[:-1])


def test_the_issuer_has_the_name_and_the_key() -> None:
    renamed = make(common=("other.test",))
    assert SIGNED[0].signed_by(renamed.key)
    assert not SIGNED[0].issued_by(renamed)


AUTHORITIES = [
    ((), 0, False),
    ((basic(False),), 0, False),
    ((basic(True),), 9, True),
    ((basic(True, 0),), 0, True),
    ((basic(True, 0),), 1, False),
    ((basic(True, 1),), 1, True),
    ((basic(True), usage("key_cert_sign")), 0, True),
    ((basic(True), usage("digital_signature")), 0, False),
    ((basic(True), (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b""), False)), 0, True),
    ((basic(True), (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b""), True)), 0, False),
]


@pytest.mark.parametrize(("extensions", "below", "may"), AUTHORITIES)
def test_who_may_issue(extensions: Any, below: int, may: bool) -> None:
    assert make(*extensions).may_issue(below) == may


def test_what_a_server_may_show() -> None:
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    anything = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    assert make().serves()
    for usages, fits in (((server,), True), ((client, server), True), ((client,), False)):
        assert make((x509.ExtendedKeyUsage(usages), False)).serves() == fits
    assert make((x509.ExtendedKeyUsage([anything]), False)).serves()
    odd = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b"")
    assert not make((odd, True)).serves()


def test_dates() -> None:
    one = make()
    now, day = NOW.timestamp(), 86400
    assert one.current(now) and one.current(now - day + 1) and one.current(now + day - 1)
    assert not one.current(now - day - 1) and not one.current(now + day + 1)


SHOWN = [
    (["mx.test"], "mx.test", True),
    (["mx.test"], "MX.Test.", True),
    (["mx.test"], "a.mx.test", False),
    (["*.test"], "mx.test", True),
    (["*.test"], "a.mx.test", False),
    (["*.test"], "test", False),
    (["m*.test"], "mx.test", False),
    (["mx.*"], "mx.test", False),
    (["*"], "test", False),
    (["*"], "", False),
    (["*."], "test", False),
    (["other.test", "mx.test"], "mx.test", True),
]


@pytest.mark.parametrize(("names", "name", "fits"), SHOWN)
def test_c2_a_star_is_one_label(names: list[str], name: str, fits: bool) -> None:
    assert Certificate(make_certificate(names).der()).shows(name) == fits


def test_the_common_name_counts_only_alone() -> None:
    assert make(common=("a.test", "Mx.Test")).shows("mx.test")
    assert not make(common=("mx.test", "a.test")).shows("mx.test")
    san = x509.SubjectAlternativeName([x509.DNSName("a.test")])
    assert not make((san, False), common=("mx.test",)).shows("mx.test")
    mail = x509.SubjectAlternativeName([x509.RFC822Name("x@a.test")])
    assert make((mail, False), common=("mx.test",)).shows("mx.test")


LIMITS = [
    ((None, None), ("mx.test",), None),
    ((["test"], None), ("mx.test",), True),
    ((["mx.test"], None), ("mx.test", "a.mx.test"), True),
    ((["mx.test"], None), ("mx.test", "b.test"), False),
    ((["x.test"], None), ("mx.test",), False),
    ((["a.test", "mx.test"], None), ("mx.test",), True),
    ((None, ["mx.test"]), ("a.mx.test",), False),
    ((None, ["mx.test"]), ("b.test",), True),
    ((["test"], ["mx.test"]), ("mx.test",), False),
    ((["mx.test"], None), ("*.mx.test",), True),
]


@pytest.mark.parametrize(("trees", "names", "fits"), LIMITS)
def test_name_constraints(trees: Any, names: tuple[str, ...], fits: bool | None) -> None:
    one = make(basic(True)) if fits is None else make(basic(True), limits(*trees))
    assert one.allows(names) == (fits is not False)


DERS = [make_ca().der(), make_certificate(["mx.test"]).der(), SIGNED[2].der]
DERS.append(make(basic(True, 1), limits(["a.test"]), usage("key_cert_sign")).der)


@given(st.sampled_from(DERS), st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255))))
@settings(max_examples=300)
def test_c1_any_octets(der: bytes, changes: list[tuple[int, int]]) -> None:
    octets = bytearray(der)
    for at, change in changes:
        octets[at % len(octets)] ^= change
    try:
        one = Certificate(bytes(octets))
    except ValueError:
        return
    one.names(), one.shows("mx.test"), one.serves(), one.may_issue(1), one.allows(("a.test",))
    one.current(NOW.timestamp()), one.issued_by(one), one.signed_by(one.key)
