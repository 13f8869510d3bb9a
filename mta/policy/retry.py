"""When a deferred job is tried again, when its author is warned, when it is given up.

The wait grows from ``first`` by ``factor`` with each attempt up to ``limit``,
so that a host that is down for a minute costs a minute, and one that is down
for a day costs a handful of attempts.  Instead it may go by a list of steps, or
be as long as the message has waited already, which doubles its age each time.

Source   RFC 5321 s4.5.4.1 (retry at least every 30 minutes at first, give up
         after 4-5 days).  RFC 3463 s3.5: X.4.7 "Delivery time expired".
         sendmail's MinQueueAge and MaxQueueAge are ``min_age`` and ``max_age``.
Units    Wall-clock seconds; ``attempts`` counts those already made.

Invariants, each a property in tests/policy/test_retry.py
    R1   The wait lies between min(first, limit) and limit; by steps, between
         the step and the fraction of jitter more.
    R2   More attempts never mean a shorter wait, the jitter being equal and
         the steps rising.
    R3   A job is given up iff its age has reached ``fail_after``; a warning is
         never due for one that is given up.
    R4   What an expired job fails with is 5yz and carries the last reply's text.
    R5   No wait is shorter than ``min_age``, whatever else is said.
    R6   With ``max_age`` a wait is the age, but not less than ``first`` nor more
         than ``max_age``.
    R7   Greylisting only shortens waits, and only the GREYLIST_TRIES first.
"""

from __future__ import annotations

from mta.types import Outcome, Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXPIRED_STATUS", "GREYLIST_TRIES", "expired", "expiry", "next_try", "warning_due"]

EXPIRED_STATUS = "5.4.7"
GREYLIST_TRIES = 3  # whoever greylists lets us in by then, or does something else


def next_try(
    attempts: int,
    now: float,
    *,
    first: float,
    factor: float,
    limit: float,
    spread: float = 0.1,
    steps: Sequence[float] = (),
    age: float = 0.0,
    min_age: float = 0.0,
    max_age: float = 0.0,
    greylist: float = 0.0,
    jitter: float = 0.0,
) -> float:
    """Return the wall time of the next attempt after ``attempts`` (>= 1) that did not deliver.

    ``age`` is the message's, ``greylist`` 0 unless the reply looked like it.
    ``jitter`` is the caller's random number in [0, 1): it lengthens a wait by up
    to ``spread`` of it, so that neighbours drift apart, and none comes early.
    """
    if max_age:
        wait, limit = min(max(age, first), max_age), max_age
    elif steps:
        wait = steps[min(attempts, len(steps)) - 1]
        limit = wait * (1 + spread)
    else:
        wait = _grown(attempts, first, factor, limit)
    if greylist and attempts <= GREYLIST_TRIES:
        wait = min(wait, greylist)
    return now + max(min(wait * (1 + spread * jitter), limit), min_age)


def _grown(attempts: int, first: float, factor: float, limit: float) -> float:
    wait = min(first, limit)
    for _ in range(attempts - 1):
        if wait >= limit or factor <= 1:
            break
        wait *= factor
    return min(wait, limit)


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
