"""The texts of relays and next hops."""

from __future__ import annotations

import pytest

from mta.machine.hops import NextHop, Relay, parse_next_hop, parse_relay
from mta.machine.net import Endpoint


@pytest.mark.parametrize(
    ("text", "relay"),
    [
        ("hub.example.test", Relay(Endpoint("hub.example.test", 25))),
        ("hub.example.test:587 weight=3", Relay(Endpoint("hub.example.test", 587), 3)),
        ("[2001:db8::1]:26  weight=1000", Relay(Endpoint("2001:db8::1", 26), 1000)),
        ("unix:/run/dovecot/lmtp", Relay(Endpoint("unix:/run/dovecot/lmtp", 0))),
        ("unix:/run/lmtp weight=2", Relay(Endpoint("unix:/run/lmtp", 0), 2)),
    ],
)
def test_relays(text: str, relay: Relay) -> None:
    assert parse_relay(text, 25) == relay


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "host:0",
        "host weight=0",
        "host weight=1001",
        "host weight=-1",
        "host weight=",
        "host weight=¹",
        "unix:relative",
        "unix:/a b",
        "unix:/a\x00",
        " weight=3",
    ],
)
def test_what_is_no_relay(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_relay(text, 25)


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("", NextHop(None, "")),
        ("hub.example.test", NextHop(Endpoint("hub.example.test", 25), "")),
        ("hub:26 tls=verify", NextHop(Endpoint("hub", 26), "verify")),
        ("tls=dane-only", NextHop(None, "dane-only")),
        ("unix:/run/lmtp tls=off", NextHop(Endpoint("unix:/run/lmtp", 0), "off")),
    ],
)
def test_next_hops(text: str, hop: NextHop) -> None:
    assert parse_next_hop(text, 25) == hop


@pytest.mark.parametrize(
    "text", ["host:port", "tls=", "tls=much", "tls=may tls=may", "a b", "tls=may host", "a tls"]
)
def test_what_is_no_next_hop(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_next_hop(text, 25)
