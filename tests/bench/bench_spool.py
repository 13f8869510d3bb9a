"""The spool: messages accepted and removed a second, alone and 32 together; CPU a message.

Run as ``python tests/bench/bench_spool.py``; BENCH_DIR names a folder on the
disk to measure, BENCH_MESSAGES how many.  One process plays all three parts
(writer, intake, deliver), so that the CPU is the whole of a message's way.
Beside it: the disk's own rates, one fdatasync of an appended 4 KiB record, and
the plain way of a file a message with file and directory synced.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

from mta.spool.entry import Settlement
from mta.spool.group import GroupWriter
from mta.spool.intake import Intake, try_lock
from mta.spool.journal import Synced
from mta.spool.layout import JobName
from mta.spool.spool import Spool
from mta.types import DELIVERED, Job, Mailbox, Outcome, Recipient, Reply

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "6000"))
BODY = b"Subject: a figure\r\n\r\n" + b"x" * 76 + b"\r\n" * 1
BODY += (b"y" * 76 + b"\r\n") * ((4096 - len(BODY)) // 78)
PATH = Mailbox("alice", "example.test")
OK = Outcome(Reply(250, "2.0.0", "ok"))
SESSIONS = 32
SETTLE_SYNC = 0.1  # seconds, as deliver does it


class Way:
    """One message's whole way, for a group of messages that share a sync."""

    def __init__(self, root: str) -> None:
        """Make a spool below ``root``."""
        self.spool = Spool.open(root)
        self.writer = self.spool.writer()
        if try_lock(self.spool) is None:
            raise SystemExit("another intake has this spool")
        self.made: list[JobName] = []
        self.intake = Intake(self.spool, self.made.extend, lambda envelope: None)
        self.intake.step()
        self.looked = time.monotonic()

    def group(self, count: int) -> None:
        """Accept, take in, claim, settle and remove ``count`` messages."""
        for _ in range(count):
            draft = self.writer.begin()
            draft.write(BODY)
            recipient = Recipient(0, Mailbox("bob", "mx.example.test"))
            job = Job(0, "smtp", "smtp", "mx.example.test", "", PATH, (recipient,))
            self.writer.append(draft, [job], PATH)
        self.remove(self.writer.sync())

    def remove(self, synced: list[Synced]) -> None:
        """Take in, claim, settle and remove what was synced."""
        for one in synced:
            self.intake.told(one)
        self.intake.step(survey=False)
        for name in self.made:
            claim = self.spool.claim(name)
            if claim is None:
                raise SystemExit(f"{name.path} is gone")
            os.close(claim.open_body())
            claim.settle([Settlement(0, DELIVERED, time.time(), 0.0, OK)])
            claim.release()
        self.made.clear()
        if time.monotonic() - self.looked >= SETTLE_SYNC:
            self.looked = time.monotonic()
            self.spool.sync_marks()
            self.intake.step()
            self.intake.checkpoint()

    def sessions(self, count: int) -> None:
        """Accept and remove ``count`` messages of SESSIONS sessions that share their syncs.

        While a sync is under way, what the one before it covered is removed, as
        other processes would.
        """
        writer = GroupWriter(self.writer, self.remove)

        async def session() -> None:
            for _ in range(count // SESSIONS):
                draft = writer.begin()
                draft.write(BODY)
                recipient = Recipient(0, Mailbox("bob", "mx.example.test"))
                job = Job(0, "smtp", "smtp", "mx.example.test", "", PATH, (recipient,))
                await writer.commit(draft, [job], PATH)

        async def all_sessions() -> None:
            await asyncio.gather(*(session() for _ in range(SESSIONS)))

        asyncio.run(all_sessions())


def plain_file(root: str, number: int) -> None:
    """What most systems do: one file, synced, and its directory."""
    path = f"{root}/{number}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, BODY)
    os.fsync(fd)
    os.close(fd)
    directory = os.open(root, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    os.unlink(path)


def append_syncs(root: str, count: int) -> float:
    """Return how many appended 4 KiB records one file syncs in a second, one by one."""
    fd = os.open(f"{root}/one", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    times = []
    for _ in range(count):
        os.write(fd, BODY)
        begun = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - begun)
    os.close(fd)
    return 1 / statistics.median(times)


def measure(name: str, count: int, each: int, work: Callable[[int], None]) -> float:
    """Run ``work(each)`` for ``count`` messages; print and return messages a second."""
    cpu, begun = time.process_time(), time.perf_counter()
    for _ in range(count // each):
        work(each)
    took, used = time.perf_counter() - begun, time.process_time() - cpu
    print(f"{name:44} {count / took:7.0f} /s  {used / count * 1e6:6.0f} us CPU a message")
    return count / took


def main() -> None:
    """Print the figures."""
    root = tempfile.mkdtemp(prefix="bench-spool.", dir=os.environ.get("BENCH_DIR"))
    try:
        rate = append_syncs(root, 300)
        print(f"one appended record, fdatasync: {rate:.0f} /s ({1e3 / rate:.2f} ms each)")
        os.mkdir(f"{root}/plain")
        numbers = iter(range(10**9))
        plain = lambda each: plain_file(f"{root}/plain", next(numbers))  # noqa: E731
        base = measure("a file a message, file and directory synced", 1000, 1, plain)
        way = Way(f"{root}/spool")
        way.group(100)
        measure("spool, alone", MESSAGES // 6, 1, way.group)
        measure("spool, in groups of 32, one thread", MESSAGES, 32, way.group)
        together = [
            measure("spool, 32 sessions together", MESSAGES, MESSAGES, way.sessions)
            for _ in range(3)
        ]
        best = statistics.median(together)
        print(f"32 together, median of 3: {best:.0f} /s = {best / base:.1f} x a file a message")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
