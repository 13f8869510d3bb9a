from hypothesis import given
from hypothesis import strategies as st

from mta.config.model import Retry
from mta.deliver.settling import UNTOLD, fates, spare
from mta.spool.entry import RecipientState
from mta.types import DEFERRED, DELIVERED, FAILED, Mailbox, Outcome, Recipient, Reply
from tests.deliver.fakes import channel

CHANNEL = channel(fail_after=1000.0)
OUTCOMES = st.builds(
    lambda code: Outcome(Reply(code, f"{code // 100}.0.0", "said")),
    st.sampled_from([250, 421, 451, 550, 554]),
)
TOLD = st.dictionaries(st.integers(0, 5), st.tuples(OUTCOMES, st.sampled_from(["", "mx"])))
TRIED = [
    (Recipient(i, Mailbox(f"u{i}", "x.test")), RecipientState(DEFERRED, attempts=i))
    for i in range(6)
]


@given(TOLD, st.floats(0, 2000), st.floats(0, 3000), st.floats(0, 0.99))
def test_n1_n2_each_recipient_gets_its_own_fate(told, age, not_before, jitter):
    made = fates(
        TRIED, told, CHANNEL, arrived=100.0, now=100.0 + age, not_before=not_before, jitter=jitter
    )
    assert [f.recipient for f in made] == [r for r, _ in TRIED]
    for fate in made:
        s = fate.settlement
        outcome, relay = told.get(s.index, (UNTOLD, ""))
        assert s.index == fate.recipient.index and fate.relay == relay and s.at == 100.0 + age
        if outcome.reply.positive:
            assert s.state == DELIVERED and s.outcome == outcome
        elif outcome.reply.permanent:
            assert s.state == FAILED and s.outcome == outcome
        elif age >= 1000:
            assert s.state == FAILED and s.outcome.reply.status == "5.4.7"
            assert str(outcome.reply) in s.outcome.reply.text
        else:
            assert s.state == DEFERRED and s.outcome == outcome
            assert s.at + 1 <= s.retry_at <= max(1100.0, s.at + 1)
            assert s.retry_at >= min(not_before, 1100.0)
        assert (s.retry_at > 0) == (s.state == DEFERRED)


@given(TOLD)
def test_n3_what_cannot_be_told_is_not_failed(told):
    made = fates(TRIED, told, CHANNEL, arrived=100.0, now=200.0)
    spared = spare(made, "no room", 200.0, 260.0)
    assert [f.recipient for f in spared] == [f.recipient for f in made]
    for before, after in zip(made, spared, strict=True):
        if before.settlement.state == FAILED:
            assert after.settlement.state == DEFERRED and after.settlement.retry_at == 260.0
            assert after.settlement.outcome.reply.transient
            assert str(before.settlement.outcome.reply) in after.settlement.outcome.reply.text
        else:
            assert after == before


GREY = Outcome(Reply(451, "4.7.1", "greylisted, come back later"))
BUSY = Outcome(Reply(421, "4.3.2", "busy"))


def times(outcome, **more):
    made = fates(TRIED, dict.fromkeys(range(6), (outcome, "")), arrived=0.0, now=0.0, **more)
    return [fate.settlement.retry_at for fate in made]


def test_each_recipient_has_its_own_schedule_and_greylisting_shortens_the_first_waits():
    patient = channel(fail_after=1e6)
    assert times(BUSY, channel=patient) == [300.0, 600.0, 1200.0, 2400.0, 4800.0, 9600.0]
    assert times(GREY, channel=patient) == [300.0, 300.0, 300.0, 2400.0, 4800.0, 9600.0]


def test_a_host_may_have_rules_of_its_own():
    steps = Retry(1.0, 1.0, 1.0, steps=(60.0, 900.0))
    assert times(BUSY, channel=channel(fail_after=1e6), retry=steps) == [60.0] + [900.0] * 5


def test_the_attempts_of_another_channel_do_not_count():
    first = RecipientState(DEFERRED, 9, 1.0, 2.0, BUSY, "dial", (RecipientState(DEFERRED, 1),))
    told, c = {0: (BUSY, "")}, channel(fail_after=1e6)
    for own, expected in (("", 600.0), ("dial", 14400.0), ("third", 300.0)):
        (fate,) = fates([(TRIED[0][0], first)], told, c, arrived=0.0, now=0.0, own=own)
        assert fate.settlement.retry_at == expected
