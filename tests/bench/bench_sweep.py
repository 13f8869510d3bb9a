"""One pass of deliver over 100,000 queued jobs: time, CPU and peak memory, by what becomes of them.

Run as ``python tests/bench/bench_sweep.py [JOBS]``.  Writes the job files into a
temporary spool, then runs deliver's lane over them in a fresh process for each
case, with the real spool and log, and a channel program in memory that
answers at once: what is measured is deliver, not a network.

    not due    deferred jobs of a daemon: each is opened once, none is tried
    dead       all of 100 hosts are dead: one attempt each, the rest told why, once
    shelved    the same queue swept again: no file is opened
    healthy    a tenth as many jobs, and all are delivered

The goal is a peak below 120 MB.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

from mta.config.build import build
from mta.config.model import Channel
from mta.deliver.desk import Desk, Flight
from mta.deliver.lane import Lane, Rules
from mta.machine import clock
from mta.machine.log import Log
from mta.spool.entry import Envelope, Settlement, encode, encode_lines
from mta.spool.layout import JobName, body_path, hour, new_id
from mta.spool.spool import Spool
from mta.types import DEFERRED, HOST, Job, Mailbox, Outcome, Recipient, Reply

JOBS = 100_000
HOSTS = 100
HOURS = 24
GOAL_MIB = 120
AUTHOR = Mailbox("alice", "example.test")
OK = Outcome(Reply(250, "2.0.0", "ok"))
DOWN = Outcome(Reply(421, "4.4.1", "connection refused"), HOST)
YAML = "channels: [{name: smtp, program: smtp, domains: '*', dead_ttl: 15m, warn_after: 0}]\n"


def _channel() -> Channel:
    """Return a channel of mta.yaml, with the defaults of whatever keys there are by now."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mta.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(YAML)
        return build(path)[0].channels[0]


CHANNEL = _channel()


class Program:
    """Answers each job when it is told to."""

    def __init__(self, lane: Lane, outcome: Outcome) -> None:
        self.lane, self.outcome, self.tag, self.sent = lane, outcome, 0, 0
        self.flights: dict[int, Flight] = {}

    @property
    def free(self) -> int:
        """As many as the channel's connections."""
        return CHANNEL.concurrency - len(self.flights)

    def want(self) -> None:
        """Run always."""

    def refusal(self, envelope: object) -> None:
        """Know of everything."""

    def send(self, flight: Flight, body: int) -> int:
        """Take a job."""
        os.close(body)
        self.tag += 1
        self.sent += 1
        self.flights[self.tag] = flight
        return self.tag

    def flush(self) -> None:
        """Write nothing."""

    def avoid(self, what: str, seconds: float, reply: Reply | None) -> None:
        """Connect to nobody."""

    def answer(self) -> None:
        """Answer all jobs."""
        flights, self.flights = self.flights, {}
        for tag, flight in flights.items():
            indexes = [recipient.index for recipient, _ in flight.tried]
            self.lane.told(tag, indexes, self.outcome, "mx.example[192.0.2.1]:25")
            self.lane.done(tag)


def fill(root: str, jobs: int, deferred: bool) -> None:
    """Write ``jobs`` job files, of messages that came over the last day."""
    Spool.open(root).mark_ready()
    now = time.time()
    tail = b""
    if deferred:
        settlement = Settlement(0, DEFERRED, now, now + 3600, Outcome(Reply(451, "4.7.1", "later")))
        tail = encode_lines([settlement], 1)
    made = set()
    segment = new_id(now - HOURS * 3600)  # checkpointed long ago: the job files are all there is
    for number in range(jobs):
        message_id = new_id(now - HOURS * 3600 * (1 - number / jobs))
        host = f"host{number % HOSTS}.example.test"
        recipient = Recipient(0, Mailbox(f"user{number}", host))
        job = Job(0, "smtp", "smtp", host, "", AUTHOR, (recipient,))
        name = JobName("smtp", hour(message_id), message_id, 0, host)
        for path, octets in (
            (name.path, encode(Envelope(message_id, AUTHOR, 20), job, segment) + tail),
            (body_path(message_id), b"Subject: hi\r\n\r\nx\r\n"),
        ):
            directory = os.path.dirname(f"{root}/{path}")
            if directory not in made:
                os.makedirs(directory, exist_ok=True)
                made.add(directory)
            with open(f"{root}/{path}", "wb") as file:
                file.write(octets)


def sweep(lane: Lane, program: Program) -> tuple[float, float]:
    """Run one pass; return its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        lane.sweep()
        while lane.pump() or program.flights:
            program.answer()
        assert lane.idle
        if not lane.index.overflow:
            break
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(root: str, case: str, jobs: int) -> None:
    """Run one case in this process, and print its line."""
    log = Log(f"{root}/log", ("postfix", "json"), "deliver")
    spool = Spool.open(root)
    desk = Desk(CHANNEL, spool, log, gather=None, clock=clock)
    lane = Lane(CHANNEL, spool, log, desk, clock, rules=Rules())
    program = Program(lane, DOWN if case == "dead" else OK)
    lane.attach(program)
    passes = [(case, *sweep(lane, program))]
    if case == "dead":
        passes.append(("shelved", *sweep(lane, program)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name, wall, cpu in passes:
        print(
            f"{name:8}  {jobs:7} jobs  {wall:6.2f} s  {cpu:6.2f} s CPU  "
            f"{1e6 * cpu / jobs:6.0f} us CPU a job  {program.sent:6} attempts  "
            f"peak {peak:.0f} MiB (goal {GOAL_MIB})",
            flush=True,
        )


def main() -> None:
    """Print a line for each case; each runs in a process of its own."""
    if len(sys.argv) == 4:
        measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        return
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    for case, count in (("not due", jobs), ("dead", jobs), ("healthy", jobs // 10)):
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
            fill(f"{folder}/spool", count, deferred=case == "not due")
            command = [sys.executable, __file__, f"{folder}/spool", case, str(count)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
