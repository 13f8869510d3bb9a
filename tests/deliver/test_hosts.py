from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.hosts import KEPT, Hosts
from mta.types import CHANNEL, HOST, RECIPIENT, Outcome, Reply

OUTCOMES = st.builds(
    lambda code, scope: Outcome(Reply(code, f"{code // 100}.0.0", "said"), scope),
    st.sampled_from([250, 421, 451, 550]), st.sampled_from([RECIPIENT, HOST, CHANNEL]),
)  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.none() | OUTCOMES), max_size=40)


@given(STEPS)
def test_h1_h2_h3_what_is_learnt_of_hosts(steps):
    hosts, mono = Hosts(900.0, probing=True), 0.0
    flights, answered = {"a": [], "b": []}, {"a": -1.0, "b": -1.0}
    for host, outcome in steps:
        mono += 1
        if outcome is None or not flights[host]:
            hosts.launch(host)
            flights[host].append(mono)
        else:
            started = flights[host].pop(0)
            dead = hosts.facts(host, mono, mono).dead
            news = hosts.learn(host, outcome, started, mono)
            about_host = outcome.scope == HOST and not outcome.reply.positive
            if news == "buried":
                assert about_host and outcome.reply.transient and answered[host] <= started
                assert dead is None
            if about_host and outcome.reply.transient and answered[host] <= started:
                assert hosts.facts(host, mono, mono).dead is not None
                assert hosts.is_unproven(host)
            elif not about_host and outcome.scope != CHANNEL:
                answered[host] = mono
                assert not hosts.is_unproven(host)
                assert hosts.facts(host, mono, mono).dead is None
                assert (news == "revived") == (dead is not None)
            hosts.land(host)
        for each in "ab":
            facts = hosts.facts(each, mono, mono)
            assert facts.in_flight == len(flights[each])
            assert facts.answered == max(0.0, answered[each])
        assert hosts.in_flight == sum(map(len, flights.values()))
        assert 0 <= hosts.unproven <= 2


def test_a_channel_without_connections_knows_no_dead_hosts():
    hosts = Hosts(900.0, probing=False)
    hosts.launch("a")
    assert not hosts.is_unproven("a")
    assert hosts.learn("a", Outcome(Reply(451, "4.0.0", "no"), HOST), 0.0, 1.0) == ""
    assert hosts.facts("a", 1.0, 1.0).dead is None


def test_no_ttl_remembers_nothing():
    hosts = Hosts(0.0, probing=True)
    hosts.launch("a")
    assert hosts.learn("a", Outcome(Reply(421, "4.4.1", "no"), HOST), 0.0, 1.0) == ""
    assert hosts.facts("a", 1.0, 1.0).dead is None


def test_the_records_are_bounded():
    hosts = Hosts(900.0, probing=True)
    hosts.launch("busy")
    for i in range(3 * KEPT):
        hosts.facts(f"h{i}", 0.0, 0.0)
    assert len(hosts._records) <= KEPT
    assert hosts.facts("busy", 0.0, 0.0).in_flight == 1


def test_news_is_told_once():
    hosts = Hosts(900.0, probing=True)
    assert [hosts.news("a", i) for i in ("1", "2", "2", "1", "3")] == [
        True,
        True,
        False,
        False,
        True,
    ]
