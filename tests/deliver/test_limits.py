from hypothesis import given
from hypothesis import strategies as st

from mta.config.model import ByClass
from mta.deliver.limits import gives_up, warns
from mta.spool.states import Envelope
from mta.types import NULL_PATH
from tests.deliver.fakes import channel

TIMES = st.sampled_from([0.0, 100.0, 1000.0, 5000.0])
CHANNELS = st.builds(
    lambda warn, fail: channel(warn_after=warn, fail_after=fail),
    st.builds(ByClass, TIMES, TIMES, TIMES),
    st.builds(ByClass, *[st.sampled_from([100.0, 1000.0, 5000.0])] * 3),
)
ENVELOPES = st.builds(
    lambda kind, precedence, expires: Envelope(
        "ID", NULL_PATH, 1, kind=kind, precedence=precedence, expires=expires
    ),
    st.sampled_from(["urgent", "normal", "bulk"]),
    st.sampled_from([-60, 0, 100]),
    st.sampled_from([0.0, 1050.0, 9000.0]),
)


@given(CHANNELS, ENVELOPES)
def test_y1_the_sooner_of_both_ends_counts(channel, envelope):
    over = 1000.0 + channel.fail_after.of(envelope.kind)
    assert gives_up(channel, envelope, 1000.0) == min(over, envelope.expires or over)


@given(CHANNELS, ENVELOPES)
def test_y2_a_warning_comes_before_the_end_or_not_at_all(channel, envelope):
    at = warns(channel, envelope, 1000.0)
    wait = channel.warn_after.of(envelope.kind)
    wanted = wait and envelope.precedence >= 0
    assert at in (0.0, 1000.0 + wait)
    assert (at > 0) == bool(wanted and 1000.0 + wait < gives_up(channel, envelope, 1000.0))
