"""What deliver does with a channel program, in a few lines: for tests of real programs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from mta.channel.records import INLINE, Answer, Told
from mta.channel.talk import DeliverEnd
from mta.types import NULL_PATH, Job, Mailbox, Outcome, Recipient, ReversePath

ALICE = Mailbox("alice", "example.test")
WRITER = Mailbox("writer", "away.test")
PROGRAMS = ("local", "pipe", "list")


def recipients(*mailboxes: Mailbox | Recipient) -> tuple[Recipient, ...]:
    return tuple(
        [
            m if isinstance(m, Recipient) else Recipient(index, m)
            for index, m in enumerate(mailboxes)
        ]
    )


def job(people: Sequence[Recipient], reverse_path: ReversePath = WRITER) -> Job:
    return Job(0, "queue", "channel", "example.test", "", reverse_path, tuple(people))


def body_file(octets: bytes) -> int:
    fd, path = tempfile.mkstemp()
    try:
        os.write(fd, octets)
        return os.open(path, os.O_RDONLY)
    finally:
        os.close(fd)
        os.unlink(path)


class Program:
    """A running channel program, and deliver's end of the conversation with it."""

    def __init__(self, name: str, options: Sequence[tuple[str, str]], jobs: int = 4) -> None:
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", f"mta.channels.{name}"] if name in PROGRAMS else [name]
        self.process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, cwd="/")
        theirs.close()
        ours.settimeout(60)
        self.socket = ours
        self.end = DeliverEnd("channel", "queue", "mx.example.test", options, jobs)
        ours.sendall(self.end.opening())
        (answer,) = self._until(lambda events: events)
        assert isinstance(answer, Answer)
        self.answer = answer

    def _until(self, enough: object) -> list[object]:
        events: list[object] = []
        while not enough(events):
            data = self.socket.recv(65536)
            if not data:
                self.end.eof()
                break
            events += self.end.receive(data)
        return events

    def send(self, body: bytes, people: Sequence[Recipient], path: ReversePath = WRITER) -> int:
        work = job(people, path)
        tag, lines = self.end.send_job(work, "1ab", len(body), 1785000000.25, people)
        if self.answer.body == INLINE:
            self.socket.sendall(lines + body)
            return tag
        fd = body_file(body)
        sent = socket.send_fds(self.socket, [lines], [fd])
        self.socket.sendall(lines[sent:])
        os.close(fd)
        return tag

    def finish(self) -> list[object]:
        return self._until(lambda _: not self.end.in_flight)

    def deliver(
        self, body: bytes, *people: Mailbox | Recipient, path: ReversePath = WRITER
    ) -> dict[int, Outcome]:
        self.send(body, recipients(*people), path)
        told = [event for event in self.finish() if isinstance(event, Told)]
        return {index: event.outcome for event in told for index in event.indexes}

    def one(self, body: bytes, person: Mailbox | Recipient, path: ReversePath = WRITER) -> Outcome:
        (outcome,) = self.deliver(body, person, path=path).values()
        return outcome

    def close(self) -> int:
        self.socket.sendall(self.end.quit())
        self._until(lambda _: False)
        self.socket.close()
        return self.process.wait(60)


__all__ = ["ALICE", "NULL_PATH", "WRITER", "Program", "body_file", "job", "recipients"]
