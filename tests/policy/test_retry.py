from hypothesis import given
from hypothesis import strategies as st

from mta.policy.retry import GREYLIST_TRIES, expired, expiry, next_try, warning_due
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


STEPS = st.lists(SECONDS, min_size=1, max_size=5)
RULES = st.fixed_dictionaries(
    {
        "first": SECONDS, "factor": FACTOR, "limit": SECONDS, "spread": st.floats(0, 1),
        "steps": st.just(()) | STEPS, "age": st.floats(0, 1e6), "jitter": JITTER,
        "max_age": st.just(0.0) | SECONDS,
    }
)  # fmt: skip


@given(ATTEMPTS, STEPS, st.floats(0, 1), JITTER)
def test_r1_r2_steps_are_taken_one_by_one_and_the_last_again(attempts, steps, spread, jitter):
    said = {"first": 1.0, "factor": 2.0, "limit": 2.0, "spread": spread}
    step = steps[min(attempts, len(steps)) - 1]
    wait = next_try(attempts, 0.0, **said, steps=steps, jitter=jitter)
    assert step <= wait <= step * (1 + spread)
    rising = sorted(steps)
    waits = [
        next_try(n, 0.0, **said, steps=rising, jitter=jitter) for n in (attempts, attempts + 1)
    ]
    assert waits[0] <= waits[1]


@given(ATTEMPTS, RULES, SECONDS, st.just(0.0) | SECONDS)
def test_r5_no_wait_is_shorter_than_min_age(attempts, rules, min_age, greylist):
    wait = next_try(attempts, 0.0, **rules, min_age=min_age, greylist=greylist)
    assert wait >= min_age
    assert wait == max(next_try(attempts, 0.0, **rules, greylist=greylist), min_age)


@given(ATTEMPTS, RULES, SECONDS)
def test_r6_with_max_age_a_wait_is_the_age(attempts, rules, max_age):
    wait = next_try(attempts, 0.0, **{**rules, "max_age": max_age})
    least = min(max(rules["age"], rules["first"]), max_age)
    assert least <= wait <= min(least * (1 + rules["spread"]), max_age)


def test_max_age_doubles_the_age_as_sendmail_does():
    age, waits = 0.0, []
    for attempts in range(1, 8):
        waits.append(next_try(attempts, 0.0, first=300, factor=2, limit=1, age=age, max_age=14400))
        age += waits[-1]
    assert waits == [300, 300, 600, 1200, 2400, 4800, 9600]


@given(ATTEMPTS, RULES, SECONDS)
def test_r7_greylisting_only_shortens_the_first_waits(attempts, rules, greylist):
    plain = next_try(attempts, 0.0, **rules)
    grey = next_try(attempts, 0.0, **rules, greylist=greylist)
    assert grey <= plain
    if attempts > GREYLIST_TRIES:
        assert grey == plain
    else:
        assert grey <= greylist * (1 + rules["spread"])


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
