"""Places: where one connection goes, how safe it must be, and what it came to.

Source   Levels of TLS: mta.yaml(5).  Types of results: RFC 8460 s4.3.  The word of
         the log: Postfix's relay=.
Units    SESSIONS_MAX is a count of places.
State    Contexts: TLS contexts, made when first needed; a session to resume for each
         place; whose turn it is among source addresses.  Lost on exit.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence

from mta.machine.answers import Tlsa
from mta.machine.net import UNIX
from mta.machine.tls import client_context
from mta.types import Outcome
from mta.values import frozen

__all__ = [
    "DANE",
    "ENCRYPTED",
    "LEVELS",
    "MAY",
    "NONE",
    "OFF",
    "REQUIRE",
    "VERIFIED",
    "VERIFY",
    "ClientTerms",
    "Contexts",
    "Failure",
    "Place",
    "TlsPolicy",
    "TlsResult",
]

OFF, MAY, REQUIRE, VERIFY, DANE = "off", "may", "require", "verify", "dane"
LEVELS = (OFF, MAY, REQUIRE, VERIFY, DANE)
NONE, ENCRYPTED, VERIFIED = "none", "encrypted", "verified"
SESSIONS_MAX = 1000


@frozen
class TlsPolicy:
    """What TLS must give before mail goes out.

    ``may``: what it can.  ``require``: encryption.  ``verify``: a certificate that
    leads to an anchor, for one of ``names``.  ``dane``: one that ``tlsa`` accepts.
    ``origin`` is who says so: "config", "dane" or "sts".
    """

    level: str = MAY
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()
    origin: str = "config"


@frozen
class Place:
    """One address of one host; ``address`` is numeric, or "unix:" and a path."""

    name: str
    address: str
    port: int
    policy: TlsPolicy = TlsPolicy()

    @property
    def relay(self) -> str:
        """The word that the log shows for a connection to here."""
        if self.address.startswith(UNIX):
            return f"localhost[{self.address.removeprefix(UNIX)}]"
        return f"{self.name}[{self.address}]:{self.port}"

    @property
    def near(self) -> bool:
        """True if what is said does not leave this machine."""
        if self.address.startswith(UNIX):
            return True
        return ipaddress.ip_address(self.address.partition("%")[0]).is_loopback


@frozen
class TlsResult:
    """What TLS came to: ``result`` "" for success, or a type of RFC 8460."""

    origin: str
    result: str = ""
    level: str = NONE
    protocol: str = ""
    cipher: str = ""


@frozen
class Failure:
    """Why there is no connection, and the last place that was tried, "" if none."""

    outcome: Outcome
    relay: str
    tls: TlsResult | None = None


class Contexts:
    """What all connections of a program share for TLS, and its source addresses' turns."""

    def __init__(self, ca: str = "") -> None:
        """``ca`` is the PEM file of trust anchors, "" for the system's."""
        self._ca = ca
        self._made: dict[bool, ssl.SSLContext] = {}
        self._sessions: OrderedDict[Place, ssl.SSLSession] = OrderedDict()
        self._turn = 0

    def context(self, verify: bool) -> ssl.SSLContext:
        """Return the context for a connection; ConfigError if the anchors cannot be used."""
        found = self._made.get(verify)
        if found is None:
            found = self._made[verify] = client_context(verify, self._ca if verify else "")
        return found

    def session(self, place: Place) -> ssl.SSLSession | None:
        """Return what may be resumed at ``place``, under that very policy."""
        return self._sessions.get(place)

    def keep(self, place: Place, session: ssl.SSLSession | None) -> None:
        """Remember ``session`` for the next connection to ``place``; None forgets it."""
        self._sessions.pop(place, None)
        if session is not None:
            self._sessions[place] = session
            if len(self._sessions) > SESSIONS_MAX:
                self._sessions.popitem(last=False)

    def source(self, sources: Sequence[str], place: Place) -> str:
        """Return the address to connect from, each of the right family in its turn; "" for any."""
        if place.address.startswith(UNIX):
            return ""
        fitting = [one for one in sources if (":" in one) == (":" in place.address)]
        self._turn += 1
        return fitting[self._turn % len(fitting)] if fitting else ""


def _nobody(place: Place) -> tuple[str, str] | None:
    return None


@frozen
class ClientTerms:
    """How all connections of a program are made.

    ``credentials`` gives user and password for a place that wants them.
    """

    hostname: str
    lmtp: bool = False
    sources: tuple[str, ...] = ()
    credentials: Callable[[Place], tuple[str, str] | None] = _nobody
    contexts: Contexts = Contexts()
