from hypothesis import given
from hypothesis import strategies as st

from mta.policy.decide import GO, Barrier, HostFacts, JobFacts, Room, decide, shut
from mta.policy.foresee import Foresight, alternatives, foresee, goes, sooner_dead
from mta.policy.load import QUEUE_ONLY
from mta.policy.select import Bounds
from mta.values import replace
from tests.policy.test_decide import DEAD, HOSTS, JOBS, NOW, ROOMS

MOMENT = 1e-5  # -o is a strict bound, and floats are coarse


@given(JOBS, HOSTS, ROOMS, st.floats(0, 1))
def test_f1_it_goes_then_and_not_before(job, host, room, part):
    seen = foresee(job, host, room, NOW)
    assert seen.when >= NOW
    assert goes(job, host, room, NOW, seen.when) == (not seen.events)
    before = NOW + (seen.when - MOMENT - NOW) * part
    if NOW <= before < seen.when - MOMENT:
        assert not goes(job, host, room, NOW, before)


@given(JOBS, HOSTS, ROOMS)
def test_f2_what_goes_now_goes_now(job, host, room):
    plain = decide(job, host, room, NOW).verdict == GO
    assert (foresee(job, host, room, NOW) == Foresight(NOW)) == plain


@given(JOBS, HOSTS, ROOMS, st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_f3_room_only_helps(job, host, room, fewer, mine, tokens):
    more = replace(
        room,
        in_flight=min(fewer, room.in_flight),
        unproven=min(fewer, room.unproven),
        tokens=room.tokens + tokens,
        load=0,
    )
    calmer = replace(host, in_flight=min(mine, host.in_flight))
    plain, better = foresee(job, host, room, NOW), foresee(job, calmer, more, NOW)
    assert better.when <= plain.when
    assert {v.gate for v in better.events} <= {v.gate for v in plain.events}


@given(JOBS, HOSTS, ROOMS)
def test_f4_an_alternative_is_better_and_about_a_gate_that_is_shut(job, host, room):
    plain, gates = foresee(job, host, room, NOW), {v.gate for v in shut(job, host, room, NOW)}
    for other in alternatives(job, host, room, NOW):
        assert other.gate in gates
        then = other.then
        assert then.when < plain.when or len(then.events) < len(plain.events)
        assert len(then.events) <= len(plain.events)


@given(JOBS, HOSTS, ROOMS, st.floats(1, 990), st.floats(1, 9000))
def test_f4_a_smaller_l_is_told_only_where_it_helps(job, host, room, since, more):
    host = replace(host, dead=DEAD, dead_since=since, dead_until=NOW + more)
    other = sooner_dead(job, host, room, NOW)
    plain = foresee(job, host, room, NOW)
    if other is not None:
        assert since + 60 * other.minutes < host.dead_until
        assert (len(other.then.events), other.then.when) < (len(plain.events), plain.when)


def test_with_a_smaller_l_it_would_have_gone():
    host = HostFacts(dead=DEAD, dead_since=NOW - 950, dead_until=NOW + 6250)
    told = JobFacts("a.test", 0.0, NOW - 950, NOW + 6250, waits_for_host=True)
    other = sooner_dead(told, host, Room(5, 5), NOW, least=NOW - 700)
    assert other is not None
    assert (other.minutes, other.then) == (15, Foresight(NOW - 50))
    fresh = replace(host, dead_since=NOW - 10, dead_until=NOW + 7190)
    other = sooner_dead(replace(told, last=NOW - 10, retry_at=NOW + 7190), fresh, Room(5, 5), NOW)
    assert other is not None
    assert (other.minutes, other.then.when) == (1, NOW + 50)


def test_a_job_too_young_for_o_goes_when_it_is_old_enough():
    room = Room(5, 5, bounds=Bounds(None, NOW - 3600))
    seen = foresee(JobFacts("a.test", NOW - 600), HostFacts(), room, NOW)
    assert not seen.events
    assert abs(seen.when - (NOW + 3000)) < 0.001


def test_a_job_that_t_will_have_lost_by_then_waits_for_another_deliver():
    room = Room(5, 5, bounds=Bounds(NOW - 3600, None))
    job = JobFacts("a.test", NOW - 3000, NOW - 10, NOW + 1000)
    seen = foresee(job, HostFacts(), room, NOW)
    assert [v.gate for v in seen.events] == ["age"]
    assert foresee(replace(job, retry_at=NOW + 500), HostFacts(), room, NOW).when == NOW + 500


def test_what_is_held_beyond_its_time_waits_for_a_word():
    job = JobFacts("a", 0.0, NOW - 9, NOW + 50, barrier=Barrier("root", 5.0))
    seen = foresee(job, HostFacts(), Room(5, 5), NOW)
    assert (seen.when, [v.gate for v in seen.events]) == (NOW + 50, ["hold"])
    assert [a.gate for a in alternatives(job, HostFacts(), Room(5, 5), NOW)] == ["hold", "due"]


def test_what_would_help_is_one_thing_at_a_time():
    full = Room(4, 2, in_flight=4, load=QUEUE_ONLY)
    found = {a.gate: a.then for a in alternatives(JobFacts("a", 0.0), HostFacts(), full, NOW)}
    assert [v.gate for v in found["load"].events] == ["concurrency"]
    host = HostFacts(2)
    (only,) = alternatives(JobFacts("a", 0.0), host, Room(9, 2, in_flight=2), NOW)
    assert (only.gate, only.then) == ("per-host", Foresight(NOW))


def test_what_gains_a_trifle_is_not_told():
    host = HostFacts(dead=DEAD, dead_since=NOW - 10, dead_until=NOW + 810)
    told = JobFacts("a.test", 0.0, NOW - 10, NOW + 830, waits_for_host=True)
    assert [a.gate for a in alternatives(told, host, Room(5, 5), NOW)] == ["dead"]
