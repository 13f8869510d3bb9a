from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.timetable import Timetable
from tests.deliver.fakes import channel


class Lane:
    def __init__(self, name, interval):
        self.channel = channel(name=name, queue=name, interval=interval)
        self.index = SimpleNamespace(hungry=False, missed_at=7.0)
        self.swept, self.since = 0, None

    def sweep(self, since=None):
        self.swept += 1
        self.since = since
        self.index.hungry = False


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 40))
def test_tt1_each_lane_has_its_own_interval(intervals, ticks):
    lanes = [Lane(f"c{n}", float(interval)) for n, interval in enumerate(intervals)]
    table = Timetable(lanes, 10.0)
    for tick in range(ticks):
        table.tick(1000.0 + tick)
    for lane, interval in zip(lanes, intervals, strict=True):
        assert lane.swept == -(-ticks // (interval or 10))


def test_tt2_a_hungry_lane_sweeps_at_once_and_no_other():
    lanes = [Lane("a", 60.0), Lane("b", 60.0)]
    table = Timetable(lanes, 10.0)
    table.tick(1000.0)
    lanes[0].index.hungry = True
    table.tick(1001.0)
    assert [lane.since for lane in lanes] == [7.0, None]
    assert [table.left(queue, 1002.0) for queue in "ab"] == [58.0, 58.0]
    table.tick(1002.0)
    assert [lane.swept for lane in lanes] == [2, 1]
    table.hurry("b")
    table.tick(1003.0)
    assert [lane.swept for lane in lanes] == [2, 2]
    table.hurry()
    table.tick(1004.0)
    assert [lane.swept for lane in lanes] == [3, 3]
