"""What delivers know of hosts that fail, for a person to see and to change.

``hoststat`` and ``purgestat`` are sendmail's names for it, ``mta host`` is ours.
All read and write the spool's log of hosts; running delivers hear of a change
within a second, and try at once what waits for a host that was revived.

Source   sendmail's hoststat(8) and purgestat(8); op s5.4 (HostStatusDirectory).
Units    Wall-clock seconds.
"""

from __future__ import annotations

import json
import sys
import time

from mta.arguments import FLAG, VALUE, read_options, read_span
from mta.config.host_rules import HostRules
from mta.config.load import load_config
from mta.errors import EX_OK, ConfigError, PosthouseError, SpoolError, UsageError
from mta.machine.logline import printable
from mta.policy.deadhosts import PERSON, Failing, News, dead
from mta.spool.hostlog import HostLog, read_hosts
from mta.spool.layout import host_word
from mta.spool.spool import Spool
from mta.submission import caller
from mta.submit import guarded, leave, report
from mta.types import Reply
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from mta.config.model import Config
    from mta.policy.deadhosts import DeadHosts

__all__ = ["NobodyError", "act", "bury", "hoststat", "lines", "purgestat", "revive", "table"]

EX_NOTHING = 1
PLAIN = ("local", "pipe", "list")  # these connect to nobody
PATIENCE = 5.0  # for another process to let go of the log
LONGEST = 36_500 * 86400.0  # seconds: what a line of the log has room for, and enough
_STEP = 0.02
_HEAD = f"{'-' * 14} Hostname {'-' * 14} How long ago {'-' * 9}Results{'-' * 9}"


class NobodyError(PosthouseError):
    """None of the hosts that were named is known to fail."""


@frozen
class Row:
    """One host, or address, of one channel, and until when the channel leaves it alone."""

    channel: str
    host: str
    failing: Failing
    until: float


def _rows(config: Config, now: float) -> Iterator[Row]:
    """Yield what is known, channel by channel, those that failed last at the end."""
    known = read_hosts(Spool.open(config.spool).fs, now)
    for channel in config.channels:
        own = HostRules(config.hosts, channel)
        for host, failing in known.of(channel.name).items():
            burial = dead(host, failing, own.find(host).dead_ttl)
            yield Row(channel.name, host, failing, 0.0 if burial is None else burial.until)


def lines(
    config: Config, hosts: Sequence[str], channel: str, now: float, *, as_json: bool = False
) -> Iterator[str]:
    """Yield what ``mta host list`` prints: what is known of ``hosts``, or of all that fail."""
    _check(config, channel)
    wanted = {_word(host) for host in hosts}
    for row in _rows(config, now):
        if (wanted and row.host not in wanted) or channel not in ("", row.channel):
            continue
        yield json.dumps(_record(row)) if as_json else _text(row, now)


def _record(row: Row) -> dict[str, object]:
    f, reply = row.failing, row.failing.reply
    said = {"code": reply.code, "status": reply.status, "text": reply.text}
    times = {"since": f.since, "at": f.at, "until": row.until, "by_hand": f.hold > 0}
    who = {"via": f.via, "who": f.who.removeprefix(PERSON)}
    return {
        "channel": row.channel,
        "host": row.host,
        "failures": f.failures,
        **times,
        **who,
        **said,
    }


def _text(row: Row, now: float) -> str:
    f = row.failing
    until = f"until {time.ctime(row.until)}" if row.until > now else "may be tried"
    count = "buried by hand" if f.hold else f"{f.failures} failure(s) since {time.ctime(f.since)}"
    via = f" at {f.via}" if f.via else ""
    who = f.who.removeprefix(PERSON)
    said = printable(f"{row.host} on {row.channel}: {until}; {count}{via}: {f.reply}")
    return f"{said} ({printable(who)})"


def table(config: Config, now: float, *, verbose: bool = False) -> Iterator[str]:
    """Yield what ``hoststat`` prints, as sendmail's does."""
    yield _HEAD
    for row in _rows(config, now):
        f = row.failing
        yield printable(f"{row.host:<38.38} {_ago(now - f.at):>12} {f.reply}"[:500])
        if verbose:
            until = f", left alone until {time.ctime(row.until)}" if row.until > now else ""
            yield f"{'':<8}channel {row.channel}, {f.failures} in a row{until}"


def _ago(seconds: float) -> str:
    """Return a time as sendmail spells it: "1+02:03:04"."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return (f"{day}+" if day else "") + f"{hour:02d}:{minute:02d}:{second:02d}"


def revive(config: Config, hosts: Sequence[str], now: float, channel: str = "") -> int:
    """Have all delivers forget that ``hosts`` fail, or any if none is named; return how many.

    NobodyError if hosts are named, and none of them is known to fail.
    """
    _check(config, channel)
    spool, wanted = Spool.open(config.spool), {_word(host) for host in hosts}
    known, signed = read_hosts(spool.fs, now), f"{PERSON}{caller().login}"
    told = [
        News(now, each.name, host, None, signed)
        for each in config.channels
        if channel in ("", each.name)
        for host in (_meant(known, each.name, wanted) if wanted else known.of(each.name))
    ]
    if wanted and not told:
        raise NobodyError(f"no deliver knows that {' or '.join(hosts)} fails")
    _tell(spool, told)
    return len(told)


def _meant(known: DeadHosts, channel: str, wanted: set[str]) -> list[str]:
    """Return those that fail of the hosts ``wanted``, and with them what fails for one cause.

    That is the address at which a host failed, and the hosts that failed at an address.
    """
    failing = known.of(channel)
    meant = [host for host in failing if host in wanted]
    vias = [failing[host].via for host in meant if failing[host].via in failing]
    behind = [host for word in meant if "]:" in word for host in known.behind(channel, word)]
    return list(dict.fromkeys([*vias, *meant, *behind]))


def bury(config: Config, hosts: Sequence[str], span: float, now: float, channel: str = "") -> int:
    """Have all delivers leave ``hosts`` alone for ``span`` seconds; return on how many channels."""
    _check(config, channel)
    if span > LONGEST:
        raise UsageError(f"--for is {LONGEST / 86400:.0f}d at most")
    spool, user = Spool.open(config.spool), caller().login
    known, signed = read_hosts(spool.fs, now), f"{PERSON}{user}"
    reply = Reply(451, "4.3.2", Reply.clean(f"left alone for {span:g} s, by {user}"))
    channels = [c for c in config.channels if channel in ("", c.name) and c.program not in PLAIN]
    told = []
    for each in channels:
        for host in map(_word, hosts):
            failing = _held(known.of(each.name).get(host), reply, now)
            failing = replace(failing, hold=span, who=signed)
            told.append(News(now, each.name, host, failing, signed))
    _tell(spool, told)
    return len(channels)


def _held(before: Failing | None, reply: Reply, now: float) -> Failing:
    """Return what is known of a host that is buried by hand: its failures stay as many."""
    if before is None:
        return Failing(now, now, 1, reply)
    return Failing(now, now - (before.at - before.since), before.failures, reply, before.via)


def _check(config: Config, channel: str) -> None:
    if channel:
        try:
            config.channel(channel)
        except ConfigError as error:
            raise UsageError(str(error)) from None


def _word(host: str) -> str:
    return host_word(host.lower())


def _tell(spool: Spool, told: Sequence[News]) -> None:
    log = HostLog(spool.fs)
    until = time.monotonic() + PATIENCE
    try:
        while told and not log.tell(told):
            if time.monotonic() > until:
                raise SpoolError("the log of hosts is in another's hands; try again")
            time.sleep(_STEP)
    except OSError as error:
        raise SpoolError(f"cannot write the log of hosts: {error.strerror}") from error


def hoststat() -> NoReturn:
    """Show the hosts that fail; end the process."""
    leave(guarded("hoststat", lambda: _hoststat(sys.argv[1:])))


def purgestat() -> NoReturn:
    """Have all delivers forget hosts that fail; end the process."""
    leave(guarded("purgestat", lambda: _purgestat(sys.argv[1:])))


def _hoststat(arguments: Sequence[str]) -> int:
    options, rest = read_options(arguments, {"v": FLAG, "C": VALUE}, {"config": VALUE})
    if rest:
        raise UsageError("usage: hoststat [-v] [--config FILE]")
    given = dict(options)
    config = load_config(given.get("config", given.get("C")))
    for line in table(config, time.time(), verbose="v" in given):
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
    return EX_OK


def _purgestat(arguments: Sequence[str]) -> int:
    options, hosts = read_options(arguments, {"C": VALUE}, {"config": VALUE})
    given = dict(options)
    try:
        revive(load_config(given.get("config", given.get("C"))), hosts, time.time())
    except NobodyError as error:
        report("purgestat", str(error))
        return EX_NOTHING
    return EX_OK


def act(
    config: Config, what: str, hosts: Sequence[str], span: str, channel: str, now: float
) -> int:
    """Do what ``mta host revive`` or ``bury`` asks; return how many hosts or channels it met."""
    if not hosts:
        raise UsageError(f"mta host {what} needs a host")
    if what == "revive":
        if span:
            raise UsageError("--for is bury's")
        return revive(config, hosts, now, channel)
    if not span:
        raise UsageError("mta host bury needs --for TIME, as 2h")
    return bury(config, hosts, read_span(span), now, channel)
