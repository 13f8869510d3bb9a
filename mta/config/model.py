"""The configuration as values: what mta.yaml, its tables and its aliases say, with defaults.

Every program is handed one ``Config`` and passes parts of it down; nothing
here is global and nothing changes after it is made.  ``flatten`` and
``rebuild`` are the plain tuples that the snapshot stores.

Units    Times are float seconds, sizes octets.  Paths are absolute, without a
         trailing slash.  Hosts, domains and patterns are lower case.

Invariants, each a property in tests/config/test_model.py
    M1   rebuild(flatten(c)) == c for every Config.
    M2   flatten(c) holds nothing but tuples, str, int, float and None.
"""

from __future__ import annotations

from mta.errors import ConfigError
from mta.values import TYPE_CHECKING, fields, frozen

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Channel",
    "Config",
    "Daemon",
    "Limits",
    "Listener",
    "LoadLimits",
    "LocalConfig",
    "LogConfig",
    "Retry",
    "flatten",
    "rebuild",
]


@frozen
class LogConfig:
    """Where the logs go and in which ``formats``: "postfix", "json"."""

    dir: str
    formats: tuple[str, ...]


@frozen
class LocalConfig:
    """The domains that end here, who lives in them, and their mailboxes.

    ``users`` is None for the system's accounts.  ``mailbox_kind`` is "maildir"
    or "mbox", ``mailbox`` an absolute path with ``{user}`` in it.  ``aliases``
    is the alias file's path, or "".
    """

    domains: tuple[str, ...]
    users: tuple[str, ...] | None
    mailbox_kind: str
    mailbox: str
    aliases: str


@frozen
class Listener:
    """An address to listen on, and the ``service`` it gives: mx, submission or lmtp.

    ``address`` is "192.0.2.1:25", "[2001:db8::1]:25" or "unix:/absolute/path".
    """

    address: str
    service: str


@frozen
class Limits:
    """What a message may measure: octets, and how many recipients."""

    message_size: int
    recipients: int


@frozen
class LoadLimits:
    """One-minute load averages at which to refuse, only queue, delay; 0 is off."""

    refuse: float
    queue_only: float
    delay: float


@frozen
class Retry:
    """When to try again: after ``first`` seconds, times ``factor`` each time, at most ``max``."""

    first: float
    factor: float
    max: float


@frozen
class Channel:
    """One row of the channel table; mta.yaml(5) says what each field does.

    ``program`` is smtp, local, pipe, list, or an absolute path.  ``domains``
    holds "$local", "*", ".suffix" and names; ``table`` is a path or "".
    ``relay`` holds "host", "host:port" or "[address]:port".  Fields that the
    program has no use for hold their defaults.
    """

    name: str
    program: str
    queue: str
    domains: tuple[str, ...]
    table: str
    relay: tuple[str, ...]
    port: int
    concurrency: int
    per_host: int
    max_recipients: int
    retry: Retry
    dead_ttl: float
    warn_after: float
    fail_after: float
    command: tuple[str, ...]
    timeout: float
    members: str
    owner: str
    options: tuple[tuple[str, str], ...]


@frozen
class Daemon:
    """A command that ``mta up`` starts, as typed, and its line in mta.yaml."""

    command: str
    line: int


Row = tuple[int, str, str]  # line, pattern, next hop or ""
Alias = tuple[str, tuple[str, ...], int]  # name in lower case, targets, line


@frozen
class Config:
    """Everything that mta.yaml and the files it names say."""

    path: str
    hostname: str
    spool: str
    runtime: str
    log: LogConfig
    local: LocalConfig
    listen: tuple[Listener, ...]
    relay_from: tuple[str, ...]
    relay_domains: tuple[str, ...]
    nameservers: tuple[str, ...]
    limits: Limits
    load: LoadLimits
    channels: tuple[Channel, ...]
    daemons: tuple[Daemon, ...]
    tables: tuple[tuple[str, tuple[Row, ...]], ...]
    aliases: tuple[Alias, ...]

    def channel(self, name: str) -> Channel:
        """Return the channel called ``name``; ConfigError if there is none."""
        for channel in self.channels:
            if channel.name == name:
                return channel
        known = " ".join(c.name for c in self.channels)
        raise ConfigError(f"{self.path}: no channel is called {name!r}; there are: {known}")

    def queues(self) -> tuple[str, ...]:
        """Return the names of all queues, in order of first appearance."""
        return tuple(dict.fromkeys(c.queue for c in self.channels))

    def table(self, path: str) -> tuple[Row, ...]:
        """Return the rows of the table file ``path``; () for "" or a table not named."""
        for name, rows in self.tables:
            if name == path:
                return rows
        return ()


def flatten(value: Any) -> Any:
    """Return ``value`` with every frozen value in it as the tuple of its fields."""
    if isinstance(value, tuple):
        return tuple([flatten(v) for v in value])
    if value is None or isinstance(value, (str, int, float)):
        return value
    return tuple([flatten(getattr(value, name)) for name in fields(value)])


def rebuild(flat: tuple[Any, ...]) -> Config:
    """Return the Config that ``flatten`` took apart; TypeError or ValueError if it is none."""
    (path, hostname, spool, runtime, log, local, listen, *plain) = flat
    (relay_from, relay_domains, nameservers, limits, load, channels, daemons, *files) = plain
    tables, aliases = files
    at = fields(Channel).index("retry")
    return Config(
        path,
        hostname,
        spool,
        runtime,
        LogConfig(*log),
        LocalConfig(*local),
        tuple([Listener(*row) for row in listen]),
        relay_from,
        relay_domains,
        nameservers,
        Limits(*limits),
        LoadLimits(*load),
        tuple([_channel(c, at) for c in channels]),
        tuple([Daemon(*row) for row in daemons]),
        tables,
        aliases,
    )


def _channel(flat: tuple[Any, ...], at: int) -> Channel:
    made: Any = Channel  # the type checker cannot count what is unpacked
    channel: Channel = made(*flat[:at], Retry(*flat[at]), *flat[at + 1 :])
    return channel
