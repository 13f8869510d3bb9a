from hypothesis import given
from hypothesis import strategies as st

from mta.policy.deadhosts import DeadHost
from mta.policy.decide import (
    _GATES,
    GO,
    SKIP,
    WAIT,
    Barrier,
    HostFacts,
    JobFacts,
    Room,
    decide,
    slots,
)
from mta.policy.decide import shut as all_shut
from mta.policy.load import DELAY, QUEUE_ONLY, RUN
from mta.policy.select import Bounds
from mta.types import Reply
from mta.values import replace

NOW = 1000.0
TIME = st.just(0.0) | st.floats(1, 2000)
BARRIERS = st.builds(
    Barrier, st.just("root"), TIME, TIME, st.just("why"), st.sampled_from(["", "x"])
)
JOBS = st.builds(
    JobFacts,
    *(st.just("a.test"), st.floats(0, 1000), TIME, TIME, st.booleans(), st.floats(-1e6, 1e6)),
    *(st.none() | BARRIERS, TIME),
)
DEAD = DeadHost("a.test", Reply(421, "4.4.1", "refused"), 5.0)
HOSTS = st.builds(
    HostFacts, st.integers(0, 5), st.booleans(), st.none() | st.just(DEAD), TIME, TIME, TIME, TIME
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
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 3),
    st.just("queue_children"),
    st.sampled_from(["", "turkey"]),
    st.booleans(),
    st.floats(0, 10),
    st.floats(0, 20),
    st.sampled_from([0.0, 600000.0]),
)


@given(JOBS, HOSTS, ROOMS)
def test_p1_a_job_goes_iff_no_gate_is_shut(job, host, room):
    verdict = decide(job, host, room, NOW)
    shut = [v for v in (gate(job, host, room, NOW) for gate in _GATES) if v is not None]
    assert (verdict.verdict == GO) == (not shut) == (verdict.reason == "")
    assert not shut or verdict == shut[0]
    assert shut == all_shut(job, host, room, NOW)
    assert (verdict.gate == "") == (verdict.verdict == GO)
    assert verdict.verdict in (GO, WAIT, SKIP)


@given(JOBS, HOSTS, ROOMS, TIME)
def test_p2_a_first_attempt_does_not_ask_for_a_time(job, host, room, retry_at):
    first = replace(job, last=0.0)
    assert decide(first, host, room, NOW) == decide(
        replace(first, retry_at=retry_at), host, room, NOW
    )


def test_p2_a_first_attempt_that_only_its_schedule_would_keep_goes():
    assert decide(JobFacts("a.test", 0.0, 0.0, 2000.0), HostFacts(), Room(1, 1), NOW).verdict == GO


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


@given(JOBS, HOSTS, ROOMS, st.integers(1, 3), st.floats(0, 20))
def test_p3_tokens_and_a_lower_load_only_help(job, host, room, more, load):
    if decide(job, host, room, NOW).verdict == GO:
        richer = replace(room, tokens=room.tokens + more)
        calmer = replace(richer, load_average=min(load, room.load_average), load=RUN)
        assert decide(job, host, richer, NOW).verdict == GO
        assert decide(job, host, calmer, NOW).verdict == GO


@given(st.integers(1, 50), st.floats(0, 1), st.integers(0, 60))
def test_p6_a_host_gets_its_share_while_others_wait(concurrency, share, mine):
    room = Room(concurrency, 1000, mine, max_share=share, others_wait=True)
    host, job = HostFacts(mine), JobFacts("a.test", 0.0)
    if mine < concurrency:
        assert (decide(job, host, room, NOW).verdict == GO) == (
            mine < max(1, int(concurrency * share))
        )
        assert decide(job, host, replace(room, others_wait=False), NOW).verdict == GO


def test_load_lets_what_is_urgent_through_as_sendmail_does():
    room = Room(20, 5, load=QUEUE_ONLY, load_limit=8.0, load_average=11.0, queue_factor=600000.0)
    assert slots(room) == 5
    small, large = JobFacts("a", 0.0, priority=150000.0), JobFacts("a", 0.0, priority=150001.0)
    assert decide(small, HostFacts(), room, NOW).verdict == GO
    verdict = decide(large, HostFacts(), room, NOW)
    assert (verdict.verdict, verdict.scope, verdict.gate) == (WAIT, "message", "load")


def test_an_operators_word_stands_before_all():
    room = Room(1, 1, in_flight=1)
    hold, past = Barrier("root", 900.0, why="look at it"), Barrier("root", 900.0, 999.0)
    held = decide(JobFacts("a", 0.0, barrier=hold), HostFacts(), room, NOW)
    assert (held.gate, held.by, held.since) == ("hold", "root", 900.0)
    assert held.reason == "the job is held: look at it"
    later = Barrier("root", 900.0, 2000.0, what="host a")
    suspended = decide(JobFacts("a", 0.0, barrier=later), HostFacts(), room, NOW)
    assert (suspended.gate, suspended.when) == ("suspended", 2000.0)
    assert decide(JobFacts("a", 0.0, barrier=past), HostFacts(), Room(1, 1), NOW).verdict == GO


def test_a_demoted_host_is_the_slow_channels_and_nobody_elses():
    job, demoted = JobFacts("a", 0.0), HostFacts(demoted=500.0)
    origin, slow = Room(9, 9, demote_to="turkey"), Room(9, 9, slow_lane=True)
    assert decide(job, demoted, origin, NOW).gate == "lane"
    assert decide(job, demoted, slow, NOW).verdict == GO
    assert decide(job, HostFacts(), origin, NOW).verdict == GO
    assert decide(job, HostFacts(), slow, NOW).gate == "lane"
    assert decide(job, demoted, Room(9, 9), NOW).verdict == GO


def test_what_was_made_due_goes_once():
    job = JobFacts("a.test", 0.0, last=900.0, retry_at=2000.0, due_since=950.0)
    assert decide(job, HostFacts(), Room(1, 1), NOW).verdict == GO
    assert decide(replace(job, last=960.0), HostFacts(), Room(1, 1), NOW).gate == "due"


@given(JOBS, HOSTS, ROOMS, st.floats(1, 3000))
def test_p4_what_named_a_time_is_open_then(job, host, room, more):
    verdict = decide(job, host, room, NOW)
    if verdict.when and verdict.gate != "age":
        later = decide(job, host, room, verdict.when + more)
        assert later.gate != verdict.gate


@given(JOBS, HOSTS, ROOMS, st.integers(1, 9))
def test_p3_a_wider_channel_only_helps(job, host, room, more):
    wider = replace(room, concurrency=room.concurrency + more, per_host=room.per_host + more)
    if decide(job, host, room, NOW).verdict == GO:
        assert decide(job, host, wider, NOW).verdict == GO
    assert len(all_shut(job, host, wider, NOW)) <= len(all_shut(job, host, room, NOW))


@given(JOBS, HOSTS, ROOMS)
def test_p3_what_takes_a_keeper_away_only_helps(job, host, room):
    keepers = {v.gate for v in all_shut(job, host, room, NOW)}
    freer = [
        (replace(job, barrier=None), host, room),
        (job, replace(host, dead=None, dead_until=0.0), room),
        (replace(job, due_since=NOW), host, room),
        (job, replace(host, rate_at=0.0), room),
        (job, replace(host, in_flight=0), room),
        (job, host, replace(room, paused_until=0.0)),
        (job, host, replace(room, bounds=Bounds())),
        (job, host, replace(room, others_wait=False)),
    ]
    for facts in freer:
        assert {v.gate for v in all_shut(*facts, NOW)} <= keepers
