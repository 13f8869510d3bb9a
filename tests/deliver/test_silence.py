"""SL1 to SL3: who is counted apart, against a plain account of the same events."""

from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.hosts import Hosts
from mta.deliver.silence import PATIENCE, Silence
from mta.policy.decide import GO, JobFacts, Room, decide
from mta.types import HOST, RECIPIENT, Outcome, Reply
from tests.deliver.test_lane import OK, House
from tests.deliver.test_picker import prove

STEPS = st.lists(
    st.tuples(st.sampled_from(["launch", "speak", "land", "wait"]), st.sampled_from("abcd")),
    max_size=60,
)


@given(STEPS, st.integers(0, 6))
def test_sl1_sl2_sl3_who_is_silent(steps, most):
    silence, mono = Silence(most), 0.0
    flights, since = dict.fromkeys("abcd", 0), {}
    for what, host in steps:
        if what == "wait":
            mono += 1.5
        elif what == "launch":
            silence.launched(host, mono)
            since.setdefault(host, mono)
            flights[host] += 1
        elif flights[host] and what == "speak":
            silence.spoke(host, mono)
            since[host] = mono
        elif flights[host]:
            flights[host] -= 1
            silence.landed(host, flights[host])
            if not flights[host]:
                del since[host]
        before = silence.flights
        silence.listen(mono, flights.__getitem__)
        silent = {h for h in flights if h in silence}
        assert silence.flights == sum(flights[h] for h in silent)
        # What is launched at a silent host may pass the bound, what falls silent never does.
        assert silence.flights <= max(most, before)
        assert all(flights[h] and mono - since[h] >= PATIENCE for h in silent)
        quiet = [h for h in since if h not in silent and mono - since[h] >= PATIENCE]
        assert not most or all(silence.flights + flights[h] > most for h in quiet)


def test_silent_probes_leave_the_turn_to_other_hosts():
    hosts = Hosts(900.0, probing=True, silent=100)

    def room() -> Room:
        return Room(6, 20, hosts.in_flight - hosts.silent, hosts.unproven)

    for at in range(60):
        verdict = decide(JobFacts(f"h{at}", 0.0), hosts.facts(f"h{at}", 9.0, 9.0), room(), 9.0)
        if verdict.verdict != GO:
            hosts.listen(9.0 + PATIENCE * at)
            verdict = decide(JobFacts(f"h{at}", 0.0), hosts.facts(f"h{at}", 9.0, 9.0), room(), 9.0)
        assert verdict.verdict == GO
        hosts.launch(f"h{at}", 9.0 + PATIENCE * at)


def test_a_host_that_falls_silent_gets_no_more_and_speaks_itself_free():
    hosts = Hosts(900.0, probing=True, silent=100)
    fine = Outcome(Reply(250, "2.0.0", "ok"), RECIPIENT)
    hosts.launch("a", 0.0)
    hosts.learn("a", fine, 0.0, 1.0, 1.0)
    hosts.launch("a", 1.0)
    hosts.listen(1.0 + PATIENCE)
    assert hosts.silent == 2
    assert not hosts.facts("a", 5.0, 5.0).proven
    hosts.learn("a", fine, 1.0, 6.0, 6.0)
    assert hosts.silent == 0
    assert hosts.facts("a", 6.0, 6.0).proven
    hosts.land("a")
    hosts.listen(6.0 + PATIENCE)
    assert hosts.silent == 1
    hosts.learn("a", Outcome(Reply(421, "4.4.2", "timed out"), HOST), 7.0, 300.0, 300.0)
    hosts.land("a")
    assert hosts.silent == 0
    assert hosts.facts("a", 300.0, 300.0).dead is not None


def test_hosts_that_answered_and_fell_silent_are_not_asked_about_for_ever():
    """While half of the channel asks hosts yet to answer, they were taken for hosts that do."""
    house = House(concurrency=6, per_host=3, silent=100, jobs=200)
    prove(house, ["a"])
    house.lane.offer(house.queue("a"))
    house.pump()
    house.clock.now += PATIENCE
    house.lane.offer(house.queue("b", "c", "d"))
    house.pump()
    assert house.lane.hosts.silent == 1 and house.lane.hosts.unproven == 3
    house.lane.offer(house.queue("a", "a"))
    take, looks = house.lane.index.take_host, []

    def take_host(unproven):
        looks.append(unproven)
        assert len(looks) < 100, "it asks about the same host for ever"
        return take(unproven=unproven)

    house.lane.index.take_host = take_host
    house.pump()
    assert house.lane.index.waiting == 2 and house.lane.hosts.is_unproven("a")
    house.answer(2, OK)
    house.pump()
    assert not house.lane.index.waiting


def test_a_lane_that_has_retired_still_counts_who_falls_silent_apart():
    house = House(concurrency=6, per_host=3, silent=100)
    house.lane.offer(house.queue("a", "b"))
    house.pump()
    house.lane.abandon()
    assert house.lane.busy == 2
    house.clock.now += PATIENCE
    house.pump()
    assert house.lane.busy == 0 and house.lane.in_flight == 2
