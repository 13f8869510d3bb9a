from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.index import LEAST, Index
from mta.spool.layout import JobName

HOSTS = ["a", "b", "c"]


def name(number, host):
    return JobName("smtp", "2023111422", f"{number:016}", 0, host)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["offer", "take", "shelve", "unshelve", "hurry", "later", "forget", "clock"]
        ),
        st.integers(0, 60),
        st.sampled_from(HOSTS),
    ),
    max_size=120,
)


@given(STEPS)
def test_x1_x4_a_name_is_in_one_place_and_dead_hosts_are_left(steps):
    index, now = Index(lambda host: host == "c"), 0.0
    place, dead = {}, {}  # the model: name -> "go", "taken" or a time; host -> until
    for step, number, host in steps:
        it = name(number, HOSTS[number % 3])
        taken = [n for n, p in place.items() if p == "taken"]
        if step == "offer":
            assert index.offer(it) == (it not in place)
            place.setdefault(it, "go")
        elif step == "take":
            got = index.take_host(unproven=True)
            if got is not None:
                assert got not in dead
                head = index.head(got)
                assert index.pop(got) == head
                assert place[head] == "go"
                place[head] = "taken"
                index.ready(got)
            else:
                assert not [n for n, p in place.items() if p == "go" and n.host not in dead]
        elif step == "shelve":
            dead[host] = now + 10 + number
            mine = {n for n, p in place.items() if p == "go" and n.host == host}
            assert set(index.shelve(host, dead[host])) == mine
        elif step == "unshelve":
            dead.pop(host, None)
            index.unshelve(host)
        elif step == "hurry":
            dead.pop(host, None)
            index.hurry(host)
            place = {
                n: "go" if n.host == host and not isinstance(p, str) else p
                for n, p in place.items()
            }
        elif step == "later" and taken:
            place[taken[0]] = now + 1 + number
            index.later(taken[0], now + 1 + number)
        elif step == "forget" and taken:
            del place[taken[0]]
            index.forget(taken[0])
        elif step == "clock":
            now += number
            assert not index.revisit(now)
            dead = {h: until for h, until in dead.items() if until > now}
            place = {
                n: "go" if not isinstance(p, str) and p <= now else p for n, p in place.items()
            }
        assert len(index) == len(place)
        assert all(index.is_shelved(h) == (h in dead) for h in HOSTS)
        assert index.waiting == len(
            [n for n, p in place.items() if p == "go" and n.host not in dead]
        )


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(HOSTS)), unique_by=lambda x: x[0]))
def test_x2_the_oldest_goes_first(pairs):
    index = Index(lambda host: False)
    for number, host in sorted(pairs):
        index.offer(name(number, host))
    taken = []
    while (host := index.take_host(unproven=False)) is not None:
        taken.append(index.pop(host))
        index.ready(host)
    assert [n.id for n in taken] == sorted(n.id for n in taken)
    assert len(taken) == len(pairs)


@given(st.lists(st.sampled_from(HOSTS), max_size=400), st.integers(1, 100))
def test_x3_the_bounds_hold_and_what_is_refused_is_told(hosts, limit):
    index = Index(lambda host: False, limit)
    index.shelve("c", 100.0)
    taken_in = sum(index.offer(name(i, host)) for i, host in enumerate(hosts))
    assert taken_in == len(index)
    assert index.waiting <= limit
    assert len(index) - index.waiting <= limit
    live = [h for h in hosts if h != "c"]
    assert index.overflow == (index.waiting < len(live))


def test_x3_a_flood_for_one_host_leaves_room_for_others():
    index = Index(lambda host: False, 1000)
    for i in range(2000):
        index.offer(name(i, "a"))
    assert LEAST < index.waiting <= 501
    assert index.offer(name(5000, "b"))


def test_x3_what_waits_for_a_time_is_bounded_too():
    index = Index(lambda host: False, 10)
    for i in range(30):
        index.offer(name(i, f"h{i}"))
        if (host := index.take_host(unproven=False)) is not None:
            index.later(index.pop(host), 50.0)
    assert len(index) == 10
    assert index.offer(name(25, "h25"))


def test_hosts_that_have_to_prove_themselves_can_be_passed_over():
    index = Index(lambda host: host == "new")
    index.offer(name(1, "new"))
    index.offer(name(2, "known"))
    assert index.take_host(unproven=False) == "known"
    assert index.take_host(unproven=False) is None
    assert index.take_host(unproven=True) == "new"
