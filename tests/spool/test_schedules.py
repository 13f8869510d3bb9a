"""S1 to S10 one by one: each step of a message's life is cut off at every system call.

The machine in test_spool_machine.py finds what nobody thought of; these are the
schedules that somebody did, each for a body that stays in the journal and for
one that becomes a file.
"""

from __future__ import annotations

from random import Random

import pytest

from mta.errors import SpoolError
from mta.spool import journal
from mta.spool.entry import Settlement
from mta.spool.intake import Intake, try_lock
from mta.spool.spool import Spool
from mta.types import DEFERRED, DELIVERED, FAILED, Mailbox
from tests.spool.disk import Disk, Killed, Process
from tests.spool.kit import all_names
from tests.spool.test_spool_machine import REPLIES, TwoPlaces, jobs_for


class House:
    """A spool on a forgetful disk, for schedules that are tried at every system call."""

    def __init__(self) -> None:
        self.disk = Disk()
        layout_of = Process(self.disk)
        for name in ("journal", "done", "msg", "bad", "q.smtp,1"):
            layout_of.mkdir(name)
        self.disk.root.sync()

    def accept(self, hosts: int, fuse: int | None = None) -> str:
        """Accept a message; return its id, "" if the writer was killed before it could say so."""
        process = Process(self.disk)
        process.fuse = fuse
        try:
            writer = journal.Writer(process, places=TwoPlaces())
            draft = writer.begin()
            draft.write(BODY)
            return writer.commit(draft, jobs_for(hosts, 1), Mailbox("s", "x.test"))
        except Killed:
            return ""
        finally:
            process.kill()

    def take_in(self, fuse: int | None = None, at_once: bool = False) -> None:
        process = Process(self.disk)
        process.fuse = fuse
        try:
            begun(process).checkpoint(at_once)
        except Killed:
            pass
        finally:
            process.kill()

    def deliver(self, fuse: int | None = None, state: str = DELIVERED) -> list[str]:
        """Deliver all that waits; return the keys of what was handed over, in order."""
        process = Process(self.disk)
        spool, handed = Spool(process), []
        names = all_names(spool)
        process.fuse = fuse
        try:
            for name in names:
                claim = spool.claim(name)
                if claim is None:
                    continue
                body = claim.open_body()
                assert process.read(body, 1 << 20, 0) == BODY
                handed.append(name.key)
                ((recipient, _),) = claim.entry.pending
                claim.settle([Settlement(recipient.index, state, 1.0, 2.0, REPLIES[state])])
                claim.release()
            spool.sync_marks()
        except Killed:
            pass
        finally:
            process.kill()
        return handed


def begun(process: Process) -> Intake:
    """Return an intake that has taken in what is there, and lives as long as ``process``."""
    spool = Spool(process)
    assert try_lock(spool) is not None
    intake = Intake(spool, lambda names: None, lambda envelope: None)
    intake.step()
    return intake


BODY = b"Subject: x\r\n\r\n" + b"x" * 500
CALLS = 40  # more system calls than any of these steps makes


@pytest.fixture(autouse=True, params=[1 << 17, 100], ids=["small", "large"])
def _memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each schedule is tried with a body that stays in the journal, and one that is a file."""
    monkeypatch.setattr(journal, "MEMORY", request.param)


@pytest.mark.parametrize("fuse", range(CALLS))
def test_s1_s2_a_commit_that_dies_anywhere_is_accepted_whole_or_not_at_all(fuse: int) -> None:
    for seed in range(6):
        house = House()
        told = house.accept(3, fuse)
        house.disk.cut_power(Random(seed))
        house.take_in()
        handed = house.deliver()
        assert len(handed) in (0, 3), "S2: all jobs or none"
        assert len(handed) == 3 or not told, "S1: told, and lost"


@pytest.mark.parametrize("fuse", range(CALLS))
def test_s3_what_a_crash_takes_from_the_queue_is_made_again(fuse: int) -> None:
    for seed in range(6):
        house = House()
        house.accept(2)
        house.take_in(fuse)
        house.disk.cut_power(Random(seed))
        house.take_in()
        assert len(house.deliver()) == 2


@pytest.mark.parametrize("fuse", range(CALLS))
def test_s4_a_checkpoint_that_dies_anywhere_keeps_what_waits(fuse: int) -> None:
    for seed in range(6):
        house = House()
        house.accept(2)
        house.take_in()
        house.take_in(fuse, at_once=True)
        house.disk.cut_power(Random(seed))
        house.take_in()
        assert len(house.deliver()) == 2


def test_s5_the_last_whole_line_counts_after_a_power_cut() -> None:
    for seed in range(50):
        house = House()
        house.accept(1)
        house.take_in(at_once=True)
        house.deliver(state=DEFERRED)
        house.disk.cut_power(Random(seed))
        house.take_in()
        spool = Spool(Process(house.disk))
        (name,) = all_names(spool)
        entry = spool.peek(name)
        assert entry is not None and entry.states[0].state in ("pending", DEFERRED)
        assert len(house.deliver()) == 1


def test_s6_s7_only_the_holder_settles_and_a_failure_needs_its_dsn() -> None:
    house = House()
    house.accept(1)
    house.take_in()
    one, two = Spool(Process(house.disk)), Spool(Process(house.disk))
    (name,) = all_names(one)
    claim = one.claim(name)
    assert claim is not None and two.claim(name) is None
    with pytest.raises(SpoolError, match="without its DSN"):
        claim.settle([Settlement(0, FAILED, 1.0, 0.0, REPLIES[FAILED])])
    one.fs.kill()
    assert two.claim(name) is not None, "the kernel drops a dead process's lock"


@pytest.mark.parametrize("fuse", range(CALLS))
def test_s8_s9_a_deliver_that_dies_anywhere_repeats_only_what_was_in_flight(fuse: int) -> None:
    house = House()
    for _ in range(2):
        house.accept(2)
    house.take_in()
    first = house.deliver(fuse)
    house.take_in()
    again = house.deliver()
    assert set(first) | set(again) and len({*first, *again}) == 4, "nothing is lost"
    assert set(first) & set(again) <= set(first[-1:]), "only the one in flight comes again"
    house.take_in()
    bodies = [p for p in house.disk.paths() if p.startswith("msg/")]
    assert len(bodies) <= 1, "at most the one in flight leaves an orphan"
    house.take_in()
    assert house.deliver() == [], "a mark that was cut short spoils no other"


@pytest.mark.parametrize("fuse", range(CALLS))
def test_s4_a_job_that_was_marked_and_not_removed_goes_with_its_segment(fuse: int) -> None:
    house = House()
    for _ in range(2):
        house.accept(2)
    process = Process(house.disk)
    intake = begun(process)
    first = house.deliver(fuse)  # and the intake lives on
    intake.checkpoint(at_once=True)
    again = house.deliver()
    assert len({*first, *again}) == 4, "nothing is lost"
    assert set(first) & set(again) <= set(first[-1:])
    intake.step()
    assert intake.checkpoint(at_once=True) == 0
    process.kill()
    assert not [p for p in house.disk.paths() if p.startswith(("q.", "journal/"))]


def test_s6_a_job_that_is_marked_is_left_to_who_holds_it() -> None:
    house = House()
    house.accept(1)
    house.take_in()
    process = Process(house.disk)
    spool = Spool(process)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    other = Spool(Process(house.disk))
    assert claim is not None and not other.bury(name)
    claim.release()
    assert other.bury(name) and not all_names(spool) and other.bury(name)


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("steps", ["", "checkpoint before", "checkpoint after"])
@pytest.mark.parametrize("seed", range(40))
def test_s8_what_was_synced_never_comes_again(seed: int, steps: str, hosts: int) -> None:
    house = House()
    house.accept(hosts)
    house.take_in(at_once=steps == "checkpoint before")
    assert len(house.deliver()) == hosts
    if steps == "checkpoint after":
        house.take_in()
    house.disk.cut_power(Random(seed))
    house.take_in()
    assert house.deliver() == []


@pytest.mark.parametrize("seed", range(20))
def test_s2_what_no_writer_synced_is_synced_before_it_is_delivered(seed: int) -> None:
    for fuse in range(10):  # one of these dies between the record and its sync
        house = House()
        house.accept(2, fuse)
        house.take_in()
        process = Process(house.disk)
        process.fuse = None
        spool = Spool(process)
        for name in all_names(spool)[:1]:
            claim = spool.claim(name)
            assert claim is not None
            ((recipient, _),) = claim.entry.pending
            claim.settle([Settlement(recipient.index, DELIVERED, 1.0, 2.0, REPLIES[DELIVERED])])
            claim.release()
            house.disk.cut_power(Random(seed))
            house.take_in()
            assert len(house.deliver()) >= 1, "one was delivered, so all are accepted"


@pytest.mark.parametrize("seed", range(40))
def test_s8_a_mark_that_came_after_the_checkpoint_counts(seed: int) -> None:
    house = House()
    house.accept(2)
    house.take_in()
    spool = Spool(Process(house.disk))
    names = all_names(spool)
    for number, name in enumerate(names):
        if number == 1:
            house.take_in(at_once=True)  # the segment goes; the deliver still has its marks open
        claim = spool.claim(name)
        assert claim is not None
        claim.settle([Settlement(number, DELIVERED, 1.0, 2.0, REPLIES[DELIVERED])])
        claim.release()
    spool.sync_marks()
    house.disk.cut_power(Random(seed))
    house.take_in()
    assert house.deliver() == []


def test_s8_recipients_that_had_it_are_not_asked_again() -> None:
    for seed in range(600):  # few cuts keep the file and lose its last line
        house = House()
        process = Process(house.disk)
        writer = journal.Writer(process, places=TwoPlaces())
        draft = writer.begin()
        draft.write(BODY)
        writer.commit(draft, jobs_for(1, 2), Mailbox("s", "x.test"))
        process.kill()
        house.take_in()
        spool = Spool(Process(house.disk))
        (name,) = all_names(spool)
        claim = spool.claim(name)
        assert claim is not None
        fates = enumerate((DELIVERED, DEFERRED))
        claim.settle([Settlement(i, s, 1.0, 2.0, REPLIES[s]) for i, s in fates])
        spool.sync_marks()
        house.disk.cut_power(Random(seed))
        house.take_in()
        again = Spool(Process(house.disk)).claim(name)
        assert again is not None and [r.index for r, _ in again.entry.pending] == [1]


def test_s9_a_shared_body_outlives_a_power_cut() -> None:
    for seed in range(600):  # few cuts keep the count of finished jobs and lose its marks
        house = House()
        house.accept(2)
        house.take_in()
        spool = Spool(Process(house.disk))
        claim = spool.claim(all_names(spool)[seed % 2])
        assert claim is not None
        settled = Settlement(seed % 2, DELIVERED, 1.0, 2.0, REPLIES[DELIVERED])
        claim.settle([settled])
        house.disk.cut_power(Random(seed))
        house.take_in()
        house.deliver()  # it opens each body
        house.take_in()
        assert house.deliver() == []


def test_s9_a_count_of_finished_jobs_is_kept_over_a_checkpoint() -> None:
    for seed in range(200):
        house = House()
        house.accept(2)
        house.take_in()
        spool = Spool(Process(house.disk))
        (name, _) = all_names(spool)
        claim = spool.claim(name)
        assert claim is not None
        claim.settle([Settlement(0, DELIVERED, 1.0, 2.0, REPLIES[DELIVERED])])
        spool.sync_marks()
        house.take_in(at_once=True)
        house.disk.cut_power(Random(seed))
        house.take_in()
        assert len(house.deliver()) == 1
        assert not [p for p in house.disk.paths() if p.startswith("msg/")]


class Slow(Process):
    """A process that is overtaken just before it takes a lock."""

    overtaken_by = staticmethod(lambda: None)

    def lock(self, fd: int) -> bool:
        action, self.overtaken_by = self.overtaken_by, lambda: None
        action()
        return super().lock(fd)


def test_a_writer_whose_new_segment_was_taken_for_abandoned_begins_another() -> None:
    house = House()
    process = Slow(house.disk)
    process.overtaken_by = lambda: house.take_in(at_once=True)
    writer = journal.Writer(process, places=TwoPlaces())
    draft = writer.begin()
    draft.write(b"x")
    writer.commit(draft, jobs_for(1, 1), Mailbox("s", "x.test"))
    assert [p for p in house.disk.paths() if p.startswith("journal/")] != []


def test_s6_a_job_that_was_finished_while_we_opened_it_is_not_claimed() -> None:
    house = House()
    house.accept(1)
    house.take_in()
    process = Slow(house.disk)
    spool = Spool(process)
    (name,) = all_names(spool)
    process.overtaken_by = lambda: house.deliver() and None
    assert spool.claim(name) is None


def test_s10_a_checkpoint_whose_sync_failed_keeps_the_segment() -> None:
    for fails in range(1, 4):
        for seed in range(40):
            house = House()
            house.accept(2)
            process = Process(house.disk)
            intake = begun(process)
            process.fail_syncs = fails
            with pytest.raises(SpoolError):
                intake.checkpoint(at_once=True)
            process.fail_syncs = 0
            intake.checkpoint(at_once=True)
            process.kill()
            house.disk.cut_power(Random(seed))
            house.take_in()
            assert len(house.deliver()) == 2


def test_s10_a_finished_job_whose_sync_failed_is_not_synced_again() -> None:
    house = House()
    house.accept(1)
    house.take_in(at_once=True)
    process = Process(house.disk)
    spool = Spool(process)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    assert claim is not None
    claim.settle([Settlement(0, DELIVERED, 1.0, 2.0, REPLIES[DELIVERED])])
    process.fail_syncs = 1
    with pytest.raises(SpoolError):
        spool.sync_marks()
    assert not spool.unsynced
    assert house.deliver() == [], "its lines still say that it is finished"


def test_s10_a_failed_sync_is_not_tried_again() -> None:
    house = House()
    process = Process(house.disk)
    writer = journal.Writer(process, places=TwoPlaces())
    for fails in (1, 0):
        draft = writer.begin()
        draft.write(BODY)
        process.fail_syncs = fails
        if fails:
            with pytest.raises(SpoolError):
                writer.commit(draft, jobs_for(1, 1), Mailbox("s", "x.test"))
        else:
            kept = writer.commit(draft, jobs_for(1, 1), Mailbox("s", "x.test"))
    process.kill()
    house.take_in()
    assert house.deliver() == [f"{kept}.0"]
