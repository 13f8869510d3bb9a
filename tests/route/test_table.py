"""The channel table: R1 to R3, against the definition read row by row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.route.table import ChannelRow, ChannelTable, Match, Pattern

labels = st.sampled_from(["a", "b", "C", "é", "mü"])
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
patterns = names | names.map(".{}".format) | st.sampled_from(["*", "[192.0.2.1]"])
hosts = names | st.just("[192.0.2.1]")


@st.composite
def channels(draw: st.DrawFn) -> list[ChannelRow]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        own = [Pattern(p, "", f"domains {i}") for i, p in enumerate(draw(st.lists(patterns)))]
        lines = [(i + 1, p, "hop.test:26") for i, p in enumerate(draw(st.lists(patterns)))]
        made.append(ChannelRow(f"c{number}", "q", False, tuple(own), f"t{number}", tuple(lines)))
    return made


def covers(pattern: str, host: str) -> bool:
    pattern, host = pattern.lower(), host.lower()
    if host.startswith("["):
        return pattern in ("*", host)
    return pattern in ("*", host) or (pattern.startswith(".") and host.endswith(pattern))


def by_reading(rows: list[ChannelRow], host: str) -> Match | None:
    for channel in rows:
        for index in range(len(channel.patterns) + len(channel.lines)):
            if covers(channel.pattern(index).pattern, host):
                return Match(channel, channel.pattern(index))
    return None


@given(channels(), hosts)
def test_r1_first_row_of_first_channel(rows: list[ChannelRow], host: str) -> None:
    assert ChannelTable(rows).find(host) == by_reading(rows, host)


@given(patterns, hosts)
def test_r2_what_a_pattern_covers(pattern: str, host: str) -> None:
    table = ChannelTable([ChannelRow("c", "q", False, (Pattern(pattern, "", ""),))])
    assert (table.find(host) is not None) == covers(pattern, host)


def test_r2_by_example() -> None:
    def knows(pattern: str, host: str) -> bool:
        row = ChannelRow("c", "q", False, (Pattern(pattern, "", ""),))
        return ChannelTable([row]).find(host) is not None

    assert knows("a.b", "a.b")
    assert not knows("a.b", "x.a.b")
    assert not knows(".a.b", "a.b")
    assert knows(".a.b", "x.a.b")
    assert knows(".a.b", "y.x.a.b")
    assert not knows(".a.b", "xa.b")
    assert knows("*", "a")
    assert knows("*", "[127.0.0.1]")
    assert not knows(".0.1]", "[127.0.0.1]")
    assert knows("[127.0.0.1]", "[127.0.0.1]")


@given(channels(), hosts)
def test_r3_case_changes_nothing(rows: list[ChannelRow], host: str) -> None:
    def upper(row: ChannelRow) -> ChannelRow:
        own = tuple(Pattern(p.pattern.upper(), p.next_hop, p.where) for p in row.patterns)
        lines = tuple((n, p.upper(), hop) for n, p, hop in row.lines)
        return ChannelRow(row.name, row.queue, row.local, own, row.file, lines)

    plain = ChannelTable(rows).find(host)
    loud = ChannelTable([upper(row) for row in rows]).find(host.upper())
    assert (plain and plain.row.where) == (loud and loud.row.where)
    assert (plain and plain.channel.name) == (loud and loud.channel.name)


def test_the_row_is_named() -> None:
    lines = ((3, "host.example", "relay.example:2526"), (7, ".example", ""))
    net = ChannelRow("net", "net", False, (Pattern("x.test", "", "domains"),), "tables/net", lines)
    rest = ChannelRow("rest", "rest", False, (Pattern("*", "", "domains"),))
    table = ChannelTable([net, rest])
    hop = Pattern("host.example", "relay.example:2526", "tables/net:3")
    assert table.find("host.example") == Match(net, hop)
    assert table.find("other.example") == Match(net, Pattern(".example", "", "tables/net:7"))
    assert table.find("x.test") == Match(net, Pattern("x.test", "", "domains"))
    assert table.find("y.test") == Match(rest, Pattern("*", "", "domains"))
    assert list(table.before(rest)) == [net]
    assert list(table.before(None)) == [net, rest]


def test_an_earlier_star_takes_what_a_later_row_names() -> None:
    first = ChannelRow("first", "q", False, (Pattern("*", "", "domains"),))
    second = ChannelRow("second", "q", False, (Pattern("a.b", "", "domains"),))
    found = ChannelTable([first, second]).find("a.b")
    assert found is not None
    assert found.channel is first


def test_one_spelling_for_a_name_beyond_ascii() -> None:
    row = ChannelRow("c", "q", False, (), "t", ((1, "MU\u0308NCHEN.test", ""), (2, ".É.test", "")))
    table = ChannelTable([row])
    assert table.find("münchen.test") is not None
    assert table.find("x.é.test") is not None
    assert table.find("e.test") is None


def test_no_channels() -> None:
    assert ChannelTable([]).find("a") is None
