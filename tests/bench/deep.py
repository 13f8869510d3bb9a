"""Queues as deep as wanted, made of job files: no system accepts a million messages in a minute.

``fill`` writes one part of a queue and may run in several processes at once; the jobs' arrivals
are spread over hours, their hosts taken in turn.  All messages have one body, linked.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mta.spool import layout
from mta.spool.entry import Envelope, Settlement, encode, encode_lines
from mta.spool.layout import JobName, body_path, hour, new_id
from mta.types import DEFERRED, HOST, Job, Mailbox, Outcome, Recipient, Reply

__all__ = ["Deep", "fill"]

BODY = b"From: alice@example.test\r\nSubject: deep\r\n\r\nx\r\n"
LINKS = 30_000  # of one body; ext4 allows 65,000
AUTHOR = Mailbox("alice", "example.test")
DOWN = Outcome(Reply(421, "4.4.1", "connect to mx.test[127.0.44.1]:25: timed out"), HOST)


@dataclass(frozen=True)
class Deep:
    """A part of a queue: ``jobs`` for ``hosts``, that came in the ``hours`` up to ``until`` ago.

    ``retry``: each was tried ten minutes ago, and is due again in so many seconds; 0: untried.
    ``hop``: where they go, if the host's name does not say it.
    ``bodies``: whether there are any; what is not handed to a program needs none.
    """

    spool: str
    jobs: int
    hosts: Sequence[str]
    hours: float
    until: float = 0.0
    retry: float = 0.0
    bodies: bool = True
    hop: str = ""
    queue: str = "smtp"


def fill(part: Deep) -> list[str]:
    """Write the part; return the ids of some of its messages, the oldest first."""
    layout._last[0] = 0  # ids of one process never go back; each part begins anew
    now = time.time()
    span, end = part.hours * 3600, now - part.until * 3600
    segment = new_id(end - span)  # checkpointed long ago: the job files are all there is
    tail = b""
    if part.retry:
        settlement = Settlement(0, DEFERRED, now - 600, now + part.retry, DOWN)
        tail = encode_lines([settlement], 1)
    made: set[str] = set()
    body, ids = "", []
    for number in range(part.jobs):
        message_id = new_id(end - span * (1 - number / part.jobs))
        if part.bodies:
            body = _body(f"{part.spool}/{body_path(message_id)}", number, body, made)
        host = part.hosts[number % len(part.hosts)]
        recipient = Recipient(0, Mailbox(f"user{number}", host))
        job = Job(0, part.queue, part.queue, host, part.hop, AUTHOR, (recipient,))
        name = JobName(part.queue, hour(message_id), message_id, 0, host)
        path = f"{part.spool}/{name.path}"
        _directory(os.path.dirname(path), made)
        _write(path, encode(Envelope(message_id, AUTHOR, len(BODY)), job, segment) + tail)
        if number % (part.jobs // 4 or 1) == 0:
            ids.append(message_id)
    return ids


def _body(path: str, number: int, body: str, made: set[str]) -> str:
    """Give a message its body; return the path of one that the next may be linked to."""
    _directory(os.path.dirname(path), made)
    if number % LINKS == 0:
        _write(path, BODY)
        return path
    os.link(body, path)
    return body


def _directory(path: str, made: set[str]) -> None:
    if path not in made:
        with contextlib.suppress(FileExistsError):
            os.makedirs(path)
        made.add(path)


def _write(path: str, octets: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, octets)
    os.close(descriptor)
