"""What the tests of the spool on a real disk share."""

import time

from mta.spool.entry import Settlement
from mta.spool.intake import Intake, try_lock
from mta.spool.spool import Spool
from mta.types import Job, Mailbox, Outcome, Recipient, Reply

PATH = Mailbox("alice", "example.test")
OK = Outcome(Reply(250, "2.0.0", "ok"))
BUSY = Outcome(Reply(451, "4.2.0", "busy"))
GONE = Outcome(Reply(550, "5.1.1", "gone"))


def job(number=0, host="mx.test", queue="smtp", recipients=1) -> Job:
    people = tuple(Recipient(number * 10 + i, Mailbox(f"u{i}", host)) for i in range(recipients))
    return Job(number, queue, queue, host, "", PATH, people)


def accept(spool: Spool, *jobs: Job, body: bytes = b"Subject: x\r\n\r\nhello\r\n") -> str:
    writer = spool.writer()
    draft = writer.begin()
    draft.write(body)
    message_id = writer.commit(draft, jobs or [job()], PATH)
    writer.close()
    return message_id


def all_names(spool, queue="smtp", **bounds):
    return [name for names in spool.names(queue, **bounds) for name in names]


def checkpoint(spool):
    """Take all in and make a checkpoint: from then on bodies are files."""
    lock = try_lock(spool)
    intake = Intake(spool, lambda names: None, lambda envelope: None)
    intake.step()
    assert intake.checkpoint(at_once=True) == 0
    intake.close()
    spool.fs.close(lock)


def settle(index, outcome, state):
    return Settlement(index, state, time.time(), time.time() + 60, outcome)
