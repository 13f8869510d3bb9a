"""What a client session tells its driver, and what it asks of an authentication exchange.

Source   mta/smtp/client.py, which gives these.
"""

from __future__ import annotations

from typing import Protocol

from mta.smtp.extensions import Extensions
from mta.types import Outcome
from mta.values import frozen

__all__ = ["Closed", "Event", "Exchange", "GoAhead", "Greeted", "Ready", "Settled", "TlsGo"]


@frozen
class Greeted:
    """The server said what it can: proceed(), starttls(), authenticate() or quit().

    ``refusal`` is why what was asked last, TLS or AUTH, was not granted, if so.
    """

    extensions: Extensions
    refusal: Outcome | None = None


@frozen
class TlsGo:
    """Let the TLS handshake begin, and then call secured(); clear octets are none of ours now."""


@frozen
class Ready:
    """No transaction is open, and the server waits for the next."""


@frozen
class GoAhead:
    """The body is to be sent now: dot-stuffed unless ``raw``, when it has a length (BDAT)."""

    raw: bool = False


@frozen
class Settled:
    """The transaction is over; ``outcomes`` are in the order of its recipients."""

    outcomes: tuple[Outcome, ...]


@frozen
class Closed:
    """The session is over; ``outcome`` is why, of scope HOST, or None after QUIT."""

    outcome: Outcome | None


Event = Greeted | TlsGo | Ready | GoAhead | Settled | Closed


class Exchange(Protocol):
    """The client's half of one authentication exchange (RFC 4954 s4); octets, not base64.

    ``step`` raises RemoteProtocolError for a challenge that makes no sense.
    """

    @property
    def mechanism(self) -> str:
        """Its name, as AUTH has it."""

    @property
    def complete(self) -> bool:
        """False as long as the server must not yet say that all is well."""

    def initial(self) -> bytes | None:
        """Return what goes out with AUTH, None if nothing does."""

    def step(self, challenge: bytes) -> bytes:
        """Return the answer to ``challenge``."""
