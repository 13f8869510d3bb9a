"""When a deferred job is tried again, when its author is warned, when it is given up.

The wait grows from ``first`` by ``factor`` with each attempt up to ``limit``,
so that a host that is down for a minute costs a minute, and one that is down
for a day costs a handful of attempts.

Source   RFC 5321 s4.5.4.1 (retry at least every 30 minutes at first, give up
         after 4-5 days).  RFC 3463 s3.5: X.4.7 "Delivery time expired".
Units    Wall-clock seconds; ``attempts`` counts those already made.

Invariants, each a property in tests/policy/test_retry.py
    R1   The wait lies between min(first, limit) and limit.
    R2   More attempts never mean a shorter wait, the jitter being equal.
    R3   A job is given up iff its age has reached ``fail_after``; a warning is
         never due for one that is given up.
    R4   What an expired job fails with is 5yz and carries the last reply's text.
"""

from __future__ import annotations

from mta.types import Outcome, Reply

__all__ = ["EXPIRED_STATUS", "SPREAD", "expired", "expiry", "next_try", "warning_due"]

SPREAD = 0.1  # jitter 1.0 lengthens a wait by a tenth: neighbours drift apart, none comes early
EXPIRED_STATUS = "5.4.7"


def next_try(
    attempts: int, now: float, *, first: float, factor: float, limit: float, jitter: float = 0.0
) -> float:
    """Return the wall time of the next attempt after ``attempts`` (>= 1) that did not deliver.

    ``jitter`` is the caller's random number in [0, 1).
    """
    wait = min(first, limit)
    for _ in range(attempts - 1):
        if wait >= limit or factor <= 1:
            break
        wait *= factor
    return now + min(wait * (1 + SPREAD * jitter), limit)


def expired(arrived: float, now: float, fail_after: float) -> bool:
    """Tell whether a job that arrived at ``arrived`` is given up at ``now``."""
    return now - arrived >= fail_after


def warning_due(
    arrived: float, now: float, *, warn_after: float, fail_after: float, warned: bool
) -> bool:
    """Tell whether the author should now hear that the message still waits (0 = never)."""
    age = now - arrived
    return not warned and 0 < warn_after <= age < fail_after


def expiry(last: Outcome) -> Outcome:
    """Return the failure that ends a job whose last deferral was ``last``."""
    text = Reply.clean(f"delivery time expired; last reply: {last.reply}")
    return Outcome(Reply(554, EXPIRED_STATUS, text), last.scope)
