"""CN1 to CN3: counts that all workers share."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtpd.counters import AUTH_FAILURES, CONNECTIONS, FLOW, MESSAGES, Counters

A, B = "192.0.2.1", "192.0.2.2"


def workers(count: int) -> list[Counters]:
    fd = Counters.create(count)
    return [Counters(fd, count, slot) for slot in range(count)]


def test_cn1_connections_of_all_workers_add_up() -> None:
    one, two = workers(2)
    key = one.key(A)
    assert key == two.key(A)
    one.enter(key)
    two.enter(key)
    two.enter(two.key(B))
    assert one.total() == two.total() == 3
    assert one.connections(key) == two.connections(key) == 2
    two.leave(key)
    one.leave(key)
    assert one.connections(key) == 0
    assert one.total() == 1


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_cn1_whoever_enters_and_leaves_is_counted_right(steps: list[tuple[int, int]]) -> None:
    both = workers(2)
    inside: dict[tuple[int, int], int] = {}
    for worker, client in steps:
        key = both[worker].key(f"10.0.0.{client}")
        place = (worker, client)
        if inside.get(place, 0) > 1:
            both[worker].leave(key)
            inside[place] -= 1
        else:
            both[worker].enter(key)
            inside[place] = inside.get(place, 0) + 1
    assert both[0].total() == sum(inside.values())
    for client in range(6):
        true = sum(n for (_, c), n in inside.items() if c == client)
        assert both[1].connections(both[1].key(f"10.0.0.{client}")) >= true


def test_cn1_an_ipv6_customer_is_one_client_and_a_unix_socket_none() -> None:
    (one,) = workers(1)
    assert one.key("2001:db8::1") == one.key("2001:db8::ffff:1")
    assert one.key("2001:db8::1") != one.key("2001:db8:0:1::1")
    nobody = one.key("")
    one.enter(nobody)
    assert one.total() == 1
    assert one.connections(nobody) == 0
    one.add(nobody, MESSAGES, 100.0)
    assert one.rate(nobody, MESSAGES, 100.0) == 0
    one.leave(nobody)
    assert one.total() == 0


def test_cn2_a_rate_is_of_the_last_minute() -> None:
    one, two = workers(2)
    key = one.key(A)
    for _ in range(3):
        one.add(key, MESSAGES, 600.0)
    two.add(key, MESSAGES, 630.0)
    assert one.rate(key, MESSAGES, 640.0) == 4
    assert two.rate(key, MESSAGES, 660.0) == 4
    assert one.rate(key, MESSAGES, 690.0) == 2  # half of the minute before is still in the window
    assert one.rate(key, MESSAGES, 720.0) == 0
    assert one.rate(key, AUTH_FAILURES, 640.0) == 0
    assert one.rate(one.key(B), MESSAGES, 640.0) == 0


@given(st.lists(st.floats(0.0, 600.0), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_cn2_never_more_than_was_added_nor_what_is_two_minutes_old(times: list[float]) -> None:
    (one,) = workers(1)
    key = one.key(A)
    for at in sorted(times):
        one.add(key, CONNECTIONS, at)
    now = max(times)
    assert one.rate(key, CONNECTIONS, now) <= len([t for t in times if now - t < 120.0])
    assert one.rate(key, CONNECTIONS, now + 120.0) == 0


def test_cn3_a_dead_workers_counts_are_cleared() -> None:
    one, two = workers(2)
    key = one.key(A)
    one.enter(key)
    two.enter(key)
    two.add(key, MESSAGES, 100.0)
    one.clear(1)
    assert one.total() == 1
    assert one.connections(key) == 1
    assert one.rate(key, MESSAGES, 100.0) == 0
    assert one.secret == two.secret != bytes(32)


def test_cn1_what_all_workers_accept_in_a_second_adds_up() -> None:
    memory = Counters.create(2)
    one, other = Counters(memory, 2, 0), Counters(memory, 2, 1)
    assert [one.accept(3, 10.25), other.accept(3, 10.5), one.accept(3, 10.5)] == [0.0] * 3
    assert one.accept(3, 10.75) == other.accept(3, 10.75) == 0.25
    assert [other.accept(3, 11.0) for _ in range(3)] == [0.0] * 3
    assert one.accept(3, 11.5) == 0.5
    one.clear(1)
    assert one.accept(3, 11.5) == 0.0


def test_flows_are_told_apart_by_client_and_by_queue() -> None:
    counters = Counters(Counters.create(1), 1, 0)
    keys = [
        counters.flow_key(queue, address)
        for queue in ("a", "b")
        for address in ("192.0.2.1", "192.0.2.2", "")
    ]
    counters.add(keys[0], FLOW, 100.0)
    counters.add(keys[5], FLOW, 100.0)
    assert [counters.rate(key, FLOW, 100.0) for key in keys] == [1, 0, 0, 0, 0, 1]
    assert counters.rate(counters.key("192.0.2.1"), FLOW, 100.0) == 0
