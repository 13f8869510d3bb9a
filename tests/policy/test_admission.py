"""AD1 to AD4: who is slowed, by how much, and when nobody is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.policy.admission import (
    CALM,
    FOREVER,
    MOST,
    SHORT,
    WARM,
    Drain,
    Flow,
    admit,
    predicted_age,
    weight,
)

AGE = st.floats(0, 1e6)
TARGET = st.floats(1, 1e5)
PART = st.floats(0, 1)
RATE = st.floats(0, 1e4)
JOBS = st.integers(0, 10**6)
DRAIN = st.just(-1.0) | st.floats(0, 1e4)
FLOWS = st.lists(st.builds(Flow, JOBS, RATE, DRAIN, st.just(0.0) | AGE), max_size=3)


@given(AGE, AGE, TARGET, PART, PART)
def test_ad1_more_strain_is_never_milder(one, other, target, a, b):
    young, old = sorted((one, other))
    light, heavy = sorted((a, b))
    mild, harsh = admit(young, target, light), admit(old, target, heavy)
    assert mild.pause <= harsh.pause
    assert harsh.refused or not mild.refused


@given(FLOWS, st.integers(0, 10**6), st.integers(0, 2))
def test_ad1_more_jobs_are_never_a_younger_queue(flows, more, which):
    longer = [
        Flow(f.backlog + more, f.rate, f.drain, f.oldest) if n == which else f
        for n, f in enumerate(flows)
    ]
    assert predicted_age(flows) <= predicted_age(longer) <= FOREVER


@given(JOBS, st.floats(0, 1e4), st.floats(0, 1e4), RATE, RATE)
def test_ad1_a_slower_drain_and_a_greater_share_weigh_more(jobs, one, other, few, many):
    slow, fast = sorted((one, other))
    assert predicted_age([Flow(jobs, 0.0, fast)]) <= predicted_age([Flow(jobs, 0.0, slow)])
    few, many = sorted((few, many))
    assert 0.0 <= weight(few, fast) <= weight(many, fast) <= weight(many, slow) <= 1.0


def test_what_delivers_drain_adds_up_and_what_waits_is_the_same_for_all():
    both = [Flow(100, 0.0, 5.0), Flow(80, 0.0, 15.0)]
    assert predicted_age(both) == 5.0
    assert predicted_age([*both, Flow(120, 9.0, -1.0)]) == 6.0
    assert predicted_age([*both, Flow(1, 0.0, 0.0, oldest=50.0)]) == 50.0


@given(AGE, PART)
def test_ad2_no_target_slows_nobody(age, part):
    assert admit(age, 0.0, part) == admit(0.0, 1.0, part)
    assert not admit(age, 0.0, part).refused
    assert admit(age, 0.0, part).pause == 0.0


@given(st.lists(st.builds(Flow, st.integers(0, SHORT), RATE, DRAIN, AGE), max_size=3), TARGET, PART)
def test_ad2_a_short_queue_slows_nobody(flows, target, part):
    assert admit(predicted_age(flows), target, part) == admit(0.0, target, part)
    assert admit(0.0, target, part).pause == 0.0


@given(st.lists(st.builds(Flow, JOBS, RATE, st.just(-1.0), AGE), max_size=3))
def test_ad2_what_nobody_knows_slows_nobody(flows):
    assert predicted_age(flows) == 0.0


@given(AGE, TARGET, PART)
def test_ad3_pauses_are_bounded_and_nobody_is_refused_below_the_target(age, target, part):
    pace = admit(age, target, part)
    assert 0.0 <= pace.pause <= MOST
    if age < target * (2 - part) * 0.499:
        assert pace.pause == 0.0
    if age <= target:
        assert not pace.refused
    if age > 2.0001 * target:
        assert pace.refused
        assert pace.pause == MOST


def test_ad3_between_half_and_whole_the_pause_grows_evenly():
    assert [admit(age, 100.0, 1.0).pause for age in (50, 62.5, 75, 100)] == [
        *(0.0, 0.25 * MOST, 0.5 * MOST, MOST),
    ]
    assert admit(150.0, 100.0, 0.0).pause == 0.5 * MOST


@given(st.lists(st.integers(0, 50), min_size=20, max_size=60))
def test_ad4_a_drain_lies_between_what_was_measured(counts):
    drain, settled = Drain(), 0
    drain.note(0, SHORT + 1, 0.0)
    for second, count in enumerate(counts, 1):
        settled += count
        drain.note(settled, SHORT + 1, float(second))
        if second < WARM:
            assert drain.drain == -1.0
        else:
            assert min(counts[:second]) - 1e-9 <= drain.drain <= max(counts[:second]) + 1e-9
    assert 0.0 <= drain.rate <= max(counts)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_ad4_idle_times_tell_nothing(counts):
    drain, settled = Drain(), 0
    for second, count in enumerate(counts):
        settled += count
        drain.note(settled, SHORT, float(second))
        assert drain.drain == -1.0


def test_ad4_a_queue_that_is_short_again_is_soon_forgotten():
    drain, settled, now = Drain(), 0, 0.0
    for _ in range(int(WARM) + 2):
        settled, now = settled + 7, now + 1.0
        drain.note(settled, 100, now)
    assert drain.drain == 7.0
    for second in range(int(CALM) + 1):
        assert second > CALM - 1 or drain.drain == 7.0
        now += 1.0
        drain.note(settled, 0, now)
    assert drain.drain == -1.0


def test_a_stuck_queue_grows_old_without_bound():
    drain, now = Drain(), 0.0
    drain.note(0, 100, now)
    for _ in range(6):
        now += 1.0
        drain.note(10 * int(now), 100, now)
    before = 0.0
    for _ in range(200):
        now += 1.0
        drain.note(60, 100, now)
        age = predicted_age([Flow(100, 0.0, drain.drain)])
        assert age > before
        before = age
    assert before > 3600
