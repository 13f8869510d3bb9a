"""The shape of mta.yaml, as one literal tree: every key, its kind, its default, what it is for.

Validation (validate.py), the defaults, the JSON Schema that editors use and
the check of man/mta.yaml.5 all come from ``SCHEMA``; a key is added here and in
the manual page, and nowhere else but where its value is used.

Source   mta.yaml(5).  JSON Schema: draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mta.config.scalars import WORDS
from mta.values import frozen

__all__ = [
    "SCHEMA",
    "Key",
    "ListOf",
    "MapOf",
    "Options",
    "json_schema",
    "json_text",
    "keys",
    "program_kind",
]

PATH_PROGRAM = "path"  # what ``programs`` calls a program given by its absolute path


@frozen
class ListOf:
    """A sequence of ``item``s; with ``lone``, one scalar stands for a list of one."""

    item: Kind
    lone: bool = False
    least: int = 0


@frozen
class OneOf:
    """A scalar, or a list: what ``users`` may be."""

    scalar: str
    listed: ListOf


@frozen
class Options:
    """A map of any names to a text, or to a list of texts."""


@frozen
class MapOf:
    """A mapping with these keys.

    ``by_program`` says that which keys belong depends on the key ``program``.
    """

    keys: tuple[Key, ...]
    by_program: bool = False


Kind = str | ListOf | OneOf | MapOf | Options  # str: the name of a word in scalars.WORDS
Default = str | tuple[str, ...] | None


@frozen
class Key:
    """One key.

    ``default`` is typed as a person would type it; None means that the key may
    be absent, or must not be if ``required``.  ``programs`` are those that the
    key belongs to, () for all; ``defaults`` are those that differ by program.
    """

    name: str
    kind: Kind
    about: str
    default: Default = None
    required: bool = False
    programs: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()

    def default_for(self, program: str) -> Default:
        """Return the default under the program kind ``program`` ("" outside of channels)."""
        return dict(self.defaults).get(program, self.default)

    def belongs(self, program: str) -> bool:
        """Whether the key means anything to the program kind ``program``."""
        return not self.programs or program in self.programs


def program_kind(program: str) -> str:
    """Return the name by which ``programs`` and ``defaults`` know ``program``."""
    return PATH_PROGRAM if program.startswith("/") else program


SCHEMA = MapOf(
    (
        Key("hostname", "host", "This machine's name in the mail world."),
        Key("spool", "directory", "The directory of the queues.", "/var/spool/posthouse"),
        Key("runtime", "path", "The directory of sockets and pid files.", "/run/posthouse"),
        Key(
            "log",
            MapOf(
                (
                    Key("dir", "path", "The directory of the logs.", "/var/log/posthouse"),
                    Key(
                        "formats",
                        ListOf("format", lone=True, least=1),
                        "The formats to write.",
                        ("postfix", "json"),
                    ),
                )
            ),
            "The logs.",
        ),
        Key(
            "local",
            MapOf(
                (
                    Key(
                        "domains",
                        ListOf("host", lone=True),
                        "The domains whose mail ends here; the hostname if left out.",
                    ),
                    Key(
                        "users",
                        OneOf("path", ListOf("name", least=1)),
                        "Who gets mail: a list, system, or a file with a user a line.",
                        "system",
                    ),
                    Key("mailbox", "mailbox", "A user's mailbox.", "mbox:/var/mail/{user}"),
                    Key("aliases", "path", "The alias file, in the classic format."),
                )
            ),
            "Mail for this machine's own users.",
        ),
        Key(
            "listen",
            ListOf(
                MapOf(
                    (
                        Key("address", "listener", "Where to listen.", required=True),
                        Key("service", "service", "What to serve there.", required=True),
                    )
                )
            ),
            "Where smtpd listens.",
            (),
        ),
        Key("relay_from", ListOf("network", lone=True), "Clients that may relay.", ()),
        Key(
            "relay_domains",
            ListOf("suffix-or-host", lone=True),
            "Domains that anyone may relay to.",
            (),
        ),
        Key(
            "dns",
            MapOf(
                (
                    Key(
                        "nameservers",
                        ListOf("nameserver", lone=True),
                        "Resolvers to ask; the system's if there are none.",
                        (),
                    ),
                )
            ),
            "Name resolution.",
        ),
        Key(
            "limits",
            MapOf(
                (
                    Key("message_size", "some-size", "The largest message.", "10MiB"),
                    Key("recipients", "count", "The most recipients of a message.", "1000"),
                )
            ),
            "What is accepted.",
        ),
        Key(
            "load",
            MapOf(
                (
                    Key("refuse", "load", "Refuse connections above this load; 0 is off.", "0"),
                    Key("queue_only", "load", "Accept but deliver nothing above it.", "0"),
                    Key("delay", "load", "Answer clients slowly above it.", "0"),
                )
            ),
            "One-minute load averages at which to do less.",
        ),
        Key(
            "channels",
            ListOf(
                MapOf(
                    (
                        Key("name", "name", "The channel's name.", required=True),
                        Key("program", "program", "The channel program.", required=True),
                        Key("queue", "name", "The queue; the channel's name if left out."),
                        Key(
                            "domains",
                            ListOf("pattern", lone=True),
                            'The hosts it knows: names, .suffix, "$local", "*".',
                            (),
                        ),
                        Key("table", "path", "A file with more hosts, and next hops."),
                        Key(
                            "concurrency",
                            "count",
                            "The most jobs in flight of one deliver.",
                            "4",
                            defaults=(("smtp", "50"), ("list", "2")),
                        ),
                        Key(
                            "max_recipients",
                            "count",
                            "The most recipients in one job.",
                            "100",
                            defaults=(("local", "1000"), ("pipe", "1")),
                        ),
                        Key(
                            "retry",
                            MapOf(
                                (
                                    Key("first", "some-time", "After the first attempt.", "5m"),
                                    Key("factor", "factor", "Longer by this each time.", "2"),
                                    Key("max", "some-time", "Never longer than this.", "4h"),
                                )
                            ),
                            "When to try again.",
                        ),
                        Key("dead_ttl", "time", "How long a dead host is left be.", "2h"),
                        Key("warn_after", "time", "Warn of a delay; 0 is never.", "4h"),
                        Key("fail_after", "some-time", "Give up and return the mail.", "5d"),
                        Key("options", Options(), "More options for the program."),
                        Key(
                            "relay",
                            ListOf("relay", lone=True),
                            "Hosts to hand all mail to.",
                            (),
                            programs=("smtp",),
                        ),
                        Key("port", "port", "The port to connect to.", "25", programs=("smtp",)),
                        Key(
                            "per_host",
                            "count",
                            "The most connections to one host.",
                            "20",
                            programs=("smtp",),
                        ),
                        Key(
                            "command",
                            ListOf("text", least=1),
                            "The program to run, and its arguments.",
                            required=True,
                            programs=("pipe",),
                        ),
                        Key(
                            "timeout",
                            "some-time",
                            "How long the command may run.",
                            "5m",
                            programs=("pipe",),
                        ),
                        Key(
                            "members",
                            "members",
                            "The file of a list's members.",
                            required=True,
                            programs=("list",),
                        ),
                        Key(
                            "owner",
                            "owner",
                            "The reverse-path of a list's mail.",
                            "postmaster",
                            programs=("list",),
                        ),
                    ),
                    by_program=True,
                ),
                least=1,
            ),
            "The channel table: in order, the first that knows the host wins.",
            required=True,
        ),
        Key("daemons", ListOf("text"), "The commands that `mta up` starts.", ()),
    )
)


def keys(tree: MapOf = SCHEMA, above: str = "") -> Iterator[tuple[str, Key]]:
    """Walk the tree: every key with its dotted name, as "channels.retry.first"."""
    for key in tree.keys:
        dotted = above + key.name
        yield dotted, key
        kind = key.kind.item if isinstance(key.kind, ListOf) else key.kind
        if isinstance(kind, MapOf):
            yield from keys(kind, dotted + ".")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of mta.yaml; etc/mta.schema.json is its text."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mta.yaml",
        "description": "The configuration of Posthouse; see mta.yaml(5).",
        **_json_of(SCHEMA),
    }


def json_text() -> str:
    """Return the text of etc/mta.schema.json."""
    import json

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _json_of(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, str):
        return dict(WORDS[kind].json)
    if isinstance(kind, ListOf):
        listed = {"type": "array", "items": _json_of(kind.item), "minItems": kind.least}
        return {"anyOf": [_json_of(kind.item), listed]} if kind.lone else listed
    if isinstance(kind, OneOf):
        return {"anyOf": [_json_of(kind.scalar), _json_of(kind.listed)]}
    if isinstance(kind, Options):
        scalar = {"type": ["string", "number", "boolean"]}
        either = {"anyOf": [scalar, {"type": "array", "items": scalar}]}
        return {"type": "object", "additionalProperties": either}
    return _json_of_map(kind)


def _json_of_map(kind: MapOf) -> dict[str, Any]:
    properties = {}
    for key in kind.keys:
        properties[key.name] = {"description": key.about, **_json_of(key.kind)}
        if key.default is not None and not key.defaults:
            given = key.default
            properties[key.name]["default"] = list(given) if isinstance(given, tuple) else given
    required = [k.name for k in kind.keys if k.required and not k.programs]
    made: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if kind.by_program:
        made["allOf"] = [_json_of_program(kind, p) for p in _programs(kind)]
    return made


def _programs(kind: MapOf) -> list[str]:
    return [*dict.fromkeys(p for k in kind.keys for p in k.programs), "local", PATH_PROGRAM]


def _json_of_program(kind: MapOf, program: str) -> dict[str, Any]:
    """Under this program, these keys and no others."""
    is_path = program == PATH_PROGRAM
    which = {"type": "string", "pattern": "^/"} if is_path else {"const": program}
    required = [k.name for k in kind.keys if k.required and program in k.programs]
    names = {"enum": [k.name for k in kind.keys if k.belongs(program)]}
    return {
        "if": {"properties": {"program": which}, "required": ["program"]},
        "then": {"propertyNames": names, "required": required},
    }
