"""checkque: what lies in each queue, since when, and for which hosts, in MMDF's shape.

Source   MMDF's checkque(8).  Its time stamps of a channel's phases are not
         kept here: "deliver message" is the latest attempt at a job that still
         waits.  A job that has been tried and still waits after the problem
         age is what "** BLOCKING **" and -p are about.
Units    Ages are seconds inside, hours on the command line as MMDF has them.
"""

from __future__ import annotations

import os
import sys
import time

from mta.arguments import FLAG, VALUE, read_options
from mta.config.load import load_config
from mta.errors import EX_TEMPFAIL, PosthouseError, UsageError, exit_code, spelt
from mta.listing import Wanted, jobs
from mta.machine.logline import printable
from mta.mailq import mailq_main
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mta.config.model import Channel
    from mta.spool.entry import Entry

__all__ = ["Shape", "Tally", "mailq_main", "main", "report", "tally"]

_HOUR = 3600.0
AGE_DIGITS = 9
_USAGE = "usage: checkque [-fhpsz] [-t age[m]] [-c channel,...] [--config FILE]"


@frozen
class Shape:
    """Which parts of the report are wanted: the flags."""

    first: bool = False  # -f: name the oldest message
    hosts: bool = False  # -h
    problems: bool = False  # -p
    summary: bool = False  # -s
    nonempty: bool = False  # -z
    age: float = 24 * _HOUR  # -t


class Tally:
    """What one channel has waiting; ``hosts`` maps a host to its jobs and their oldest arrival."""

    def __init__(self) -> None:
        self.jobs = 0
        self.octets = 0
        self.oldest = 0.0
        self.oldest_id = ""
        self.last_try = 0.0
        self.held = 0
        self.hosts: dict[str, tuple[int, float]] = {}

    def add(self, entry: Entry) -> None:
        """Count a job; jobs come in order of arrival."""
        when = arrived(entry.envelope.id)
        if not self.jobs:
            self.oldest, self.oldest_id = when, entry.envelope.id
        self.jobs += 1
        self.octets += entry.envelope.size
        self.held += entry.held is not None
        self.last_try = max(self.last_try, *[state.last for state in entry.states])
        count, since = self.hosts.get(entry.job.host, (0, when))
        self.hosts[entry.job.host] = (count + 1, since)


def tally(entries: Iterable[Entry], channels: Sequence[str]) -> dict[str, Tally]:
    """Count ``entries`` by channel; a channel that nothing waits for has an empty Tally."""
    tallies = {name: Tally() for name in channels}
    for entry in entries:
        tallies.setdefault(entry.job.channel, Tally()).add(entry)
    return tallies


def report(
    tallies: dict[str, Tally], channels: dict[str, Channel], shape: Shape, now: float, queues: int
) -> Iterator[str]:
    """Yield the report on ``tallies`` at ``now``, of a spool with ``queues`` queue directories."""
    shown = 0
    if not shape.summary and not shape.problems:
        total = sum(t.jobs for t in tallies.values())
        size = sum(t.octets for t in tallies.values())
        yield ""
        yield f"{_stamp(now)}:  {total} queued msgs / {queues} queue directories"
        yield f"\t\t   {_kbytes(size)} Kbytes in msg dir"
    for name, counted in tallies.items():
        late = bool(counted.jobs) and now - counted.oldest >= shape.age
        if (shape.nonempty and not counted.jobs) or (shape.problems and not late):
            continue
        shown += 1
        channel = channels.get(name)
        lines = _line if shape.summary else _paragraph
        yield from lines(name, channel, counted, shape, now)
    if shape.problems and not shown:
        yield "No problems with any channels."


def _line(
    name: str, channel: Channel | None, counted: Tally, shape: Shape, now: float
) -> Iterator[str]:
    """The one line of -s: "*" for a problem, counts, the age of the oldest."""
    late = bool(counted.jobs) and now - counted.oldest >= shape.age
    age = f"{(now - counted.oldest) / _HOUR:4.0f} hours" if counted.jobs else "  inactive"
    queue = channel.queue if channel is not None else name
    yield (
        f"{'*' if late else ' '} {counted.jobs:5d} msgs {_kbytes(counted.octets):6d} Kb "
        f"({queue:<8.8}) {name:<16}: {age}"
    )


def _paragraph(
    name: str, channel: Channel | None, counted: Tally, shape: Shape, now: float
) -> Iterator[str]:
    queue, what = (channel.queue, channel.program) if channel is not None else (name, "no channel")
    yield ""
    yield (
        f"{counted.jobs:3d} msgs {_kbytes(counted.octets):4d} Kb ({queue:<8.8}) {name:<16}:  {what}"
    )
    if channel is None:
        yield "  *** goes nowhere: mta.yaml has no channel of that name ***"
    if not counted.jobs:
        return
    if counted.last_try:
        yield f"\t\t  {'deliver message':<26}:  {_stamp(counted.last_try)}"
    else:
        yield "\t\t  No deliver message"
    if counted.held:
        yield f"\t\t  {counted.held} held by an operator"
    late = now - counted.oldest >= shape.age
    mark = "*** WAITING **" if late else ""
    which = f"  {counted.oldest_id}" if shape.first else ""
    yield f"  {mark:<16}{'First message':<26}:  {_stamp(counted.oldest)}{which}"
    if shape.hosts:
        for host, (count, since) in sorted(counted.hosts.items(), key=lambda item: item[1][1]):
            blocking = "  ** BLOCKING **" if now - since >= shape.age else ""
            shown = printable(host) or "-"
            yield f"    {shown:<33}({count:3d})  :  {_stamp(since)}{blocking}"


def _kbytes(octets: int) -> int:
    return (octets + 1023) // 1024


def _stamp(when: float) -> str:
    return time.ctime(when)[:16]


def read_age(text: str) -> float:
    """Return the seconds of -t: hours, or minutes with an "m" behind.  Raises UsageError."""
    number, unit = (text[:-1], 60.0) if text.endswith("m") else (text, _HOUR)
    if not (number.isdecimal() and len(number) <= AGE_DIGITS):
        raise UsageError(f"-t needs hours, or minutes as 90m; {printable(text)[:60]!r} is neither")
    return int(number) * unit


def run(arguments: Sequence[str], now: float) -> None:
    """Print the report.  PosthouseError if the queue or the command line cannot be read."""
    short = {**dict.fromkeys("fhpsz", FLAG), "t": VALUE, "c": VALUE}
    options, operands = read_options(arguments, short, {"config": VALUE})
    if operands:
        raise UsageError(_USAGE)
    given = dict(options)
    age = read_age(given["t"]) if "t" in given else 24 * _HOUR
    config = load_config(given.get("config"))
    channels = {channel.name: channel for channel in config.channels}
    names = given["c"].split(",") if "c" in given else list(channels)
    chosen = [config.channel(name) for name in names]
    spool = Spool.open(config.spool)
    entries = jobs(
        spool, Wanted(queues=tuple({c.queue: None for c in chosen}) if "c" in given else ())
    )
    counted = tally((e for e in entries if "c" not in given or e.job.channel in names), names)
    shape = Shape("f" in given, "h" in given, "p" in given, "s" in given, "z" in given, age)
    for line in report(counted, channels, shape, now, len(spool.queues())):
        print(line)


def main() -> int:
    """The command ``checkque``; returns its exit status."""
    try:
        run(sys.argv[1:], time.time())
        sys.stdout.flush()  # here, where a reader who has gone is no error
    except PosthouseError as error:
        print(spelt("checkque", error), file=sys.stderr)
        return exit_code(error)
    except (BrokenPipeError, KeyboardInterrupt):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        print(spelt("checkque", error), file=sys.stderr)
        return EX_TEMPFAIL
    return 0
