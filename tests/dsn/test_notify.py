import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.notify import DELAY, FAILURE, SUCCESS, envid_of, notify_of, ret_of, wanted

WORDS = st.lists(st.sampled_from([SUCCESS, FAILURE, DELAY]), min_size=1, unique=True)


@given(WORDS, st.booleans(), st.sampled_from([",", ", "]))
def test_d1_nothing_that_was_asked_for_is_lost(words, lower, comma):
    text = comma.join(words)
    notify = notify_of(text.lower() if lower else text)
    assert {what for what in (SUCCESS, FAILURE, DELAY) if wanted(notify, what)} == set(words)
    assert notify_of(notify) == notify


def test_d2_never_and_nothing():
    assert notify_of("never") == "NEVER"
    assert not any(wanted("NEVER", what) for what in (SUCCESS, FAILURE, DELAY))
    assert [wanted("", what) for what in (SUCCESS, FAILURE, DELAY)] == [False, True, True]


@pytest.mark.parametrize("text", ["", "never,failure", "sometimes", "SUCCESS;DELAY", "success,"])
def test_what_is_no_notify_is_refused(text):
    with pytest.raises(ValueError, match="NOTIFY"):
        notify_of(text)


def test_ret_and_envid():
    assert (ret_of("full"), ret_of("HDRS")) == ("FULL", "HDRS")
    with pytest.raises(ValueError, match="RET"):
        ret_of("all")
    assert envid_of("QQ 314+15=9") == "QQ 314+15=9"
    for text in ("", "x" * 101, "\x1b", "\xfc"):
        with pytest.raises(ValueError, match="ENVID"):
            envid_of(text)
