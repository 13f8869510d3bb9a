"""Whose jobs intake makes first, in batches, and what a segment needs to be done with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.errors import SpoolError
from mta.policy.order import Order
from mta.spool import following
from mta.spool.intake import AHEAD, BATCH, CHECKPOINT_AGE, Intake, take_in, try_lock
from mta.spool.layout import JobName, arrived
from mta.spool.spool import Spool
from mta.types import BULK, DELIVERED, Job, Mailbox, Recipient, Wishes
from mta.values import replace
from tests.spool.kit import OK, accept, all_names, job, settle

FLOOD, OTHER = Mailbox("news", "shop.test"), Mailbox("alice", "home.test")
MANY = 10 * BATCH


@pytest.fixture(autouse=True)
def quick(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing: what that is for is tested elsewhere, and thousands of messages take long."""
    monkeypatch.setattr(spool.fs, "sync", lambda fd: None)


def write(spool: Spool, author: Mailbox, count: int, wishes: Wishes | None = None) -> list[str]:
    """Accept ``count`` messages in a segment of their own; return their ids."""
    writer, ids = spool.writer(), []
    for number in range(count):
        draft = writer.begin()
        draft.write(b"Subject: x\r\n\r\nhello\r\n")
        to = Recipient(0, Mailbox(f"u{number}", "mx.test"))
        wanted = Job(0, "smtp", "smtp", "mx.test", "", author, (to,))
        more = () if wishes is None else (wishes,)
        ids.append(writer.commit(draft, [wanted], author, *more))
    writer.close()
    return ids


class Running:
    """An intake, and what it told delivers."""

    def __init__(self, spool: Spool, order: Order | None = None) -> None:
        spool.mark_ready()
        self.now = 1.0
        self.told: list[list[JobName]] = []
        assert try_lock(spool) is not None
        self.intake = Intake(
            spool, self.told.append, lambda envelope: None, lambda: self.now, order=order
        )

    def ids(self) -> list[str]:
        return [name.id for names in self.told for name in names]


def test_a_flood_that_came_before_does_not_hold_up_another_author(spool: Spool) -> None:
    flood = write(spool, FLOOD, MANY)
    (single,) = write(spool, OTHER, 1)
    running = Running(spool)
    assert running.intake.step() == BATCH
    assert single in running.ids() and running.ids()[0] == flood[0]
    assert running.intake.behind
    while running.intake.step(survey=False):
        pass
    assert sorted(running.ids()) == sorted([*flood, single])
    assert [ident for ident in running.ids() if ident != single] == flood  # an author's own order
    assert not running.intake.behind


def test_mail_that_comes_meanwhile_goes_with_the_next_batch(spool: Spool) -> None:
    write(spool, FLOOD, MANY)
    running = Running(spool)
    running.intake.step()
    (single,) = write(spool, OTHER, 1)
    running.intake.step()
    assert single in running.ids() and len(running.ids()) <= 2 * BATCH


def test_bulk_lets_normal_mail_pass(spool: Spool) -> None:
    write(spool, FLOOD, MANY, Wishes(kind=BULK))
    normal = write(spool, FLOOD, BATCH // 2)
    running = Running(spool, Order(bulk_delay=3600.0))
    running.intake.step()
    assert running.ids()[: len(normal)] == normal


def test_delivers_are_told_of_each_batch(spool: Spool) -> None:
    write(spool, FLOOD, 3 * BATCH)
    running = Running(spool)
    for batches in range(1, 4):
        assert running.intake.step() == BATCH
        assert [len(names) for names in running.told] == [BATCH] * batches
    assert running.intake.step() == 0


@pytest.mark.parametrize(("room", "steps"), [(0.5, 2), (3, 1)])
def test_a_full_line_reads_on_in_every_segment_in_turn(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, room: float, steps: int
) -> None:
    monkeypatch.setattr("mta.spool.line.LIMIT", int(room * following.SLICE * 1000))
    write(spool, FLOOD, MANY)
    (single,) = write(spool, OTHER, 1)
    running = Running(spool)
    for _ in range(steps):
        running.intake.step()
    assert single in running.ids(), "however long a segment is, another's turn comes"
    assert len(running.intake._line) < MANY // 2
    while running.intake.step():
        pass
    assert len(running.ids()) == MANY + 1


def test_who_has_little_in_line_passes_the_flood_of_the_same_segment(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.spool.line.LIMIT", following.SLICE * 1000)
    writer, singles, flood = spool.writer(), [], []
    for number in range(MANY + 3):
        author = FLOOD if number < MANY else OTHER
        draft = writer.begin()
        draft.write(b"Subject: x\r\n\r\nhello\r\n")
        wanted = replace(job(), reverse_path=author)
        (flood if author is FLOOD else singles).append(writer.commit(draft, [wanted], author))
    running = Running(spool)
    for _ in range(-(-MANY // AHEAD) + 1):
        running.intake.step()
    assert set(singles) <= set(running.ids())
    writer.close()
    while running.intake.step():
        pass
    assert [ident for ident in running.ids() if ident not in singles] == flood
    assert sorted(running.ids()) == sorted([*flood, *singles]), "each once"
    assert running.intake.checkpoint(at_once=True) == 0


def test_a_segment_stays_until_all_that_stands_in_line_has_files(
    spool: Spool, tmp_path: Path
) -> None:
    write(spool, FLOOD, 2 * BATCH)
    running = Running(spool)
    for left in (1, 0):
        running.intake.step()
        running.now += 2 * CHECKPOINT_AGE
        assert running.intake.checkpoint(at_once=True) == left
        assert len(list((tmp_path / "spool" / "journal").iterdir())) == left
    assert len(all_names(spool)) == 2 * BATCH


def test_what_a_full_disk_stops_stays_first_in_line(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = write(spool, FLOOD, 10)
    running = Running(spool)
    made, real = [], running.intake._maker.make

    def make(closing, *more):
        if len(made) == 4:
            raise OSError(28, "no space left on device")
        made.append(closing.id)
        return real(closing, *more)

    monkeypatch.setattr(running.intake._maker, "make", make)
    for _ in range(2):
        with pytest.raises(SpoolError, match="no space"):
            running.intake.step()
    assert running.ids() == ids[:4], "those before it are told of, once"
    monkeypatch.undo()
    running.intake.step()
    assert running.ids() == ids


def test_a_queue_that_cannot_be_written_keeps_back_no_other(spool: Spool, tmp_path: Path) -> None:
    broken = tmp_path / "spool" / "q.other"
    broken.write_text("")
    writer, good, bad = spool.writer(), [], []
    for number in range(2 * BATCH):
        draft = writer.begin()
        draft.write(b"Subject: x\r\n\r\nhello\r\n")
        queue, ids = ("smtp", good) if number % 8 == 7 else ("other", bad)
        ids.append(writer.commit(draft, [replace(job(), queue=queue)], OTHER))
    running = Running(spool)
    running.now = arrived(bad[-1])
    for _ in range(4):
        with pytest.raises(SpoolError, match=r"Not a directory.*q\.other"):
            running.intake.step()
    assert running.ids() == good
    broken.unlink()
    while running.intake.step():
        pass
    assert running.ids() == [*good, *bad]
    writer.close()


def test_a_spool_that_is_not_ready_is_taken_in_whole_before_it_is(spool: Spool) -> None:
    write(spool, FLOOD, 3 * BATCH)
    assert not spool.ready
    intake = Intake(spool, lambda names: None, lambda envelope: None)
    assert intake.step() == 3 * BATCH
    assert spool.ready and len(all_names(spool)) == 3 * BATCH


def test_a_pass_takes_in_all(spool: Spool) -> None:
    write(spool, FLOOD, 3 * BATCH)
    spool.mark_ready()
    assert take_in(spool)
    assert len(all_names(spool)) == 3 * BATCH


def test_a_large_body_under_way_is_read_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = spool.writer()
    draft = writer.begin()
    running = Running(spool)
    octets = 0
    real = spool.fs.read

    def read(fd: int, size: int, offset: int) -> bytes:
        nonlocal octets
        data = real(fd, size, offset)
        octets += len(data)
        return data

    monkeypatch.setattr(spool.fs, "read", read)
    for _ in range(20):
        draft.write(b"x" * 400_000)
        running.intake.step()
    assert octets < 20 * 400_000 * 1.5 + 20 * following.WINDOW
    writer.commit(draft, [job()], Mailbox("alice", "example.test"))
    running.intake.step()
    assert len(all_names(spool)) == 1
    writer.close()


@pytest.mark.parametrize("left", [0, 30])
def test_a_message_that_was_never_closed_ends_with_its_segment(
    spool: Spool, tmp_path: Path, left: int
) -> None:
    accept(spool, body=b"x" * 400_000)
    (path,) = (tmp_path / "spool" / "journal").iterdir()
    octets = path.read_bytes()
    path.write_bytes(
        octets[: octets.rindex(b"M 0000") + left]
    )  # its writer died before the M frame
    running = Running(spool)
    running.intake.step()
    assert not running.intake.behind and not all_names(spool)
    assert running.intake.checkpoint() == 0
    assert not list((tmp_path / "spool" / "journal").iterdir())


def test_what_is_written_while_intake_syncs_is_not_taken_before_its_own_sync(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = spool.writer()
    for _ in range(2):
        draft = writer.begin()
        draft.write(b"Subject: x\r\n\r\nhello\r\n")
        writer.append(draft, [job()], OTHER)
    (path,) = (tmp_path / "spool" / "journal").iterdir()
    whole = path.read_bytes()
    synced = []

    def sync(fd: int) -> None:
        synced.append(path.stat().st_size)
        path.write_bytes(whole)  # its writer goes on meanwhile

    path.write_bytes(whole[:-10])
    monkeypatch.setattr(spool.fs, "sync", sync)
    running = Running(spool)
    running.intake.step()
    assert len(running.ids()) == 1
    running.intake.step()
    assert len(running.ids()) == 2 and synced == [len(whole) - 10, len(whole)]
    writer.close()


def test_segments_that_have_been_read_in_part_keep_none_of_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.spool.line.LIMIT", following.SLICE * 1000)
    for _ in range(8):
        write(spool, FLOOD, 2 * following.SLICE)
    running = Running(spool)
    for _ in range(4):
        running.intake.step()
        readers = [r for f in running.intake._followed.values() for r in (f._reader, f._scout)]
        assert len(readers) == 16 and not any(reader._window for reader in readers)


@pytest.mark.parametrize("ready", [True, False])
def test_more_segments_than_descriptors_are_followed_some_at_a_time(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    ids = [write(spool, OTHER, 1)[0] for _ in range(30)]
    monkeypatch.setattr("mta.spool.intake.FOLLOWED", 7)
    if ready:
        spool.mark_ready()
    else:
        intake = Intake(spool, lambda names: None, lambda envelope: None)
        assert intake.step() == 7 and not spool.ready
        intake.close()
    assert take_in(spool)
    assert spool.ready and sorted(name.id for name in all_names(spool)) == ids


def test_catching_up_ends_where_no_segment_can_be_let_go(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = write(spool, OTHER, 1)
    (second,) = write(spool, OTHER, 1)
    monkeypatch.setattr("mta.spool.intake.FOLLOWED", 1)
    running = Running(spool)
    running.intake.step()
    (name,) = all_names(spool)
    claim = spool.claim(name)
    assert claim is not None and name.id == first
    claim.settle([settle(0, OK, DELIVERED)])
    claim.release()
    monkeypatch.setattr(spool, "bury", lambda name: False)  # another has its lock just now
    assert running.intake.catch_up() == 0 and running.intake.crowded
    monkeypatch.undo()
    assert running.intake.catch_up() == 1 and running.ids()[-1] == second


def test_new_mail_is_heard_of_though_old_segments_wait_for_room(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(30):
        write(spool, FLOOD, 1)
    monkeypatch.setattr("mta.spool.intake.FOLLOWED", 4)
    running = Running(spool)
    running.intake.step()
    writer = spool.writer()
    for count in range(3):
        draft = writer.begin()
        draft.write(b"x" * (1 << 18))  # has a segment of its own
        writer.append(draft, [job()], OTHER)
        for synced in writer.sync():
            running.intake.told(synced)
        assert len(running.intake._followed) == min(4 + count + 1, 6)
    running.intake.step(survey=False)
    assert len(running.ids()) == 6
    writer.close()
