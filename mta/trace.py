"""One message's timeline: what the log says happened to it, and where it stands now.

Source   the event log (mta-log(5)) for what was, the spool for what is.
"""

from __future__ import annotations

import json
import time

from mta.events import clock, tell
from mta.machine.logline import printable
from mta.machine.logread import read_events
from mta.spool.layout import arrived, valid_id
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mta.config.model import Config
    from mta.machine.logread import Event
    from mta.spool.entry import Entry, RecipientState
    from mta.types import Recipient

__all__ = ["explain_wait", "past", "present", "records", "text"]


def past(config: Config, message_id: str) -> list[Event]:
    """Return the events about a message in order of time; [] for what is no id."""
    if not valid_id(message_id):
        return []
    return sorted(read_events(config.log.dir, message_id), key=lambda event: event["time"])


def present(config: Config, message_id: str) -> list[Entry]:
    """Return the jobs that the message still has."""
    spool = Spool.open(config.spool)
    entries = [spool.peek(name) for name in spool.find(message_id)]
    return [entry for entry in entries if entry is not None]


def explain_wait(recipient: Recipient, state: RecipientState, entry: Entry, now: float) -> str:
    """Say in one line why ``recipient`` still waits, and for what."""
    job = entry.job
    where = f"{recipient.mailbox} waits in queue {job.queue} for channel {job.channel}"
    where += f", host {job.host}" if job.host else ""
    if state.outcome is None:
        return f"{where}: not tried yet, {_span(now - arrived(entry.envelope.id))} after arrival"
    due = "due now" if state.retry_at <= now else f"next try {time.ctime(state.retry_at)}"
    tries = f"tried {state.attempts} time(s), last {time.ctime(state.last)}"
    return f"{where}: deferred, {due}, because {state.outcome.reply} ({tries})"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def records(config: Config, message_id: str) -> Iterator[str]:
    """Yield the timeline as JSON lines: the log's events, then one "waiting" for each recipient."""
    for event in past(config, message_id):
        yield json.dumps(event)
    for entry in present(config, message_id):
        for recipient, state in entry.pending:
            yield json.dumps(waiting(entry, recipient, state))


def waiting(entry: Entry, recipient: Recipient, state: RecipientState) -> Event:
    """Return what is to be said of a recipient that waits, for a program."""
    reply = state.outcome.reply if state.outcome is not None else None
    return {
        "event": "waiting",
        "id": entry.envelope.id,
        "arrived": arrived(entry.envelope.id),
        "from": str(entry.job.reverse_path),
        "size": entry.envelope.size,
        "queue": entry.job.queue,
        "channel": entry.job.channel,
        "host": entry.job.host,
        "to": str(recipient.mailbox),
        "state": state.state,
        "attempts": state.attempts,
        "last": state.last,
        "retry_at": state.retry_at,
        "reason": str(reply) if reply is not None else "",
    }


def text(config: Config, message_id: str) -> Iterator[str]:
    """Yield the timeline as lines for a person; nothing if nothing is known of the message."""
    now = time.time()
    events, entries = past(config, message_id), present(config, message_id)
    if not events and not entries:
        return
    yield f"{message_id}, arrived {time.ctime(arrived(message_id))}"
    for event in events:
        yield f"  {clock(event['time'])}  {tell(event)}"
    for entry in entries:
        for recipient, state in entry.pending:
            yield f"  now           {printable(explain_wait(recipient, state, entry, now))}"
