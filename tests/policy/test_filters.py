"""Filters: what a name tells never contradicts what the file says."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mta.policy.filters import EVERYTHING, STATES, Filter, Part, Shown, covers
from mta.spool.layout import JobName, author_signs, host_word, hour_of, new_id, tag
from mta.types import BULK, NORMAL, NULL_PATH, URGENT, Mailbox
from mta.values import fields, replace

NOW = 1_700_000_000.0
HOSTS = ("", "a.example", "b.example", "b.a.example", "A.example", "münchen.example", "[::1]")
MAILBOXES = st.builds(
    Mailbox, st.sampled_from(["ann", "Bob", "a b"]), st.sampled_from(["a.example", "b.a.example"])
)
PATHS = st.one_of(st.just(NULL_PATH), MAILBOXES)
SIZES = st.one_of(st.integers(0, 40), st.integers(0, 1 << 40))


@st.composite
def jobs(draw) -> tuple[JobName, Shown]:
    arrived = NOW - draw(st.integers(0, 100))
    ident, host = new_id(arrived), draw(st.sampled_from(HOSTS))
    kind, path, size = draw(st.sampled_from([URGENT, NORMAL, BULK])), draw(PATHS), draw(SIZES)
    queue = draw(st.sampled_from(["smtp", "slow"]))
    made = tag(kind, size, 1, path) if draw(st.integers(0, 3)) else ""
    name = JobName(queue, hour_of(arrived), ident, 0, host_word(host), made)
    to = tuple(draw(st.lists(MAILBOXES, min_size=1, max_size=2)))
    reasons = tuple(draw(st.lists(st.sampled_from(["451 busy", "450 Grey"]), max_size=1)))
    held = draw(st.booleans())
    about = (name.key, queue, draw(st.sampled_from(["smtp", "ucl"])), host, arrived, size, kind)
    return name, Shown(*about, path, to, reasons, bool(reasons), held)


@st.composite
def filters(draw, key: str) -> Filter:
    author = draw(st.sampled_from(["", "<>", "@.example", "@a.example", "ANN@a.example"]))
    whole = author == "<>" or (author and not author.startswith("@"))
    path = NULL_PATH if author == "<>" else Mailbox("ann", "a.example")
    host = draw(st.sampled_from([None, ".example", ".a.example", *HOSTS]))
    part = st.builds(
        Part, st.sampled_from(["id", "recipient", "author"]),
        st.sampled_from(["a", "bob", "EXAMPLE", "ann@"]), st.booleans(),
    )  # fmt: skip
    limit = st.one_of(st.none(), SIZES)
    age = st.one_of(st.none(), st.integers(0, 100))
    return Filter(
        draw(st.sampled_from([(), (key,), (key[:16],), ("0" * 16,)])),
        draw(st.sampled_from(["", "@a.example", "bob@A.example"])),
        author,
        author_signs(path) if whole else "",
        host,
        "" if host is None else host_word(host),
        draw(st.sampled_from(["", "smtp"])),
        draw(st.sampled_from([(), ("smtp",), ("slow", "smtp")])),
        *(draw(age), draw(age), draw(limit), draw(limit)),
        draw(st.sampled_from(["", "grey", "BUSY"])),
        draw(st.sampled_from(["", URGENT, NORMAL, BULK])),
        draw(st.sampled_from(["", *STATES])),
        tuple(draw(st.lists(part, max_size=3))),
        draw(st.booleans()),
    )


@given(st.data())
def test_f1_a_glance_never_contradicts_the_file(data) -> None:
    name, shown = data.draw(jobs())
    wanted = data.draw(filters(name.key))
    # Most drawn filters hold for nothing: keep but some of the conditions.
    for field in data.draw(st.sets(st.sampled_from(fields(Filter)))):
        wanted = replace(wanted, **{field: getattr(Filter(), field)})
    if not wanted.author:
        wanted = replace(wanted, signs="")
    told = wanted.glance(name, shown.arrived, NOW)
    assert told in (None, wanted.holds(shown, NOW))


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
@example(1 << 29, (1 << 29) - 1)
@example(5, 4)
def test_f1_sizes_are_told_by_the_name_where_it_can(size: int, limit: int) -> None:
    name = JobName("smtp", "h", new_id(NOW), 0, "a", tag(NORMAL, size, 1, NULL_PATH))
    larger = Filter(larger=limit).glance(name, NOW, NOW)
    smaller = Filter(smaller=limit).glance(name, NOW, NOW)
    assert larger in (None, size > limit)
    assert smaller in (None, size < limit)
    if size and size < 1 << 29 and (limit >= 2 * size or 2 * limit <= size):
        assert larger is not None and smaller is not None


@given(st.data())
def test_f2_a_condition_more_is_never_a_job_more(data) -> None:
    name, shown = data.draw(jobs())
    one, other = data.draw(filters(name.key)), data.draw(filters(name.key))
    field = data.draw(st.sampled_from(fields(Filter)))
    before, after = replace(one, **{field: getattr(Filter(), field)}), one
    if not before.empty and field not in ("ids", "queues", "parts"):
        assert before.holds(shown, NOW) or not after.holds(shown, NOW)
    assert not Filter().holds(shown, NOW)
    assert Filter().glance(name, shown.arrived, NOW) is False
    assert EVERYTHING.holds(shown, NOW) and EVERYTHING.glance(name, shown.arrived, NOW)
    assert isinstance(other.empty, bool)


@given(jobs(), st.sampled_from(["recipient", "author", "host"]))
def test_f3_case_changes_nothing(job, field: str) -> None:
    _, shown = job
    for value in ("@a.example", "ann@a.example", "a.example", ".example"):
        one, other = Filter(**{field: value}), Filter(**{field: value.upper()})
        assert one.holds(shown, NOW) == other.holds(shown, NOW)


def test_hosts_and_domains_below_them() -> None:
    assert covers("a.example", "A.Example") and not covers("a.example", "b.a.example")
    assert covers(".example", "a.example") and not covers(".example", "example")
    assert not covers(".a.example", ".a.example") and covers("", "")
