"""Certificates, as far as DANE must look into them; everything else leaves them to OpenSSL.

``cryptography`` parses and checks signatures.  Its own path validation is for the
web's authorities: it refuses certificates of private ones that mail servers
really have, and takes no bare key for an anchor.  What a path needs is asked here
certificate by certificate; dane.py walks.

Source   RFC 5280 s4.2.1.3 (key usage), s4.2.1.9 (basic constraints), s4.2.1.10 (name
         constraints), s4.2.1.12 (extended key usage), s6.1; RFC 6125 s6.4 (names);
         RFC 7672 s3.2.3 (the common name, if there is no other).
Units    ``now`` is in seconds since the epoch.

Invariants, each a property in tests/machine/test_x509.py
    C1   Whatever octets come, parsing raises ValueError or gives a certificate
         that every question can be asked.
    C2   A "*" in a certificate stands for one whole label, the leftmost, and no more.
"""

from __future__ import annotations

import warnings

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

__all__ = ["Certificate", "is_key"]

warnings.filterwarnings("ignore", module=r"mta\.machine\.x509")  # about others' certificates
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
}
_SERVER = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def is_key(spki: bytes) -> bool:
    """True if ``spki`` is a public key that can be used."""
    try:
        load_der_public_key(spki)
    except _UNREADABLE:
        return False
    return True


class Certificate:
    """One certificate."""

    def __init__(self, der: bytes) -> None:
        """Parse ``der``; ValueError if it is no certificate that can be used."""
        try:
            self._x509 = x509.load_der_x509_certificate(der)
            self.key = self._x509.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            extensions = list(self._x509.extensions)
            self._subject, self._issuer = self._x509.subject, self._x509.issuer
            list(self._subject)
        except Exception as error:  # what foreign octets cause is of no one family there
            raise ValueError("not a certificate that can be read") from error
        self.der = der
        self._extensions = {extension.oid: extension.value for extension in extensions}
        self.strange = any(e.critical and e.oid not in _KNOWN for e in extensions)

    def current(self, now: float) -> bool:
        """True if its dates allow it at ``now``."""
        since, until = self._x509.not_valid_before_utc, self._x509.not_valid_after_utc
        return since.timestamp() <= now <= until.timestamp()

    def serves(self) -> bool:
        """True if it may be shown by a server."""
        usage = self._extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
        fits = not isinstance(usage, x509.ExtendedKeyUsage) or any(u in _SERVER for u in usage)
        return fits and not self.strange

    def may_issue(self, below: int) -> bool:
        """True if it is an authority that may stand above ``below`` authorities and a leaf."""
        constraints = self._extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
        if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
            return False
        usage = self._extensions.get(ExtensionOID.KEY_USAGE)
        if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
            return False
        most = constraints.path_length
        return not self.strange and (most is None or below <= most)

    def issued_by(self, issuer: Certificate) -> bool:
        """True if the name and the key of ``issuer`` are those that signed this."""
        return self._issuer == issuer._subject and self.signed_by(issuer.key)

    def signed_by(self, spki: bytes) -> bool:
        """True if the owner of the public key ``spki`` signed this."""
        signed, signature = self._x509.tbs_certificate_bytes, self._x509.signature
        try:
            key = load_der_public_key(spki)
            how = self._x509.signature_algorithm_parameters
            digest = self._x509.signature_hash_algorithm
            if isinstance(key, rsa.RSAPublicKey):
                if not isinstance(how, padding.PKCS1v15 | padding.PSS) or digest is None:
                    return False
                key.verify(signature, signed, how, digest)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                if not isinstance(how, ec.ECDSA):
                    return False
                key.verify(signature, signed, how)
            elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
                key.verify(signature, signed)
            else:
                return False
        except (InvalidSignature, *_UNREADABLE):
            return False
        return True

    def names(self) -> tuple[str, ...]:
        """Return the host names it is for, lower case; the common name if there is no other."""
        found = self._extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        if isinstance(found, x509.SubjectAlternativeName):
            names = found.get_values_for_type(x509.DNSName)
            if names:
                return tuple([name.lower() for name in names])
        common = self._subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple([str(attribute.value).lower() for attribute in common[-1:]])

    def shows(self, name: str) -> bool:
        """True if it is for the host ``name``."""
        name = name.lower().removesuffix(".")
        _, dot, parent = name.partition(".")
        return name in self.names() or (bool(dot) and f"*.{parent}" in self.names())

    def allows(self, names: tuple[str, ...]) -> bool:
        """True if its name constraints let it issue for all of these host names."""
        limits = self._extensions.get(ExtensionOID.NAME_CONSTRAINTS)
        if not isinstance(limits, x509.NameConstraints):
            return True
        permitted = [_tree(one) for one in limits.permitted_subtrees or ()]
        excluded = [_tree(one) for one in limits.excluded_subtrees or ()]
        only = [tree for tree in permitted if tree is not None]
        for name in names:
            bare = name.removeprefix("*.")
            if only and not any(_within(bare, tree) for tree in only):
                return False
            if any(tree is not None and _within(bare, tree) for tree in excluded):
                return False
        return True


def _tree(name: x509.GeneralName) -> str | None:
    return name.value.lower() if isinstance(name, x509.DNSName) else None


def _within(name: str, tree: str) -> bool:
    tree = tree.removeprefix(".")
    return not tree or name == tree or name.endswith("." + tree)
