from hypothesis import given
from hypothesis import strategies as st

from mta.policy import rate as module
from mta.policy.rate import Pace

RATES = st.tuples(st.integers(1, 50), st.integers(1, 100).map(float))


def greedy(pace, rate, waits):
    """Begin whenever it is allowed; ``waits`` are pauses that somebody makes of his own."""
    now, begun = 1000.0, []
    for wait in waits:
        now = max(now + wait, pace.at("a", rate, now + wait))
        pace.begun("a", rate, now)
        begun.append(now)
    return begun


@given(RATES, st.lists(st.floats(0, 20), max_size=200))
def test_ra1_no_window_sees_more_than_the_rate(rate, waits):
    begun = greedy(Pace(), rate, waits)
    number, period = rate
    for first, later in zip(begun, begun[number:], strict=False):
        assert later - first >= period * (1 - 1e-9)


@given(RATES)
def test_ra2_the_rate_is_had(rate):
    number, period = rate
    begun = greedy(Pace(), rate, [0.0] * (10 * number + 1))
    assert begun[-1] - begun[0] <= 10 * period / 0.9 + 1e-6


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 2)), max_size=100))
def test_ra3_the_times_held_are_bounded(steps):
    kept, module.KEPT = module.KEPT, 8
    try:
        pace, now = Pace(), 0.0
        for host, wait in steps:
            now += wait
            pace.begun(f"h{host}", (1, 3.0), now)
            assert len(pace._due) <= 8
    finally:
        module.KEPT = kept


def test_a_host_that_is_not_known_may_begin():
    assert Pace().at("new", (5, 60.0), 9.0) == 0.0


@given(RATES, st.lists(st.floats(0, 20), min_size=1, max_size=100), st.floats(1, 1e6))
def test_ra4_a_clock_that_is_put_back_keeps_nobody(rate, waits, back):
    pace = Pace()
    now = greedy(pace, rate, waits)[-1] - back
    number, period = rate
    step = period / (number - max(1, number // 10) + 1)
    assert pace.at("a", rate, now) <= now + step + 1e-6
    assert pace.at("a", rate, now + step) <= now + step + 1e-6
