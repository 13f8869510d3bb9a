"""What hypothesis draws from to make records of the channel protocol."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from mta.channel.records import Dispatch
from mta.types import NULL_PATH, Mailbox, Outcome, Recipient, Reply

SCOPES = ("recipient", "message", "host", "channel")

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
mailboxes = st.builds(
    Mailbox, names, st.sampled_from(("example.test", "[192.0.2.1]", "ümläut.test", ""))
)
recipients = st.builds(
    Recipient,
    st.integers(0, 10**9),
    mailboxes,
    texts,
    st.none() | mailboxes,
    st.sampled_from(("", "", "NEVER", "SUCCESS,FAILURE")),
    st.just("") | texts,
)
replies = st.builds(
    lambda degree, rest, subject, detail, text: Reply(
        100 * degree + rest, f"{degree}.{subject}.{detail}", Reply.clean(text)
    ),
    st.sampled_from((2, 4, 5)),
    st.integers(0, 99),
    st.integers(0, 999),
    st.integers(0, 999),
    texts,
)
outcomes = st.builds(Outcome, replies, st.sampled_from(SCOPES))
dispatches = st.builds(
    Dispatch,
    st.integers(1, 10**9),
    texts,
    st.just(NULL_PATH) | mailboxes,
    st.integers(0, 10**12),
    st.floats(0, 1e15, allow_nan=False),
    texts,
    texts,
    st.booleans(),
    st.booleans(),
    st.lists(recipients, min_size=1, max_size=5, unique_by=lambda r: r.index).map(tuple),
    st.sampled_from(("", "", "FULL", "HDRS")),
    st.just("") | texts,
    st.booleans(),
    st.booleans(),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces that end at ``places`` (taken modulo its length)."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]
