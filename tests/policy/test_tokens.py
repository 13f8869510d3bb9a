from hypothesis import given
from hypothesis import strategies as st

from mta.policy.tokens import Holder, allowance, level

WANTS = st.lists(st.integers(0, 30), min_size=1, max_size=8)
LANES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=8)
LIMITS = st.dictionaries(st.integers(0, 3), st.integers(0, 12), max_size=4)
LIMIT = st.one_of(st.none(), st.integers(0, 20))


def held(holders, pool=None):
    return sum(h.have for h in holders if pool is None or h.pool == pool)


def step(holders, me, limits, limit, turn, busy=0):
    """Let one lane take what it may, or give back all above its allowance but ``busy``."""
    mine = holders[me]
    may = allowance(holders, me, limits, limit, turn)
    holders[me] = Holder(mine.pool, max(may, min(mine.have, busy)), mine.want)


@given(LANES, LIMITS, LIMIT, st.data())
def test_t1_never_more_than_a_pool_has(lanes, limits, limit, data):
    holders = [Holder(pool, 0, want) for pool, want in lanes]
    for turn in range(30):
        me = data.draw(st.integers(0, len(holders) - 1))
        busy = data.draw(st.integers(0, 12))
        want = max(min(busy, holders[me].have), data.draw(st.integers(0, 12)))
        holders[me] = Holder(holders[me].pool, holders[me].have, want)
        step(holders, me, limits, limit, turn, busy)
        assert limit is None or held(holders) <= limit
        assert all(held(holders, pool) <= most for pool, most in limits.items())


@given(LANES, LIMITS, LIMIT, st.integers(0, 9), st.data())
def test_t2_what_is_free_is_taken_if_anybody_wants_it(lanes, limits, limit, turn, data):
    holders = [Holder(pool, 0, want) for pool, want in lanes]
    for me in data.draw(st.permutations(range(len(holders)))):  # some have more than their share
        step(holders, me, limits, limit, data.draw(st.integers(0, 9)))
    for me, holder in enumerate(holders):
        holders[me] = Holder(holder.pool, holder.have, holder.have + data.draw(st.integers(0, 5)))
    could = [
        (limit is None or held(holders) < limit)
        and held(holders, h.pool) < limits.get(h.pool, 1 << 30)
        and h.want > h.have
        for h in holders
    ]
    may = [allowance(holders, me, limits, limit, turn) > h.have for me, h in enumerate(holders)]
    assert any(may) == any(could)


@given(WANTS, st.integers(0, 60), st.integers(0, 100))
def test_t3_shares_are_level(wants, limit, turn):
    shares = level(wants, limit, turn)
    assert sum(shares) == min(limit, sum(wants))
    assert all(s <= w for s, w in zip(shares, wants, strict=True))
    highest = max(shares)
    assert all(s == w or s >= highest - 1 for s, w in zip(shares, wants, strict=True))


@given(WANTS, st.integers(1, 60), st.integers(0, 100))
def test_t4_everybody_has_a_turn(wants, limit, start):
    had = [0] * len(wants)
    for turn in range(start, start + len(wants)):
        for who, share in enumerate(level(wants, limit, turn)):
            had[who] += share
    assert all(h > 0 for h, w in zip(had, wants, strict=True) if w)


@given(LANES, st.integers(1, 20), st.integers(0, 100))
def test_t4_everybody_has_a_turn_between_channels_too(lanes, limit, start):
    holders = [Holder(pool, 0, want) for pool, want in lanes]
    had = [0] * len(lanes)
    for turn in range(start, start + len(lanes) ** 2):
        for me in range(len(lanes)):
            had[me] += allowance(holders, me, {}, limit, turn)
    assert all(h > 0 for h, (_, want) in zip(had, lanes, strict=True) if want)


def test_a_lane_alone_has_all():
    assert allowance([Holder(1, 3, 50), Holder(2, 0, 0)], 0, {}, 10) == 10


def test_a_lane_above_its_share_gives_back():
    holders = [Holder(1, 10, 50), Holder(2, 0, 50)]
    assert allowance(holders, 0, {}, 10) == 5
    assert allowance(holders, 1, {}, 10) == 0


def test_no_runners_is_a_queue_that_is_held():
    assert allowance([Holder(1, 0, 9)], 0, {1: 0}, None) == 0
