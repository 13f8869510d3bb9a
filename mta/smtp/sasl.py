"""SASL: who is there, as server and as client; octets in and out are no longer base64.

    exchange = server(mechanism, nonce)          None: a mechanism that is unknown
    event = exchange.begin(initial)              None: nothing came with the AUTH command
        Challenge     send it; step() takes the answer, None if the client cancelled
        Credentials   PLAIN, LOGIN: to be verified; the exchange is over
        Lookup        SCRAM: exchange.keys(...) gives the Challenge
        Proven        SCRAM: the client is who it says; the exchange is over
        Failed        over, without success

    exchange = client(offered, user, password, nonce)      None: nothing in common
    exchange.initial(), then exchange.step(challenge) as long as 334 comes; a 235 counts
    only if exchange.complete

Nothing here verifies a password: that costs time, and is machine/authenticate.py's.

Source   PLAIN: RFC 4616 s2.  LOGIN: never more than a draft, yet what some clients
         know alone.  SCRAM-SHA-256: scram.py.  AUTH: RFC 4954 s4.
State    An exchange is used once.  Nonces are given: this room has no randomness.

Invariants, each a property in tests/smtp/test_sasl.py
    A1   What the client gives, the server gets: user and password, for each mechanism.
    A2   Whatever the octets, a step of a server's exchange returns an event and raises
         nothing, and a client's raises nothing but RemoteProtocolError.
    A3   A client says each thing once: what asks for more ends the exchange.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.errors import RemoteProtocolError
from mta.smtp import saslprep, steps
from mta.smtp.scram import ScramClient, ScramServer
from mta.smtp.steps import CANCELLED, Challenge, Credentials, Event, Failed

__all__ = [
    "CLEAR",
    "MECHANISMS",
    "ClientExchange",
    "ServerExchange",
    "client",
    "server",
]

MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")  # the strongest first
CLEAR = ("PLAIN", "LOGIN")  # these give the password away: only under TLS
PROMPTS = (b"Username:", b"Password:")


class PlainServer:
    """PLAIN: [authzid] NUL user NUL password, in one message."""

    def begin(self, initial: bytes | None) -> Event:
        """Take what came with the AUTH command, None if nothing did."""
        return Challenge(b"") if initial is None else self.step(initial)

    def step(self, octets: bytes | None) -> Event:
        """Take the client's message, None if it cancelled."""
        if octets is None:
            return CANCELLED
        parts = octets.split(b"\0")
        if len(parts) != 3:
            return Failed(steps.MALFORMED, "PLAIN is not authzid, user and password")
        authzid, user, password = parts
        return _credentials(user, password, authzid)


class LoginServer:
    """LOGIN: the user's name, which may come at once, then the password."""

    def __init__(self) -> None:
        self._user: bytes | None = None

    def begin(self, initial: bytes | None) -> Event:
        """Take the name if it came with the AUTH command; ask for it if not."""
        return Challenge(PROMPTS[0]) if initial is None else self.step(initial)

    def step(self, octets: bytes | None) -> Event:
        """Take the answer to a prompt, None if the client cancelled."""
        if octets is None:
            return CANCELLED
        if self._user is None:
            self._user = octets
            return Challenge(PROMPTS[1])
        return _credentials(self._user, octets, b"")


def _credentials(user: bytes, password: bytes, authzid: bytes) -> Event:
    try:
        name = saslprep.user_name(user)
        other = saslprep.user_name(authzid) if authzid else ""
        return Credentials(name, saslprep.password(password), other)
    except ValueError as error:
        return Failed(steps.MALFORMED, str(error))


ServerExchange = PlainServer | LoginServer | ScramServer

_SERVERS: dict[str, Callable[[str], ServerExchange]] = {
    "SCRAM-SHA-256": ScramServer,
    "PLAIN": lambda nonce: PlainServer(),
    "LOGIN": lambda nonce: LoginServer(),
}


def server(mechanism: str, nonce: str) -> ServerExchange | None:
    """Return the server's side of ``mechanism`` (any case); ``nonce`` as ScramServer has it."""
    made = _SERVERS.get(mechanism.upper())
    return None if made is None else made(nonce)


class PlainClient:
    """PLAIN: everything at once."""

    mechanism = "PLAIN"

    def __init__(self, user: str, password: str) -> None:
        self.complete = False
        self._message = b"\0".join((b"", user.encode(), password.encode()))

    def initial(self) -> bytes | None:
        """Return the one message, for the AUTH command itself."""
        self.complete = True
        return self._message

    def step(self, challenge: bytes) -> bytes:
        """Return the message to a server that did not take it at once."""
        if self.complete:
            raise RemoteProtocolError("a challenge after all was said (PLAIN)")
        return self.initial() or b""


class LoginClient:
    """LOGIN: what is asked for is told by the order, since prompts differ."""

    mechanism = "LOGIN"

    def __init__(self, user: str, password: str) -> None:
        self._answers = [user.encode(), password.encode()]

    @property
    def complete(self) -> bool:
        """True once the password was sent."""
        return not self._answers

    def initial(self) -> bytes | None:
        """Return None: some servers know no initial response here."""
        return None

    def step(self, challenge: bytes) -> bytes:
        """Return the name, then the password."""
        if not self._answers:
            raise RemoteProtocolError("a challenge after all was said (LOGIN)")
        return self._answers.pop(0)


ClientExchange = PlainClient | LoginClient | ScramClient

_CLIENTS: dict[str, Callable[[str, str, str], ClientExchange]] = {
    "SCRAM-SHA-256": ScramClient,
    "PLAIN": lambda user, password, nonce: PlainClient(user, password),
    "LOGIN": lambda user, password, nonce: LoginClient(user, password),
}


def client(offered: tuple[str, ...], user: str, password: str, nonce: str) -> ClientExchange | None:
    """Return the client's side of the strongest mechanism ``offered``, None if we know none.

    ``nonce`` is fresh and random, of printable ASCII without a comma.  Without TLS
    leave CLEAR out of ``offered``.  Raises ValueError if user or password cannot
    be sent at all.
    """
    saslprep.user_name(user.encode("utf-8", "surrogatepass"))
    saslprep.password(password.encode("utf-8", "surrogatepass"))
    known = {name.upper() for name in offered}
    for mechanism in MECHANISMS:
        if mechanism in known and (mechanism in CLEAR or _preparable(password)):
            return _CLIENTS[mechanism](user, password, nonce)
    return None


def _preparable(password: str) -> bool:
    """Say whether SCRAM can be used: SASLprep refuses some passwords that PLAIN carries."""
    try:
        saslprep.prepare(password, stored=True)
    except ValueError:
        return False
    return True
