from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.machine.net import Endpoint, numeric, parse_endpoint, reason


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("mx.example.test", Endpoint("mx.example.test", 25)),
        ("MX.Example.Test:2525", Endpoint("mx.example.test", 2525)),
        ("192.0.2.1", Endpoint("192.0.2.1", 25)),
        ("192.0.2.1:26", Endpoint("192.0.2.1", 26)),
        ("[192.0.2.1]", Endpoint("192.0.2.1", 25)),
        ("[192.0.2.1]:26", Endpoint("192.0.2.1", 26)),
        ("2001:DB8::1", Endpoint("2001:db8::1", 25)),
        ("[2001:db8:0::1]", Endpoint("2001:db8::1", 25)),
        ("[2001:db8::1]:26", Endpoint("2001:db8::1", 26)),
        ("[IPv6:2001:db8::1]:26", Endpoint("2001:db8::1", 26)),
        ("3com.example", Endpoint("3com.example", 25)),
        ("localhost:65535", Endpoint("localhost", 65535)),
        ("unix:/run/Dovecot/lmtp", Endpoint("unix:/run/Dovecot/lmtp", 0)),
    ],
)
def test_endpoint(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text, 25) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("", ":25", "host:", "host:0", "host:65536", "host:x", "host:٣", "a b", "a:b:25"),
        *("[host]:25", "[::1", "::1]:25", "host:25:25", "a\nb", "a,b", "user@host/x:25", "host:-1"),
    ],
)
def test_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"port is not|is not host"):
        parse_endpoint(text, 25)


@pytest.mark.parametrize("path", ["", "run/x", "/a b", "/a\n", "/" + "x" * 107])
def test_no_socket_of_the_file_system(path: str) -> None:
    with pytest.raises(ValueError, match=r"unix:|octets"):
        parse_endpoint("unix:" + path, 25)
    assert parse_endpoint("unix:/" + "x" * 106, 25).port == 0


@given(st.text(max_size=30))
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        found = parse_endpoint(text, 25)
    except ValueError:
        return
    assert found.host
    assert found.host.isprintable()
    assert 0 < found.port < 65536


@given(st.ip_addresses())
def test_addresses_are_numeric_and_names_are_not(address: object) -> None:
    assert numeric(str(address)) == str(address)
    assert numeric(f"[{address}]") == str(address)
    assert numeric(f"{address}.example") == ""


def test_relay_is_the_word_of_the_log() -> None:
    assert Endpoint("mx.example.test", 25).relay("192.0.2.1") == "mx.example.test[192.0.2.1]:25"
    assert Endpoint("unix:/run/lmtp", 0).relay("unix:/run/lmtp") == "localhost[/run/lmtp]"


def test_reasons_are_words() -> None:
    assert reason(None) == "closed by the other end"
    assert reason(TimeoutError()) == "timed out"
    assert reason(ConnectionRefusedError(errno.ECONNREFUSED, "x")) == "Connection refused"
    assert reason(TimeoutError(errno.ETIMEDOUT, "x")) == "Connection timed out"
    assert reason(OSError()) == "OSError"
