"""From what a channel program told to what the spool is told: the fate of each recipient.

    2yz   delivered
    4yz   deferred, with the reason and the next time; failed once it has expired
    5yz   failed: the author is owed a DSN

Units    Wall-clock seconds.

Invariants, each a property in tests/deliver/test_settling.py
    N1   Each recipient of the attempt gets exactly one settlement, with the outcome
         that was told for it; one that nothing was told for is deferred.
    N2   A deferral's next time is after now, and never long after the job expires.
    N3   What cannot be told to its author is not failed.
"""

from __future__ import annotations

from mta.policy.greylist import greylisted
from mta.policy.retry import expiry, next_try
from mta.spool.entry import Settlement
from mta.types import CHANNEL, DEFERRED, DELIVERED, FAILED, Outcome, Recipient, Reply
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mta.config.model import Channel, Retry
    from mta.spool.entry import RecipientState

__all__ = ["UNTOLD", "Fate", "fates", "spare"]

UNTOLD = Outcome(Reply(451, "4.3.0", "the channel program told nothing"), CHANNEL)
LEAST_WAIT = 1.0


@frozen
class Fate:
    """One recipient's settlement, with whom it concerns and who said so."""

    recipient: Recipient
    settlement: Settlement
    relay: str


def fates(
    tried: Sequence[tuple[Recipient, RecipientState]],
    told: Mapping[int, tuple[Outcome, str]],
    channel: Channel,
    *,
    arrived: float,
    now: float,
    expires: float | None = None,
    not_before: float = 0.0,
    jitter: float = 0.0,
    retry: Retry | None = None,
    own: str = "",
) -> list[Fate]:
    """Return what becomes of the recipients ``tried``.

    ``told`` holds outcome and relay by the recipient's index; ``expires`` is when the
    job is given up, None if by the channel's normal time; ``not_before`` is
    when a dead host may be tried again, 0.0 if it lives; ``retry`` the host's own
    rules, None for the channel's; ``own`` is the channel as the job calls it.
    """
    made = []
    if expires is None:
        expires = arrived + channel.fail_after.normal
    for recipient, state in tried:
        outcome, relay = told.get(recipient.index, (UNTOLD, ""))
        fate, retry_at = DELIVERED, 0.0
        if outcome.reply.permanent:
            fate = FAILED
        elif not outcome.reply.positive:
            fate = DEFERRED
            if now >= expires:
                fate, outcome = FAILED, expiry(outcome)
            else:
                attempts = state.seen_by(own).attempts + 1
                rules = channel.retry if retry is None else retry
                when = max(_next(attempts, rules, arrived, now, outcome, jitter), not_before)
                # The last attempt is made when the job expires, not hours later.
                retry_at = max(min(when, expires), now + LEAST_WAIT)
        settlement = Settlement(recipient.index, fate, now, retry_at, outcome)
        made.append(Fate(recipient, settlement, relay))
    return made


def _next(
    attempts: int, retry: Retry, arrived: float, now: float, outcome: Outcome, jitter: float
) -> float:
    return next_try(
        attempts,
        now,
        first=retry.first,
        factor=retry.factor,
        limit=retry.max,
        spread=retry.jitter,
        steps=retry.steps,
        age=now - arrived,
        min_age=retry.min_age,
        max_age=retry.max_age,
        greylist=retry.greylist if greylisted(outcome.reply) else 0.0,
        jitter=jitter,
    )


def spare(made: Sequence[Fate], why: str, now: float, retry_at: float) -> list[Fate]:
    """Return the fates with each failure made a deferral: its author could not be told."""
    spared = []
    for fate in made:
        if fate.settlement.state != FAILED:
            spared.append(fate)
            continue
        reply = fate.settlement.outcome.reply
        text = Reply.clean(f"{why}; the failure was: {reply}")
        outcome = Outcome(Reply(451, "4.3.0", text), CHANNEL)
        settlement = Settlement(fate.recipient.index, DEFERRED, now, retry_at, outcome)
        spared.append(replace(fate, settlement=settlement))
    return spared
