"""Certificates for tests: authorities and leaves, made with ``cryptography`` in a few ms.

Keys are P-256.  ``days`` is how long a certificate is good from now; negative
for one that has expired.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mta.values import frozen

_DAY = datetime.timedelta(days=1)


@frozen
class Certified:
    """A certificate, its key, and the chain above it without the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def pem(self) -> bytes:
        """The chain as a server shows it: leaf first."""
        chain = (self.certificate, *self.above)
        return b"".join([one.public_bytes(serialization.Encoding.PEM) for one in chain])

    def key_pem(self, password: bytes = b"") -> bytes:
        guard: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            guard = serialization.BestAvailableEncryption(password)
        pkcs8 = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, pkcs8, guard)

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write both into ``folder``; return the paths of chain and key."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(self.pem())
        key.write_bytes(self.key_pem())
        return str(chain), str(key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make(
    common: str, names: Sequence[str], issuer: Certified | None, days: float, authority: bool
) -> Certified:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    until = now + days * _DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(issuer.certificate.subject if issuer else _name(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - _DAY)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = issuer.key if issuer else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if authority:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    else:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    if names:
        general = [_general(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    above = (issuer.certificate, *issuer.above) if issuer and _signed_by_other(issuer) else ()
    return Certified(certificate, key, above)


def _signed_by_other(authority: Certified) -> bool:
    return authority.certificate.issuer != authority.certificate.subject


def make_ca(name: str = "Test CA", ca: Certified | None = None, days: float = 30) -> Certified:
    """Return an authority: a root, or one below ``ca``."""
    return _make(name, (), ca, days, authority=True)


def make_certificate(
    names: Sequence[str], ca: Certified | None = None, days: float = 30
) -> Certified:
    """Return a server's certificate for ``names``, by ``ca`` or self-signed."""
    return _make(names[0] if names else "nobody", names, ca, days, authority=False)
