"""The line before intake: whose jobs are made first, and how much stands in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from mta.policy.order import Order
from mta.spool import layout
from mta.spool import line as module
from mta.spool.following import Followed
from mta.spool.frames import Closing
from mta.spool.layout import JobName, hour, new_id, tag
from mta.spool.line import EACH, FEW, Line, Record
from mta.types import BULK, NORMAL, Kind, Mailbox

START = 1_800_000_000.0
SEGMENT = Followed(None, "", -1)  # only counted here
FLOOD, OTHER = Mailbox("news", "shop.test"), Mailbox("alice", "home.test")


def record(at: float, author: Mailbox, kind: Kind = NORMAL, octets: int = 300) -> Record:
    """Return a message that came ``at`` seconds after the start."""
    layout._last[0] = 0  # ids of one process never go back; here each says its own time
    message_id = new_id(START + at)
    signs = tag(kind, 1000, 1, author)
    name = JobName("smtp", hour(message_id), message_id, 0, "mx.test", signs)
    return Record(Closing(message_id, 1000, 0, 0, ((f"smtp/{name.file}", b""),)), (), octets)


def drained(line: Line) -> list[Record]:
    gone = []
    while (first := line.first) is not None:
        gone.append(first[0])
        line.leave()
    return gone


@given(st.lists(st.tuples(st.floats(0, 9000), st.booleans()), max_size=60))
def test_li1_who_joins_leaves_once_and_in_the_order_of_places(
    came: list[tuple[float, bool]],
) -> None:
    line, waiting = Line(Order(fair=False)), []
    for at, leaves in came:
        waiting.append(record(at, OTHER))
        line.join(waiting[-1], SEGMENT)
        if leaves:
            first = line.first
            assert first is not None
            assert first[0].closing.id == min(each.closing.id for each in waiting)
            waiting = [each for each in waiting if each is not first[0]]
            line.leave()
    assert len(line) == len(waiting)
    rest = drained(line)
    assert sorted(map(id, rest)) == sorted(map(id, waiting))
    assert [each.closing.id for each in rest] == sorted(each.closing.id for each in rest)


@given(st.integers(1, 400), st.floats(0, 100))
def test_li2_a_single_message_goes_before_a_flood(flood: int, later: float) -> None:
    line = Line(Order())
    for number in range(flood):
        line.join(record(later * number / flood, FLOOD), SEGMENT)
    single = record(later + 0.001, OTHER)
    line.join(single, SEGMENT)
    assert drained(line).index(single) <= later + 2


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, 1000))
def test_li2_bulk_lets_other_mail_pass(bulk: int, normal: int, later: float) -> None:
    line = Line(Order(bulk_delay=14400.0, fair=False))
    kept = [record(later * n / bulk, FLOOD, BULK) for n in range(bulk)]
    passing = [record(later + n, OTHER) for n in range(normal)]
    for each in [*kept, *passing]:
        line.join(each, SEGMENT)
    assert drained(line) == [*passing, *kept]


@contextmanager
def limit_of(octets: int) -> Iterator[Line]:
    kept, module.LIMIT = module.LIMIT, octets
    try:
        yield Line(Order())
    finally:
        module.LIMIT = kept


@given(st.lists(st.integers(50, 20_000), min_size=1, max_size=60), st.integers(1, 40_000))
def test_li3_a_line_is_full_at_its_limit_and_has_room_again(sizes: list[int], limit: int) -> None:
    with limit_of(limit) as line:
        held = passed = 0
        for octets in sizes:
            assert line.full == (held >= limit)
            each = record(0.0, Mailbox(f"a{passed}", "many.test"), octets=octets)
            if not line.full:
                line.join(each, SEGMENT)
            else:
                assert line.let_pass(each, SEGMENT) == (held < 2 * limit)
                passed += 1
                if held >= 2 * limit:
                    break
            held += EACH + octets
        drained(line)
        assert not line.full and not line._counts


@given(st.lists(st.sampled_from([FLOOD, OTHER]), max_size=4 * FEW))
def test_li4_a_full_line_lets_pass_who_has_little_in_it(authors: list[Mailbox]) -> None:
    with limit_of((EACH + 300) * FEW) as line:
        while not line.full:
            line.join(record(0.0, FLOOD), SEGMENT)
        flood, others = len(line), 0
        for author in authors:
            passes = line.let_pass(record(1.0, author), SEGMENT)
            assert passes == ((flood if author is FLOOD else others) < FEW)
            flood, others = flood + passes * (author is FLOOD), others + passes * (author is OTHER)
        assert len(line) == flood + others


@given(st.lists(st.sampled_from(["join", "leave", "aside", "back"]), max_size=40))
def test_li5_who_steps_aside_keeps_nobody_back(acts: list[str]) -> None:
    line, joined, left = Line(Order()), [], []
    for at, act in enumerate(acts):
        first = line.first
        if act == "join":
            joined.append(record(at, OTHER))
            line.join(joined[-1], SEGMENT)
        elif act == "back":
            line.put_back(START)
        elif first is not None and act == "aside":
            line.put_off()
            assert line.first != first
        elif first is not None:
            left.append(first[0])
            line.leave()
        assert len(line) == len(joined) - len(left)
    line.put_back(START)
    assert sorted(map(id, [*left, *drained(line)])) == sorted(map(id, joined))
    assert not line._octets and not line._counts


def test_a_record_of_no_job_of_ours_goes_first() -> None:
    line = Line(Order())
    line.join(record(0.0, OTHER), SEGMENT)
    strange = Record(Closing("x", 0, 0, -1, (("smtp/what is this", b""),)), (), 10)
    line.join(strange, SEGMENT)
    line.join(Record(Closing("y", 0, 0, -1, ()), (), 10), SEGMENT)
    assert line.first == (strange, SEGMENT)
