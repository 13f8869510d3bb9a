"""Tokens: how many jobs each lane may have in flight when all delivers together have a bound.

There is one pool for all channels (``queue_children``), and one for each channel
that has a bound of its own (``runners``).  A lane is one channel of one
deliver.  What a pool has is shared out as water finds its level: who wants
little gets it, the others get the same each; what does not come out even goes to
some of them, to others at the next turn.  The common pool is shared between
channels first, then between the lanes of each.

Source   sendmail's MaxQueueChildren, which leaves the groups that do not fit to
         the next time, and its R= of a queue group.
Units    Tokens; ``turn`` counts quanta of time, the same for all who ask.

Invariants, each a property in tests/policy/test_tokens.py
    T1   Lanes that follow allowance(), one after the other, never hold more in
         all than a pool has.
    T2   While a lane wants one more and its pools have one free, allowance() lets
         some lane take one.
    T3   Shares differ by one at most, but where somebody wants less.
    T4   Whoever wants one has had a share of one or more within as many turns as
         there are channels, times the lanes of its own, if its pools have any.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Holder", "allowance", "level"]


@frozen
class Holder:
    """What one lane holds, and how many it could use, those included."""

    pool: int  # its channel
    have: int
    want: int


def level(wants: Sequence[int], limit: int, turn: int = 0) -> list[int]:
    """Return the share of each: at most what it wants, ``limit`` in all."""
    if sum(wants) <= limit:
        return list(wants)
    left, shares = limit, [0] * len(wants)
    open_ = sorted(range(len(wants)), key=wants.__getitem__)
    while open_ and wants[open_[0]] <= left // len(open_):
        first, *open_ = open_
        shares[first] = wants[first]
        left -= wants[first]
    if not open_:
        return shares
    open_.sort()
    each, over = divmod(left, len(open_))
    start = turn % len(open_)
    for place, who in enumerate(open_):
        shares[who] = each + ((place - start) % len(open_) < over)
    return shares


def _shares(
    holders: Sequence[Holder], limits: Mapping[int, int], limit: int | None, turn: int
) -> list[int]:
    """Return the share of each holder; ``limits`` are the channels', ``limit`` is that of all."""
    channels: dict[int, list[int]] = {}
    for index, holder in enumerate(holders):
        channels.setdefault(holder.pool, []).append(index)
    wants = {pool: sum([holders[i].want for i in mine]) for pool, mine in channels.items()}
    bounded = [min(want, limits.get(pool, want)) for pool, want in wants.items()]
    if limit is not None:
        bounded = level(bounded, limit, turn)
    # The lanes of a channel turn once all channels have had their turns.
    within = turn // max(1, len(channels))
    shares = [0] * len(holders)
    for mine, share in zip(channels.values(), bounded, strict=True):
        given = level([holders[i].want for i in mine], share, within)
        for index, part in zip(mine, given, strict=True):
            shares[index] = part
    return shares


def allowance(
    holders: Sequence[Holder],
    me: int,
    limits: Mapping[int, int],
    limit: int | None,
    turn: int = 0,
) -> int:
    """Return how many tokens the holder at index ``me`` may have now.

    Less than it holds where its share has become smaller: it gives back what it
    can, and takes no more until it is below.
    """
    mine = holders[me]
    share = _shares(holders, limits, limit, turn)[me]
    if share <= mine.have:
        return share
    free = share - mine.have
    if limit is not None:
        free = min(free, limit - sum([holder.have for holder in holders]))
    if mine.pool in limits:
        held = sum([holder.have for holder in holders if holder.pool == mine.pool])
        free = min(free, limits[mine.pool] - held)
    return mine.have + max(0, free)
