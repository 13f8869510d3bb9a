"""What a step of a SASL exchange comes to, as the server sees it.

Source   RFC 4422 s3: an exchange of challenges and responses, and an outcome.
         Cancelling: RFC 4954 s4.
"""

from __future__ import annotations

from mta.values import frozen

__all__ = [
    "CANCELLED",
    "MALFORMED",
    "WITHDRAWN",
    "WRONG",
    "Challenge",
    "Credentials",
    "Event",
    "Failed",
    "Lookup",
    "Proven",
]

MALFORMED = "malformed"
WITHDRAWN = "withdrawn"
WRONG = "wrong"


@frozen
class Challenge:
    """Send ``octets``; the client's answer is for step()."""

    octets: bytes


@frozen
class Credentials:
    """The client says it is ``user`` and gives ``password`` as it came: to be verified."""

    user: str
    password: str
    authzid: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"  # a password has no place in a log


@frozen
class Lookup:
    """SCRAM: give the keys of ``user`` to keys()."""

    user: str
    authzid: str


@frozen
class Proven:
    """The client has proved that it is ``user``."""

    user: str
    authzid: str


@frozen
class Failed:
    """No authentication: MALFORMED, WITHDRAWN or WRONG, and a reason for the log."""

    fault: str
    reason: str
    user: str = ""


Event = Challenge | Credentials | Lookup | Proven | Failed
CANCELLED = Failed(WITHDRAWN, "cancelled by the client")
