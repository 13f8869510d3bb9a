from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from mta.policy import order as module
from mta.policy.order import HORIZON, SPACING, URGENT_LEAD, Order, priority
from mta.types import BULK, NORMAL, URGENT

DAY = 86400.0
TIMES = st.lists(st.floats(0, 2 * DAY), max_size=40).map(sorted)
KINDS = st.sampled_from([URGENT, NORMAL, BULK])


class Line:
    """Jobs that join and go: what an index does with an Order."""

    def __init__(self, order):
        self.order, self.heap, self.count = order, [], 0

    def join(self, author, arrived, kind=NORMAL):
        place = self.order.enter(kind[0] + author, self.order.place(arrived, kind, 1000, 1, 0))
        self.count += 1
        heappush(self.heap, (place, self.count, author, arrived, kind))

    def go(self):
        _, _, author, arrived, kind = heappop(self.heap)
        self.order.leave(kind[0] + author)
        return author, arrived, kind


@given(TIMES, st.lists(st.booleans(), max_size=80), st.booleans())
def test_o1_an_author_alone_keeps_the_order_of_arrival(times, goes, fair):
    line, gone = Line(Order(fair=fair)), []
    rest = list(times)
    for go in goes:
        if go and line.heap:
            gone.append(line.go()[1])
        elif rest:
            line.join("a", rest.pop(0))
    while line.heap:
        gone.append(line.go()[1])
    assert gone == times[: len(gone)]


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 0.5))
def test_o2_two_floods_share_the_turns(first, second, step):
    line = Line(Order())
    for number in range(first):
        line.join("a", number * step / first)
    for number in range(second):
        line.join("b", step + number * step / second)
    gone = [line.go()[0] for _ in range(first + second)]
    for number in range(1, 2 * min(first, second)):
        assert abs(gone[:number].count("a") - number / 2) <= 1.5


@given(st.integers(2, 3000), st.floats(0, 100), st.floats(1, 50))
def test_o2_a_single_message_does_not_wait_for_a_flood(flood, later, rate):
    """At a rate of one job a second or more, it goes before what is left of the flood."""
    line = Line(Order())
    for number in range(flood):
        line.join("bulk", number / 1e6)
    for _ in range(min(flood - 1, int(later * rate) + 2)):
        line.go()
    line.join("single", later)
    assert line.go()[0] == "single" or flood / rate <= later + 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2 * DAY), KINDS), max_size=60))
def test_o3_nobody_waits_for_what_came_the_horizon_later(jobs):
    line = Line(Order(bulk_delay=4 * 3600.0))
    for job in jobs:
        line.join(*job)
    gone = [line.go() for _ in jobs]
    for at, (_, arrived, kind) in enumerate(gone):
        before = [a for _, a, k in gone[:at] if k == kind]
        assert all(a <= arrived + HORIZON for a in before)


@given(st.floats(0, DAY), st.floats(0, DAY), st.floats(0, DAY))
def test_o4_bulk_goes_first_when_it_is_older_by_the_delay(bulk, normal, delay):
    line = Line(Order(bulk_delay=delay))
    line.join("a", bulk, BULK)
    line.join("b", normal)
    line.join("c", normal + 2 * DAY, URGENT)
    first = line.go()[0]
    if bulk + delay != normal:
        assert first == ("a" if bulk + delay < normal else "b")


def test_urgent_mail_stands_an_hour_ahead():
    order = Order()
    assert order.place(DAY, URGENT, 0, 1, 0) == DAY - URGENT_LEAD


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=100))
def test_o5_the_table_of_authors_is_bounded(steps):
    kept, module.AUTHORS = module.AUTHORS, 5
    try:
        order, waiting = Order(), []
        for join, number in steps:
            if join:
                order.enter(f"n{number}", 0.0)
                waiting.append(f"n{number}")
            elif waiting:
                order.leave(waiting.pop())
            assert set(order._authors) <= set(waiting)
            assert len(order._authors) <= 5
    finally:
        module.AUTHORS = kept


def test_priority_is_sendmails():
    assert priority(1000, 0, 1, 0) == 31_000
    assert priority(0, 100, 2, 3) == -180_000 + 60_000 + 270_000


@given(st.integers(0, 1 << 20), st.integers(1, 9), st.integers(0, 9), st.floats(0, DAY))
def test_by_priority_what_is_older_by_its_points_goes_first(octets, recipients, attempts, arrived):
    order = Order("priority")
    big = order.place(arrived, NORMAL, octets, recipients, attempts)
    points = priority(octets, 0, recipients, attempts) - priority(0, 0, 1, 0)
    small = order.place(arrived + points / 1000 + 1, NORMAL, 0, 1, 0)
    assert big < small


def test_by_lot_and_as_found():
    lots = iter([3.0, 1.0])
    order = Order("random", draw=lambda: next(lots))
    assert [order.place(9.0, NORMAL, 0, 1, 0) for _ in range(2)] == [3.0, 1.0]
    assert Order("none").place(9.0, BULK, 0, 1, 0) == 0.0


def test_a_job_that_rejoins_counts_again():
    order = Order()
    order.enter("na", 5.0)
    order.leave("na")
    order.rejoin("na", 5.0)
    assert order.enter("na", 5.0) == 5.0 + SPACING
    order.rejoin("na", 5.0)
    for _ in range(3):
        order.leave("na")
    assert order.enter("na", 5.0) == 5.0
