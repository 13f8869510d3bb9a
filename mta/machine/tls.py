"""TLS: a session between two buffers, and the contexts that say what is accepted.

Tls does no I/O: whoever drives it moves wire octets in and out, as with the
SMTP engines.  So nothing is lost at the border between clear and encrypted
octets: what came before the handshake is still in our hands, to be refused
(STARTTLS) or fed on (after a PROXY header).

Source   RFC 8446, RFC 5246; RFC 3207; advice of RFC 7525 (TLS 1.2 at least, no
         compression, no renegotiation).  The end: RFC 8446 s6.1.
Units    Certificates looks at its files once in LOOK seconds at most.
State    A Tls is one session: the octets fed and not yet read, written and not
         yet taken.  Certificates holds the context in use and its files' stamps.

Invariants, each a test in tests/machine/test_tls.py
    K1   However the wire octets are split, the same clear octets come out.
    K2   Whatever the octets, nothing but TlsError is raised.
    K3   After close_notify the session is over: later octets are dropped.
    K4   A pair of files that cannot be used never replaces one that can.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from mta.errors import ConfigError
from mta.machine.net import numeric
from mta.types import Reply
from mta.values import frozen

__all__ = [
    "Certificates",
    "Tls",
    "TlsError",
    "TlsFacts",
    "client_context",
    "name_matches",
    "server_context",
]

LOOK = 1.0
_READ = 65536
_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsError(Exception):
    """The session failed; the text is for a person.

    ``verify`` is OpenSSL's code if the certificate was refused, else 0.
    """

    def __init__(self, text: str, verify: int = 0) -> None:
        super().__init__(text)
        self.verify = verify


@frozen
class TlsFacts:
    """What a session came to; ``peer`` is the chain as sent, leaf first, each in DER.

    ``peer`` is () if the peer showed no certificate, or the session was resumed.
    ``server_name`` is the name that the client asked for, "" if none.
    """

    protocol: str
    cipher: str
    bits: int
    resumed: bool
    peer: tuple[bytes, ...]
    server_name: str


class Tls:
    """One TLS session, of either side."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Begin a session; ``hostname`` is what a client asks for, ``session`` one to resume.

        Raises TlsError if ``hostname`` is no name that can be asked for.
        """
        self.ended = False
        self._hostname = hostname or ""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._ssl = context.wrap_bio(
                self._in, self._out, server_side, hostname or None, session
            )
        except ValueError as error:  # UnicodeError is one
            raise TlsError(f"no name for TLS: {Reply.clean(str(error), 100)}") from None

    def feed(self, wire: bytes) -> None:
        """Take octets that came over the wire."""
        if not self.ended:
            self._in.write(wire)

    def handshake(self) -> bool:
        """Go on with the handshake: True once it is complete.  Send take() either way."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _failure(error) from None
        return True

    def read(self) -> bytes:
        """Return the clear octets that have come since; ``ended`` if these are the last."""
        pieces: list[bytes] = []
        try:
            while not self.ended:
                piece = self._ssl.read(_READ)
                self.ended = not piece
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _failure(error) from None
        return b"".join(pieces)

    def write(self, clear: bytes) -> None:
        """Encrypt ``clear``; take() gives it."""
        rest = memoryview(clear)
        try:
            while rest:
                rest = rest[self._ssl.write(rest) :]
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _failure(error) from None

    def take(self) -> bytes:
        """Return what is to be sent over the wire now, and forget it."""
        return self._out.read()

    def close(self) -> None:
        """Say that nothing more comes from us (close_notify)."""
        try:
            self._ssl.unwrap()
        except (ssl.SSLError, OSError, ValueError):
            pass  # the peer's own has not come, or there is no session to close

    def facts(self) -> TlsFacts:
        """Return what the session is; once the handshake is complete."""
        resumed = bool(self._ssl.session_reused)
        name, _, bits = self._ssl.cipher() or ("", "", 0)
        asked = getattr(self._ssl, "asked_for", "") or self._hostname
        return TlsFacts(
            self._ssl.version() or "", name, bits, resumed, () if resumed else self._chain(), asked
        )

    def names(self) -> tuple[str, ...]:
        """Return the DNS names and addresses of the peer's certificate, if it was verified."""
        found: Any = self._ssl.getpeercert() or {}
        pairs = found.get("subjectAltName", ())
        names = [name for kind, name in pairs if kind == "DNS"]
        numbers = [numeric(name) for kind, name in pairs if kind == "IP Address"]
        return (*names, *filter(None, numbers))

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later session may resume; TLS 1.3 sends it some time after the handshake."""
        return self._ssl.session

    def _chain(self) -> tuple[bytes, ...]:
        if hasattr(self._ssl, "get_unverified_chain"):  # public since Python 3.13
            return tuple(self._ssl.get_unverified_chain())
        found = self._ssl._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
        return tuple([ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found or ()])


def _failure(error: Exception) -> TlsError:
    """Return ``error`` of OpenSSL in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"certificate: {Reply.clean(error.verify_message or 'refused', 200)}"
        return TlsError(text, error.verify_code or 1)
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return TlsError(Reply.clean(reason.replace("_", " ").lower(), 200))


def name_matches(wanted: str, presented: str) -> bool:
    """True if a certificate's name ``presented`` is good for ``wanted``.

    A "*" is one whole first label (RFC 6125 s6.4.3), in ``presented``, and in a
    ``wanted`` that is itself a pattern (RFC 8461 s4.1).  Addresses have no labels.
    """
    wanted, presented = wanted.lower().rstrip("."), presented.lower().rstrip(".")
    if wanted == presented or numeric(wanted):
        return bool(wanted) and wanted == presented
    label, _, parent = wanted.partition(".")
    other, _, others = presented.partition(".")
    return "." in parent and parent == others and "*" in (label, other)


def server_context(
    certificates: Sequence[str], keys: Sequence[str], minimum: str
) -> ssl.SSLContext:
    """Return the context of a server that shows ``certificates``, PEM chains with their ``keys``.

    Several pairs are for several kinds of keys (ECDSA beside RSA): of one kind
    the last counts.  Raises ConfigError, naming the file, if one cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.minimum_version = _MINIMUM[minimum]
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.sni_callback = _note_name
    for certificate, key in zip(certificates, keys, strict=True):
        for path in (certificate, key):
            try:
                open(path, "rb").close()
            except OSError as error:
                raise ConfigError(f"{path}: {error.strerror or error}") from None
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            why = _failure(error)
            raise ConfigError(f"{certificate}: not usable with key {key}: {why}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _note_name(session: object, name: str | None, context: ssl.SSLContext) -> None:
    session.asked_for = name or ""  # type: ignore[attr-defined]


def client_context(verify: bool, ca: str) -> ssl.SSLContext:
    """Return the context of a client; with ``verify``, the peer's chain must lead to an anchor.

    The anchors are those of the PEM file ``ca``, or the system's.  Names are for
    the caller to compare.  Without ``verify`` old ciphers are taken, too: the other
    choice is no encryption at all.  Raises ConfigError if ``ca`` cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    elif not ca:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(ca)
        except (ssl.SSLError, OSError, ValueError) as error:
            why = error.strerror if isinstance(error, FileNotFoundError) else _failure(error)
            raise ConfigError(f"{ca}: {why}") from None
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


class Certificates:
    """A server's certificates, read again when their files change."""

    def __init__(
        self,
        certificates: Sequence[str],
        keys: Sequence[str],
        minimum: str,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read them; ConfigError if that cannot be.  ``warn`` hears of later trouble, once each."""
        self._certificates, self._keys, self._minimum = certificates, keys, minimum
        self._warn, self._clock = warn, clock
        self._looked = clock()
        self._stamps = self._look()
        self._context = server_context(certificates, keys, minimum)

    def context(self) -> ssl.SSLContext:
        """Return the context for a session that begins now."""
        now = self._clock()
        if now - self._looked >= LOOK:
            self._looked = now
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                self._read()
        return self._context

    def _read(self) -> None:
        try:
            self._context = server_context(self._certificates, self._keys, self._minimum)
        except ConfigError as error:
            self._warn(f"{error}; the certificates read before stay in use")

    def _look(self) -> list[tuple[int, int, int] | None]:
        """Return what tells one state of the files from another."""
        stamps: list[tuple[int, int, int] | None] = []
        for path in (*self._certificates, *self._keys):
            try:
                status = os.stat(path)
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return stamps
