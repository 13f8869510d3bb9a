import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.deadhosts import DeadHosts
from mta.types import Reply

DOWN = Reply(421, "4.4.1", "connection refused")
HOSTS = st.sampled_from(["a.test", "b.test", "c.test"])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["bury", "revive", "find"]), HOSTS, st.floats(0, 100, allow_nan=False)
    ),
    max_size=30,
)


@given(EVENTS, st.integers(0, 50), st.floats(0, 5000))
def test_d1_a_host_is_dead_until_its_last_burial_is_a_ttl_ago(events, ttl, after):
    dead, buried, now = DeadHosts(ttl), {}, 0.0
    for what, host, pause in events:
        now += pause
        if what == "bury":
            assert dead.bury(host, DOWN, now).until == now + ttl
            buried[host] = now
        elif what == "revive":
            expected = host in buried
            assert dead.revive(host) or not expected or now - buried[host] >= ttl
            buried.pop(host, None)
        else:
            known = dead.find(host, now)
            assert (known is not None) == (host in buried and now < buried[host] + ttl)
    now += after
    for host in ("a.test", "b.test", "c.test"):
        expected = host in buried and now < buried[host] + ttl
        assert (dead.find(host, now) is not None) == expected


@given(EVENTS, st.floats(0, 1000))
def test_d2_asking_changes_no_answer(events, at):
    dead, now = DeadHosts(10), 0.0
    for what, host, pause in events:
        now += pause
        if what == "bury":
            dead.bury(host, DOWN, now)
    hosts = ("a.test", "b.test", "c.test")
    before = [dead.find(h, t) for h in hosts for t in (now, at)]
    assert [dead.find(h, t) for h in hosts for t in (now, at)] == before


@given(st.lists(st.tuples(HOSTS, st.floats(0, 20)), min_size=1))
def test_d3_after_a_burial_no_expired_one_is_held(burials):
    dead, now = DeadHosts(10), 0.0
    for host, pause in burials:
        now += pause
        dead.bury(host, DOWN, now)
        in_force = [h for h in ("a.test", "b.test", "c.test") if dead.find(h, now) is not None]
        assert len(dead) == len(in_force)


@pytest.mark.parametrize("code", [250, 550, 199])
def test_only_a_transient_reply_buries(code):
    with pytest.raises(ValueError, match="4yz"):
        DeadHosts(10).bury("a.test", Reply(code, "5.0.0", "no"), 0.0)


def test_a_negative_ttl_is_refused():
    with pytest.raises(ValueError, match=">= 0"):
        DeadHosts(-1)
