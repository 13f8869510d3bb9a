from hypothesis import given
from hypothesis import strategies as st

from mta.policy.deadhosts import DeadHost
from mta.policy.decide import (
    _GATES,
    GO,
    SKIP,
    WAIT,
    HostFacts,
    JobFacts,
    Room,
    decide,
    slots,
)
from mta.policy.load import DELAY, QUEUE_ONLY, RUN
from mta.policy.select import Bounds
from mta.types import Reply
from mta.values import replace

NOW = 1000.0
TIME = st.just(0.0) | st.floats(1, 2000)
JOBS = st.builds(JobFacts, st.just("a.test"), st.floats(0, 1000), TIME, TIME, st.booleans())
DEAD = DeadHost("a.test", Reply(421, "4.4.1", "refused"), 5.0)
HOSTS = st.builds(
    HostFacts, st.integers(0, 5), st.booleans(), st.none() | st.just(DEAD), TIME, TIME
)
BOUNDS = st.builds(Bounds, st.none() | st.floats(0, 2000), st.none() | st.floats(0, 2000))
ROOMS = st.builds(
    Room,
    st.integers(1, 8),
    st.integers(1, 5),
    st.integers(0, 9),
    st.integers(0, 9),
    TIME,
    st.sampled_from([RUN, DELAY, QUEUE_ONLY]),
    BOUNDS,
    TIME,
)


@given(JOBS, HOSTS, ROOMS)
def test_p1_a_job_goes_iff_no_gate_is_shut(job, host, room):
    verdict = decide(job, host, room, NOW)
    shut = [v for v in (gate(job, host, room, NOW) for gate in _GATES) if v is not None]
    assert (verdict.verdict == GO) == (not shut) == (verdict.reason == "")
    assert not shut or verdict == shut[0]
    assert verdict.verdict in (GO, WAIT, SKIP)


@given(JOBS, HOSTS, ROOMS, TIME)
def test_p2_a_first_attempt_does_not_ask_for_a_time(job, host, room, retry_at):
    first = replace(job, last=0.0)
    assert decide(first, host, room, NOW) == decide(
        replace(first, retry_at=retry_at), host, room, NOW
    )


BUSY = st.builds(Room, st.integers(1, 8), st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))
ALIVE = st.builds(HostFacts, st.integers(0, 5), st.booleans())


@given(ALIVE, BUSY, st.tuples(*[st.integers(0, 9)] * 3))
def test_p3_room_only_helps(host, room, fewer):
    channel, unproven, mine = fewer
    job = JobFacts("a.test", 0.0)
    emptier = replace(
        room, in_flight=min(channel, room.in_flight), unproven=min(unproven, room.unproven)
    )
    calmer = replace(host, in_flight=min(mine, host.in_flight))
    if decide(job, host, room, NOW).verdict == GO:
        assert decide(job, calmer, emptier, NOW).verdict == GO


@given(JOBS, HOSTS, ROOMS)
def test_p4_a_time_is_later_than_now(job, host, room):
    verdict = decide(job, host, room, NOW)
    assert verdict.when == 0.0 or verdict.when > NOW


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([RUN, DELAY]))
def test_p5_hosts_yet_to_answer_leave_half_of_the_channel(concurrency, hosts, load):
    room, gone = Room(concurrency, 20, load=load), 0
    for _ in range(hosts):
        verdict = decide(JobFacts("x", 0.0), HostFacts(0, proven=False), room, NOW)
        if verdict.verdict == GO:
            gone += 1
            room = replace(room, in_flight=gone, unproven=gone)
    allowed = slots(room)
    assert gone <= max(1, allowed // 2)
    if allowed >= 2:
        assert decide(JobFacts("y", 0.0), HostFacts(0), room, NOW).verdict == GO


def test_a_pass_by_hand_tries_once_what_is_not_due():
    job = JobFacts("a.test", 0.0, last=900.0, retry_at=2000.0)
    room = Room(10, 10)
    assert decide(job, HostFacts(), room, NOW).when == 2000.0
    assert decide(job, HostFacts(), replace(room, force_before=950.0), NOW).verdict == GO
    assert decide(job, HostFacts(), replace(room, force_before=900.0), NOW).verdict == SKIP


def test_what_waits_for_its_host_goes_when_the_host_has_answered():
    job = JobFacts("a.test", 0.0, last=900.0, retry_at=2000.0, waits_for_host=True)
    room = Room(10, 10)
    assert decide(job, HostFacts(answered=899.0), room, NOW).verdict == SKIP
    assert decide(job, HostFacts(answered=901.0), room, NOW).verdict == GO
    own = replace(job, waits_for_host=False)
    assert decide(own, HostFacts(answered=901.0), room, NOW).verdict == SKIP


def test_load_slows_then_stops():
    assert [slots(Room(20, 5, load=level)) for level in (RUN, DELAY, QUEUE_ONLY)] == [20, 5, 0]
