"""DANE for SMTP: whether the certificate that a server shows fits its TLSA records.

DANE-EE(3) names the server's own certificate or key: it fits or not, neither name
nor date matter, and it is read only as far as its key.  DANE-TA(2) names an
authority: the chain that the server shows must lead to it, be in time, and be for
the host.  Other usages, and records that make no sense, are as if they were not
there.

Source   RFC 6698 s2.1 (the fields); RFC 7671 s5.1, s5.2 (usages), s9 (of several
         digests the strongest counts); RFC 7672 s2.2, s3.1, s3.2; the words of a
         verdict are RFC 8460 s4.3's.
Units    ``now`` is in seconds since the epoch: certificates have dates.

Invariants, each a property in tests/machine/test_dane.py
    E1   A certificate that a usable DANE-EE record describes is accepted, whatever
         its name and date.
    E2   A chain is accepted by DANE-TA iff it leads to what a record describes, every
         certificate of it is in time, the leaf is for one of the names, and what
         stands above it may issue it.
    E3   With no usable record everything is accepted: there is encryption, no proof.
    E4   Octets of any kind, as records or as certificates, give a verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mta.machine.answers import Tlsa

if TYPE_CHECKING:
    from mta.machine.x509 import Certificate

__all__ = ["DANE_EE", "DANE_TA", "usable", "verdict"]

DANE_TA, DANE_EE = 2, 3
CERTIFICATE, KEY = 0, 1
CHAIN_MAX = 12  # certificates looked at, however many are shown
RECORDS_MAX = 24
_SEQUENCE, _VERSION = 0x30, 0xA0
_BEFORE_KEY = 5  # of a TBSCertificate: serial, algorithm, issuer, validity, subject (RFC 5280 s4.1)
_DIGESTS = {1: ("sha256", 32), 2: ("sha512", 64)}  # the stronger has the higher number

EXPIRED = "certificate-expired"
MISMATCH = "certificate-host-mismatch"
UNTRUSTED = "certificate-not-trusted"
BROKEN = "validation-failure"


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """Return those of ``records`` that count; none means encryption without a proof."""
    known = [record for record in records[:RECORDS_MAX] if _known(record)]
    best: dict[tuple[int, int], int] = {}
    for record in known:
        what = record.usage, record.selector
        best[what] = max(best.get(what, 0), record.matching)
    return tuple([r for r in known if r.matching in (0, best[r.usage, r.selector])])


def _known(record: Tlsa) -> bool:
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (CERTIFICATE, KEY):
        return False
    if record.matching == 0:
        return _whole(record)
    return record.matching in _DIGESTS and len(record.data) == _DIGESTS[record.matching][1]


def _whole(record: Tlsa) -> bool:
    """True if a record that holds the thing itself holds such a thing."""
    if record.usage == DANE_EE:
        return bool(record.data)  # what nothing equals does no harm
    if record.selector == CERTIFICATE:
        return bool(_parsed((record.data,)))
    from mta.machine.x509 import is_key

    return is_key(record.data)


def verdict(
    records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: float
) -> str:
    """Return "" if ``chain``, the leaf first, fits ``records``, else what is wrong.

    ``names`` are those that the leaf may be for under DANE-TA: the host's, the
    TLSA base domain, and the domain of the mail.
    """
    counting = usable(records)
    if not counting:
        return ""
    if not chain:
        return BROKEN
    ends = [record for record in counting if record.usage == DANE_EE]
    if any(_describes(record, chain[0]) for record in ends):
        return ""
    anchors = [record for record in counting if record.usage == DANE_TA]
    if not anchors:
        return UNTRUSTED
    leaf, above = _parsed(chain[:1]), _parsed(chain[1:CHAIN_MAX])
    return _Walk(anchors, above, now).verdict(leaf[0], names) if leaf else BROKEN


def _parsed(ders: Sequence[bytes]) -> list[Certificate]:
    from mta.machine.x509 import Certificate

    certificates = []
    for der in ders:
        try:
            certificates.append(Certificate(der))
        except ValueError:
            continue
    return certificates


def _describes(record: Tlsa, certificate: bytes) -> bool:
    what = key_of(certificate) if record.selector == KEY else certificate
    if record.matching == 0:
        return record.data == what
    return record.data == hashlib.new(_DIGESTS[record.matching][0], what).digest()


def key_of(certificate: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of ``certificate`` as its octets are, b"" if it has none.

    Parsed and written anew, a key may come out in other octets than were signed.
    """
    try:
        _, inside, _ = _element(certificate, 0)
        _, at, end = _element(certificate, inside)
        if certificate[at] == _VERSION:
            _, _, at = _element(certificate, at)
        for _ in range(_BEFORE_KEY):
            _, _, at = _element(certificate, at)
        tag, _, after = _element(certificate, at)
    except IndexError:
        return b""
    return certificate[at:after] if tag == _SEQUENCE and after <= end else b""


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, start of the content and end of the DER element at ``at``; or IndexError."""
    size, start = der[at + 1], at + 2
    if size >= 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start], "big")
    if start + size > len(der):
        raise IndexError
    return der[at], start, start + size


class _Walk:
    """The way from a leaf up to an anchor."""

    def __init__(self, anchors: Sequence[Tlsa], above: Sequence[Certificate], now: float) -> None:
        """``above`` is what the server shows above its leaf, in any order."""
        whole = [a for a in anchors if a.matching == 0]
        self._anchors = anchors
        self._keys = [a.data for a in whole if a.selector == KEY]
        self._above = [*above, *_parsed([a.data for a in whole if a.selector == CERTIFICATE])]
        self._now = now

    def verdict(self, leaf: Certificate, names: Sequence[str]) -> str:
        """Return what is wrong with ``leaf`` and its chain; "" if nothing is."""
        trouble = self._climb(leaf)
        if trouble:
            return trouble
        if not leaf.serves():
            return UNTRUSTED
        if not any(leaf.shows(name) for name in names):
            return MISMATCH
        return ""

    def _climb(self, leaf: Certificate) -> str:
        """Go from certificate to issuer, each once, the shortest way first."""
        if not leaf.current(self._now):
            return EXPIRED
        trouble = UNTRUSTED
        seen = {leaf.der}
        todo = [(leaf, 0)]
        for certificate, below in todo:
            if any(certificate.signed_by(key) for key in self._keys):
                return ""
            for issuer in self._above:
                if issuer.der in seen or not certificate.issued_by(issuer):
                    continue
                seen.add(issuer.der)
                if not issuer.may_issue(below) or not issuer.allows(leaf.names()):
                    continue
                if not issuer.current(self._now):
                    trouble = EXPIRED
                elif any(_describes(anchor, issuer.der) for anchor in self._anchors):
                    return ""
                else:
                    todo.append((issuer, below + 1))
        return trouble
