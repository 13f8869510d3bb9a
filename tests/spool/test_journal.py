"""J1 to J3, S10: the way in, on a disk whose every call can be looked at."""

import errno
from random import Random

import pytest

from mta.errors import SpoolError
from mta.spool import journal
from mta.spool.frames import MESSAGE, read_frame
from mta.spool.journal import Writer
from mta.types import Job, Mailbox, Recipient
from tests.spool.disk import Disk, Process

PATH = Mailbox("a", "x.test")
JOBS = [Job(0, "smtp", "smtp", "h.test", "", PATH, (Recipient(0, Mailbox("b", "h.test")),))]


@pytest.fixture
def disk():
    disk = Disk()
    Process(disk).mkdir("journal")
    disk.root.sync()
    return disk


def messages(disk: Disk) -> int:
    """How many closed messages stand in all segments."""
    count = 0
    for data in (d for p, d in disk.paths().items() if p.startswith("journal/")):
        at = 0
        while (one := read_frame(lambda s, o, d=data: d[o : o + s], at)) is not None:
            count += one.kind == MESSAGE
            at = one.end
    return count


def commit(writer: Writer, body: bytes = b"Subject: x\r\n\r\n") -> str:
    draft = writer.begin()
    draft.write(body)
    return writer.commit(draft, JOBS, PATH)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [10, 500_000])
def test_j1_what_commit_returned_for_survives_a_power_cut(disk, seed, size):
    writer = Writer(Process(disk))
    commit(writer, b"x" * size)
    commit(writer, b"y" * size)
    disk.cut_power(Random(seed))
    assert messages(disk) == 2


def test_j1_ordinary_mail_shares_a_segment_and_one_sync_a_commit(disk):
    process = Process(disk)
    writer = Writer(process)
    commit(writer)
    before = process.calls
    commit(writer)
    assert process.calls - before == 2, "one write and one sync"
    assert len([p for p in disk.paths() if p.startswith("journal/")]) == 1


def test_j2_a_failed_sync_closes_the_segment(disk):
    process = Process(disk)
    writer = Writer(process)
    commit(writer)
    process.fail_syncs = 1
    with pytest.raises(SpoolError, match="input/output error"):
        commit(writer)
    assert messages(disk) == 1, "what was not synced is cut off"
    commit(writer)
    assert messages(disk) == 2
    assert len([p for p in disk.paths() if p.startswith("journal/")]) == 2, "a new segment"


def test_j3_an_aborted_large_draft_leaves_nothing(disk):
    writer = Writer(Process(disk))
    draft = writer.begin()
    draft.write(b"x" * 500_000)
    assert len(disk.paths()) == 1, "it has a segment of its own"
    draft.abort()
    draft.abort()
    assert disk.paths() == {}


def test_a_large_body_is_never_whole_in_memory(disk):
    writer = Writer(Process(disk))
    draft = writer.begin()
    for _ in range(100):
        draft.write(b"x" * 65536)
        assert draft._held <= journal.MEMORY
    writer.commit(draft, JOBS, PATH)
    assert draft.size == 6_553_600


def test_a_full_segment_is_followed_by_a_new_one(disk, monkeypatch):
    monkeypatch.setattr(journal, "SEGMENT_LIMIT", 1000)
    process = Process(disk)
    writer = Writer(process)
    for _ in range(10):
        commit(writer, b"x" * 400)
    assert len([p for p in disk.paths() if p.startswith("journal/")]) >= 4
    assert len(process.files) == 1, "closed segments give their locks away"
    assert messages(disk) == 10


def test_eight_bit_bodies_are_noticed(disk):
    draft = Writer(Process(disk)).begin()
    draft.write(b"plain")
    assert not draft.eight_bit
    draft.write("é".encode())
    assert draft.eight_bit and draft.size == 7


def test_a_message_without_jobs_is_a_defect(disk):
    writer = Writer(Process(disk))
    with pytest.raises(ValueError):
        writer.commit(writer.begin(), [], PATH)


def test_j3_of_a_batch_all_is_kept_or_nothing(disk):
    class Second(Process):
        syncs = 0

        def sync(self, fd: int) -> None:
            self.syncs += 1
            if self.syncs == 2:
                raise OSError(errno.EIO, "input/output error")
            super().sync(fd)

    writer = Writer(Second(disk))
    for size in (10, 500_000):  # one in the shared segment, one in its own
        draft = writer.begin()
        draft.write(b"x" * size)
        writer.append(draft, JOBS, PATH)
    with pytest.raises(SpoolError):
        writer.sync()
    assert messages(disk) == 0


def test_a_segment_that_cannot_be_begun_is_given_back(disk):
    class Full(Process):
        def write(self, fd: int, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        closed = 0

        def close(self, fd: int) -> None:
            self.closed += 1
            super().close(fd)

    process = Full(disk)
    with pytest.raises(SpoolError):
        commit(Writer(process))
    assert process.closed == 1
    assert disk.paths() == {}
