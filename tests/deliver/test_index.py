from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.index import COLD, Index
from mta.deliver.pile import LEAST
from mta.policy.order import HORIZON, Order
from mta.spool.layout import JobName, new_id

HOSTS = ["a", "b", "c"]


def name(number, host, tag=""):
    return JobName("smtp", "2023111422", f"{number:016}", 0, host, tag)


def drain(index, *, ready=True):
    taken = []
    while (host := index.take_host(unproven=True)) is not None:
        taken.append(index.pop(host))
        if ready:
            index.ready(host)
    return taken


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["offer", "take", "shelve", "unshelve", "hurry", "later", "forget", "clock", "rest"]
        ),
        st.integers(0, 60),
        st.sampled_from(HOSTS),
    ),
    max_size=120,
)


@given(STEPS)
def test_x1_x4_x5_a_name_is_in_one_place_and_dead_or_resting_hosts_are_left(steps):
    index, now = Index(lambda host: host == "c"), 0.0
    place, dead = {}, {}  # the model: name -> "go", "taken" or a time; host -> until
    rests = {}
    for step, number, host in steps:
        it = name(number, HOSTS[number % 3])
        taken = [n for n, p in place.items() if p == "taken"]
        if step == "offer":
            assert index.offer(it) == (it not in place)
            place.setdefault(it, "go")
        elif step == "take":
            got = index.take_host(unproven=True)
            if got is not None:
                assert got not in dead and got not in rests
                head = index.head(got)
                assert index.pop(got) == head
                assert place[head] == "go"
                place[head] = "taken"
                index.ready(got)
            else:
                may = [n for n, p in place.items() if p == "go" and n.host not in dead]
                assert not [n for n in may if n.host not in rests]
        elif step == "rest":
            got = index.take_host(unproven=True)
            if got is not None:
                rests[got] = now + 1 + number
                index.rest(got, rests[got])
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
            rests = {h: until for h, until in rests.items() if until > now}
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


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(HOSTS)), unique_by=lambda x: x[0]),
    st.sampled_from(["priority", "random", "none", "arrival"]),
    st.randoms(),
)
def test_x2_places_are_kept_in_every_order(pairs, kind, lots):
    index = Index(lambda host: host == "b", order=Order(kind, draw=lots.random))
    for number, host in pairs:
        index.offer(name(number, host))
    taken = []
    while (host := index.take_host(unproven=True)) is not None:
        taken.append(index._to_go.lines[host][0][:2])
        index.pop(host)
        index.ready(host)
    assert len(taken) == len(pairs)
    assert taken == sorted(taken)


@given(st.lists(st.sampled_from(HOSTS), max_size=400), st.integers(1, 100))
def test_x3_the_bounds_hold_and_what_is_refused_is_told(hosts, limit):
    index = Index(lambda host: False, limit)
    index.shelve("c", 100.0)
    for i, host in enumerate(hosts):
        index.offer(name(i, host))
    assert index.waiting <= limit
    assert len(index) - index.waiting <= limit
    assert index.overflow == (index.waiting < len([h for h in hosts if h != "c"]))
    index.shelve("a", 100.0)
    assert len(index) - index.waiting <= limit
    index.unshelve("c")
    assert index.waiting <= limit
    assert len(drain(index)) + len(index) == len(index) * 2 - len(index._shelved.lines.get("a", ()))


@given(st.lists(st.sampled_from("nub"), max_size=60), st.data())
def test_x3_the_authors_that_wait_are_those_of_the_names_that_may_go(kinds, data):
    order = Order()
    index = Index(lambda host: False, 20, order)
    for number, kind in enumerate(kinds):
        host = data.draw(st.sampled_from(HOSTS))
        step = data.draw(st.sampled_from(["offer", "offer", "take", "shelve", "unshelve"]))
        if step == "offer":
            index.offer(name(number, host, f"{kind}11{host * 4}"))
        elif step == "shelve":
            index.shelve(host, 9.0)
        elif step == "unshelve":
            index.unshelve(host)
        elif (got := index.take_host(unproven=True)) is not None:
            index.pop(got)
            index.ready(got)
        names = [n for line in index._to_go.lines.values() for _, _, n in line]
        assert set(order._authors) == {n.tag[:1] + n.author for n in names}
        assert sum(count for count, _ in order._authors.values()) == len(names)


def test_x3_a_thousand_names_of_dead_hosts_do_not_keep_a_new_one_out():
    index = Index(lambda host: host.startswith("dead"), 1000)
    for i in range(5000):
        index.offer(name(i, f"dead{i % 20}"))
    assert index.waiting == 1000 and not index.full
    for i in range(100):
        assert index.offer(name(9000 + i, f"good{i % 30}"))
        assert index.take_host(unproven=False) == f"good{i % 30}"
        index.forget(index.pop(f"good{i % 30}"))
    for i in range(20):
        index.shelve(f"dead{i}", 100.0)
    assert index.waiting == 0
    assert index.offer(name(9999, "good"))


def test_a_sweep_is_worth_another_when_most_of_it_has_gone():
    index = Index(lambda host: False, 100)
    for i in range(300):
        index.offer(name(i, f"h{i % 3}"))
    index.swept()
    kept = index.waiting
    assert index.overflow and not index.hungry
    for _ in range(3 * kept // 4 + 1):
        assert not index.hungry
        host = index.take_host(unproven=True)
        index.forget(index.pop(host))
        index.ready(host)
    assert index.hungry


@given(st.lists(st.one_of(st.none(), st.sampled_from(HOSTS)), max_size=60))
def test_x6_by_host_one_has_all_of_its_turn(steps):
    index = Index(lambda host: False, order=Order("host"))
    turn, current = 0, ""
    for number, step in enumerate(steps):
        if step is not None:
            index.offer(name(number, step))
        elif (host := index.take_host(unproven=True)) is not None:
            lines = index._to_go.lines
            if not turn:
                turn, current = len(lines[host]), host
                assert lines[host][0] == min(line[0] for line in lines.values())
            assert host == current  # what came meanwhile waits for the next turn
            turn -= 1
            index.pop(host)
            index.ready(host)
    assert not index._turns or turn


def test_an_author_s_flood_stands_behind_the_single_message_of_another():
    index = Index(lambda host: False)
    start = 1_700_000_000.0
    for number in range(100):
        made = new_id(start + number / 1e3)
        index.offer(JobName("smtp", "2023111422", made, 0, "a", "n11AAAA"))
    single = JobName("smtp", "2023111422", new_id(start + 5), 0, "a", "n11BBBB")
    for _ in range(10):
        index.forget(index.pop(index.take_host(unproven=False)))
        index.ready("a")
    index.offer(single)
    assert index.pop(index.take_host(unproven=False)) == single
    late = JobName("smtp", "2023111422", new_id(start + HORIZON + 200), 0, "b", "n11BBBB")
    index.offer(late)
    assert drain(index)[-1] == late


def test_an_urgent_name_of_a_host_that_is_queued_already_comes_first():
    index = Index(lambda host: False)
    index.offer(name(1, "a", "n11AAAA"))
    index.offer(name(2, "b", "n11AAAA"))
    index.offer(name(3, "b", "u11AAAA"))
    assert [n.id[-1] for n in drain(index)] == ["3", "1", "2"]


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


@given(
    st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(1, 90)), max_size=60),
    st.integers(1, 90),
    st.integers(1, 20),
    st.booleans(),
)
def test_x8_a_turn_lets_go_of_so_many_and_all_go_in_time(names, now, most, recalled):
    index = Index(lambda _: False)
    for number, (host, when) in enumerate(names):
        it = name(number, host)
        index.offer(it)
        index.take_host(unproven=True)
        index.later(index.pop(host), float(when))
    if recalled:
        index.recall_all()
    gone, more = 0, True
    while more:
        more = index.revisit(float(now), most)
        assert 0 <= index.waiting - gone <= most
        gone = index.waiting
    due = {number for number, (_, when) in enumerate(names) if recalled or when <= now}
    assert {int(it.id) for it in drain(index)} == due
    index.recall_all()  # what is taken is not recalled
    index.revisit(1.0)
    assert {int(it.id) for it in drain(index)} == set(range(len(names))) - due


def test_hosts_that_have_to_prove_themselves_can_be_passed_over():
    index = Index(lambda host: host == "new")
    index.offer(name(1, "new"))
    index.offer(name(2, "known"))
    assert index.take_host(unproven=False) == "known"
    assert index.take_host(unproven=False) is None
    assert index.take_host(unproven=True) == "new"


def test_a_host_that_has_answered_is_no_more_passed_over():
    unproven = {"new", "silent"}
    index = Index(lambda host: host in unproven)
    for number, host in enumerate(["new", "new", "silent"]):
        index.offer(name(number, host))
    index.pop(index.take_host(unproven=True))
    index.ready("new")
    unproven.discard("new")
    assert index.take_host(unproven=False) is None  # nobody has said so yet
    index.ready("new")
    assert index.take_host(unproven=False) == "new"
    assert index.take_host(unproven=True) == "silent"
    assert index.take_host(unproven=True) is None


def test_several_hosts_are_hurried_at_once():
    index = Index(lambda host: False)
    names = [name(number, host) for number, host in enumerate("abcab")]
    for each in names:
        index.offer(each)
    assert {each.key for each in drain(index)} == {each.key for each in names}
    for each in names:
        index.later(each, 1000.0)
    index.hurry("a", "c", "nobody")
    assert [each.host for each in drain(index)] == ["a", "c", "a"]
    index.hurry()
    assert drain(index) == [] and index.next_due == 1000.0


@given(st.lists(st.sampled_from(["cold", "warm", "take", "offer"]), max_size=80))
def test_x7_cold_hosts_have_one_turn_in_four(steps):
    index = Index(lambda host: False)
    cold, streak = False, 0
    for number, step in enumerate(steps):
        if step == "offer":
            index.offer(name(number, "a"))
            index.offer(name(number + 1000, "b"))
        elif step == "cold":
            index.cool("a")
            cold = cold or index.has("a")
        elif step == "warm":
            index.warm("a")
            cold = False
        elif (host := index.take_host(unproven=True)) is not None:
            both = index.has("a") and index.has("b")
            streak = streak + 1 if cold and both and host == "b" else 0
            assert streak < COLD
            if cold and both and host == "a":
                assert index._looks % COLD == 0
            index.pop(host)
            index.ready(host)
            cold = cold and index.has("a")
    assert index._cold <= set(index._to_go.lines)


def test_x7_a_host_that_was_queued_warm_is_not_taken_for_it_when_it_is_cold():
    index = Index(lambda host: False)
    for number in range(6):
        index.offer(name(number, "a"))
        index.offer(name(100 + number, "b"))
    index.cool("a")
    assert [n.host for n in drain(index)[:5]] == ["b", "b", "b", "a", "b"]


def test_x7_new_mail_stands_before_hosts_of_which_a_sweep_found_old_mail():
    index = Index(lambda host: host != "known")
    for number in range(20):
        index.offer(name(number, f"old{number}"), old=True)
    index.offer(name(20, "known"), old=True)
    index.offer(name(21, "new"))
    assert [index.take_host(unproven=True) for _ in range(3)] == ["known", "new", "old0"]
    assert index.take_host(unproven=True) == "old1"
