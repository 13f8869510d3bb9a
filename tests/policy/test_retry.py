from hypothesis import given
from hypothesis import strategies as st

from mta.policy.retry import expired, expiry, next_try, warning_due
from mta.types import HOST, Outcome, Reply

SECONDS = st.floats(1, 1e6)
FACTOR = st.floats(1, 10)
JITTER = st.floats(0, 1, exclude_max=True)
ATTEMPTS = st.integers(1, 10_000)


@given(ATTEMPTS, SECONDS, FACTOR, SECONDS, JITTER)
def test_r1_the_wait_lies_between_first_and_limit(attempts, first, factor, limit, jitter):
    wait = next_try(attempts, 0.0, first=first, factor=factor, limit=limit, jitter=jitter)
    assert min(first, limit) <= wait <= limit


@given(st.tuples(ATTEMPTS, ATTEMPTS), SECONDS, FACTOR, SECONDS, JITTER)
def test_r2_more_attempts_never_mean_a_shorter_wait(counts, first, factor, limit, jitter):
    fewer, more = sorted(counts)
    waits = [
        next_try(n, 7.0, first=first, factor=factor, limit=limit, jitter=jitter)
        for n in (fewer, more)
    ]
    assert waits[0] <= waits[1]


def test_the_wait_grows_by_the_factor_to_the_limit():
    waits = [next_try(n, 0.0, first=300, factor=2, limit=14400) for n in range(1, 9)]
    assert waits == [300, 600, 1200, 2400, 4800, 9600, 14400, 14400]


@given(st.floats(0, 1e9), st.floats(0, 1e6), SECONDS, SECONDS, st.booleans())
def test_r3_given_up_at_fail_after_and_never_warned_then(arrived, age, warn, fail, warned):
    now = arrived + age
    over = expired(arrived, now, fail)
    assert over == (now - arrived >= fail)
    due = warning_due(arrived, now, warn_after=warn, fail_after=fail, warned=warned)
    assert not (due and (over or warned or now - arrived < warn))
    assert due or over or warned or now - arrived < warn


def test_zero_never_warns():
    assert not warning_due(0.0, 100.0, warn_after=0, fail_after=1000, warned=False)


@given(st.integers(400, 499), st.text(max_size=800))
def test_r4_an_expired_job_fails_with_the_last_reply(code, text):
    failure = expiry(Outcome(Reply(code, "4.4.1", Reply.clean(text)), HOST))
    assert failure.reply.permanent
    assert failure.reply.status == "5.4.7"
    assert failure.reply.text.startswith(f"delivery time expired; last reply: {code} 4.4.1")
    assert failure.reply.text.isprintable()
    assert failure.scope == HOST
