"""Live questions: what a running deliver says of jobs, from the very facts it acts on.

The asker (mta/waiting.py) gets for each lane of the queue where the job is, the facts
of job, host and channel, and the gates that are shut; with the facts it can ask
``decide`` what would be if one thing were otherwise.  Nothing waits and nothing is
changed: no lock is taken, and only small job files are read.

Units    Times in an answer are wall-clock seconds.
State    How many more questions are answered until the next tick.

Invariants, each a property in tests/deliver/test_questions.py
    Q1   Facts come out of an answer as they went in.
    Q2   Between two ticks no more than QUESTIONS are answered, of NAMES jobs each.
    Q3   What is no question, or asks about what is no job, is answered by nothing
         or with less; nothing is raised.
"""

from __future__ import annotations

import json

from mta.deliver.facts import of_name, of_recipients
from mta.deliver.flags import spell
from mta.deliver.rules import SWEEPING, UNSEEN, WAITING
from mta.machine.asking import ANSWER, read_question, tell
from mta.policy.deadhosts import DeadHost
from mta.policy.decide import NO_RUNNERS, Barrier, HostFacts, JobFacts, Room, Verdict, shut
from mta.policy.select import Bounds
from mta.spool.layout import JobName, arrived
from mta.types import Reply
from mta.values import TYPE_CHECKING, fields, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mta.deliver.flags import Flags
    from mta.deliver.lane import Lane
    from mta.spool.spool import Spool

__all__ = ["QUESTIONS", "Answer", "LaneAnswer", "Questions", "read_answer"]

QUESTIONS = 16  # between two ticks
READ = 1000  # recipients of a job whose file is read for an answer
_NESTED: dict[str, type[Any]] = {
    "barrier": Barrier, "dead": DeadHost, "bounds": Bounds, "reply": Reply,
}  # fmt: skip


@frozen
class LaneAnswer:
    """What one lane says of one job: ``where`` it is, ``at`` a time (see Lane.whereabouts)."""

    channel: str
    where: str
    at: float
    job: JobFacts
    host: HostFacts
    room: Room
    gates: tuple[Verdict, ...]


@frozen
class Answer:
    """What one deliver says: how it was started, when it sweeps; by job, what each lane says."""

    flags: str
    now: float
    sweeps_at: float
    interval: float
    stopping: bool
    jobs: tuple[tuple[str, tuple[LaneAnswer, ...]], ...]


class Questions:
    """Answers the questions that come to one deliver."""

    def __init__(self, runtime: str, spool: Spool, flags: Flags) -> None:
        """``flags`` are those of this deliver."""
        self._runtime = runtime
        self._spool = spool
        self._flags = flags
        self._left = QUESTIONS

    def tick(self) -> None:
        """Let as many questions be answered again."""
        self._left = QUESTIONS

    def answer(self, datagram: bytes, mine: Sequence[Lane], now: float, left: float) -> None:
        """Answer at once for lanes of one queue, if it is a question and not one too many.

        ``left`` is until the next sweep.
        """
        question = read_question(datagram)
        if question is None or self._left <= 0:
            return
        self._left -= 1
        queue = mine[0].channel.queue if mine else ""
        told: dict[str, Any] = {
            "flags": spell(self._flags),
            "now": now,
            "sweeps_at": now + left,
            "interval": self._flags.interval,
            "stopping": any(lane.stopping for lane in mine),
            "jobs": {},
        }
        room = ANSWER - 1000
        for file in question.files:
            name = JobName.parse(queue, file)
            if name is None:
                continue
            lines = [_plain(each) for each in (self._of(name, lane, now) for lane in mine)]
            room -= len(json.dumps(lines)) + 50
            if room < 0:
                break
            told["jobs"][name.key] = lines
        tell(self._runtime, question, json.dumps(told).encode())

    def _of(self, name: JobName, lane: Lane, now: float) -> LaneAnswer:
        where, at = lane.whereabouts(name)
        since = arrived(name.id)
        job = replace(of_name(name, since), barrier=lane.bars.of_host(name.host, now))
        if name.recipients <= READ:
            try:
                entry = self._spool.peek(name)
            except OSError:  # the disk: what the name says is all there is
                entry = None
            if entry is not None and entry.pending:
                bar = lane.bars.of_job(entry, now)
                facts = of_recipients(entry, name, since, lane.channel.name, bar)
                job = min(facts, key=lambda each: each.retry_at)
        host, room = lane.about(name.host, now, lane.index.others(name.host))
        idle = where in (UNSEEN, SWEEPING, WAITING) and not lane.index.others()
        if idle and not room.tokens and room.token_pool != NO_RUNNERS:
            room = replace(room, tokens=1)  # who has no use for one holds none; then he asks
        gates = tuple(shut(job, host, room, now))
        return LaneAnswer(lane.channel.name, where, at, job, host, room, gates)


def _plain(value: Any) -> Any:
    """Return a value of ours as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return {name: _plain(getattr(value, name)) for name in fields(type(value))}


def _build(cls: type[Any], plain: dict[str, Any]) -> Any:
    """Return the value of ``cls`` that _plain() made ``plain`` of; what it does not know is left.

    TypeError if it lacks something.
    """
    known = fields(cls)
    return cls(**{name: _value(name, each) for name, each in plain.items() if name in known})


def _value(name: str, plain: Any) -> Any:
    if isinstance(plain, dict):
        return _build(_NESTED[name], plain)
    return tuple(plain) if isinstance(plain, list) else plain


def read_answer(octets: bytes) -> Answer | None:
    """Return what a deliver said; None if it speaks of what we do not know."""
    try:
        told = json.loads(octets)
        jobs = tuple([(key, tuple(map(_lane, lanes))) for key, lanes in told.pop("jobs").items()])
        return Answer(jobs=jobs, **told)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _lane(plain: dict[str, Any]) -> LaneAnswer:
    return LaneAnswer(
        plain["channel"],
        plain["where"],
        plain["at"],
        _build(JobFacts, plain["job"]),
        _build(HostFacts, plain["host"]),
        _build(Room, plain["room"]),
        tuple([_build(Verdict, each) for each in plain["gates"]]),
    )
