"""Hops: what a channel is told of where its jobs go, read from its text.

    relay     host | host:port | [address]:port | unix:/path  [SP "weight=" 1-1000]
    next hop  [relay] [SP "tls=" level]          of a job; a table row said it

Source   channel(7), tables(5).  Ports: mta.machine.net.
"""

from __future__ import annotations

from mta.machine.net import Endpoint, parse_endpoint
from mta.values import frozen

__all__ = ["LEVELS", "NextHop", "Relay", "parse_next_hop", "parse_relay"]

LEVELS = ("off", "may", "require", "verify", "dane-only")
WEIGHT_MAX = 1000


@frozen
class Relay:
    """One of a channel's relays; of its jobs it gets ``weight`` parts of the sum of all weights."""

    endpoint: Endpoint
    weight: int = 1


@frozen
class NextHop:
    """What a job says of its way: an ``endpoint`` of its own or None, a TLS ``level`` or ""."""

    endpoint: Endpoint | None
    level: str


def parse_relay(text: str, port: int) -> Relay:
    """Read one value of the option ``relay``; ValueError with the reason."""
    place, found, weight = text.partition(" weight=")
    if not found:
        return Relay(parse_endpoint(place, port))
    number = int(weight) if weight.isascii() and weight.isdigit() and len(weight) < 5 else 0
    if not 0 < number <= WEIGHT_MAX:
        raise ValueError(f"{text!r}: the weight is not a number from 1 to {WEIGHT_MAX}")
    return Relay(parse_endpoint(place.rstrip(" "), port), number)


def parse_next_hop(text: str, port: int) -> NextHop:
    """Read the next hop of a job; ValueError with the reason."""
    endpoint, level = None, ""
    for word in text.split(" "):
        name, equals, value = word.partition("=")
        if name == "tls" and equals:
            if level or value not in LEVELS:
                raise ValueError(f"{text!r}: no TLS level; there are {' '.join(LEVELS)}")
            level = value
        elif endpoint is not None or level:
            raise ValueError(f"{text!r} is not a next hop, as host:25 tls=verify")
        elif word:
            endpoint = parse_endpoint(word, port)
    return NextHop(endpoint, level)
