"""The work of ``mta hold`` and its kin: find, claim, act, tell the delivers, count.

A job that is in another's hands (in flight, as a rule) is tried again for a few
seconds, then told of as busy.

State    Names come in slices, and of the busy BUSY_LIMIT are kept: memory does not grow
         with the queue.
Exit     0 all that was meant is done, 1 nothing was meant, 75 some were busy or
         could not be done, 64 a wrong command line.

Invariants, each a test in tests/control/test_program.py
    CP1  Each job that the filter means is acted on, or counted as busy or failed.
    CP2  --dry-run changes nothing, and shows what the same command would touch.
"""

from __future__ import annotations

import json
import sys
import time

from mta.config.queues import alike, paths
from mta.control.acts import NOTING, Order, delete
from mta.control.walk import find, shown, untaken_of
from mta.control.wanted import check_queues
from mta.errors import EX_OK, EX_TEMPFAIL, PosthouseError, SpoolError, UsageError
from mta.machine.log import Log
from mta.machine.logline import printable
from mta.machine.wake import Recall
from mta.spool.intake import take_in
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.submission import caller
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from mta.config.model import Config
    from mta.control.acts import Act
    from mta.policy.filters import Filter
    from mta.spool.entry import Envelope
    from mta.spool.layout import JobName
    from mta.spool.spool import Claim

__all__ = ["FEW", "Task", "run"]

EX_NOTHING = 1
FEW = 10  # jobs that are deleted or returned without --yes, where a person typed it
BUSY_LIMIT = 10_000  # jobs in others' hands that are tried again
PATIENCE = 5.0
PAUSE = 0.1
INTAKE_PAUSES = (0.1, 0.3, 0.6, 0.0)  # seconds that a running intake is given, look by look
SLICE = 500  # jobs between two syncs
DRASTIC = ("delete", "return")
PAST = {
    "hold": "held",
    "release": "released",
    "requeue": "requeued",
    "delete": "deleted",
    "return": "returned",
    "reroute": "rerouted",
}
SAME = {"hold": "held already", "release": "not held", "reroute": "on that way already"}


@frozen
class Task:
    """What to do with which jobs: ``verb`` is of PAST, ``limit`` 0 is no limit."""

    verb: str
    wanted: Filter
    text: str = ""
    dry: bool = False
    as_json: bool = False
    limit: int = 0
    sure: bool = False
    channel: str = ""  # reroute --to
    next_hop: str = ""  # reroute --next-hop


class _Counts:
    """What became of the jobs."""

    def __init__(self) -> None:
        self.of = dict.fromkeys(("done", "same", "busy", "failed", "gone"), 0)
        self.why: dict[str, int] = {}

    def add(self, fate: str) -> None:
        self.of[fate] += 1

    def note(self, why: str) -> None:
        if why in self.why or len(self.why) < FEW:
            self.why[why] = self.why.get(why, 0) + 1

    @property
    def matched(self) -> int:
        return sum(self.of.values()) - self.of["gone"]


def run(config: Config, task: Task, say: Callable[[str], None]) -> int:
    """Do ``task``; ``say`` what was done; return the exit status.  PosthouseError stops it."""
    spool = Spool.open(config.spool, paths=paths(config), alike=alike(config))
    log = Log(config.log.dir, config.log.formats, "mta")
    now = time.time()

    def queued(envelope: Envelope) -> None:
        about = envelope.reverse_path, envelope.size, envelope.recipients, envelope.origin
        log.queued(envelope.id, *about)

    # What no intake has made jobs of yet is meant, too; one that runs may be behind.
    alone = take_in(spool, queued)
    check_queues(config, task.wanted.queues)
    found = _limited(find(spool, task.wanted, now), task.limit)
    if task.dry:
        return _show(found, task, say, now)
    untaken = 0 if alone or task.limit else _behind(spool, task, now)
    _check_sure(spool, task, now)
    work = _Work(config, spool, log, task, now)
    try:
        counts = work.all(found)
    finally:
        work.close()
    _sum_up(counts, task, say, untaken)
    if (unread := work.unread) is not None:
        where = f"{unread.filename}: {unread.strerror}"
        raise SpoolError(f"a part of the queues cannot be read: {where}")
    if not counts.matched + untaken:
        return EX_NOTHING
    return EX_TEMPFAIL if counts.of["busy"] + counts.of["failed"] + untaken else EX_OK


def _behind(spool: Spool, task: Task, now: float) -> int:
    """Return how many jobs that are meant a running intake has not made, given a moment."""
    for pause in INTAKE_PAUSES:
        if not (left := untaken_of(spool, task.wanted, now)):
            break
        time.sleep(pause)
    return left


def _limited(names: Iterable[JobName], limit: int) -> Iterator[JobName]:
    for number, name in enumerate(names, 1):
        yield name
        if number == limit:
            return


def _check_sure(spool: Spool, task: Task, now: float) -> None:
    """Refuse to lose much mail by a slip of the hand; never ask, so never hang."""
    if task.sure or task.verb not in DRASTIC or not sys.stdin.isatty():
        return
    if task.limit and task.limit <= FEW:
        return
    if sum(1 for _ in _limited(find(spool, task.wanted, now), FEW + 1)) > FEW:
        raise UsageError(f"that is more than {FEW} jobs: look with --dry-run, then say --yes")


def _show(found: Iterable[JobName], task: Task, say: Callable[[str], None], now: float) -> int:
    jobs = 0
    hosts: dict[str, int] = {}
    for name in found:
        jobs += 1
        if len(hosts) < 10_000 or name.host in hosts:
            hosts[name.host] = hosts.get(name.host, 0) + 1
        when = arrived(name.id)
        if task.as_json:
            about: dict[str, Any] = {"id": name.id, "number": name.number, "queue": name.queue}
            say(json.dumps({**about, "host": name.host, "arrived": when}))
        else:
            age = max(0.0, now - when)
            say(printable(f"{name.key} {name.queue} {name.host or '-'} {age:.0f} s old"))
    if task.as_json:
        say(json.dumps({"verb": task.verb, "dry_run": True, "jobs": jobs, "hosts": len(hosts)}))
    else:
        say(f"{_count(jobs)} would be {PAST[task.verb]}, for {len(hosts)} host(s)")
    return EX_OK if jobs else EX_NOTHING


def _they(jobs: int) -> str:
    return "it is" if jobs == 1 else "they are"


def _count(jobs: int) -> str:
    return f"{jobs} job{'' if jobs == 1 else 's'}"


def _sum_up(counts: _Counts, task: Task, say: Callable[[str], None], untaken: int) -> None:
    of = counts.of
    if task.as_json:
        told = {name: of[name] for name in ("done", "same", "busy", "failed")}
        told["untaken"] = untaken
        say(json.dumps({"verb": task.verb, **told, "reasons": counts.why}))
        return
    parts = [f"{_count(of['done'])} {PAST[task.verb]}"]
    parts += [f"{of['same']} {SAME[task.verb]}"] if of["same"] else []
    parts += [f"{of['busy']} busy: in flight, or in another's hands"] if of["busy"] else []
    parts += [f"{of['failed']} left as {_they(of['failed'])}"] if of["failed"] else []
    say("; ".join(parts) if counts.matched + untaken else "no such job waits")
    for why, jobs in counts.why.items():
        say(printable(f"  {_count(jobs)}: {why}"))
    if untaken:
        say(f"  {_count(untaken)} in the journal: intake is behind; do it again, or suspend")


class _Work:
    """One command's work on its jobs."""

    def __init__(self, config: Config, spool: Spool, log: Log, task: Task, now: float) -> None:
        self._spool = spool
        self._log = log
        self._task = task
        self._now = now
        self._order = Order(caller().login, now, task.text)
        self._recall = Recall(config.runtime)
        self._counts = _Counts()
        self._close: Callable[[], None] = lambda: None
        self._settle: Callable[[], None] = lambda: None
        self._act: Act = self._choose(config)
        self._progress = _Progress()
        self.unread: OSError | None = None  # what kept a part of the queues from being read

    def _choose(self, config: Config) -> Act:
        if self._task.verb in NOTING:
            return NOTING[self._task.verb]
        if self._task.verb == "delete":
            return delete
        if self._task.verb == "reroute":
            from mta.control.rerouting import Rerouting

            forced = self._task.channel, self._task.next_hop
            rerouting = Rerouting(config, self._spool, self._log, forced, self._finished)
            self._settle, self._close = rerouting.sync, rerouting.close
            return rerouting.act
        from mta.control.returning import Returning  # late: it starts a thread and a loop

        returning = Returning(config, self._spool, self._log, self._finished)
        self._settle, self._close = returning.sync, returning.close
        return returning.act

    def all(self, found: Iterable[JobName]) -> _Counts:
        """Act on all that was ``found``, and again on what was busy."""
        busy: list[JobName] = []
        for number, name in enumerate(self._readable(found), 1):
            if not self._one(name):
                if len(busy) < BUSY_LIMIT:
                    busy.append(name)
                else:
                    self._counts.add("busy")
            if number % SLICE == 0:
                self._sync()
                self._progress.show(number)
        limit = time.monotonic() + PATIENCE
        while busy and time.monotonic() < limit:
            self._sync()
            time.sleep(PAUSE)
            busy = [name for name in busy if not self._one(name)]
        self._settle()
        for _ in busy:
            self._counts.add("busy")
        self._progress.end()
        return self._counts

    def _readable(self, found: Iterable[JobName]) -> Iterator[JobName]:
        """Yield what can be ``found``; the rest is told of when that has been seen to."""
        try:
            yield from found
        except OSError as error:
            self.unread = error

    def _one(self, name: JobName) -> bool:
        """Act on one job; return False if it is in another's hands."""
        fate = ""
        try:
            claim = self._spool.claim(name)
        except SpoolError as error:
            if not self._spool.ready:
                raise  # nothing can be claimed at all
            self._counts.add("failed")
            self._counts.note(str(error))
            return True
        if claim is None:
            entry = self._spool.peek(name)
            if entry is not None and entry.pending:
                return False
            self._counts.add("gone")
            return True
        try:
            if not self._task.wanted.holds(shown(name, claim.entry), self._now):
                fate = "gone"  # it was meant when we looked, and is no more
            else:
                fate = self._act(claim, self._order, self._log)
        except PosthouseError as error:
            fate = "failed"
            self._counts.note(str(error))
        finally:
            if fate != "kept":
                self._give_back(claim, fate)
        return True

    def _give_back(self, claim: Claim, fate: str) -> None:
        claim.release()
        self._recall.add(claim.name.queue, claim.name.file)  # who met our lock has forgotten it
        if fate:
            self._counts.add(fate)

    def _finished(self, claim: Claim, why: str) -> None:
        if why:
            self._counts.note(why)
        self._give_back(claim, "failed" if why else "done")

    def _sync(self) -> None:
        """Make durable what was done, then let the delivers see it."""
        self._settle()
        if self._spool.unsynced:
            self._spool.sync_marks()
        self._recall.send()
        self._log.flush()

    def close(self) -> None:
        """Make all durable, and tell all."""
        self._close()
        self._spool.close()
        self._recall.send()
        self._log.flush()


class _Progress:
    """How far it has come, for a person at a terminal."""

    def __init__(self) -> None:
        self._wanted = sys.stderr.isatty()
        self._shown = time.monotonic()

    def show(self, jobs: int) -> None:
        if self._wanted and time.monotonic() - self._shown > 1.0:
            self._shown = time.monotonic()
            sys.stderr.write(f"\r{jobs} jobs ")
            sys.stderr.flush()

    def end(self) -> None:
        if self._wanted:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
