"""Marks of addresses that stand for several: X1, X2, and what jobs are made of them (X3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.route.expanded import EXPANDED, LISTED, MARKS, expansions, for_members
from mta.route.router import Routed, Target
from mta.route.split import make_jobs
from mta.types import NULL_PATH, Mailbox

ME, OWNER = Mailbox("me", "here.test"), Mailbox("owner", "here.test")
ADDRESSES = [Mailbox(name, "here.test") for name in ("one", "two", "three")]
ASKED = st.tuples(
    st.sampled_from(["", "NEVER", "SUCCESS", "FAILURE", "SUCCESS,FAILURE", "FAILURE,DELAY"]),
    st.sampled_from(["", "rfc822;x@y.test"]),
)


def target(address: Mailbox, member: str, owner: Mailbox | None) -> Target:
    mailbox = Mailbox(member, "here.test")
    return Target(mailbox, "", None if mailbox == address else address, "q", "c", "", "", owner)


def routed(address: Mailbox, members: list[str], owner: Mailbox | None) -> Routed:
    return Routed(address, tuple(target(address, m, owner) for m in members), None)


ROUTED = st.tuples(
    *[
        st.builds(
            routed,
            st.just(address),
            st.lists(st.sampled_from([address.local, "a", "b", "c"]), min_size=1, unique=True),
            st.sampled_from([None, None, OWNER]),
        )
        for address in ADDRESSES
    ]
)
DSN = st.dictionaries(st.sampled_from(ADDRESSES), ASKED)
PATHS = st.sampled_from([ME, ME, NULL_PATH])


@given(ROUTED, PATHS, DSN)
def test_x1_there_is_a_mark_where_success_was_asked_of_several(ways, path, dsn) -> None:
    marks = expansions(ways, path, dsn)
    for way in ways:
        asked = "SUCCESS" in dsn.get(way.mailbox, ("", ""))[0] and path != NULL_PATH
        owned = way.targets[0].reverse_path is not None
        several = len(way.targets) > 1
        expected = (LISTED if owned else EXPANDED) if asked and (owned or several) else None
        assert marks.get(way.mailbox) == expected


@given(ASKED)
def test_x2_members_are_asked_for_all_but_success(asked) -> None:
    notify, orcpt = for_members(asked, EXPANDED)
    assert "SUCCESS" not in notify and orcpt == asked[1]
    for word in ("FAILURE", "DELAY"):
        assert (word in notify) == (word in asked[0])
    assert for_members(asked, LISTED) == ("", "")


@given(ROUTED, DSN, st.integers(1, 3))
def test_x3_marks_have_jobs_of_their_own_and_members_lose_success(ways, dsn, most) -> None:
    marks = expansions(ways, ME, dsn)
    targets = [t for way in ways for t in way.targets]
    targets += [Target(m, action, None, "q", "c", "", "", None) for m, action in marks.items()]
    jobs = make_jobs(targets, ME, {"c": most}, dsn, marks)
    made = {r.mailbox: r.action for job in jobs for r in job.recipients if r.action in MARKS}
    assert made == marks
    for job in jobs:
        assert len({r.action in MARKS for r in job.recipients}) == 1
        if job.recipients[0].action in MARKS:
            assert job.reverse_path == ME
            assert all(dsn[r.mailbox] == (r.notify, r.orcpt) for r in job.recipients)
    asked_elsewhere = {
        t.mailbox
        for way in ways
        if way.mailbox not in marks and "SUCCESS" in dsn.get(way.mailbox, ("", ""))[0]
        for t in way.targets
    }
    for job in jobs:
        for r in job.recipients:
            if r.action not in MARKS and "SUCCESS" in r.notify:
                assert r.mailbox in asked_elsewhere
