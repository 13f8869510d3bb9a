from hypothesis import given
from hypothesis import strategies as st

from mta.policy.load import DELAY, EASE, QUEUE_ONLY, RUN, Gate, Thresholds

LOAD = st.floats(0, 30)
THRESHOLDS = st.builds(
    lambda delay, more: Thresholds(delay, delay + more if more else 0.0),
    st.just(0.0) | st.floats(0.1, 10),
    st.just(0.0) | st.floats(0.1, 10),
)


@given(THRESHOLDS, st.lists(LOAD, min_size=1))
def test_g1_at_a_threshold_the_gate_is_at_least_there(thresholds, loads):
    gate = Gate(thresholds)
    for load in loads:
        level = gate.note(load)
        for at, begins in ((DELAY, thresholds.delay), (QUEUE_ONLY, thresholds.queue_only)):
            assert level >= at or begins == 0 or load < begins


@given(THRESHOLDS, st.lists(LOAD, min_size=1))
def test_g2_a_level_is_left_only_well_below_its_threshold(thresholds, loads):
    gate, before = Gate(thresholds), RUN
    begins = {DELAY: thresholds.delay, QUEUE_ONLY: thresholds.queue_only}
    for load in loads:
        level = gate.note(load)
        if level < before:
            assert load < begins[before] * EASE
        if level > before:
            assert load >= begins[level]
        before = level


@given(THRESHOLDS, st.lists(LOAD), LOAD, LOAD)
def test_g3_a_smaller_load_is_never_stricter(thresholds, history, one, other):
    gates = Gate(thresholds), Gate(thresholds)
    for load in history:
        for gate in gates:
            gate.note(load)
    small, great = sorted((one, other))
    assert gates[0].note(small) <= gates[1].note(great)


def test_no_threshold_is_not_worth_watching():
    assert not Gate(Thresholds()).watching
    assert Gate(Thresholds(delay=1.0)).watching
