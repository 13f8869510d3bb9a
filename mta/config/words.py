"""The words that mta.yaml is made of: the one table of all kinds of scalar.

``WORDS``: name → how to read it, how JSON Schema says it, and whether it must
be typed without quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mta.config.places import (
    TLS_LEVELS,
    address,
    host,
    listener,
    nameserver,
    network,
    pattern,
    queue_place,
    suffix_or_host,
    tls_level,
    weighted_relay,
)
from mta.config.scalars import (
    NAME,
    RATE,
    SIZE,
    TIME,
    authors,
    directory,
    integer,
    mailbox,
    members,
    name,
    number,
    owner,
    path,
    printable,
    rate,
    size,
    some_size,
    some_time,
    time,
    yes_or_no,
)
from mta.policy.authors import FAILURES
from mta.types import KINDS
from mta.values import frozen

__all__ = ["WORDS", "Word"]

SERVICES = ("mx", "submission", "submissions", "lmtp")
FORMATS = ("postfix", "json")
PROGRAMS = ("smtp", "lmtp", "local", "pipe", "list")
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256")
TLS_VERSIONS = ("1.2", "1.3")
MODES = ("background", "interactive", "queue", "defer")
AUTO = ("auto", "yes", "no")
ORDERS = ("arrival", "host", "priority", "random", "none")
RESERVED = {
    "program": ("delay",),
    "log format": ("exim", "ec"),
}


@frozen
class Word:
    """One kind of scalar: ``read`` turns text into a value, ``json`` is its JSON Schema.

    ``bare`` says that it is a number, which quotes would make text.
    """

    read: Callable[[str], Any]
    json: Mapping[str, Any]
    bare: bool = False


def _choice(what: str, known: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in known:
            return text
        if text in RESERVED.get(what, ()):
            raise ValueError("is not available yet")
        raise ValueError(f"is no {what}; there are {', '.join(known)}")

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
        {"type": "string", "pattern": f"^(?:{SIZE.pattern})$"},
    ]
}
_TIME_JSON: Mapping[str, Any] = {
    "anyOf": [{"const": 0}, {"type": "string", "pattern": f"^(?:{TIME.pattern})$"}]
}
_NAME_JSON: Mapping[str, Any] = {"type": "string", "pattern": f"^{NAME.pattern}$"}
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
    "yes-no": Word(yes_or_no, {"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no"]}]}),
    "size": Word(size, _SIZE_JSON),
    "some-size": Word(some_size, _SIZE_JSON),
    "time": Word(time, _TIME_JSON),
    "some-time": Word(some_time, _TIME_JSON),
    "count": _counted(1, 1_000_000),
    "any-count": _counted(0, 1_000_000_000),
    "port": _counted(1, 65535),
    "load": _measured(0, 100_000),
    "percent": _measured(0, 100),
    "factor": _measured(1, 1000),
    "share": _measured(0.01, 1),
    "niceness": _counted(0, 19),
    "rate": Word(rate, {"type": "string", "pattern": f"^{RATE.pattern}$"}),
    "mode": Word(_choice("delivery mode", MODES), {"enum": list(MODES)}),
    "order": Word(_choice("order", ORDERS), {"enum": list(ORDERS)}),
    "fraction": _measured(0, 1),
    "name": Word(name, _NAME_JSON),
    "host": Word(host, _TEXT),
    "pattern": Word(pattern, _TEXT),
    "suffix-or-host": Word(suffix_or_host, _TEXT),
    "relay": Word(weighted_relay, _TEXT),
    "place": Word(queue_place, _TEXT),
    "address": Word(address, {"type": "string", "pattern": "^[0-9A-Fa-f.:]+$"}),
    "tls-level": Word(tls_level, {"enum": list(TLS_LEVELS)}),
    "tls-version": Word(_choice("TLS version", TLS_VERSIONS), {"enum": [*TLS_VERSIONS, 1.2, 1.3]}),
    "mechanism": Word(_choice("SASL mechanism", MECHANISMS), {"enum": list(MECHANISMS)}),
    "auto-yes-no": Word(_choice("choice", AUTO), {"enum": [*AUTO, True, False]}),
    "listener": Word(listener, _TEXT),
    "nameserver": Word(nameserver, _TEXT),
    "network": Word(network, _NETWORK_JSON),
    "path": Word(path, _TEXT),
    "directory": Word(directory, _TEXT),
    "mailbox": Word(mailbox, {"type": "string", "pattern": r"^(maildir|mbox):.*\{user\}"}),
    "members": Word(members, {"type": "string", "pattern": r"\{list\}"}),
    "sender": Word(authors, {"type": "string", "pattern": "@|^<>$"}),
    "class": Word(_choice("class", KINDS), {"enum": list(KINDS)}),
    "bounce": Word(_choice("way to treat failure reports", FAILURES), {"enum": list(FAILURES)}),
    "owner": Word(owner, {"type": "string", "pattern": r"\{list\}"}),
    "program": Word(program, _PROGRAM_JSON),
    "service": Word(_choice("service", SERVICES), {"enum": list(SERVICES)}),
    "format": Word(_choice("log format", FORMATS), {"enum": list(FORMATS)}),
}
