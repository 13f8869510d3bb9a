"""Places of mta.yaml: hosts, patterns, relays, addresses, networks, each read from its text.

A reader returns the one spelling that is compared, in lower case, or raises
ValueError with a reason for the person who typed the text.

Invariants, each a property in tests/config/test_scalars.py
    W4   What a reader returns, it reads back unchanged.
"""

from __future__ import annotations

import ipaddress
import re

from mta.config.scalars import integer, path, printable

__all__ = [
    "TLS_LEVELS",
    "address",
    "hop",
    "host",
    "listener",
    "nameserver",
    "network",
    "pattern",
    "queue_place",
    "relay",
    "suffix_or_host",
    "tls_level",
    "weighted_relay",
]

TLS_LEVELS = ("off", "may", "require", "verify", "dane-only")

_USUAL_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_HOP = re.compile(r"(?P<relay>(?!tls=)[^ ]+)?(?:(?:^| +)tls=(?P<tls>[^ ]*))?")
_WEIGHTED = re.compile(r"(?P<relay>[^ ]+)(?: +weight=(?P<weight>[^ ]*))?")


def host(text: str) -> str:
    """A domain name in lower case, or an address literal in brackets."""
    if len(text) <= 253 and _USUAL_HOST.fullmatch(text):
        return text  # tables of 100,000 names are read here
    printable(text)
    if text.startswith("["):
        return _literal(text)
    lower = text.lower()
    labels = lower.split(".")
    if len(lower) > 253 or any(not 1 <= len(label) <= 63 for label in labels):
        raise ValueError("is not a host name: labels of 1 to 63 characters, 253 in all")
    for label in labels:
        inside = label.replace("-", "a").replace("_", "a")
        if not inside.isalnum() or label[0] == "-" or label[-1] == "-":
            raise ValueError("is not a host name: letters, digits and inner hyphens")
    if labels[-1].isdigit():
        raise ValueError(f"is not a host name; an address is written [{text}]")
    return lower


def _literal(text: str) -> str:
    """Read "[192.0.2.1]" or "[IPv6:2001:db8::1]" as mail addresses have it."""
    inside = text[1:-1].lower()
    if not text.endswith("]"):
        raise ValueError("lacks the closing bracket")
    try:
        if inside.startswith("ipv6:"):
            return f"[ipv6:{ipaddress.IPv6Address(inside[5:])}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise ValueError("is not an address literal, as [192.0.2.1]") from None


def pattern(text: str) -> str:
    """What a channel knows: a host, ".suffix" for all below it, "*", or "$local"."""
    if text in ("*", "$local"):
        return text
    return suffix_or_host(text)


def suffix_or_host(text: str) -> str:
    """A host, or ".suffix" for all hosts below it."""
    if text.startswith("$") or "*" in text:
        raise ValueError('is not a pattern; there are "$local", "*", ".suffix" and host names')
    return "." + host(text[1:]) if text.startswith(".") else host(text)


def _split_port(text: str, default: int | None) -> tuple[str, int | None]:
    """Take "host:port", "[address]:port" or either alone apart; brackets are dropped."""
    read_port = integer(1, 65535)
    try:
        if text.startswith("["):
            inside, closed, rest = text[1:].partition("]")
            if not closed or (rest and not rest.startswith(":")):
                raise ValueError
            return inside, read_port(rest[1:]) if rest else default
        before, colon, port = text.partition(":")
        return before, read_port(port) if colon else default
    except ValueError:
        raise ValueError("has no good port, as in 192.0.2.1:25 or [2001:db8::1]:25") from None


def relay(text: str) -> str:
    """A next hop: "host", "host:port", "192.0.2.1:25", "[2001:db8::1]:25" or "unix:/path"."""
    if text.startswith("unix:"):
        return _socket_path(text)
    printable(text)
    where, port = _split_port(text, None)
    tail = "" if port is None else f":{port}"
    if text.startswith("["):
        return f"[{address(where.lower().removeprefix('ipv6:'))}]{tail}"
    try:
        return f"{ipaddress.IPv4Address(where)}{tail}"
    except ValueError:
        return f"{host(where)}{tail}"


def address(text: str) -> str:
    """An IP address, in its one canonical form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address") from None


def _endpoint(text: str, default: int | None) -> str:
    where, port = _split_port(printable(text), default)
    found = address(where)
    if port is None:
        raise ValueError("needs a port, as in 192.0.2.1:25 or [2001:db8::1]:25")
    if (":" in found) != text.startswith("["):
        raise ValueError("is written 192.0.2.1:25, or [2001:db8::1]:25 for IPv6")
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"


def listener(text: str) -> str:
    """Where to listen: "192.0.2.1:25", "[2001:db8::1]:25" or "unix:path"."""
    if text.startswith("unix:"):
        if not text.removeprefix("unix:"):
            raise ValueError("names no path")
        return printable(text)
    return _endpoint(text, None)


def nameserver(text: str) -> str:
    """A resolver: an address with or without a port; 53 if without."""
    return _endpoint(text, 53)


def network(text: str) -> str:
    """A network in CIDR form, or one address."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        if "host bits" in str(error):
            suggestion = ipaddress.ip_network(text, strict=False)
            raise ValueError(f"has bits beyond its mask; write {suggestion}") from None
        raise ValueError("is not a network, as 192.0.2.0/24 or 2001:db8::/32") from None


def _socket_path(text: str) -> str:
    if not text.startswith("unix:/") or " " in text:
        raise ValueError("is not unix: and an absolute path without blanks")
    return printable(text)


def weighted_relay(text: str) -> str:
    """A relay, and how much of the mail it gets beside others: "host:port weight=3"."""
    found = _WEIGHTED.fullmatch(text)
    if found is None:
        raise ValueError("is not a relay, as host:25 or host:25 weight=3")
    weight = found["weight"]
    if weight is None:
        return relay(found["relay"])
    return f"{relay(found['relay'])} weight={integer(1, 1000)(weight)}"


def queue_place(text: str) -> str:
    """A directory for jobs, or "spool", and how many it gets beside others: "/disk1 weight=2"."""
    directory, separator, weight = text.partition(" weight=")
    directory = path(directory.rstrip(" "))
    if " weight" in directory or "," in directory:
        raise ValueError("is not a directory, as /disk1/mqueue or /disk1/mqueue weight=2")
    return f"{directory} weight={integer(1, 100)(weight)}" if separator else directory


def tls_level(text: str) -> str:
    """How much TLS a next hop must have."""
    if text not in TLS_LEVELS:
        raise ValueError(f"is no TLS level; there are {', '.join(TLS_LEVELS)}")
    return text


def hop(text: str) -> str:
    """What a table says of a host: a relay, "tls=LEVEL", or both with a space between."""
    found = _HOP.fullmatch(text)
    if found is None or not text:
        raise ValueError("is not a next hop, as relay.example:25, tls=verify or both")
    parts = [] if found["relay"] is None else [relay(found["relay"])]
    if found["tls"] is not None:
        parts.append(f"tls={tls_level(found['tls'])}")
    return " ".join(parts)
