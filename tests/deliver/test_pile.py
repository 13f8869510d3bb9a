from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.pile import LEAST, MANY, Pile
from mta.spool.layout import JobName

HOSTS = st.sampled_from("abcde")


def item(place, serial, host):
    return float(place), serial, JobName("smtp", "2023111422", f"{serial:016}", 0, host)


@given(st.lists(st.tuples(HOSTS, st.integers(0, 50), st.booleans())), st.integers(1, 90))
def test_pi1_pi3_the_bound_holds_and_the_last_in_line_goes(steps, limit):
    pile, lines = Pile(limit), {}
    for serial, (host, place, take) in enumerate(steps):
        if take and host in pile.lines:
            assert pile.pop(host) == min(lines[host])
            lines[host].remove(min(lines[host]))
            lines = {h: line for h, line in lines.items() if line}
            continue
        if pile.full:
            dropped = list(pile.make_room(host))
            for one in dropped:
                lines[one[2].host].remove(one)
                assert lines[one[2].host][-1:] and one > max(lines[one[2].host])
            if not dropped:
                continue
        new = item(place, serial, host)
        assert pile.add(new) == (new == min([*lines.get(host, []), new]))
        lines.setdefault(host, []).append(new)
        lines[host].sort()
        assert pile.count == sum(map(len, lines.values())) <= limit
        assert {h: sorted(line) for h, line in pile.lines.items()} == lines


@given(st.integers(MANY + 1, 100), st.integers(1, 5))
def test_pi2_who_has_few_names_finds_room(limit, others):
    pile = Pile(limit)
    for serial in range(limit):
        pile.add(item(serial, serial, "flood"))
    for number in range(others):
        if pile.full and len(pile.lines) <= limit // MANY:
            many = len(pile.lines["flood"]) > MANY
            assert bool(list(pile.make_room(f"h{number}"))) == many
        if not pile.full:
            assert pile.fits(f"h{number}")
            pile.add(item(0, 1000 + number, f"h{number}"))


def test_a_host_may_hold_half_of_what_is_free():
    pile = Pile(1000)
    for serial in range(1000):
        if pile.fits("a"):
            pile.add(item(serial, serial, "a"))
    assert LEAST < pile.count < 1000 // 2


def test_so_many_hosts_that_none_has_many_are_not_looked_through():
    pile = Pile(40)
    for serial in range(40):
        pile.add(item(serial, serial, f"h{serial % 6}"))
    assert list(pile.make_room("new")) == []


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40))
def test_pi1_what_is_given_is_taken_as_far_as_there_is_room(here, given_, limit):
    pile = Pile(limit)
    for serial in range(min(here, limit)):
        pile.add(item(serial, serial, "a"))
    items = [item(serial, serial, "b") for serial in reversed(range(given_))]
    free = limit - pile.count
    others = pile.give("b", items)
    assert pile.count <= limit
    assert len(others) == max(0, given_ - free)
    assert not others or min(others) > max(pile.lines.get("b", [item(-1, -1, "b")]))
    assert len(pile.take("b")) == given_ - len(others)


class Lines(dict):
    """Lines that count how often they are looked through."""

    looks = 0

    def values(self):
        self.looks += 1
        return super().values()


@given(st.lists(st.tuples(HOSTS, st.sampled_from(["add", "add", "pop", "take", "give"]))))
def test_pi4_no_room_is_made_only_where_no_line_is_long_enough(steps):
    pile, limit = Pile(10_000), 10_000
    for serial, (host, what) in enumerate(steps * 9):
        if what == "add":
            pile.add(item(serial, serial, host))
        elif what == "pop" and host in pile.lines:
            pile.pop(host)
        elif what == "take":
            pile.take(host)
        elif what == "give":
            pile.give(host, [item(serial, serial + n / 100, host) for n in range(20)])
        longest = max(map(len, pile.lines.values()), default=0)
        many = longest > max(MANY, 2 * len(pile.lines.get("new", ())))
        assert pile.count < limit
        if serial % 7 == 0:
            assert len(pile.make_room("new")) == (longest // 2 if many else 0)


@given(st.lists(st.integers(0, MANY), min_size=1, max_size=5), st.integers(1, 5))
def test_pi4_lines_are_not_looked_through_again_in_vain(lengths, times):
    pile = Pile(10_000)
    for number, length in enumerate([*lengths, 3 * MANY]):
        for serial in range(length):
            pile.add(item(serial, serial, f"h{number}"))
    for _ in range(3 * MANY):
        pile.pop(f"h{len(lengths)}")
    pile.lines = Lines(pile.lines)
    for _ in range(times):
        assert pile.make_room("new") == ()
    assert pile.lines.looks <= 1
    for serial in range(MANY + 1):
        pile.add(item(serial, serial, "long"))
    assert len(pile.make_room("new")) == MANY // 2
