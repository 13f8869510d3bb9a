from hypothesis import given
from hypothesis import strategies as st

from mta.config import host_rules
from mta.config.host_rules import HostRules, HostSettings
from mta.config.model import HostRule
from mta.values import replace
from tests.deliver.fakes import channel

LABELS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4)
HOST = LABELS.map(".".join)
PATTERN = st.tuples(st.sampled_from(["", "."]), HOST).map("".join)
RULES = st.lists(
    st.builds(
        HostRule,
        st.lists(PATTERN, min_size=1, max_size=3).map(tuple),
        st.sampled_from(["", "smtp", "other"]),
        st.lists(
            st.tuples(st.sampled_from(["first", "max"]), st.floats(1, 9)),
            max_size=2,
            unique_by=lambda change: change[0],
        ).map(tuple),
        st.none() | st.floats(0, 9),
        st.none() | st.integers(1, 9),
        st.none() | st.sampled_from([0.25, 0.75]),
        st.none() | st.just((100, 60.0)),
    ),
    max_size=8,
)


def matches(pattern, host):
    return host.endswith(pattern) and host != pattern if pattern[0] == "." else host == pattern


def longest(rules, host, says):
    """The value of the first of the longest matches that says something, or None."""
    best, found = 0, None
    for rule in rules:
        for pattern in rule.match if rule.channel in ("", "smtp") else ():
            length = len(pattern) + (pattern[0] != ".") * 1000
            if matches(pattern, host) and length > best and says(rule) is not None:
                best, found = length, says(rule)
    return found


@given(RULES, HOST)
def test_h1_h2_the_longest_match_that_says_it_counts_or_the_channel(rules, host):
    c = channel()
    found = HostRules(rules, c).find(host)
    for name in ("dead_ttl", "per_host", "max_share", "rate"):
        said = longest(rules, host, lambda rule, name=name: getattr(rule, name))
        assert getattr(found, name) == (getattr(c, name) if said is None else said)
    expected = c.retry
    for name in ("first", "max"):
        said = longest(rules, host, lambda rule, name=name: dict(rule.changes).get(name))
        expected = expected if said is None else replace(expected, **{name: said})
    assert found.retry == expected


def test_h3_the_answers_are_bounded(monkeypatch):
    monkeypatch.setattr(host_rules, "KEPT", 10)
    rules = HostRules([HostRule((".test",), per_host=1)], channel())
    assert all(rules.find(f"h{i}.test").per_host == 1 for i in range(100))
    assert len(rules._kept) <= 10


def test_without_rules_there_is_one_answer():
    c = channel()
    rules = HostRules([HostRule(("a.test",), "other", per_host=1)], c)
    plain = c.dead_ttl, c.per_host, c.max_share, c.rate
    assert rules.find("a.test") == HostSettings(c.retry, *plain)
    assert rules.find("a.test") is rules.find("b.test")
