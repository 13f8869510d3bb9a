"""Splitting targets into jobs: R14 to R18."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.route.router import Target
from mta.route.split import make_jobs
from mta.types import NULL_PATH, Job, Mailbox, ReversePath

ME = Mailbox("me", "here.test")
OWNER = Mailbox("owner-list", "here.test")

locals_ = st.sampled_from(["a", "b", "c", "A"])
targets = st.builds(
    lambda local, host, action, channel, hop, owner: Target(
        Mailbox(local, host or "here.test"), action, None, "q" + channel, channel, host, hop, owner
    ),
    locals_,
    st.sampled_from(["", "x.test", "y.test"]),
    st.sampled_from(["", "", "|run"]),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["", "", "hop:25"]),
    st.sampled_from([None, None, OWNER]),
)
many = st.lists(targets, max_size=30)
limits = st.dictionaries(st.sampled_from(["one", "two"]), st.integers(1, 4))
paths = st.sampled_from([ME, NULL_PATH])


def same(target: Target) -> tuple[str, str, str]:
    local = target.mailbox.local
    return (local if target.host else local.lower(), target.mailbox.domain, target.action)


def shared(job: Job) -> tuple[str, str, str, str, ReversePath]:
    return (job.queue, job.channel, job.host, job.next_hop, job.reverse_path)


@given(many, paths, limits)
def test_r14_each_target_once(ts: list[Target], path: ReversePath, most: dict[str, int]) -> None:
    first: dict[tuple[str, str, str], Target] = {}
    for t in ts:
        first.setdefault(same(t), t)
    jobs = make_jobs(ts, path, most)
    made = {r.index: (r, job) for job in jobs for r in job.recipients}
    assert len(made) == sum(len(job.recipients) for job in jobs) == len(first)
    for index, target in enumerate(first.values()):
        recipient, job = made[index]
        assert (recipient.mailbox, recipient.action) == (target.mailbox, target.action)
        assert (job.queue, job.channel, job.host) == (target.queue, target.channel, target.host)
        assert job.next_hop == target.next_hop


@given(many, paths, limits)
def test_r15_bounds(ts: list[Target], path: ReversePath, most: dict[str, int]) -> None:
    jobs = make_jobs(ts, path, most)
    for job in jobs:
        assert 0 < len(job.recipients) <= most.get(job.channel, len(ts))
    groups: dict[object, list[int]] = {}
    for job in jobs:
        groups.setdefault(shared(job), []).append(len(job.recipients))
    for key, sizes in groups.items():  # no job that a fuller one could have spared
        assert all(size == most.get(key[1]) for size in sizes[:-1])


@given(many, paths, limits)
def test_r16_order(ts: list[Target], path: ReversePath, most: dict[str, int]) -> None:
    jobs = make_jobs(ts, path, most)
    assert [job.number for job in jobs] == list(range(len(jobs)))
    indexes = [r.index for job in jobs for r in job.recipients]
    assert sorted(indexes) == list(range(len(indexes)))
    groups: dict[object, list[int]] = {}
    for job in jobs:
        groups.setdefault(shared(job), []).extend(r.index for r in job.recipients)
    assert all(group == sorted(group) for group in groups.values())
    assert [g[0] for g in groups.values()] == sorted(g[0] for g in groups.values())
    assert make_jobs(ts, path, most) == jobs


@given(many, limits)
def test_r17_null_stays_null(ts: list[Target], most: dict[str, int]) -> None:
    assert {job.reverse_path for job in make_jobs(ts, NULL_PATH, most)} <= {NULL_PATH}
    assert {job.reverse_path for job in make_jobs(ts, ME, most)} <= {ME, OWNER}


NOTIFY = st.sampled_from(["", "NEVER", "SUCCESS", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"])


@given(many, st.dictionaries(st.builds(Mailbox, locals_, st.just("x.test")), NOTIFY))
def test_r18_what_was_asked_goes_with_every_target(
    ts: list[Target], asked: dict[Mailbox, str]
) -> None:
    dsn = {box: (notify, f"rfc822;{box}") for box, notify in asked.items()}
    for job in make_jobs(ts, ME, {}, dsn):
        for r in job.recipients:
            assert (r.notify, r.orcpt) == dsn.get(r.mailbox, ("", ""))
    plain = make_jobs(ts, ME, {})
    assert make_jobs(ts, ME, {}, {}) == plain
    assert all(r.notify == r.orcpt == "" for job in plain for r in job.recipients)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("NEVER", "", ""),
        ("", "NEVER", ""),
        ("NEVER", "NEVER", "NEVER"),
        ("SUCCESS", "NEVER", "SUCCESS"),
        ("SUCCESS", "", "SUCCESS,FAILURE,DELAY"),
        ("DELAY", "SUCCESS", "SUCCESS,DELAY"),
    ],
)
def test_r18_a_target_of_two_addresses_gets_what_both_asked_for(
    one: str, other: str, both: str
) -> None:
    staff, bob = Mailbox("staff", "here.test"), Mailbox("bob", "here.test")

    def target(original: Mailbox | None) -> Target:
        return Target(bob, "", original, "q", "local", "", "", None)

    dsn = {staff: (one, "rfc822;s@x"), bob: (other, "rfc822;b@x")}
    (job,) = make_jobs([target(staff), target(None)], ME, {}, dsn)
    (recipient,) = job.recipients
    assert (recipient.notify, recipient.orcpt) == (both, "rfc822;s@x")


def test_an_owner_makes_a_job_of_its_own() -> None:
    def at(local: str, owner: Mailbox | None) -> Target:
        asked = Mailbox("list", "here.test") if owner else None
        return Target(Mailbox(local, "x.test"), "", asked, "q", "smtp", "x.test", "", owner)

    jobs = make_jobs([at("a", None), at("b", OWNER), at("a", OWNER), at("c", None)], ME, {})
    shown = [
        (str(j.reverse_path), [(r.index, r.mailbox.local) for r in j.recipients]) for j in jobs
    ]
    assert shown == [
        ("me@here.test", [(0, "a"), (2, "c")]),
        ("owner-list@here.test", [(1, "b")]),
    ]
    assert jobs[1].recipients[0].original == Mailbox("list", "here.test")


def test_our_users_have_no_case_and_others_may() -> None:
    def at(local: str, host: str) -> Target:
        box = Mailbox(local, host or "here.test")
        return Target(box, "", None, "q", "c", host, "", None)

    jobs = make_jobs([at("Bob", ""), at("bob", ""), at("Bob", "x"), at("bob", "x")], ME, {})
    assert [[str(r.mailbox) for r in job.recipients] for job in jobs] == [
        ["Bob@here.test"],
        ["Bob@x", "bob@x"],
    ]


def test_nothing() -> None:
    assert make_jobs([], ME, {}) == ()
