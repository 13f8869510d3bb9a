"""``mta suspend``, ``resume`` and ``suspended``: rules that have mail wait, and their list.

Units    Times are float seconds since the epoch; as typed, local time.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta

from mta.address import parse_domain, parse_mailbox
from mta.config import scalars
from mta.control.wanted import check_queues
from mta.errors import EX_OK, UsageError
from mta.machine.log import Log
from mta.machine.logline import printable
from mta.policy.suspensions import WHATS, Suspension, author_text
from mta.spool.rulelog import RuleLog
from mta.spool.spool import Spool
from mta.submission import caller
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mta.config.model import Config

__all__ = ["lines", "resume", "suspend", "whom"]

EX_NOTHING = 1


def whom(config: Config, given: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return whose mail is meant, as (what, whom); UsageError or ConfigError if that is nobody."""
    found = [(what, _spelt(config, what, value)) for what in WHATS for value in given[what]]
    if not found:
        raise UsageError(f"whose mail? say {', '.join('--' + what for what in WHATS)}")
    return found


def _spelt(config: Config, what: str, value: str) -> str:
    """Return ``value`` in its one spelling."""
    try:
        if what in ("host", "domain"):
            return "." + parse_domain(value[1:]) if value.startswith(".") else parse_domain(value)
        if what == "sender":
            return "<>" if value == "<>" else author_text(parse_mailbox(value))
    except ValueError as error:
        raise UsageError(f"--{what} {printable(value)!r}: {error}") from None
    if what == "channel":
        return config.channel(value).name
    check_queues(config, [value])
    return value


def suspend(
    config: Config,
    about: Sequence[tuple[str, str]],
    *,
    until: str,
    lasting: str,
    why: str,
    say: Callable[[str], None],
) -> int:
    """Have the mail of ``about`` wait until a time, or for a time, or until it is resumed."""
    now = time.time()
    end = _end(until, lasting, now)
    log, by = Log(config.log.dir, config.log.formats, "mta"), caller().login
    rules = RuleLog(Spool.open(config.spool).fs)
    for what, value in about:
        rule = Suspension(what, value, by, now, end, why)
        rules.suspend(rule)
        log.suspended(rule.name, by, end, why)
        say(printable(f"{rule.name} waits until {time.ctime(end) if end else 'it is resumed'}"))
    rules.shrink(now)
    log.flush()
    return EX_OK


def resume(
    config: Config, about: Sequence[tuple[str, str]] | None, say: Callable[[str], None]
) -> int:
    """Let the mail of ``about`` go again, or for None that of all rules."""
    now = time.time()
    log, by = Log(config.log.dir, config.log.formats, "mta"), caller().login
    rules = RuleLog(Spool.open(config.spool).fs)
    known = rules.read()
    standing = list(known.rules.values()) if known is not None else []
    wanted = [(r.what, r.whom) for r in standing if r.stands(now)] if about is None else about
    done = 0
    for what, value in wanted:
        if rules.resume(what, value, now, by):
            done += 1
            log.resumed(f"{what} {value}", by)
            say(printable(f"{what} {value} goes again"))
        else:
            say(printable(f"{what} {value} was not suspended"))
    rules.shrink(now)
    log.flush()
    return EX_OK if done else EX_NOTHING


def lines(config: Config, *, as_json: bool) -> Iterator[str]:
    """Yield what is suspended, the oldest rule first."""
    now = time.time()
    known = RuleLog(Spool.open(config.spool).fs).read()
    standing = [r for r in known.rules.values() if r.stands(now)] if known is not None else []
    for rule in sorted(standing, key=lambda rule: rule.since):
        if as_json:
            about = {"what": rule.what, "whom": rule.whom, "by": rule.by, "since": rule.since}
            yield json.dumps({**about, "until": rule.until, "text": rule.why})
            continue
        until = f"until {time.ctime(rule.until)}" if rule.until else "until it is resumed"
        why = f": {rule.why}" if rule.why else ""
        since = time.ctime(rule.since)
        yield printable(f"{rule.name}, since {since}, {until}, by {rule.by}{why}")


def _end(until: str, lasting: str, now: float) -> float:
    """Return when a rule ends; 0.0 for never.  UsageError if that is no time, or past."""
    if until and lasting:
        raise UsageError("--until and --for say the same: give one")
    if lasting:
        try:
            return now + scalars.some_time(lasting)
        except ValueError as error:
            raise UsageError(f"--for: {printable(lasting)!r} {error}") from None
    if not until:
        return 0.0
    end = _moment(until, now)
    if end <= now:
        raise UsageError(f"--until: {printable(until)} is past")
    return end


def _moment(text: str, now: float) -> float:
    """Return the time that ``text`` names: a date and time, or the next time of day."""
    try:
        if len(text) <= len("23:59:59"):
            hour = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M")
            today = datetime.fromtimestamp(now)
            at = today.replace(
                hour=hour.hour, minute=hour.minute, second=hour.second, microsecond=0
            )
            return (at if at.timestamp() > now else at + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--until: {printable(text)!r} is no time, as 14:30 or 2026-12-24T18:00"
        ) from None
