import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.model import (
    Auth,
    Author,
    ByClass,
    Channel,
    Config,
    Daemon,
    Dsn,
    HostRule,
    Limits,
    Listener,
    LoadLimits,
    LocalConfig,
    LogConfig,
    PressureLimits,
    Retry,
    Smtpd,
    Tls,
    flatten,
    rebuild,
)
from mta.errors import ConfigError

TEXT = st.text(max_size=5)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
LOAD = LoadLimits(0.0, 0.0, 0.0, 600_000, PressureLimits(0.0, 0.0, 0.0))
NUMBER = st.floats(0, 1e9)
COUNT = st.integers(0, 1 << 60)


def rows(*parts):
    return st.lists(st.tuples(*parts), max_size=3).map(tuple)


BY_CLASS = st.builds(ByClass, NUMBER, NUMBER, NUMBER)
STEPS = st.lists(NUMBER, max_size=3).map(tuple)
CHANNEL = st.builds(
    Channel, TEXT, TEXT, TEXT, TEXTS, TEXT, TEXTS, *[COUNT] * 4, TEXT, TEXT, TEXT, TEXTS,
    TEXT, COUNT,
    st.builds(Retry, *[NUMBER] * 7, STEPS),
    NUMBER, TEXT, NUMBER, BY_CLASS, BY_CLASS, NUMBER, TEXTS, NUMBER, TEXT, TEXT, rows(TEXT, TEXT),
    TEXT, st.booleans(), NUMBER, NUMBER, st.none() | st.tuples(COUNT, NUMBER), NUMBER, COUNT,
    st.none() | COUNT, COUNT,
)  # fmt: skip
CONFIGS = st.builds(
    Config, TEXT, TEXT, TEXT, TEXT,
    st.builds(LogConfig, TEXT, TEXTS),
    st.builds(LocalConfig, TEXTS, st.none() | TEXTS, TEXT, TEXT, TEXT),
    st.lists(st.builds(Listener, TEXT, TEXT, st.booleans()), max_size=2).map(tuple),
    st.builds(Smtpd, COUNT, TEXT, TEXTS, TEXTS, st.booleans()),
    st.builds(Tls, TEXTS, TEXTS, TEXT),
    st.builds(Auth, TEXT, TEXT, TEXTS),
    TEXTS, TEXTS, TEXTS, TEXT,
    st.builds(Limits, *[COUNT] * 6, NUMBER, NUMBER, *[COUNT] * 8),
    st.builds(LoadLimits, *[NUMBER] * 3, COUNT, st.builds(PressureLimits, *[NUMBER] * 3)),
    st.builds(Dsn, rows(TEXT, TEXT), NUMBER),
    st.lists(st.builds(Author, TEXTS, TEXT, TEXT), max_size=2).map(tuple),
    st.lists(CHANNEL, max_size=2).map(tuple),
    st.lists(
        st.builds(
            HostRule, TEXTS, TEXT, rows(TEXT, NUMBER | STEPS), st.none() | NUMBER,
            st.none() | COUNT,
        ),
        max_size=2,
    ).map(tuple),
    st.lists(st.builds(Daemon, TEXT, COUNT), max_size=2).map(tuple),
    rows(TEXT, rows(COUNT, TEXT, TEXT)),
    rows(TEXT, TEXTS, COUNT),
    COUNT,
)  # fmt: skip


def plain(value):
    if type(value) is tuple:
        return all(plain(v) for v in value)
    return value is None or type(value) in (str, int, float, bool)


@given(CONFIGS)
def test_m1_rebuild_undoes_flatten(config):
    assert rebuild(flatten(config)) == config


@given(CONFIGS)
def test_m2_a_flat_config_is_plain(config):
    assert plain(flatten(config))


@pytest.mark.parametrize("flat", [(), (1,), tuple(range(16)), ((),) * 16])
def test_what_is_no_config_is_not_rebuilt(flat):
    with pytest.raises((TypeError, ValueError)):
        rebuild(flat)


def channel(name: str, queue: str) -> Channel:
    return Channel(
        name, "smtp", queue, (), "", (), 25, 1, 1, 0, "may", "", "", (), "auto", 1,
        Retry(1.0, 2.0, 3.0),
        0.0, "", 1.0, ByClass(0.0, 0.0, 0.0), ByClass(1.0, 1.0, 1.0), 0.0, (), 1.0, "", "", (),
    )  # fmt: skip


def test_channels_and_queues_are_found_by_name():
    nothing = LogConfig("/l", ()), LocalConfig((), None, "mbox", "/m", "")
    listener = (), Smtpd(0, "", (), (), True), Tls((), (), "1.2"), Auth("", "", ())
    limits = Limits(1, 1, 1, 1, 1, 1, 1.0, 1.0, 1, 1, 0, 0, 0, 0, 0, 0)
    rest = *listener, (), (), (), "auto", limits, LOAD, Dsn((), 5.0), ()
    made = (channel("a", "q"), channel("b", "q"), channel("c", "c"))
    tables = (("/t", ((1, "x.test", ""),)),)
    config = Config("/f", "h", "/s", "/r", *nothing, *rest, made, (), (), tables, ())
    assert config.channel("b") is made[1]
    assert config.queues() == ("q", "c")
    assert config.table("/t") == ((1, "x.test", ""),)
    assert config.table("") == ()
    with pytest.raises(ConfigError, match="no channel is called 'd'; there are: a b c"):
        config.channel("d")
