"""Outward: the options of the channels smtp and lmtp, read.

Source   smtp(8), lmtp(8), channel(7).
"""

from __future__ import annotations

from mta.channel.records import Opening
from mta.errors import ConfigError
from mta.machine.hops import LEVELS, Relay, parse_relay
from mta.machine.net import Endpoint, numeric, parse_endpoint
from mta.values import frozen

__all__ = ["LMTP_PORT", "SMTP_PORT", "Settings", "settings"]

SMTP_PORT = 25
LMTP_PORT = 24
_TRUST = ("auto", "yes", "no")
_STS = ("auto", "yes", "no")


@frozen
class Settings:
    """The channel's options; ``hostname`` is what we say in EHLO.

    ``names`` are all our own, and ``addresses`` where we take mail at ``port``.
    """

    hostname: str
    relays: tuple[Relay, ...] = ()
    port: int = SMTP_PORT
    per_host: int = 20
    nameservers: tuple[Endpoint, ...] = ()
    scale: float = 1.0  # of all time limits; tests make them short
    lmtp: bool = False
    tls: str = "may"
    ca: str = ""
    credentials: str = ""
    sources: tuple[str, ...] = ()
    mta_sts: bool = False
    trust_ad: str = "auto"
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


def settings(opening: Opening, lmtp: bool = False) -> Settings:
    """Read the options that deliver sent; ConfigError names the one that is wrong."""
    port = int(_number(opening, "port", str(LMTP_PORT if lmtp else SMTP_PORT), 65535))
    nameservers = tuple([_nameserver(text) for text in opening.every("nameserver")])
    relays = tuple([_relay(text, port) for text in opening.every("relay")])
    if lmtp and not relays:
        raise ConfigError("option relay: lmtp needs one, as unix:/path or host:24")
    hostname = opening.option("hostname", opening.hostname)
    sts = _word(opening, "mta_sts", "auto", _STS)
    return Settings(
        hostname,
        relays,
        port,
        int(_number(opening, "per_host", "20", 10_000)),
        nameservers,
        _number(opening, "timeout_scale", "1", 1000),
        lmtp,
        _word(opening, "tls", "may", LEVELS),
        opening.option("ca"),
        opening.option("credentials"),
        tuple([_address("source", text) for text in opening.every("source")]),
        not lmtp and (sts == "yes" or (sts == "auto" and port == SMTP_PORT and not relays)),
        _word(opening, "trust_ad", "auto", _TRUST),
        tuple(dict.fromkeys([hostname.lower(), opening.hostname.lower()])),
        tuple([_address("own_address", text) for text in opening.every("own_address")]),
    )


def _number(opening: Opening, name: str, default: str, most: int) -> float:
    text = opening.option(name, default)
    try:
        number = float(text) if name == "timeout_scale" else int(text)
    except ValueError:
        number = 0
    if not 0 < number <= most:
        raise ConfigError(f"option {name}: {text!r} is not a number above 0 and up to {most}")
    return number


def _word(opening: Opening, name: str, default: str, words: tuple[str, ...]) -> str:
    text = opening.option(name, default)
    if text not in words:
        raise ConfigError(f"option {name}: {text!r} is none of {' '.join(words)}")
    return text


def _relay(text: str, port: int) -> Relay:
    try:
        return parse_relay(text, port)
    except ValueError as error:
        raise ConfigError(f"option relay: {error}") from None


def _nameserver(text: str) -> Endpoint:
    try:
        endpoint = parse_endpoint(text, 53)
    except ValueError as error:
        raise ConfigError(f"option nameserver: {error}") from None
    if not numeric(endpoint.host):
        raise ConfigError("option nameserver: a name server is given by its address")
    return endpoint


def _address(name: str, text: str) -> str:
    address = numeric(text)
    if not address:
        raise ConfigError(f"option {name}: {text!r} is not an address")
    return address
