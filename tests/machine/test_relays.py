"""Relays are chosen by weight among the healthy, and the failing are probed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mta.machine.relays import BACK_OFF, BACK_OFF_MAX, Relays

weights = st.lists(st.integers(1, 20), min_size=1, max_size=6)


@given(weights, st.integers(1, 4))
def test_l1_choices_are_as_the_weights(given_weights: list[int], turns: int) -> None:
    relays = Relays(given_weights)
    chosen = Counter(relays.choose(0.0) for _ in range(turns * sum(given_weights)))
    assert chosen == {index: turns * weight for index, weight in enumerate(given_weights)}


class Model:
    """The rules, written again as plainly as they go."""

    def __init__(self, count: int) -> None:
        self.failures = [0] * count
        self.until = [0.0] * count
        self.probing = [False] * count

    def open_to(self, index: int, now: float) -> bool:
        if not self.failures[index]:
            return True
        return now >= self.until[index] and not self.probing[index]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("choose"), st.integers(0, 63)),
        st.tuples(st.just("failed"), st.integers(0, 5)),
        st.tuples(st.just("worked"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 400)),
    ),
    max_size=60,
)


@given(weights, steps)
def test_l2_l3_l4_who_may_be_chosen(given_weights: list[int], plan: list[tuple[str, int]]) -> None:
    count = len(given_weights)
    relays, model, now = Relays(given_weights), Model(count), 0.0
    for what, number in plan:
        index = number % count
        if what == "wait":
            now += number
        elif what == "worked":
            relays.worked(index)
            model.failures[index], model.probing[index] = 0, False
        elif what == "failed":
            relays.failed(index, now)
            back_off = min(BACK_OFF * 2.0 ** model.failures[index], BACK_OFF_MAX)
            model.until[index] = now + back_off
            model.failures[index] += 1
            model.probing[index] = False
        else:
            tried = number % (1 << count)
            untried = [i for i in range(count) if not tried >> i & 1]
            able = [i for i in untried if model.open_to(i, now)]
            chosen = relays.choose(now, tried)
            if not untried:
                assert chosen is None
            elif able:
                assert chosen in able
                assert chosen is not None
                model.probing[chosen] = model.failures[chosen] > 0
            else:  # somebody must be asked
                assert chosen in untried
                assert model.until[chosen or 0] == min(model.until[i] for i in untried)


def test_a_relay_that_comes_back_is_chosen_as_before() -> None:
    relays = Relays([1, 1])
    relays.failed(0, 0.0)
    assert [relays.choose(1.0) for _ in range(4)] == [1] * 4
    probes = [relays.choose(BACK_OFF) for _ in range(4)]
    assert Counter(probes)[0] == 1  # one message, until it has told
    relays.worked(0)
    assert Counter(relays.choose(BACK_OFF) for _ in range(10)) == {0: 5, 1: 5}
