"""What the author of a message wants to hear of it: NOTIFY, RET and ENVID as words.

Source   RFC 3461 s4.1 (NOTIFY), s4.3 (RET), s4.4 (ENVID), decoded from xtext.

Invariants, each a property in tests/dsn/test_notify.py
    D1   Nothing that was asked for is lost, whatever the case and order of the words.
    D2   NEVER stands alone, and asks for nothing; without NOTIFY failures and delays
         are wanted, successes are not.
"""

from __future__ import annotations

__all__ = ["DELAY", "FAILURE", "SUCCESS", "envid_of", "notify_of", "ret_of", "wanted"]

SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
DELAY = "DELAY"

_ENVID_LIMIT = 100  # characters, RFC 3461 s4.4


def wanted(notify: str, what: str) -> bool:
    """Return whether ``notify``, "" if nothing was said, asks to be told of ``what``."""
    return what in notify.split(",") if notify else what != SUCCESS


def notify_of(text: str) -> str:
    """Return ``text`` as NOTIFY, in its usual order; ValueError if it is none."""
    words = {word.strip(" ").upper() for word in text.split(",")}
    if words == {"NEVER"}:
        return "NEVER"
    if not words <= {SUCCESS, FAILURE, DELAY}:
        raise ValueError("NOTIFY is never, or some of success, failure, delay")
    return ",".join([word for word in (SUCCESS, FAILURE, DELAY) if word in words])


def ret_of(text: str) -> str:
    """Return ``text`` as RET; ValueError if it is none."""
    if text.upper() not in ("FULL", "HDRS"):
        raise ValueError("RET is full or hdrs")
    return text.upper()


def envid_of(text: str) -> str:
    """Return ``text`` if it can be an ENVID; ValueError if not."""
    if not (text and text.isascii() and text.isprintable() and len(text) <= _ENVID_LIMIT):
        raise ValueError(f"ENVID is 1 to {_ENVID_LIMIT} printable ASCII characters")
    return text
