"""G1, G2: many commits share a sync, and its failure."""

import asyncio
import errno
import threading

from mta.errors import SpoolError
from mta.spool.group import GroupWriter
from mta.spool.journal import Writer
from mta.types import Job, Mailbox, Recipient, Wishes
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
        wishes = Wishes(ret="HDRS", envid="E1", requiretls=True, binary=True)
        await writer.commit(draft, JOBS, PATH, wishes)

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


class Gated(Process):
    """Each sync of a file says that it has begun, and waits until it may go on."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.begun, self.gate = threading.Event(), threading.Event()
        self.full = False

    def sync(self, fd: int) -> None:
        self.begun.set()
        assert self.gate.wait(10)
        super().sync(fd)

    def write(self, fd: int, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(fd, data)


async def begun(process: Gated) -> None:
    await asyncio.get_running_loop().run_in_executor(None, process.begun.wait, 10)


def test_g3_a_segment_that_is_being_synced_is_not_closed_when_the_next_one_begins():
    process = Gated(Disk())
    process.mkdir("journal")
    now = [1000.0]
    writer = GroupWriter(Writer(process, lambda: now[0]), lambda _: None)

    async def run() -> list[str]:
        first = asyncio.create_task(commit(writer))
        await begun(process)
        now[0] += 3600.0
        second = asyncio.create_task(commit(writer))
        await asyncio.sleep(0)
        process.gate.set()
        return await asyncio.gather(first, second)

    assert len(set(asyncio.run(run()))) == 2
    assert len([p for p in process.disk.paths() if p.startswith("journal/")]) == 2
    assert len(process.files) == 1, "the old segment is given away"


def test_g2_g3_what_waits_for_a_sync_is_refused_when_an_append_fails_and_what_is_synced_stays():
    process = Gated(Disk())
    writer, _ = group(process)

    async def run() -> list:
        first = asyncio.create_task(commit(writer))
        await begun(process)
        second = asyncio.create_task(commit(writer))
        await asyncio.sleep(0)
        process.full = True
        third = asyncio.create_task(commit(writer))
        await asyncio.sleep(0)
        process.full = False
        process.gate.set()
        return await asyncio.gather(first, second, third, return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert isinstance(second, SpoolError)
    assert isinstance(third, SpoolError)
    (file,) = [d for p, d in process.disk.paths().items() if p.startswith("journal/")]
    assert first.encode() in file
    assert asyncio.run(commit(writer)), "the next commit begins a new segment"


def test_what_is_synced_is_told_whatever_fails_behind_it():
    process = Counting(Disk())
    process.mkdir("journal")

    def fails(synced: list) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    writer = GroupWriter(Writer(process), fails)

    async def run() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        return [await commit(writer), await commit(writer)]

    assert len(asyncio.run(run())) == 2


def test_g2_any_failure_of_a_sync_is_told():
    class Odd(Process):
        def sync(self, fd: int) -> None:
            raise RuntimeError("the pool is gone")

    process = Odd(Disk())
    writer, _ = group(process)

    async def run() -> None:
        try:
            await commit(writer)
        except SpoolError as error:
            assert "the pool is gone" in str(error)
        else:
            raise AssertionError("accepted without a sync")

    asyncio.run(run())
