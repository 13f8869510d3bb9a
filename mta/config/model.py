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
    "Auth",
    "Author",
    "ByClass",
    "Channel",
    "Config",
    "Daemon",
    "Dsn",
    "HostRule",
    "Limits",
    "Listener",
    "LoadLimits",
    "LocalConfig",
    "LogConfig",
    "PressureLimits",
    "Retry",
    "Smtpd",
    "Tls",
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
    """An address to listen on, and the ``service``: mx, submission, submissions or lmtp.

    ``address`` is "192.0.2.1:25", "[2001:db8::1]:25" or "unix:/absolute/path".
    ``proxy``: each connection begins with a PROXY header.
    """

    address: str
    service: str
    proxy: bool


@frozen
class Smtpd:
    """How the listener works; ``workers`` 0 is one a CPU, ``user`` "" is whoever starts it."""

    workers: int
    user: str
    proxy_from: tuple[str, ...]
    xclient_from: tuple[str, ...]
    reverse_dns: bool


@frozen
class Tls:
    """The certificate chains of this machine and their keys, paths of PEM files, in pairs."""

    certificates: tuple[str, ...]
    keys: tuple[str, ...]
    minimum: str


@frozen
class Auth:
    """Who knows the passwords: a file, or a Dovecot at a socket; "" is nobody."""

    passwords: str
    dovecot: str
    mechanisms: tuple[str, ...]


@frozen
class Limits:
    """What is accepted; a rate is of one client in a minute, 0 for none.

    ``header_size`` and ``command_line`` are octets, ``data_rate`` octets a second.
    ``connections_per_client`` 0: the larger of 50 and a quarter of what is free.
    ``connection_throttle`` is of all clients in a second.
    """

    message_size: int
    recipients: int
    header_size: int
    hops: int
    command_line: int
    errors: int
    command_time: float
    session_time: float
    data_rate: int
    connections: int
    connections_per_client: int
    connection_rate: int
    connection_throttle: int
    message_rate: int
    recipient_rate: int
    auth_failures: int


@frozen
class PressureLimits:
    """Per cents of pressure at which to refuse, only queue, delay; 0 is off."""

    refuse: float
    queue_only: float
    delay: float


@frozen
class LoadLimits:
    """One-minute load averages at which to refuse, only queue, delay; 0 is off.

    ``queue_factor`` is sendmail's: see policy/decide.py.
    """

    refuse: float
    queue_only: float
    delay: float
    queue_factor: int
    psi: PressureLimits


@frozen
class Dsn:
    """How DSNs are made: ``words`` are the sections of a site's own text (dsn/wording.py).

    ``gather`` is how long the reports of a message's jobs wait for each other.
    """

    words: tuple[tuple[str, str], ...]
    gather: float


@frozen
class Author:
    """What is special about mail of some reverse-paths; see policy/authors.py for ``match``.

    ``failures`` is "return", "discard" or "postmaster"; ``kind`` is the class of the mail,
    "" where its header says it.
    """

    match: tuple[str, ...]
    failures: str
    kind: str = ""


@frozen
class Retry:
    """When to try again: after ``first`` seconds, times ``factor`` each time, at most ``max``.

    Or by ``steps``, if there are any, or up to ``max_age`` if that is not 0;
    mta.yaml(5) says how they go together.
    """

    first: float
    factor: float
    max: float
    jitter: float = 0.1
    greylist: float = 300.0
    min_age: float = 0.0
    max_age: float = 0.0
    steps: tuple[float, ...] = ()


@frozen
class ByClass:
    """A time for each class of mail."""

    urgent: float
    normal: float
    bulk: float

    def of(self, word: str) -> float:
        """Return the time for a class, by its name or the name's first letter."""
        letter = word[:1]
        return self.urgent if letter == "u" else self.bulk if letter == "b" else self.normal


@frozen
class HostRule:
    """What is different for some hosts; ``channel`` "" is all, None leaves the channel's.

    ``match`` holds names and ".suffix"; ``changes`` are fields of Retry with
    their values.
    """

    match: tuple[str, ...]
    channel: str = ""
    changes: tuple[tuple[str, Any], ...] = ()
    dead_ttl: float | None = None
    per_host: int | None = None
    max_share: float | None = None
    rate: tuple[int, float] | None = None


@frozen
class Channel:
    """One row of the channel table; mta.yaml(5) says what each field does.

    ``program`` is smtp, lmtp, local, pipe, list, or an absolute path.  ``domains``
    holds "$local", "*", ".suffix" and names; ``table`` is a path or "".
    ``relay`` holds "host", "host:port", "[address]:port" or "unix:/path", each
    perhaps with " weight=N".  ``rate`` is how many in how many seconds; ``interval``
    0.0 is deliver's own, ``jobs`` 0 is all, ``runners`` None is no bound.
    ``tls`` is off, may, require, verify or dane-only; ``mta_sts`` auto, yes or no.
    ``demote_to`` is a channel or "".  ``mode`` is background, interactive, queue or defer;
    ``paths`` are directories and weights, "" for the queue's own in the spool.  Fields
    that the program has no use for hold their defaults.
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
    silent: int
    tls: str
    ca: str
    credentials: str
    source: tuple[str, ...]
    mta_sts: str
    max_recipients: int
    retry: Retry
    dead_ttl: float
    demote_to: str
    demote_after: float
    warn_after: ByClass
    fail_after: ByClass
    target_age: float
    command: tuple[str, ...]
    timeout: float
    members: str
    owner: str
    options: tuple[tuple[str, str], ...]
    order: str = "arrival"
    fair_authors: bool = True
    bulk_delay: float = 14400.0
    max_share: float = 0.5
    rate: tuple[int, float] | None = None
    interval: float = 0.0
    jobs: int = 0
    runners: int | None = None
    nice: int = 0
    mode: str = "background"
    paths: tuple[tuple[str, int], ...] = ()


@frozen
class Daemon:
    """A command that ``mta up`` starts, as typed, and its line in mta.yaml."""

    command: str
    line: int


Row = tuple[int, str, str]  # line, pattern, "next-hop tls=LEVEL", either or both or ""
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
    smtpd: Smtpd
    tls: Tls
    auth: Auth
    relay_from: tuple[str, ...]
    relay_domains: tuple[str, ...]
    nameservers: tuple[str, ...]
    trust_ad: str
    limits: Limits
    load: LoadLimits
    dsn: Dsn
    authors: tuple[Author, ...]
    channels: tuple[Channel, ...]
    hosts: tuple[HostRule, ...]
    daemons: tuple[Daemon, ...]
    tables: tuple[tuple[str, tuple[Row, ...]], ...]
    aliases: tuple[Alias, ...]
    queue_children: int = 0

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


_PARTS: dict[str, Any] = {
    "log": LogConfig,
    "local": LocalConfig,
    "smtpd": Smtpd,
    "tls": Tls,
    "auth": Auth,
    "limits": Limits,
    "load": LoadLimits,
    "psi": PressureLimits,
    "dsn": Dsn,
    "retry": Retry,
    "warn_after": ByClass,
    "fail_after": ByClass,
}
_ROWS: dict[str, Any] = {
    "listen": Listener,
    "authors": Author,
    "channels": Channel,
    "daemons": Daemon,
}
_ROWS["hosts"] = HostRule


def rebuild(flat: tuple[Any, ...]) -> Config:
    """Return the Config that ``flatten`` took apart; TypeError or ValueError if it is none."""
    config: Config = _made(Config, flat)
    return config


def _made(kind: Any, flat: tuple[Any, ...]) -> Any:
    return kind(*[_part(name, value) for name, value in zip(fields(kind), flat, strict=True)])


def _part(name: str, value: Any) -> Any:
    if name in _PARTS and type(value) is tuple:  # a channel has a key called tls, too: a text
        return _made(_PARTS[name], value)
    if name in _ROWS:
        return tuple([_made(_ROWS[name], row) for row in value])
    return value
