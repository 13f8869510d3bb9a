"""The keys of a channel in mta.yaml: part of the tree in schema.py."""

from __future__ import annotations

from mta.config.kinds import Key, ListOf, MapOf, OneOf, Options
from mta.config.share_keys import SHARES

__all__ = ["CHANNEL", "HOST_RULE", "REMOTE", "RETRY_KEYS"]

REMOTE = ("smtp", "lmtp")
_STEPS = ListOf("some-time", least=1)
_RETRY = (
    Key("first", "some-time", "After the first attempt.", "5m"),
    Key("factor", "factor", "Longer by this each time.", "2"),
    Key("max", "some-time", "Never longer than this.", "4h"),
    Key("jitter", "fraction", "Longer by up to this part, at random.", "0.1"),
    Key("greylist", "time", "At most this, at first, where a reply looks like greylisting.", "5m"),
    Key("min_age", "time", "Never sooner than this; sendmail's MinQueueAge.", "0"),
    Key("max_age", "time", "As long as it has waited, up to this; sendmail's MaxQueueAge.", "0"),
    Key("steps", _STEPS, "The waits, one by one, instead of first, factor and max."),
)
RETRY_KEYS = tuple([key.name for key in _RETRY])


def _by_class(about: str, kind: str) -> MapOf:
    """Return the keys of a time that differs by the class of a message."""
    of = {"urgent": "urgent", "normal": "ordinary", "bulk": "bulk"}
    keys = [Key(name, kind, f"{about} {word} mail.") for name, word in of.items()]
    return MapOf(tuple(keys))


# A host's own settings: what a rule leaves out is the channel's.
HOST_RULE = MapOf(
    (
        Key(
            "match",
            ListOf("suffix-or-host", lone=True, least=1),
            "Hosts: names, or .suffix for all below it.",
            required=True,
        ),
        Key("channel", "name", "Only on this channel; on all if left out."),
        Key(
            "retry",
            OneOf(
                None,
                _STEPS,
                MapOf(tuple([Key(key.name, key.kind, key.about) for key in _RETRY])),
            ),
            "When to try again.",
        ),
        Key("dead_ttl", "time", "How long it is left be when dead."),
        Key("per_host", "count", "The most jobs in flight to it."),
        Key("max_share", "share", "Of the slots, what it may have while others wait."),
        Key("rate", "rate", "The most attempts to begin with it in a time."),
    )
)

_KEYS = (
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
        defaults=(("smtp", "50"), ("lmtp", "20"), ("list", "2")),
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
        OneOf(None, _STEPS, MapOf(_RETRY)),
        "When to try again.",
    ),
    Key("dead_ttl", "time", "How long a dead host is left be.", "2h"),
    Key("demote_to", "name", "The channel that serves hosts that fail for long."),
    Key("demote_after", "some-time", "How long that is.", "12h"),
    Key(
        "warn_after",
        OneOf("time", None, _by_class("When to warn of a delay of", "time")),
        "Warn of a delay; 0 is never.",
        "4h",
    ),
    Key(
        "fail_after",
        OneOf("some-time", None, _by_class("When to give up", "some-time")),
        "Give up and return the mail.",
        "5d",
    ),
    Key("target_age", "time", "The age of its queue that intake slows for; 0 is off.", "0"),
    Key("options", Options(), "More options for the program."),
    Key(
        "relay",
        ListOf("relay", lone=True),
        "Hosts to hand all mail to.",
        (),
        programs=REMOTE,
    ),
    Key(
        "port",
        "port",
        "The port to connect to.",
        "25",
        programs=REMOTE,
        defaults=(("lmtp", "24"),),
    ),
    Key("tls", "tls-level", "How much TLS a connection must have.", "may", programs=REMOTE),
    Key(
        "ca", "path", "A file of certificates to trust; the system's if left out.", programs=REMOTE
    ),
    Key("credentials", "path", "A file of names and passwords to log in with.", programs=REMOTE),
    Key(
        "source",
        ListOf("address", lone=True),
        "Own addresses to connect from.",
        (),
        programs=REMOTE,
    ),
    Key(
        "mta_sts",
        "auto-yes-no",
        "Heed the policies of MTA-STS; auto is where the port is 25 and there is no relay.",
        "auto",
        programs=("smtp",),
    ),
    Key(
        "per_host",
        "count",
        "The most connections to one host.",
        "20",
        programs=REMOTE,
    ),
    Key(
        "silent",
        "any-count",
        "The most jobs, beside concurrency, at hosts that have said nothing for seconds.",
        "200",
        programs=REMOTE,
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
)

CHANNEL = MapOf((*_KEYS, *SHARES), by_program=True)
