"""Opening a connection to one place: greeting, TLS as the policy has it, AUTH, and then READY.

Each step waits for what the server says.  A step that fails ends the attempt
with a deferral: what is wrong with a place today may be right tomorrow, and is
no fault of the mail.  Nobody tries again in the clear here: Failure says when
that may be done.

Source   STARTTLS: RFC 3207 s4.  Opportunistic TLS: RFC 7435.  Names: RFC 6125 s6.4,
         RFC 8461 s4.1.  DANE: RFC 7672; no session is resumed, as there is no chain
         to compare then.  Results: RFC 8460 s4.3.  Statuses 4.7.5, 4.7.10, 4.7.11:
         RFC 3463 s3.8, RFC 5248.
Units    Wall time for what certificates say of theirs; limits are the owner's.

Invariants, each a test in tests/machine/test_smtp_connection.py
    O1   No mail goes where TLS is less than the policy's level.
    O2   Credentials go out only under TLS, or to this very machine.
    O3   Whatever the server does, there is a Connection at READY, or a Failure.
"""

from __future__ import annotations

import secrets
import time

from mta.errors import ConfigError
from mta.machine.net import UNIX, attempt, reason
from mta.machine.places import (
    DANE,
    ENCRYPTED,
    MAY,
    NONE,
    OFF,
    VERIFIED,
    VERIFY,
    ClientTerms,
    Contexts,
    Failure,
    Place,
    TlsPolicy,
    TlsResult,
)
from mta.machine.smtp_session import BLOCK, Connection, Owner, Parcel
from mta.machine.tls import Tls, TlsError, name_matches
from mta.smtp import sasl
from mta.smtp.client_events import Greeted
from mta.smtp.states import CONNECT, GREETED, READY, TLS
from mta.types import HOST, Outcome, Reply

__all__ = [
    "BLOCK",
    "ClientTerms",
    "Connection",
    "Contexts",
    "Failure",
    "Owner",
    "Parcel",
    "Place",
    "TlsPolicy",
    "TlsResult",
    "connect",
]

# OpenSSL's X509_V_ERR_… → RFC 8460 s4.3.2; whatever else is wrong with a chain: not trusted.
_EXPIRED = (9, 10)
_HOSTNAME_MISMATCH = 62


async def connect(owner: Owner, terms: ClientTerms, place: Place) -> Connection | Failure:
    """Connect to ``place`` and go on until READY; one attempt, on one socket."""
    connection = Connection(owner, terms.hostname, place.relay, lmtp=terms.lmtp)
    source = terms.contexts.source(terms.sources, place)
    try:
        await attempt(lambda: connection, place.address, place.port, owner.limit(CONNECT), source)
    except OSError as error:
        return _failure(place, "4.4.1", f"connect to {place.relay}: {reason(error)}")
    try:
        found = await _Opening(terms, place, connection).run()
    except BaseException:
        connection.drop()
        raise
    if found is not None:
        connection.drop()
        return found
    return connection


def _failure(place: Place, status: str, text: str, tls: TlsResult | None = None) -> Failure:
    return Failure(Outcome(Reply(421, status, Reply.clean(text)), HOST), place.relay, tls)


class _Opening:
    """One connection on its way to READY; each step returns why it ends there, or None."""

    def __init__(self, terms: ClientTerms, place: Place, connection: Connection) -> None:
        self._terms, self._place, self._connection = terms, place, connection
        self._policy = place.policy
        self._greeted = Greeted(connection.client.extensions)

    async def run(self) -> Failure | None:
        connection = self._connection
        failure = await self._listen()
        unix = self._place.address.startswith(UNIX) and self._policy.level == MAY
        if failure is None and self._policy.level != OFF and not unix:
            failure = await self._secure()
        if failure is None:
            failure = await self._authenticate()
        if failure is None:
            connection.proceed()
            if connection.client.state != READY:
                return self._lost()
        return failure

    async def _listen(self) -> Failure | None:
        """Wait for the next Greeted."""
        heard = await self._connection.heard()
        if not isinstance(heard, Greeted):
            return Failure(heard, self._place.relay, self._connection.tls)
        self._greeted = heard
        return None if self._connection.client.state == GREETED else self._lost()

    def _lost(self) -> Failure:
        connection, place = self._connection, self._place
        if connection.ended is not None:
            return Failure(connection.ended, place.relay, connection.tls)
        return _failure(place, "4.4.2", "connection lost after EHLO", connection.tls)

    async def _secure(self) -> Failure | None:
        """Bring the session under TLS, as far as the policy asks."""
        policy = self._policy
        if not self._greeted.extensions.starttls:
            return self._unsecured("this host does not offer STARTTLS")
        verify = policy.level == VERIFY
        contexts, place = self._terms.contexts, self._place
        session = contexts.session(place) if policy.level != DANE else None
        name = place.name if not place.address.startswith(UNIX) else None
        if policy.level == DANE and policy.names:
            name = policy.names[0]  # RFC 7672 s8.1: the name at which the TLSA records stand
        try:
            context = contexts.context(verify)
            tls = Tls(context, server_side=False, hostname=name, session=session)
        except ConfigError as error:
            return _failure(place, "4.3.5", str(error))
        except TlsError as error:
            return self._insecure("validation-failure", str(error))
        self._connection.starttls(tls)
        return await self._shake(tls)

    async def _shake(self, tls: Tls) -> Failure | None:
        """See what STARTTLS and the handshake come to."""
        heard = await self._connection.handshake()
        if isinstance(heard, Greeted):
            self._greeted = heard
            text = heard.refusal.reply.text if heard.refusal is not None else ""
            return self._unsecured(f"this host refuses STARTTLS: {text}", "validation-failure")
        if isinstance(heard, TlsError):
            self._terms.contexts.keep(self._place, None)
            return self._insecure(_result_of(heard.verify), str(heard))
        if heard is not None:
            result = TlsResult(self._policy.origin, "validation-failure")
            return Failure(heard, self._place.relay, result)
        return await self._judge(tls)

    async def _judge(self, tls: Tls) -> Failure | None:
        """The handshake is done: is it who it should be?  Then greet again."""
        if self._connection.client.state != TLS:
            return self._insecure("validation-failure", "the session ended with the handshake")
        level, contexts = self._policy.level, self._terms.contexts
        result = ""
        if level == DANE:
            result = self._dane(tls)
        elif level == VERIFY:
            wanted = self._policy.names or (self._place.name,)
            names = tls.names()
            if not any(name_matches(one, name) for one in wanted for name in names):
                result = "certificate-host-mismatch"
        if result:
            return self._insecure(result, f"the certificate is refused: {result}")
        facts = tls.facts()
        reached = VERIFIED if level in (VERIFY, DANE) else ENCRYPTED
        self._connection.tls = TlsResult(
            self._policy.origin, "", reached, facts.protocol, facts.cipher
        )
        self._connection.secured(reached == VERIFIED)
        failure = await self._listen()
        if failure is None and level != DANE:
            contexts.keep(self._place, tls.session)  # TLS 1.3 has sent its tickets by now
        return failure

    def _dane(self, tls: Tls) -> str:
        from mta.machine import dane

        if not self._policy.tlsa:
            return "dane-required"
        names = self._policy.names or (self._place.name,)
        return dane.verdict(self._policy.tlsa, tls.facts().peer, names, time.time())

    def _unsecured(self, why: str, word: str = "starttls-not-supported") -> Failure | None:
        """There is no TLS to be had: go on without, if the policy lets us."""
        result = TlsResult(self._policy.origin, word, NONE)
        self._connection.tls = result
        if self._policy.level == MAY:
            return None
        text = f"{why}, and TLS is required ({self._policy.origin}: {self._policy.level})"
        return _failure(self._place, "4.7.10", text, result)

    def _insecure(self, result: str, why: str) -> Failure:
        """TLS failed: this connection cannot be used any more."""
        text = f"TLS with {self._place.relay}: {why}"
        return _failure(self._place, "4.7.5", text, TlsResult(self._policy.origin, result, NONE))

    async def _authenticate(self) -> Failure | None:
        """Say who we are, where there are credentials for that."""
        place, tls = self._place, self._connection.tls
        login = self._terms.credentials(place)
        if login is None:
            return None
        encrypted = tls is not None and tls.level != NONE
        if not encrypted and not place.near:
            text = f"{place.relay} has no TLS: credentials are not sent in clear"
            return _failure(place, "4.7.11", text, tls)
        offered = self._greeted.extensions.auth
        try:
            exchange = sasl.client(offered, *login, secrets.token_urlsafe(24))
        except ValueError as error:
            return _failure(place, "4.7.8", f"credentials for {place.name}: {error}", tls)
        if exchange is None:
            shown = Reply.clean(" ".join(offered), 100) or "nothing"
            text = f"{place.relay} offers no way to authenticate that is known here, but {shown}"
            return _failure(place, "4.7.4", text, tls)
        self._connection.authenticate(exchange)
        failure = await self._listen()
        refusal = self._greeted.refusal
        if failure is None and refusal is not None:
            return Failure(refusal, place.relay, tls)
        return failure


def _result_of(verify: int) -> str:
    """Return RFC 8460's word for OpenSSL's code of what is wrong with a certificate."""
    if not verify:
        return "validation-failure"
    if verify == _HOSTNAME_MISMATCH:
        return "certificate-host-mismatch"
    return "certificate-expired" if verify in _EXPIRED else "certificate-not-trusted"
