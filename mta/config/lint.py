"""`mta check` beyond the schema: configurations that are valid and still would not do.

``lint`` is a pure function of the Config and of a few facts about the machine;
``check`` gathers the facts first.  Each rule is one function in ``RULES``.

Severity An "error" is certain to go wrong as soon as it is used; a "warning"
         may be what somebody wants.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from mta.config import lint_listen, lint_load, lint_paths, slow_lanes
from mta.config.findings import Facts, Finding
from mta.config.model import Channel, Config, Daemon
from mta.config.routing import known_user, read_include, router_with
from mta.route.router import Routed
from mta.types import Mailbox
from mta.values import frozen

__all__ = ["Facts", "Finding", "check", "file_system", "gather", "lint", "spell"]

NETWORK_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph")
DAEMONS = ("deliver", "smtpd")
QUIET_INTERVAL = 900.0  # seconds between sweeps beyond which mode: queue looks like a mistake
MEMORY_SYSTEMS = ("tmpfs", "ramfs")


@frozen
class Deliver:
    """What a deliver daemon's command line says, as far as lints care."""

    line: int
    channels: tuple[str, ...]
    younger: float | None  # -t, hours
    older: float | None  # -o, hours
    forever: bool  # -b
    named: bool  # message ids were given
    interval: float  # -T, seconds


def check(config: Config) -> list[Finding]:
    """Return everything remarkable about ``config`` on this machine."""
    return list(lint(config, gather(config)))


def lint(config: Config, facts: Facts) -> tuple[Finding, ...]:
    """Return the findings of all rules, those with a line first, in its order."""
    found = [finding for rule in RULES for finding in rule(config, facts)]
    return tuple(sorted(found, key=lambda f: (f.line is None, f.line or 0)))


def spell(config: Config, finding: Finding) -> str:
    """Return ``finding`` as one line, ``file:line: severity: text``."""
    where = config.path if finding.line is None else f"{config.path}:{finding.line}"
    return f"{where}: {finding.severity}: {finding.text}"


def gather(config: Config) -> Facts:
    """Ask the machine for the facts about ``config``."""
    spool, log = _existing(config.spool), _existing(config.log.dir)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            system = file_system(file.read(), os.path.realpath(spool))
    except OSError:
        system = ""
    return Facts(
        system,
        os.stat(spool).st_dev,
        os.stat(log).st_dev,
        lambda name: known_user(config, name),
        lambda path: read_include(config, path),
        os.path.exists,
        os.path.exists("/proc/pressure/cpu"),
        _device,
    )


def _device(path: str) -> int:
    return os.stat(path).st_dev if os.path.isdir(path) else -1


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def file_system(mountinfo: str, path: str) -> str:
    """Return the type of the file system that holds ``path``; "" if ``mountinfo`` lacks it.

    Source: proc(5), /proc/self/mountinfo: field 5 is the mount point, with
    octal escapes, and the type follows the "-".  A later mount hides an earlier.
    """
    best, found = "", ""
    for line in mountinfo.split("\n"):
        fields, separator, tail = line.partition(" - ")
        words = fields.split(" ")
        if not separator or len(words) < 5:
            continue
        point = words[4]
        for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
            point = point.replace(escape, character)
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, tail.split(" ")[0]
    return found


def _words(daemon: Daemon) -> list[str]:
    try:
        return shlex.split(daemon.command)
    except ValueError:
        return []


def _commands(config: Config, facts: Facts) -> Iterator[Finding]:
    """A daemon that a shell could not read, without a command, or with one nobody knows."""
    for daemon in config.daemons:
        if not _words(daemon):
            yield Finding(daemon.line, "error", f"{daemon.command!r} is no command: see its quotes")
        elif _words(daemon)[0] not in DAEMONS:
            known = " ".join(DAEMONS)
            text = f"{_words(daemon)[0]!r} is no daemon, and nothing starts it; there are: {known}"
            yield Finding(daemon.line, "error", text)


def _delivers(config: Config) -> Iterator[Deliver]:
    """Each deliver among the daemons, with its flags; channels are all where none are named."""
    for daemon in config.daemons:
        command, *arguments = _words(daemon) or [""]
        if os.path.basename(command) == "deliver":
            yield _flags(daemon.line, arguments)


def _flags(line: int, arguments: list[str]) -> Deliver:
    """Read as much of deliver's flags as lints need: bundles, values joined or apart."""
    given: dict[str, str] = {}
    named = False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--config" and rest:
            rest.pop(0)
        elif word.startswith("-") and not word.startswith("--"):
            for at, flag in enumerate(word[1:], 2):
                if flag in "clmotLTV":
                    given[flag] = word[at:] or (rest.pop(0) if rest else "")
                    break
                given[flag] = ""
        elif not word.startswith("-"):
            named = True
    channels = tuple([c for c in given.get("c", "").split(",") if c])
    younger, older = _hours(given.get("t")), _hours(given.get("o"))
    interval = _hours(given.get("T"))
    interval = 600.0 if interval is None else interval
    return Deliver(line, channels, younger, older, "b" in given, named, interval)


def _hours(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _unknown_channels(config: Config, facts: Facts) -> Iterator[Finding]:
    known = {c.name for c in config.channels}
    for deliver in _delivers(config):
        for name in deliver.channels:
            if name not in known:
                text = f"deliver serves the channel {name!r}, which does not exist"
                yield Finding(deliver.line, "error", text)


def _served(config: Config, queue: str) -> list[Deliver]:
    """The delivers that look into ``queue`` again and again."""
    names = {c.name for c in config.channels if c.queue == queue}
    return [
        d
        for d in _delivers(config)
        if d.forever and not d.named and (not d.channels or names.intersection(d.channels))
    ]


def _unserved_queues(config: Config, facts: Facts) -> Iterator[Finding]:
    """A queue whose mail nobody takes, or nobody once it is old, or nobody while it is new."""
    for queue in config.queues() if config.daemons else ():
        served = _served(config, queue)
        young = [d for d in served if d.younger is not None]
        old = [d for d in served if d.younger is None]
        if not served:
            yield Finding(None, "warning", f"no deliver serves the queue {queue!r}")
        elif not old:
            hours = max(d.younger or 0 for d in young)
            text = f"no deliver serves the queue {queue!r} without -t: mail older than"
            line = max(d.line for d in young)
            yield Finding(line, "warning", f"{text} {hours:g} hours would wait for ever")
        elif all(d.older for d in old):
            start = min(d.older or 0 for d in old)
            end = max([d.younger or 0 for d in young if not d.older], default=0)
            if end < start:
                text = f"mail in the queue {queue!r} waits from {end:g} to {start:g} hours of age:"
                yield Finding(min(d.line for d in old), "warning", f"{text} all delivers have -o")


def _quiet_queues(config: Config, facts: Facts) -> Iterator[Finding]:
    """A queue whose new mail wakes nobody, and that is seldom looked at."""
    for channel in config.channels:
        if channel.mode not in ("queue", "defer") or not config.daemons:
            continue
        served = _served(config, channel.queue)
        shortest = channel.interval or min([d.interval for d in served], default=0.0)
        if shortest > QUIET_INTERVAL:
            text = f"channel {channel.name!r} has the mode {channel.mode}: its mail waits for a"
            text += f" sweep, and there is one every {shortest / 60:.0f} minutes; see -T"
            yield Finding(None, "warning", text)


def _one_pass(config: Config, facts: Facts) -> Iterator[Finding]:
    for deliver in _delivers(config):
        if not deliver.forever or deliver.named:
            text = "deliver makes one pass and ends: a daemon needs -b, and no message ids"
            yield Finding(deliver.line, "warning", text)


def _shared_queues(config: Config, facts: Facts) -> Iterator[Finding]:
    """Channels on one queue deliver each other's mail: they must know the same hosts."""
    first: dict[str, Channel] = {}
    for channel in config.channels:
        if not channel.domains and not channel.table:
            continue  # an alternate: it takes what the other is given
        other = first.setdefault(channel.queue, channel)
        same = other.table == channel.table and set(other.domains) == set(channel.domains)
        if not same:
            what = "tables" if other.table != channel.table else "domains"
            text = f"channels {other.name!r} and {channel.name!r} share the queue"
            why = "each would be given hosts that only the other knows"
            line = f"{text} {channel.queue!r} but disagree on their {what}: {why}"
            yield Finding(None, "warning", line)


def _patterns(config: Config, channel: Channel) -> list[str]:
    """Everything that ``channel`` knows, with $local spelt out."""
    found: list[str] = []
    for pattern in channel.domains:
        found += config.local.domains if pattern == "$local" else (pattern,)
    return found + [pattern for _, pattern, _ in config.table(channel.table)]


def _covered(pattern: str, taken: set[str]) -> bool:
    """Whether a row of ``taken`` takes every host that ``pattern`` does."""
    if pattern in taken or "*" in taken:
        return True
    dots = [at for at, c in enumerate(pattern) if c == "."]
    return pattern[:1] != "[" and any(pattern[at:] in taken for at in dots)


def _unreachable(config: Config, facts: Facts) -> Iterator[Finding]:
    """A channel that routing never chooses, and that is no alternate on another's queue."""
    before: list[tuple[str, set[str]]] = []  # queue and patterns of each channel so far
    fed = {c.queue for c in config.channels if c.domains or c.table}
    for channel in config.channels:
        own = set(_patterns(config, channel))
        taken = [patterns for queue, patterns in before if queue != channel.queue]
        text = f"channel {channel.name!r} can never be reached:"
        if not own and channel.queue not in fed:
            yield Finding(None, "warning", f"{text} it has no domains and no table")
        elif own and all(any(_covered(p, patterns) for patterns in taken) for p in own):
            yield Finding(None, "warning", f"{text} channels before it take all its hosts")
        before.append((channel.queue, own))


def _spool_place(config: Config, facts: Facts) -> Iterator[Finding]:
    system = facts.spool_system
    if system in NETWORK_SYSTEMS:
        text = f"the spool {config.spool} is on {system}, a network file system: neither locks"
        yield Finding(None, "warning", f"{text} nor syncs can be relied on there")
    elif system in MEMORY_SYSTEMS:
        text = f"the spool {config.spool} is on {system}: mail in it is lost with the power"
        yield Finding(None, "warning", text)
    if facts.spool_device == facts.log_device:
        text = f"the spool {config.spool} and the logs {config.log.dir} are on one file system:"
        yield Finding(None, "warning", f"{text} logs that fill it stop the mail")


def _late_warnings(config: Config, facts: Facts) -> Iterator[Finding]:
    for channel in config.channels:
        warn, fail = channel.warn_after, channel.fail_after
        if any(warn.of(kind) >= fail.of(kind) for kind in ("urgent", "normal", "bulk")):
            text = f"channel {channel.name!r}: warn_after is not below fail_after: no warning"
            yield Finding(None, "warning", f"{text} would ever be sent")


def _demotions(config: Config, facts: Facts) -> Iterator[Finding]:
    """A slow lane that is not there, or would not get what is sent there."""
    for channel in config.channels:
        name = channel.demote_to
        text = f"channel {channel.name!r}: demote_to"
        wrong = slow_lanes.fault(config, channel)
        if wrong:
            yield Finding(None, "error", f"{text} {wrong}")
        elif (
            name
            and config.daemons
            and not any(
                d.forever and not d.named and (not d.channels or name in d.channels)
                for d in _delivers(config)
            )
        ):
            why = "hosts that fail for long would wait for ever"
            yield Finding(None, "error", f"{text} {name!r}: no deliver serves it: {why}")


def _local_domains(config: Config, facts: Facts) -> Iterator[Finding]:
    """A local domain whose mail the channel table sends elsewhere."""
    router = router_with(config, facts.known_user, facts.read_include)
    for domain in config.local.domains:
        match = router.table.find(domain)
        if match is None or not match.channel.local:
            where = "no channel" if match is None else f"the channel {match.channel.name!r}"
            text = f"the local domain {domain} is taken by {where}, not by one with program: local"
            yield Finding(None, "error" if match is None else "warning", text)


def _aliases(config: Config, facts: Facts) -> Iterator[Finding]:
    """Aliases that stand for nobody, for themselves, or for what cannot be read."""
    router = router_with(config, facts.known_user, facts.read_include)
    domain = router.default_domain
    if not router.is_local(domain):
        return
    told: set[object] = set()
    # Aliases without aliases among their targets go first: a fault is told where it is.
    names = {name for name, _, _ in config.aliases}
    order = sorted(config.aliases, key=lambda a: bool(names.intersection(t.lower() for t in a[1])))
    for name, _, line in order:
        where = f"{config.local.aliases}:{line}: alias {name}"
        for key, text in _faults(router.route(Mailbox(name, domain))):
            if key not in told:
                told.add(key)
                yield Finding(None, "warning", f"{where}: {text}")
    refused = router.route(Mailbox("postmaster", domain)).outcome
    if refused is not None and "postmaster" not in names:
        text = f"postmaster@{domain} resolves to nobody: {refused.reply.text}"
        yield Finding(None, "warning", f"{text}; write an alias for postmaster")


def _faults(routed: Routed) -> Iterator[tuple[object, str]]:
    """What is wrong with one alias: a key by which it is told once, and the words."""
    for step in routed.left_out:
        yield (step.subject, step.detail), f"{step.subject}: {step.detail}"
    if routed.outcome is not None and not routed.left_out:
        text = routed.outcome.reply.text
        prefix, _, cycle = text.partition(": ")
        yield (prefix, frozenset(cycle.split(" -> "))), text


RULES = (
    _commands,
    _unknown_channels,
    _unserved_queues,
    _one_pass,
    _shared_queues,
    _unreachable,
    _spool_place,
    _late_warnings,
    _demotions,
    _local_domains,
    _aliases,
    _quiet_queues,
    *lint_listen.RULES,
    *lint_paths.RULES,
    *lint_load.RULES,
)
