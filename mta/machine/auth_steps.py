"""What AUTH on a listener comes to, and the replies that say so.

Source   RFC 4954 s4 and s6; 501 for "*": s4; 504 5.5.4 for a mechanism: s4.
"""

from __future__ import annotations

from mta.smtp import steps
from mta.smtp.steps import Challenge
from mta.types import Reply
from mta.values import frozen

__all__ = [
    "ACCEPTED",
    "REPLIES",
    "TEMPORARY",
    "TOO_LONG",
    "UNKNOWN",
    "AuthFacts",
    "Challenge",
    "Denied",
    "Granted",
    "Step",
    "denied",
]

ACCEPTED = Reply(235, "2.7.0", "Authentication successful")
UNKNOWN, TEMPORARY, TOO_LONG = "unknown", "temporary", "too long"
REPLIES = {
    steps.MALFORMED: Reply(501, "5.5.2", "Malformed authentication"),
    steps.WITHDRAWN: Reply(501, "5.7.0", "Authentication cancelled"),
    steps.WRONG: Reply(535, "5.7.8", "Authentication credentials invalid"),
    TEMPORARY: Reply(454, "4.7.0", "Temporary authentication failure"),
    TOO_LONG: Reply(500, "5.5.6", "Authentication exchange line is too long"),
    UNKNOWN: Reply(504, "5.5.4", "Unrecognized authentication type"),
}


@frozen
class AuthFacts:
    """The session: addresses as text, "" for a Unix socket; ``secured`` by TLS."""

    service: str
    remote: str
    local: str
    secured: bool


@frozen
class Granted:
    """The client is ``user``, as the password file or Dovecot spells it."""

    user: str


@frozen
class Denied:
    """Not authenticated: ``reply`` is for the client; ``reason`` and ``user`` for the log."""

    reply: Reply
    reason: str
    user: str = ""


Step = Challenge | Granted | Denied


def denied(fault: str, reason: str, user: str = "") -> Denied:
    """Return the refusal for ``fault``, a key of REPLIES."""
    return Denied(REPLIES[fault], Reply.clean(reason), Reply.clean(user, 255))
