"""A spool, a program, a clock and a log in memory: what a lane needs, and nothing else."""

from __future__ import annotations

import os
from collections import Counter

from mta.config.model import ByClass, Channel, Retry
from mta.deliver.gather import Gather
from mta.errors import SpoolError
from mta.spool import layout
from mta.spool.entry import Entry, Envelope, RecipientState
from mta.spool.layout import JobName, arrived, hour_of, new_id
from mta.types import FAILED, FINAL, Job, Mailbox, Recipient
from mta.values import replace

EPOCH = 1_700_000_000.0
BODY = b"Subject: hi\r\n\r\nhello\r\n"
AUTHOR = Mailbox("author", "example.test")


def channel(**changes):
    fields = {
        "name": "smtp", "program": "smtp", "queue": "smtp", "domains": ("*",), "table": "",
        "relay": (), "port": 25, "concurrency": 6, "per_host": 3, "silent": 0,
        "max_recipients": 100,
        "retry": Retry(300.0, 2.0, 14400.0), "dead_ttl": 900.0, "warn_after": 0.0,
        "fail_after": 432000.0, "demote_to": "",
        "demote_after": 43200.0, "command": (), "timeout": 0.0, "members": "", "owner": "",
        "options": (), "target_age": 0.0,
        "tls": "may", "ca": "", "credentials": "", "source": (), "mta_sts": "auto",
    }  # fmt: skip
    fields |= changes
    for name in ("warn_after", "fail_after"):
        if isinstance(fields[name], float):
            fields[name] = ByClass(fields[name], fields[name], fields[name])
    return Channel(**fields)


class Clock:
    def __init__(self):
        self.now = EPOCH

    def wall(self):
        return self.now

    def monotonic(self):
        return self.now - EPOCH


class Log:
    def __init__(self):
        self.events = []

    def __getattr__(self, name):
        return lambda *arguments: self.events.append((name, *arguments))

    def of(self, name):
        return [event[1:] for event in self.events if event[0] == name]


class Claim:
    def __init__(self, spool, name):
        self.spool, self.name = spool, name
        self.message_gone = False

    @property
    def entry(self):
        return self.spool.jobs[self.name]

    def open_body(self):
        if self.name.id in self.spool.no_body:
            raise SpoolError("no body")
        body = os.memfd_create("body")
        os.write(body, BODY)
        return body

    def settle(self, settlements, told="", channel=""):
        assert self.name in self.spool.claimed
        if self.spool.broken:
            raise SpoolError("the disk is full")
        assert told or not any(s.state == FAILED for s in settlements)
        entry = self.entry
        states = list(entry.states)
        for s in settlements:
            at = [r.index for r in entry.job.recipients].index(s.index)
            assert states[at].state not in FINAL
            states[at] = RecipientState(
                s.state, states[at].attempts + 1, s.at, s.retry_at, s.outcome
            )
            self.spool.settled.append((self.name, s, told))
        entry = replace(entry, states=tuple(states))
        self.spool.jobs[self.name] = entry
        if entry.pending:
            return False
        self.spool.finished[self.name] = self.spool.jobs[self.name]
        self.message_gone = entry.envelope.jobs == 1
        return True

    def note(self, note):
        assert self.name in self.spool.claimed
        if self.spool.broken:
            raise SpoolError("the disk is full")
        self.spool.notes.append((self.name, note))
        entry = self.entry
        notes = (*[n for n in entry.notes if n.word != note.word], note)
        self.spool.jobs[self.name] = replace(entry, notes=notes)

    def release(self):
        if self.name in self.spool.finished:
            self.spool.jobs.pop(self.name, None)
        self.spool.claimed.discard(self.name)


class Spool:
    ready = True
    unsynced = False

    def __init__(self):
        layout._last[0] = 0  # ids never go back in one process; each test begins at EPOCH
        self.jobs, self.finished = {}, {}
        self.claimed, self.no_body = set(), set()
        self.settled, self.kept, self.notes = [], [], []
        self.opened = Counter()
        self.broken = False

    def add(self, host, now, queue="smtp", recipients=1, reverse_path=AUTHOR, tag=""):
        message_id = new_id(now)
        made = tuple(Recipient(i, Mailbox(f"u{i}", host or "here")) for i in range(recipients))
        job = Job(0, queue, "smtp", host, "", reverse_path, made)
        envelope = Envelope(message_id, reverse_path, 100)
        name = JobName(queue, hour_of(now), message_id, 0, host, tag)
        self.jobs[name] = Entry(envelope, job, "segment", -1, (RecipientState(),) * recipients)
        return name

    def names(self, queue, *, newer_than=None, older_than=None, ordered=True, sort_limit=0):
        names = sorted((n for n in self.jobs if n.queue == queue), key=lambda n: n.file)
        names = [n for n in names if newer_than is None or arrived(n.id) > newer_than]
        names = [n for n in names if older_than is None or arrived(n.id) < older_than]
        for at in range(0, len(names), 7):
            yield names[at : at + 7]

    def claim(self, name):
        self.opened[name] += 1
        if name not in self.jobs or name in self.claimed:
            return None
        self.claimed.add(name)
        return Claim(self, name)

    def peek(self, name):
        return self.jobs.get(name)

    def keep(self, claim, why, about=()):
        self.kept.append((claim.name, why))
        return f"bad/{claim.name.key}"


class Program:
    """Holds what it is sent until the test answers."""

    def __init__(self, jobs):
        self.jobs, self.sent, self.tag, self.wanted = jobs, {}, 0, 0
        self.history, self.refuses, self.avoided = [], None, []

    @property
    def free(self):
        return self.jobs - len(self.sent)

    def want(self):
        self.wanted += 1

    def send(self, flight, body):
        os.close(body)
        self.tag += 1
        self.sent[self.tag] = flight
        self.history.append(flight.name)
        return self.tag

    def flush(self):
        pass

    def avoid(self, what, seconds, reply):
        self.avoided.append((what, seconds))

    def refusal(self, envelope):
        return self.refuses


class Returns:
    def __init__(self):
        self.notices, self.answers, self.reply = [], [], ("DSN", "")

    def accept(self, notice, answer):
        self.notices.append(notice)
        if self.reply is None:
            self.answers.append(answer)
        else:
            answer(*self.reply)


def gather_of(returns, log, clock, wait=0.0):
    return Gather(returns, log, clock.monotonic, wait)
