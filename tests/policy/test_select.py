from hypothesis import given
from hypothesis import strategies as st

from mta.policy.select import ALL_AGES, Ages

TIMES = st.floats(0, 1e9)
LIMIT = st.none() | st.floats(0, 1e6)


@given(LIMIT, LIMIT, TIMES, st.floats(0, 2e6))
def test_l1_both_flags_hold(younger, older, now, age):
    arrived = now - age
    expected = (younger is None or arrived > now - younger) and (
        older is None or arrived < now - older
    )
    assert Ages(younger, older).at(now).holds(arrived) == expected


def test_no_flag_chooses_all_and_costs_nothing():
    assert Ages().at(5.0) is ALL_AGES
    assert ALL_AGES.holds(-1.0) and ALL_AGES.holds(1e12)


@given(st.floats(0, 1e6), TIMES, st.floats(0, 2e6), st.floats(0, 1e6))
def test_l2_old_stays_old_and_too_old_is_never_young_again(limit, arrived, age, later):
    now = arrived + age
    if Ages(older=limit).at(now).holds(arrived):
        assert Ages(older=limit).at(now + later).holds(arrived)
    if not Ages(younger=limit).at(now).holds(arrived):
        assert not Ages(younger=limit).at(now + later).holds(arrived)
