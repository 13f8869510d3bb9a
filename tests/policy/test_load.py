from hypothesis import given
from hypothesis import strategies as st

from mta.policy.load import (
    DELAY,
    EASE,
    LEVELS,
    LOAD,
    PRESSURE,
    QUEUE_ONLY,
    REFUSE,
    RUN,
    Gate,
    Gates,
    Standing,
    Thresholds,
    read_standing,
)

VALUE = st.floats(0, 30)
BEGINS = st.just(0.0) | st.floats(0.1, 10)
THRESHOLDS = st.builds(
    lambda delay, more, most: Thresholds(
        delay, delay + more if more else 0.0, delay + more + most if most else 0.0
    ),
    BEGINS,
    BEGINS,
    BEGINS,
)


def levels(thresholds):
    return {
        DELAY: thresholds.delay,
        QUEUE_ONLY: thresholds.queue_only,
        REFUSE: thresholds.refuse,
    }


@given(THRESHOLDS, st.lists(VALUE, min_size=1))
def test_g1_at_a_threshold_the_gate_is_at_least_there(thresholds, loads):
    gate = Gate(thresholds)
    for load in loads:
        level = gate.note(load)
        for at, begins in levels(thresholds).items():
            assert level >= at or begins == 0 or load < begins


@given(THRESHOLDS, st.lists(VALUE, min_size=1))
def test_g2_a_level_is_left_only_well_below_its_threshold(thresholds, loads):
    gate, before = Gate(thresholds), RUN
    begins = levels(thresholds)
    for load in loads:
        level = gate.note(load)
        if level < before:
            assert load < begins[before] * EASE
        if level > before:
            assert load >= begins[level]
        before = level


@given(THRESHOLDS, st.lists(VALUE), VALUE, VALUE)
def test_g3_a_smaller_load_is_never_stricter(thresholds, history, one, other):
    gates = Gate(thresholds), Gate(thresholds)
    for load in history:
        for gate in gates:
            gate.note(load)
    small, great = sorted((one, other))
    assert gates[0].note(small) <= gates[1].note(great)


@given(THRESHOLDS, THRESHOLDS, st.lists(st.tuples(VALUE, VALUE), min_size=1))
def test_g4_the_strictest_gauge_acts(load, pressure, measured):
    gates, alone = Gates({LOAD: load, PRESSURE: pressure}), (Gate(load), Gate(pressure))
    for a, b in measured:
        gates.note({LOAD: a, PRESSURE: b})
        own = {LOAD: alone[0].note(a), PRESSURE: alone[1].note(b)}
        standing = gates.standing
        assert standing.level == max(own.values())
        if standing.level:
            assert own[standing.gauge] == standing.level
            assert standing.value == {LOAD: a, PRESSURE: b}[standing.gauge]
            assert standing.threshold > 0


@given(THRESHOLDS, THRESHOLDS, st.lists(st.tuples(VALUE, VALUE)))
def test_g5_what_begins_ends_before_it_begins_again(load, pressure, measured):
    gates, begun = Gates({LOAD: load, PRESSURE: pressure}), set()
    for a, b in measured:
        for change in gates.note({LOAD: a, PRESSURE: b}):
            key = (change.gauge, change.level)
            assert (key in begun) is not change.begins
            begun ^= {key}
            assert change.threshold > 0
        assert bool(begun) is (gates.standing.level != RUN)


@given(
    st.sampled_from((DELAY, QUEUE_ONLY, REFUSE)),
    st.sampled_from((LOAD, PRESSURE)),
    st.integers(0, 999).map(lambda n: n / 10),
    st.integers(1, 999).map(lambda n: n / 10),
    st.sampled_from(("smtpd[0]: %s: 3 clients", "deliver[a,b]: %s: a.test 1 of 5")),
)
def test_a_standing_can_be_read_from_a_title(level, gauge, value, threshold, title):
    standing = Standing(level, gauge, value, threshold)
    assert read_standing(title % standing) == standing


def test_a_title_without_a_standing_says_none():
    for title in ("smtpd[0]: 3 clients", "deliver[load]: load 1 of 3", "x: load 1 over run 3"):
        assert read_standing(title) is None
    assert str(Standing()) == ""
    assert str(Standing(QUEUE_ONLY, LOAD, 9.12, 8.0)) == "load 9.1 over queue_only 8"
    assert LEVELS[REFUSE] == "refuse"


def test_no_threshold_is_not_worth_watching():
    assert not Gate(Thresholds()).watching
    assert Gate(Thresholds(delay=1.0)).watching
    assert Gates({LOAD: Thresholds(), PRESSURE: Thresholds(refuse=1.0)}).watched == (PRESSURE,)
