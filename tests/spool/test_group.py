"""G1, G2: many commits share a sync, and its failure."""

import asyncio

from mta.errors import SpoolError
from mta.spool.group import GroupWriter
from mta.spool.journal import Writer
from mta.types import Job, Mailbox, Recipient
from tests.spool.disk import Disk, Process

PATH = Mailbox("a", "x.test")
JOBS = [Job(0, "smtp", "smtp", "h.test", "", PATH, (Recipient(0, Mailbox("b", "h.test")),))]


class Counting(Process):
    syncs = 0

    def sync(self, fd: int) -> None:
        self.syncs += 1
        super().sync(fd)


def group(process: Process) -> tuple[GroupWriter, list]:
    process.mkdir("journal")
    told: list = []
    return GroupWriter(Writer(process), told.extend), told


async def commit(writer: GroupWriter) -> str:
    draft = writer.begin()
    draft.write(b"x" * 100)
    return await writer.commit(draft, JOBS, PATH)


def test_g1_a_hundred_commits_share_few_syncs():
    process = Counting(Disk())
    writer, told = group(process)

    async def run() -> list[str]:
        return await asyncio.gather(*(commit(writer) for _ in range(100)))

    ids = asyncio.run(run())
    assert len(set(ids)) == 100
    assert process.syncs <= 3
    file = next(d for p, d in process.disk.paths().items() if p.startswith("journal/"))
    assert told[-1].offset == len(file), "everything appended was covered by a sync"


def test_a_commit_keeps_the_envelope_whole():
    process = Process(Disk())
    writer, _ = group(process)

    async def run() -> None:
        draft = writer.begin()
        draft.write(b"x\n")
        await writer.commit(draft, JOBS, PATH, ret="HDRS", envid="E1", requiretls=True, binary=True)

    asyncio.run(run())
    record = next(d for p, d in process.disk.paths().items() if p.startswith("journal/"))
    assert b"\nflags requiretls,binarymime\n" in record
    assert b"\ndsn HDRS E1\nto 0 b@h.test % %\n" in record


def test_g2_a_failed_sync_fails_everyone_it_covered():
    process = Counting(Disk())
    writer, _ = group(process)
    process.fail_syncs = 1

    async def run() -> list:
        return await asyncio.gather(*(commit(writer) for _ in range(10)), return_exceptions=True)

    results = asyncio.run(run())
    assert all(isinstance(r, SpoolError) for r in results)
    assert asyncio.run(commit(writer)), "the next commit begins a new segment"
