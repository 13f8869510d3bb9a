"""Suspensions: whom a rule stands for, by the name and by the file of a job."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.policy.suspensions import WHATS, Suspension, Suspensions, author_text
from mta.spool.layout import author_signs, host_word
from mta.types import NULL_PATH, Mailbox
from mta.values import replace

NOW = 1_700_000_000.0
HOSTS = ["", "example", "a.example", "b.a.example", "[192.0.2.1]", "münchen.example"]
PATHS = [NULL_PATH, Mailbox("ann", "a.example"), Mailbox("Ann", "a.example")]
VALUES = {
    "host": ["a.example", ".example", ".a.example", "[192.0.2.1]", "münchen.example"],
    "domain": ["a.example", ".example", "b.a.example"],
    "channel": ["smtp", "ucl"],
    "queue": ["smtp", "slow"],
    "sender": ["<>", "ann@a.example"],
}


@st.composite
def rules(draw) -> Suspension:
    what = draw(st.sampled_from(WHATS))
    value = draw(st.sampled_from(VALUES[what]))
    path = NULL_PATH if value == "<>" else Mailbox("ann", "a.example")
    word = author_signs(path) if what == "sender" else host_word(value)
    until = draw(st.sampled_from([0.0, NOW - 1, NOW, NOW + 1]))
    return Suspension(what, value, "root", 1.0, until, "", word if what != "channel" else "")


@st.composite
def jobs(draw):
    to = st.builds(Mailbox, st.just("u"), st.sampled_from(["a.example", "c.test", "B.a.example"]))
    lane = draw(st.sampled_from(["smtp", "ucl"])), draw(st.sampled_from(["smtp", "slow"]))
    recipients = draw(st.lists(to, min_size=1, max_size=3))
    return lane, draw(st.sampled_from(HOSTS)), recipients, draw(st.sampled_from(PATHS))


def covers(rule: Suspension, job) -> bool:
    """Tell it the long way."""
    (channel, queue), host, recipients, path = job

    def under(name: str) -> bool:
        name, value = name.lower(), rule.whom
        return name.endswith(value) and name != value if value[0] == "." else name == value

    about = {
        "host": under(host),
        "domain": under(host) or any(under(r.domain) for r in recipients),
        "channel": rule.whom == channel,
        "queue": rule.whom == queue,
        "sender": rule.whom == author_text(path),
    }
    return about[rule.what] and (rule.until == 0.0 or rule.until > NOW)


@given(st.lists(rules(), max_size=6), jobs())
def test_u1_a_job_waits_iff_a_rule_stands_for_it(made, job) -> None:
    known = Suspensions(made)
    last = {(rule.what, rule.whom): rule for rule in made}
    found = known.of_job(*job, NOW)
    assert (found is not None) == any(covers(rule, job) for rule in last.values())
    assert found is None or covers(found, job)
    assert bool(known) == bool(made)
    assert known.until(NOW) in (0.0, NOW + 1)


@given(st.lists(rules(), max_size=6), jobs())
def test_u2_what_the_name_tells_the_file_tells(made, job) -> None:
    known = Suspensions(made)
    lane, host, recipients, path = job
    by_name = (
        known.of_lane(*lane, NOW)
        or known.of_host(host_word(host), NOW)
        or known.of_author(author_signs(path), NOW)
    )
    whole = known.of_job(lane, host, recipients, path, NOW)
    assert by_name is None or whole is not None
    plain = [rule for rule in made if rule.what != "domain"]
    if plain == made and "ü" not in host:
        assert (by_name is None) == (whole is None)


@given(rules(), jobs())
def test_u3_case_changes_nothing(rule, job) -> None:
    shouted = replace(rule, whom=rule.whom.upper())
    lower = Suspensions([rule]).of_job(*job, NOW)
    upper = Suspensions([shouted]).of_job(*job, NOW)
    assert (lower is None) == (upper is None)
    lane, host, recipients, path = job
    loud = [Mailbox(r.local, r.domain.upper()) for r in recipients]
    again = Suspensions([rule]).of_job(lane, host.upper(), loud, path, NOW)
    assert (again is None) == (lower is None)


def test_a_rule_names_itself() -> None:
    assert Suspension("host", "a.example", "root", 1.0).name == "host a.example"
