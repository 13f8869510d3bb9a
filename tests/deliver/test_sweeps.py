from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.deliver import sweeps as module
from mta.deliver.rules import Rules
from mta.deliver.sweeps import Sweeps
from mta.policy.select import Ages
from tests.deliver.fakes import EPOCH, Log, Spool, channel


def sweeps(spool, jobs=0, ages=None):
    return Sweeps(spool, channel(jobs=jobs), Rules(ages or Ages()), Log().warning)


def one(sweep, known=()):
    """Run one sweep; return what it gave, and what was taken."""
    given_, taken = [], []

    def offer(name):
        given_.append(name)
        taken.extend([] if name in known else [name])
        return name not in known

    assert sweep.begin(EPOCH + 10_000)
    assert not sweep.begin(EPOCH + 10_000)
    while sweep.running:
        sweep.feed(offer)
    return given_, taken


@settings(deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=40), st.integers(1, 9000))
def test_sw1_a_sweep_gives_each_name_of_its_ages_once(arrivals, younger):
    spool = Spool()
    names = [spool.add("a", EPOCH + second) for second in sorted(arrivals)]
    bound = EPOCH + 10_000 - younger
    right = [n for n, at in zip(names, sorted(arrivals), strict=True) if EPOCH + at > bound + 1]
    given_, _ = one(sweeps(spool, ages=Ages(younger=younger)))
    assert len(given_) == len(set(given_))
    assert set(right) <= set(given_) <= set(names)
    assert set(one(sweeps(spool))[0]) == set(names)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 12))
def test_sw2_every_name_has_its_turn(count, jobs, more):
    spool = Spool()
    names = [spool.add("a", EPOCH + number * 300) for number in range(count)]
    sweep, seen = sweeps(spool, jobs), set()
    for _ in range(-(-count // jobs) + 1):
        given_, taken = one(sweep)
        assert len(taken) <= jobs
        assert len(given_) == len(set(given_))
        seen |= set(taken)
    assert seen == set(names)
    late = [spool.add("b", EPOCH + 14_000 + number) for number in range(more)]
    for _ in range(-(-(count + more) // jobs) + 1):
        seen |= set(one(sweep)[1])
    assert set(late) <= seen


def test_sw2_what_is_known_already_does_not_count():
    spool = Spool()
    names = [spool.add("a", EPOCH + number) for number in range(10)]
    assert one(sweeps(spool, 3), known=names[:5])[1] == names[5:8]


def test_a_sweep_that_is_stopped_is_not_running():
    sweep = sweeps(Spool())
    sweep.begin(EPOCH)
    sweep.stop()
    assert not sweep.running


@settings(deadline=None)
@given(st.integers(0, 120), st.integers(1, 40))
def test_sw3_a_turn_hands_back_after_so_many_names(count, read):
    spool, given_, longest = Spool(), [], 7  # of the lists of this spool
    names = {spool.add("a", EPOCH + number) for number in range(count)}
    sweep = sweeps(spool)
    sweep.begin(EPOCH + 10_000)
    with patch.object(module, "READ", read):
        while sweep.running:
            before = len(given_)
            sweep.feed(lambda name: given_.append(name) or True)
            assert len(given_) - before < read + longest
    assert set(given_) == names
