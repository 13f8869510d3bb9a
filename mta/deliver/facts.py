"""What the file of a job says, as decide() wants to hear it."""

from __future__ import annotations

from mta.policy.decide import Barrier, JobFacts
from mta.policy.order import priority
from mta.spool.states import DUE, HOLD
from mta.types import BULK, HOST, NORMAL, URGENT
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.spool.layout import JobName
    from mta.spool.states import Entry, RecipientState

__all__ = ["of_attempts", "of_job", "of_name", "of_recipients"]

# The best precedence that a job of each kind may have; sendmail knows no better than 100.
MOST_PRECEDENCE = {URGENT: 100, NORMAL: 0, BULK: 0}


def of_name(name: JobName, arrived: float) -> JobFacts:
    """Return what a job's name says; its priority is seldom better than the file's tells."""
    octets, recipients = name.octets * 2 // 3, (name.recipients * 2 + 2) // 3
    least = priority(octets, MOST_PRECEDENCE[name.kind], recipients, 0)
    return JobFacts(name.host, arrived, priority=least)


def of_job(
    entry: Entry, name: JobName, arrived: float, suspended: Barrier | None = None
) -> JobFacts:
    """Return what the file of a job says of all its recipients; its own hold goes first."""
    hold = due = None
    if entry.notes:
        hold, due = entry.note(HOLD), entry.note(DUE)
    barrier = suspended if hold is None else Barrier(hold.who, hold.at, why=hold.text)
    attempts = max([state.attempts for state in entry.states], default=0)
    envelope, pending = entry.envelope, len(entry.pending)
    points = priority(envelope.size, envelope.precedence, pending, attempts)
    since = 0.0 if due is None else due.at
    return JobFacts(name.host, arrived, priority=points, barrier=barrier, due_since=since)


def of_attempts(job: JobFacts, state: RecipientState) -> JobFacts:
    """Return ``job`` with what the attempts of one channel made of a recipient."""
    if not state.last:
        return job
    about_host = state.outcome is not None and state.outcome.scope == HOST
    return JobFacts(
        *(job.host, job.arrived, state.last, state.retry_at, about_host),
        *(job.priority, job.barrier, job.due_since),
    )


def of_recipients(
    entry: Entry, name: JobName, arrived: float, channel: str, suspended: Barrier | None = None
) -> list[JobFacts]:
    """Return the facts of each recipient that is pending, as ``channel`` sees its attempts."""
    known, own = of_job(entry, name, arrived, suspended), entry.own(channel)
    return [of_attempts(known, state.seen_by(own)) for _, state in entry.pending]
