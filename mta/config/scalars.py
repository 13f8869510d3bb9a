"""The words that mta.yaml is made of: sizes, times, hosts, addresses… each read from its text.

``WORDS`` is the table: name → how to read it, how JSON Schema says it, and
whether it must be typed without quotes.  A reader returns the value or raises
ValueError with a reason for the person who typed the text.

Units    Sizes octets, times float seconds.

Invariants, each a property in tests/config/test_scalars.py
    W1   What spell_size and spell_time write, ``size`` and ``time`` read back.
    W2   No reader raises anything but ValueError, or returns a control character.
    W3   A number is read in plain decimal form only: no sign, no leading zero,
         no exponent, no underscore, no sexagesimal.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from mta.values import frozen

__all__ = ["WORDS", "Word", "spell_size", "spell_time"]

SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SERVICES = ("mx", "submission", "lmtp")
FORMATS = ("postfix", "json")
PROGRAMS = ("smtp", "local", "pipe", "list")
RESERVED = {
    "program": ("lmtp", "delay"),
    "log format": ("exim", "ec"),
}

_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,11})(KiB|MiB|GiB|TiB)?")
_TIME = re.compile(r"(0|[1-9][0-9]{0,8})([smhdw])|0")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_USUAL_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


@frozen
class Word:
    """One kind of scalar: ``read`` turns text into a value, ``json`` is its JSON Schema.

    ``bare`` says that it is a number, which quotes would make text.
    """

    read: Callable[[str], Any]
    json: Mapping[str, Any]
    bare: bool = False


def printable(text: str) -> str:
    """Any text of one line."""
    if not text:
        raise ValueError("is empty")
    if text.isascii() and text.isprintable():
        return text
    for character in text:
        if character < " " or "\x7f" <= character < "\xa0" or character in "\u2028\u2029":
            raise ValueError(f"holds the control character U+{ord(character):04X}")
        if "\ud800" <= character <= "\udfff":
            raise ValueError("holds half of a surrogate pair")
    return text


def integer(least: int, most: int) -> Callable[[str], int]:
    """Make the reader of a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError("is not a whole number in plain decimal digits")
        if not least <= int(text) <= most:
            raise ValueError(f"must lie between {least} and {most}")
        return int(text)

    return read


def number(least: float, most: float) -> Callable[[str], float]:
    """Make the reader of a decimal number from ``least`` to ``most``."""

    def read(text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise ValueError('is not a number in plain decimal form, as "2" or "1.5"')
        if not least <= float(text) <= most:
            raise ValueError(f"must lie between {least:g} and {most:g}")
        return float(text)

    return read


def size(text: str) -> int:
    """Octets: "1000", "512KiB", "10MiB"."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError('is not a size, as "1000", "512KiB" or "10MiB"')
    return int(match[1]) * SIZES[match[2] or ""]


def some_size(text: str) -> int:
    """A size that is not 0."""
    if size(text) == 0:
        raise ValueError("must be more than 0")
    return size(text)


def spell_size(octets: int) -> str:
    """Write ``octets`` in the largest unit that divides it."""
    for unit, factor in reversed(SIZES.items()):
        if octets % factor == 0 and octets:
            return f"{octets // factor}{unit}"
    return "0"


def time(text: str) -> float:
    """Seconds: "30s", "15m", "2h", "5d", "1w"; a bare 0 needs no unit."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError('is not a time with its unit, as "30s", "15m", "2h", "5d" or "1w"')
    return float(int(match[1] or "0") * TIMES[match[2] or "s"])


def some_time(text: str) -> float:
    """A time that is not 0."""
    if time(text) <= 0:
        raise ValueError("must be more than 0")
    return time(text)


def spell_time(seconds: int) -> str:
    """Write whole ``seconds`` in the largest unit that divides them."""
    for unit, factor in reversed(TIMES.items()):
        if seconds % factor == 0 and seconds:
            return f"{seconds // factor}{unit}"
    return "0"


def name(text: str) -> str:
    """A channel, queue or user name: it becomes part of paths and logs."""
    if not _NAME.fullmatch(text):
        raise ValueError("is not a name: lower-case letters, digits, - and _, at most 64")
    return text


def option_name(text: str) -> str:
    """The name of a channel program's own option."""
    if not _OPTION.fullmatch(text):
        raise ValueError("is not an option name: letters, digits, . - and _, at most 64")
    return text


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
    """A next hop: "host", "host:port", "192.0.2.1:25" or "[2001:db8::1]:25"."""
    printable(text)
    where, port = _split_port(text, None)
    tail = "" if port is None else f":{port}"
    if text.startswith("["):
        return f"[{_address(where.lower().removeprefix('ipv6:'))}]{tail}"
    try:
        return f"{ipaddress.IPv4Address(where)}{tail}"
    except ValueError:
        return f"{host(where)}{tail}"


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address") from None


def _endpoint(text: str, default: int | None) -> str:
    where, port = _split_port(printable(text), default)
    address = _address(where)
    if port is None:
        raise ValueError("needs a port, as in 192.0.2.1:25 or [2001:db8::1]:25")
    if (":" in address) != text.startswith("["):
        raise ValueError("is written 192.0.2.1:25, or [2001:db8::1]:25 for IPv6")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


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


def path(text: str) -> str:
    """A path; what it is relative to, the reader of the file knows."""
    if len(printable(text).encode()) > 1000:
        raise ValueError("is too long for a path")
    return text


def directory(text: str) -> str:
    """A path of a directory on this machine."""
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise ValueError("is not a directory: no other kind of spool is available yet")
    return path(text)


def _template(text: str, allowed: tuple[str, ...], required: str = "") -> str:
    found = [match[1] for match in _BRACES.finditer(printable(text))]
    if any(name not in allowed for name in found):
        known = " and ".join(f"{{{name}}}" for name in allowed)
        raise ValueError(f"may hold {known} and no other braces")
    if required and required not in found:
        raise ValueError(f"must hold {{{required}}}")
    return text


def mailbox(text: str) -> tuple[str, str]:
    """Where mail is put: "maildir:mail/{user}/" or "mbox:/var/mail/{user}"."""
    kind, colon, where = text.partition(":")
    if not colon or kind not in ("maildir", "mbox") or not where:
        raise ValueError("is not a mailbox, as maildir:mail/{user}/ or mbox:mail/{user}")
    return kind, path(_template(where, ("user",), "user"))


def members(text: str) -> str:
    """The path of a list's members, with {list} for its name and {domain} for its domain."""
    return path(_template(text, ("list", "domain"), "list"))


def owner(text: str) -> str:
    """The address that a list's mail comes from; may hold {list} and {domain}."""
    if text.count("@") > 1 or any(c in " ,<>" for c in text):
        raise ValueError("is not an address, as postmaster@example.org or owner-{list}@example.org")
    return _template(text, ("list", "domain"))


def _choice(what: str, known: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in known:
            return text
        if text in RESERVED.get(what, ()):
            raise ValueError("is not available yet")
        raise ValueError(f"is not a {what}; there are {', '.join(known)}")

    return read


def program(text: str) -> str:
    """A channel program: its name, or an absolute path."""
    if text.startswith("/"):
        return path(text)
    if "/" in text:
        raise ValueError("must be an absolute path, or " + ", ".join(PROGRAMS))
    return _choice("program", PROGRAMS)(text)


_TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1}
_SIZE_JSON: Mapping[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": f"^(?:{_SIZE.pattern})$"},
    ]
}
_TIME_JSON: Mapping[str, Any] = {
    "anyOf": [{"const": 0}, {"type": "string", "pattern": f"^(?:{_TIME.pattern})$"}]
}
_NAME_JSON: Mapping[str, Any] = {"type": "string", "pattern": f"^{_NAME.pattern}$"}
_NETWORK_JSON: Mapping[str, Any] = {"type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]+)?$"}
_PROGRAM_JSON: Mapping[str, Any] = {
    "anyOf": [{"enum": list(PROGRAMS)}, {"type": "string", "pattern": "^/"}]
}


def _counted(least: int, most: int) -> Word:
    json = {"type": "integer", "minimum": least, "maximum": most}
    return Word(integer(least, most), json, bare=True)


def _measured(least: float, most: float) -> Word:
    json = {"type": "number", "minimum": least, "maximum": most}
    return Word(number(least, most), json, bare=True)


WORDS: Mapping[str, Word] = {
    "text": Word(printable, _TEXT),
    "some-size": Word(some_size, _SIZE_JSON),
    "time": Word(time, _TIME_JSON),
    "some-time": Word(some_time, _TIME_JSON),
    "count": _counted(1, 1_000_000),
    "port": _counted(1, 65535),
    "load": _measured(0, 100_000),
    "factor": _measured(1, 1000),
    "name": Word(name, _NAME_JSON),
    "host": Word(host, _TEXT),
    "pattern": Word(pattern, _TEXT),
    "suffix-or-host": Word(suffix_or_host, _TEXT),
    "relay": Word(relay, _TEXT),
    "listener": Word(listener, _TEXT),
    "nameserver": Word(nameserver, _TEXT),
    "network": Word(network, _NETWORK_JSON),
    "path": Word(path, _TEXT),
    "directory": Word(directory, _TEXT),
    "mailbox": Word(mailbox, {"type": "string", "pattern": r"^(maildir|mbox):.*\{user\}"}),
    "members": Word(members, {"type": "string", "pattern": r"\{list\}"}),
    "owner": Word(owner, {"type": "string", "pattern": r"\{list\}"}),
    "program": Word(program, _PROGRAM_JSON),
    "service": Word(_choice("service", SERVICES), {"enum": list(SERVICES)}),
    "format": Word(_choice("log format", FORMATS), {"enum": list(FORMATS)}),
}
