import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.scalars import size, spell_size, spell_time, time
from mta.config.words import WORDS

ADDRESS_ISH = st.text(alphabet="abz019.:-_[]{}*$/@ ivp", max_size=24)


@given(st.integers(0, 10**12 - 1))
def test_w1_sizes_are_read_as_they_are_written(octets):
    assert size(spell_size(octets)) == octets


@given(st.integers(0, 10**9 - 1))
def test_w1_times_are_read_as_they_are_written(seconds):
    assert time(spell_time(seconds)) == seconds


@given(st.sampled_from(sorted(WORDS)), st.text(max_size=30) | ADDRESS_ISH)
def test_w2_readers_give_clean_values_or_value_errors(word, text):
    try:
        value = WORDS[word].read(text)
    except ValueError as error:
        assert str(error)
        return
    said = "".join(value) if isinstance(value, tuple) else str(value)
    assert not any(c < " " or c == "\x7f" for c in said)


@given(
    st.sampled_from(["count", "load", "factor", "port", "some-size"]),
    st.text("0123456789.eExX+-_: ", max_size=8),
)
def test_w3_numbers_are_plain_decimals(word, text):
    try:
        value = WORDS[word].read(text)
    except ValueError:
        return
    assert text.replace(".", "", 1).isdigit() and text.isascii()
    assert text == "0" or not text.startswith("0") or text.startswith("0.")
    assert value == float(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("1000", 1000), ("512KiB", 524288), ("10MiB", 10485760), ("1GiB", 1 << 30)],
)
def test_sizes(text, octets):
    assert size(text) == octets


@pytest.mark.parametrize(
    "text",
    ["", "10 MiB", "10MB", "10M", "10mib", "1.5MiB", "-1", "+1", "01", "1e3", "MiB", "\u0661"],
)
def test_no_sizes(text):
    with pytest.raises(ValueError):
        size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("2h", 7200), ("5d", 432000), ("1w", 604800), ("0", 0), ("0s", 0)],
)
def test_times(text, seconds):
    assert time(text) == seconds
    assert type(time(text)) is float


@pytest.mark.parametrize(
    "text", ["", "15", "15 m", "m", "1h30m", "1.5h", "-1s", "05m", "10:30", "15M", "\u0661m"]
)
def test_no_times(text):
    with pytest.raises(ValueError):
        time(text)


@pytest.mark.parametrize(
    ("word", "text", "value"),
    [
        ("listener", "127.0.0.1:2525", "127.0.0.1:2525"),
        ("listener", "[::1]:25", "[::1]:25"),
        ("listener", "[0:0::1]:25", "[::1]:25"),
        ("listener", "unix:run/x", "unix:run/x"),
        ("nameserver", "127.0.0.1", "127.0.0.1:53"),
        ("nameserver", "[2001:db8::1]", "[2001:db8::1]:53"),
        ("relay", "Relay.Test:26", "relay.test:26"),
        ("relay", "relay.test", "relay.test"),
        ("relay", "192.0.2.1", "192.0.2.1"),
        ("relay", "[2001:DB8::1]", "[2001:db8::1]"),
        ("relay", "[192.0.2.1]:25", "[192.0.2.1]:25"),
        ("relay", "Relay.Test:26  weight=10", "relay.test:26 weight=10"),
        ("relay", "unix:/run/Dovecot/lmtp", "unix:/run/Dovecot/lmtp"),
        ("address", "2001:DB8::1", "2001:db8::1"),
        ("yes-no", "yes", True),
        ("yes-no", "false", False),
        ("network", "192.0.2.0/24", "192.0.2.0/24"),
        ("network", "2001:db8::/32", "2001:db8::/32"),
        ("network", "192.0.2.1", "192.0.2.1/32"),
        ("host", "MX.Example.Test", "mx.example.test"),
        ("host", "bücher.test", "bücher.test"),
        ("host", "[192.0.2.1]", "[192.0.2.1]"),
        ("host", "[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
        ("pattern", ".Example", ".example"),
        ("pattern", "*", "*"),
        ("mailbox", "maildir:mail/{user}/", ("maildir", "mail/{user}/")),
        ("owner", "owner-{list}@{domain}", "owner-{list}@{domain}"),
        ("program", "/usr/bin/x", "/usr/bin/x"),
    ],
)
def test_words_are_read_in_one_spelling(word, text, value):
    assert WORDS[word].read(text) == value


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("listener", "127.0.0.1:0"),
        ("listener", "127.0.0.1:65536"),
        ("listener", "[127.0.0.1]:25"),
        ("listener", "::1:25"),
        ("listener", "[fe80::1]x:25"),
        ("host", ""),
        ("host", "a..b"),
        ("host", "a.test."),
        ("host", "a_.-b.test"),
        ("host", "x" * 64 + ".test"),
        ("host", ".".join(["abcdefgh"] * 30)),
        ("pattern", "."),
        ("pattern", "a.*"),
        ("mailbox", "mh:{user}"),
        ("mailbox", "mbox:{user"),
        ("owner", "owner-{list}@a@b"),
        ("program", "./x"),
    ],
)
def test_words_are_refused(word, text):
    with pytest.raises(ValueError):
        WORDS[word].read(text)


@pytest.mark.parametrize(
    ("word", "least", "most"),
    [("port", "1", "65535"), ("count", "1", "1000000"), ("factor", "1", "1000")],
)
def test_the_ends_of_a_range_belong_to_it(word, least, most):
    assert WORDS[word].read(least) == int(least)
    assert WORDS[word].read(most) == int(most)
    with pytest.raises(ValueError):
        WORDS[word].read(str(int(most) + 1))


PLACES = ("relay", "listener", "nameserver", "network", "host", "pattern", "address")
TYPED = st.text(alphabet="aB.:[]1-9/* =weightunix", max_size=20) | st.sampled_from(
    ["A.Test:25 weight=7", "unix:/A/b", "[::0:1]:25", "192.0.2.0/24", "[IPv6:::1]", ".X.Test"]
)


@given(st.sampled_from(PLACES), TYPED)
def test_w4_a_place_is_read_back_as_it_was_read(word, text):
    try:
        found = WORDS[word].read(text)
    except ValueError:
        return
    assert WORDS[word].read(found) == found
