"""What the listener says by policy; the engine has its own words for the rest.

Source   RFC 5321 s4.2.3; enhanced status: RFC 3463.  The words of queued() are
         Postfix's, which clients take apart for the id.
"""

from __future__ import annotations

from mta.types import Reply

__all__ = [
    "AUTH_FIRST",
    "BUSY",
    "CLOSING",
    "CONNECTION_RATE",
    "ETRN_DENIED",
    "ETRN_NONE",
    "ETRN_OK",
    "LOAD",
    "LOAD_LATER",
    "MAIL_OK",
    "MESSAGE_RATE",
    "RCPT_OK",
    "RECIPIENT_RATE",
    "TIMEOUT",
    "TOO_LONG",
    "TOO_MANY",
    "TOO_MANY_LOGINS",
    "TOO_SLOW",
    "XCLIENT_BAD",
    "XCLIENT_OK",
    "queued",
]

MAIL_OK = Reply(250, "2.1.0", "Ok")
RCPT_OK = Reply(250, "2.1.5", "Ok")

BUSY = Reply(421, "4.3.2", "all connections are in use, try again later")
LOAD = Reply(421, "4.3.2", "the load is too high, try again later")
LOAD_LATER = Reply(451, "4.3.2", "the load is too high, try again later")
CLOSING = Reply(421, "4.3.2", "service shutting down")
TOO_MANY = Reply(421, "4.7.0", "too many connections from your address")
CONNECTION_RATE = Reply(421, "4.7.0", "too many new connections from your address")
TOO_MANY_LOGINS = Reply(421, "4.7.0", "too many failed logins from your address")
TIMEOUT = Reply(421, "4.4.2", "timeout exceeded")
TOO_LONG = Reply(421, "4.4.2", "the session lasts too long")
TOO_SLOW = Reply(421, "4.4.2", "the data comes too slowly")
MESSAGE_RATE = Reply(450, "4.7.1", "too many messages from your address, try again later")
RECIPIENT_RATE = Reply(450, "4.7.1", "too many recipients from your address, try again later")

AUTH_FIRST = Reply(530, "5.7.0", "authentication required")

ETRN_OK = Reply(250, "2.0.0", "queuing for that node started")
ETRN_NONE = Reply(458, "4.4.0", "unable to queue messages for that node")
ETRN_DENIED = Reply(459, "4.7.1", "that node is not served here")
XCLIENT_OK = Reply(220, "", "")  # the engine greets anew
XCLIENT_BAD = Reply(501, "5.5.4", "not an attribute that XCLIENT may have")


def queued(ident: str) -> Reply:
    """Return the reply to a message that is durable."""
    return Reply(250, "2.0.0", f"Ok: queued as {ident}")
