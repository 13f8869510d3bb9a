"""The options of smtp and lmtp."""

from __future__ import annotations

import pytest

from mta.channel.records import Opening
from mta.errors import ConfigError
from mta.machine.hops import Relay
from mta.machine.net import Endpoint
from mta.machine.outward import Settings, settings

NAME = "mx.example.test"


def opening(*options: tuple[str, str]) -> Opening:
    return Opening("channel", "queue", NAME, options)


def test_all_of_them() -> None:
    read = settings(
        opening(
            ("relay", "a.example.test weight=3"),
            ("relay", "[::1]:26"),
            ("port", "2525"),
            ("per_host", "3"),
            ("nameserver", "127.0.0.1:5300"),
            ("hostname", "out.example.test"),
            ("tls", "verify"),
            ("ca", "/etc/ca.pem"),
            ("credentials", "/etc/credentials"),
            ("source", "192.0.2.1"),
            ("source", "2001:DB8::1"),
            ("mta_sts", "no"),
            ("trust_ad", "yes"),
            ("own_address", "192.0.2.9"),
        )
    )
    assert read == Settings(
        "out.example.test",
        (Relay(Endpoint("a.example.test", 2525), 3), Relay(Endpoint("::1", 26))),
        2525,
        3,
        (Endpoint("127.0.0.1", 5300),),
        1.0,
        False,
        "verify",
        "/etc/ca.pem",
        "/etc/credentials",
        ("192.0.2.1", "2001:db8::1"),
        False,
        "yes",
        ("out.example.test", NAME),
        ("192.0.2.9",),
    )


def test_none_of_them() -> None:
    assert settings(opening()) == Settings(NAME, mta_sts=True, names=(NAME,))
    relay = (Relay(Endpoint("unix:/run/lmtp", 0)),)
    read = settings(opening(("relay", "unix:/run/lmtp")), lmtp=True)
    assert read == Settings(NAME, relay, 24, lmtp=True, names=(NAME,))


@pytest.mark.parametrize(
    ("said", "port", "relay", "looked"),
    [
        ("auto", "25", "", True),
        ("auto", "26", "", False),
        ("auto", "25", "hub.example.test", False),
        ("yes", "26", "hub.example.test", True),
        ("no", "25", "", False),
    ],
)
def test_when_mta_sts_is_looked_at(said: str, port: str, relay: str, looked: bool) -> None:
    options = [("mta_sts", said), ("port", port)] + ([("relay", relay)] if relay else [])
    assert settings(opening(*options)).mta_sts is looked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"),
        ("port", "0"),
        ("port", "65536"),
        ("per_host", "0"),
        ("relay", "a:b"),
        ("relay", "a weight=0"),
        ("nameserver", "ns.example.test"),
        ("nameserver", "1.2.3.4:x"),
        ("timeout_scale", "0"),
        ("timeout_scale", "nan"),
        ("tls", "always"),
        ("mta_sts", "maybe"),
        ("trust_ad", ""),
        ("source", "eth0"),
        ("own_address", "me"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        settings(opening((name, value)))


def test_lmtp_does_not_look_at_mta_sts() -> None:
    options = opening(("relay", "unix:/run/lmtp"), ("mta_sts", "yes"))
    assert settings(options).mta_sts
    assert not settings(options, lmtp=True).mta_sts


def test_lmtp_needs_a_relay() -> None:
    with pytest.raises(ConfigError, match="relay"):
        settings(opening(), lmtp=True)
