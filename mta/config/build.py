"""mta.yaml and the files it names → one Config, or one ConfigError that says all that is wrong.

Source   mta.yaml(5).  Relative paths are relative to the folder of mta.yaml.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mta.config import files
from mta.config.channel_keys import REMOTE, RETRY_KEYS
from mta.config.model import (
    Alias,
    Auth,
    Author,
    ByClass,
    Channel,
    Config,
    Daemon,
    Dsn,
    HostRule,
    Limits,
    Listener,
    LoadLimits,
    LocalConfig,
    LogConfig,
    PressureLimits,
    Retry,
    Row,
    Smtpd,
    Tls,
)
from mta.config.schema import SCHEMA
from mta.config.text import BadFile, Problem, decode, read_octets
from mta.config.validate import At, validate
from mta.config.yaml_nodes import parse
from mta.errors import ConfigError
from mta.values import fields, replace

if TYPE_CHECKING:
    from mta.config.snapshot import Signature

__all__ = ["build"]

YAML_LIMIT = 1 << 20
FILE_LIMIT = 64 << 20

T = TypeVar("T")


def build(path: str) -> tuple[Config, tuple[tuple[str, Signature], ...]]:
    """Read the configuration at the absolute ``path``.

    Returns it with the signatures of all files that were read.  Raises
    ConfigError: ``file:line:column: …``, one line for each problem.
    """
    try:
        octets, signed = read_octets(path, YAML_LIMIT)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    builder = _Builder(path)
    builder.signed.append((path, signed))
    try:
        config = builder.config(validate(parse(decode(octets)), SCHEMA))
    except BadFile as error:
        raise ConfigError(error.spell(path)) from None
    builder.finish()
    return config, tuple(builder.signed)


class _Builder:
    """What one build gathers: files read, and what is wrong with them and between the keys."""

    def __init__(self, path: str) -> None:
        self.signed: list[tuple[str, Signature]] = []
        self._path = path
        self._folder = os.path.dirname(path)
        self._problems: list[Problem] = []  # in mta.yaml itself
        self._elsewhere: list[str] = []  # in the files that it names, spelt
        self._tables: dict[str, tuple[Row, ...]] = {}

    def finish(self) -> None:
        """Raise ConfigError if anything was wrong."""
        own = [BadFile(self._problems).spell(self._path)] if self._problems else []
        if own or self._elsewhere:
            raise ConfigError("\n".join(own + self._elsewhere))

    def _complain(self, at: At, text: str) -> None:
        self._problems.append(Problem(at.line, at.column, text))

    def _absolute(self, path: str) -> str:
        """Join ``path`` to the folder; "." and empty parts go, ".." stays as typed."""
        whole = path if path.startswith("/") else f"{self._folder}/{path}"
        return "/" + "/".join(p for p in whole.split("/") if p not in ("", "."))

    def _file(self, at: At, what: str, reader: Callable[[str], T], empty: T) -> T:
        """Read a file that mta.yaml names at ``at``; ``empty`` after a complaint."""
        path = self._absolute(at.value)
        try:
            octets, signed = read_octets(path, FILE_LIMIT)
            self.signed.append((path, signed))
            return reader(decode(octets))
        except ConfigError as error:
            self._complain(at, f"the {what} {path}: {error}")
        except BadFile as error:
            self._elsewhere.append(error.spell(path))
        return empty

    def config(self, root: At) -> Config:
        """Put the Config together; complaints are kept for finish()."""
        hostname = root["hostname"].value or _own_hostname()
        local, aliases = self._local(root["local"], hostname)
        channels = self._channels(root["channels"])
        return Config(
            path=self._path,
            hostname=hostname,
            spool=self._absolute(root["spool"].value),
            runtime=self._absolute(root["runtime"].value),
            log=LogConfig(
                self._absolute(root["log"]["dir"].value),
                tuple(dict.fromkeys(root["log"]["formats"].plain())),
            ),
            local=local,
            listen=self._listen(root["listen"]),
            smtpd=self._smtpd(root["smtpd"]),
            tls=self._tls(root["tls"]),
            auth=self._auth(root["auth"]),
            relay_from=root["relay_from"].plain(),
            relay_domains=root["relay_domains"].plain(),
            nameservers=root["dns"]["nameservers"].plain(),
            trust_ad=root["dns"]["trust_ad"].value,
            limits=Limits(*[at.value for at in root["limits"].value.values()]),
            load=_load(root["load"]),
            dsn=self._dsn(root["dsn"]),
            authors=self._authors(root["senders"]),
            channels=channels,
            hosts=self._hosts(root["hosts"], channels),
            daemons=tuple([Daemon(d.value, d.line) for d in root["daemons"].value]),
            tables=tuple(self._tables.items()),
            aliases=aliases,
            queue_children=root["queue_children"].value,
        )

    def _local(self, at: At, hostname: str) -> tuple[LocalConfig, tuple[Alias, ...]]:
        kind, mailbox = at["mailbox"].value
        domains = (hostname,) if at["domains"].value is None else at["domains"].plain()
        aliases: tuple[Alias, ...] = ()
        alias_path = ""
        if at["aliases"].value is not None:
            aliases = self._file(at["aliases"], "alias file", files.read_aliases, ())
            alias_path = self._absolute(at["aliases"].value)
        users = self._users(at["users"])
        mailbox = self._absolute(mailbox)
        return LocalConfig(domains, users, kind, mailbox, alias_path), aliases

    def _users(self, at: At) -> tuple[str, ...] | None:
        if at.value == "system":
            return None
        if isinstance(at.value, str):
            nobody: tuple[str, ...] = ()
            return self._file(at, "list of users", files.read_users, nobody)
        self._once(at.value, "user")
        return at.plain()  # type: ignore[no-any-return]

    def _once(self, values: tuple[At, ...], what: str) -> None:
        seen: dict[Any, int] = {}
        for at in values:
            if at.value in seen:
                where = f"first in line {seen[at.value]}"
                self._complain(at, f"the {what} {at.value!r} is here twice, {where}")
            seen.setdefault(at.value, at.line)

    def _listen(self, at: At) -> tuple[Listener, ...]:
        made = []
        for row in at.value:
            address = row["address"].value
            if address.startswith("unix:"):
                address = "unix:" + self._absolute(address.removeprefix("unix:"))
            made.append(Listener(address, row["service"].value, row["proxy"].value))
        self._once(tuple([row["address"] for row in at.value]), "address")
        return tuple(made)

    def _smtpd(self, at: At) -> Smtpd:
        return Smtpd(
            at["workers"].value,
            at["user"].value or "",
            at["proxy_from"].plain(),
            at["xclient_from"].plain(),
            at["reverse_dns"].value,
        )

    def _tls(self, at: At) -> Tls:
        certificates, keys = [
            tuple([self._absolute(path) for path in at[name].plain()])
            for name in ("certificate", "key")
        ]
        if len(certificates) != len(keys):
            text = f"{len(certificates)} certificates, but {len(keys)} keys"
            self._complain(at["key"], text)
        return Tls(certificates, keys, at["minimum"].value)

    def _auth(self, at: At) -> Auth:
        paths = [self._absolute(at[name].value or "") for name in ("passwords", "dovecot")]
        given = [at[name].value is not None for name in ("passwords", "dovecot")]
        if all(given):
            self._complain(at["dovecot"], "'passwords' and 'dovecot' cannot both be given")
        passwords, dovecot = [path if on else "" for path, on in zip(paths, given, strict=True)]
        return Auth(passwords, dovecot, tuple(dict.fromkeys(at["mechanisms"].plain())))

    def _dsn(self, at: At) -> Dsn:
        words: tuple[tuple[str, str], ...] = ()
        if at["template"].value is not None:
            words = self._file(at["template"], "template", files.read_template, words)
        return Dsn(words, at["gather"].value)

    def _authors(self, at: At) -> tuple[Author, ...]:
        self._once(tuple([pattern for row in at.value for pattern in row["match"].value]), "sender")
        said = [[row[key].value or "" for key in ("bounce", "class")] for row in at.value]
        return tuple([Author(r["match"].plain(), *s) for r, s in zip(at.value, said, strict=True)])

    def _channels(self, at: At) -> tuple[Channel, ...]:
        self._once(tuple([row["name"] for row in at.value]), "channel")
        return tuple([self._channel(row) for row in at.value])

    def _channel(self, row: At) -> Channel:
        value = {name: at.plain() for name, at in row.value.items()}
        retry = replace(Retry(300.0, 2.0, 14400.0), **dict(self._retry(row["retry"])))
        if retry.first > retry.max:
            self._complain(row["retry"]["first"], "'first' is longer than 'max'")
        if value["program"] == "lmtp" and not value["relay"]:
            self._complain(row["relay"], "program lmtp needs the key 'relay': where it delivers")
        if value["program"] not in REMOTE:  # who connects to no host has no other bound
            value["per_host"], value["silent"] = value["concurrency"], 0
        value.update(
            queue=value["queue"] or value["name"],
            table=self._table(row["table"]),
            retry=retry,
            demote_to=value["demote_to"] or "",
            warn_after=_by_class(row["warn_after"], 14400.0),
            fail_after=_by_class(row["fail_after"], 432000.0),
            command=self._command(row["command"]),
            **{
                name: self._absolute(value[name]) if value[name] else ""
                for name in ("members", "ca", "credentials")
            },
            options=value["options"] or (),
            interval=value["interval"] or 0.0,
            paths=self._paths(row["paths"]),
        )
        return Channel(**value)

    def _paths(self, at: At) -> tuple[tuple[str, int], ...]:
        """Return directories with their weights, "" for "spool": the queue's own."""
        found: dict[str, int] = {}
        for row in at.value:
            directory, _, weight = row.value.partition(" weight=")
            path = "" if directory == "spool" else self._absolute(directory)
            if path in found:
                self._complain(row, f"{directory} is here twice")
            found[path] = int(weight or 1)
        return tuple(found.items())

    def _retry(self, at: At) -> list[tuple[str, Any]]:
        """Return the fields of Retry that are given, a lone list as ``steps``."""
        if type(at.value) is tuple:
            return [("steps", at.plain())]
        given = [(name, at[name].plain()) for name in RETRY_KEYS]
        return [(name, value) for name, value in given if value is not None]

    def _hosts(self, at: At, channels: tuple[Channel, ...]) -> tuple[HostRule, ...]:
        known = {channel.name for channel in channels}
        made = []
        for row in at.value:
            name = row["channel"].value or ""
            if name and name not in known:
                self._complain(row["channel"], f"there is no channel {name!r}")
            changes = tuple(self._retry(row["retry"]))
            numbers = [row[key].value for key in ("dead_ttl", "per_host", "max_share", "rate")]
            made.append(HostRule(row["match"].plain(), name, changes, *numbers))
        return tuple(made)

    def _table(self, at: At) -> str:
        if at.value is None:
            return ""
        path = self._absolute(at.value)
        if path not in self._tables:
            self._tables[path] = self._file(at, "table", files.read_table, ())
        return path

    def _command(self, at: At) -> tuple[str, ...]:
        """The argument vector; its program must be found without a search path."""
        if at.value is None:
            return ()
        first, *rest = at.plain()
        if "/" not in first:
            self._complain(at.value[0], f"{first!r} must be a path: no search path is used")
        return (self._absolute(first), *rest)


def _load(at: At) -> LoadLimits:
    psi = at["psi"]
    return LoadLimits(
        refuse=at["refuse"].value,
        queue_only=at["queue_only"].value,
        delay=at["delay"].value,
        queue_factor=at["queue_factor"].value,
        psi=PressureLimits(psi["refuse"].value, psi["queue_only"].value, psi["delay"].value),
    )


def _by_class(at: At, default: float) -> ByClass:
    """Return a time for each class: one for all, or those given, ``normal`` for the others."""
    if type(at.value) is not dict:
        return ByClass(at.value, at.value, at.value)
    normal = default if at["normal"].value is None else at["normal"].value
    times = [at[name].value for name in fields(ByClass)]
    return ByClass(*[normal if time is None else time for time in times])


def _own_hostname() -> str:
    """The machine's full name as far as it knows it; "localhost.localdomain" at worst."""
    import socket

    from mta.config.places import host

    name = socket.gethostname()
    for candidate in (name, *([] if "." in name else [socket.getfqdn(name)]), name):
        try:
            if "." in candidate and not candidate.startswith("localhost"):
                return host(candidate)
        except ValueError:
            continue
    try:
        return host(name) + ".localdomain"
    except ValueError:
        return "localhost.localdomain"
