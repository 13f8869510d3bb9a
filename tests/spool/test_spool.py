"""The spool on a real disk: what the crash machine does not ask."""

import errno
import os

import pytest

from mta.errors import SpoolError
from mta.spool import layout
from mta.spool.fs import Fs
from mta.spool.intake import Intake, take_in, try_lock
from mta.spool.journal import Synced
from mta.spool.spool import Spool
from mta.spool.states import HOLD, Note
from mta.types import DEFERRED, DELIVERED, FAILED, PENDING
from tests.spool.kit import BUSY, GONE, OK, PATH, accept, all_names, checkpoint, job, settle


def test_a_message_goes_in_and_out(spool, tmp_path):
    message_id = accept(spool)
    assert take_in(spool)
    (name,) = all_names(spool)
    assert name.id == message_id and name.host == "mx.test"
    claim = spool.claim(name)
    fd = claim.open_body()
    assert os.read(fd, 100) == b"Subject: x\r\n\r\nhello\r\n"
    os.write(fd, b"x")  # whatever a channel program does to its copy, others read the body
    os.close(fd)
    fd = claim.open_body()
    assert os.read(fd, 100) == b"Subject: x\r\n\r\nhello\r\n"
    os.close(fd)
    assert claim.settle([settle(0, OK, DELIVERED)])
    claim.release()
    claim.release()
    assert all_names(spool) == [] and spool.unsynced
    spool.sync_marks()
    assert take_in(spool)
    files = [f for _, _, fs in os.walk(tmp_path / "spool") for f in fs]
    assert sorted(files) == ["boot", "intake.lock", "version"]


def test_a_deferral_stays_with_its_reason(spool):
    accept(spool)
    take_in(spool)
    (name,) = all_names(spool)
    with_claim = spool.claim(name)
    assert not with_claim.settle([settle(0, BUSY, DEFERRED)])
    with_claim.release()
    state = spool.peek(name).states[0]
    assert (state.state, state.attempts, state.outcome.reply.text) == (DEFERRED, 1, "busy")
    again = spool.claim(name)
    again.settle([settle(0, BUSY, DEFERRED)])
    again.release()
    assert spool.peek(name).states[0].attempts == 2


def test_each_recipient_counts_its_own_attempts_on_each_channel(spool):
    accept(spool, job(recipients=2))
    take_in(spool)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    claim.settle([settle(0, BUSY, DEFERRED)])
    claim.release()
    claim = spool.claim(name)
    claim.settle([settle(0, BUSY, DEFERRED), settle(1, BUSY, DEFERRED)])
    claim.release()
    claim = spool.claim(name)
    claim.settle([settle(1, BUSY, DEFERRED)], "", "dial")
    claim.release()
    states = spool.peek(name).states
    assert [s.attempts for s in states] == [2, 1]
    assert [s.seen_by("").attempts for s in states] == [2, 1]
    assert [s.seen_by("dial").attempts for s in states] == [0, 1]


def test_s7_a_failure_needs_its_dsn(spool):
    accept(spool)
    take_in(spool)
    claim = spool.claim(all_names(spool)[0])
    with pytest.raises(SpoolError, match="without its DSN"):
        claim.settle([settle(0, GONE, FAILED)])
    assert claim.settle([settle(0, GONE, FAILED)], told="-")


def test_s6_a_claimed_job_is_nobody_elses(spool, tmp_path):
    accept(spool)
    take_in(spool)
    other = Spool.open(str(tmp_path / "spool"))
    (name,) = all_names(spool)
    mine = spool.claim(name)
    assert other.claim(name) is None
    mine.release()
    theirs = other.claim(name)
    assert theirs is not None
    theirs.release()


def test_s9_the_body_goes_with_the_last_job(spool, tmp_path):
    message_id = accept(spool, job(0, "a.test"), job(1, "b.test"), job(2, "c.test"))
    checkpoint(spool)
    for count, name in enumerate(all_names(spool)):
        claim = spool.claim(name)
        claim.settle([settle(name.number * 10, OK, DELIVERED)])
        claim.release()
        bodies = [f for _, _, fs in os.walk(tmp_path / "spool/msg") for f in fs]
        assert (message_id in bodies) == (count < 2)
    assert spool.find(message_id) == []


def test_recipients_of_a_job_finish_one_by_one(spool):
    accept(spool, job(recipients=3))
    take_in(spool)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    assert not claim.settle([settle(0, OK, DELIVERED), settle(1, BUSY, DEFERRED)])
    claim.release()
    claim = spool.claim(name)
    assert [r.index for r, _ in claim.entry.pending] == [1, 2]
    assert claim.settle([settle(1, OK, DELIVERED), settle(2, OK, DELIVERED)])


def test_no_job_is_claimed_before_recovery(spool):
    accept(spool)
    take_in(spool)
    (name,) = all_names(spool)
    spool.fs.unlink("boot")
    with pytest.raises(SpoolError, match="not been recovered"):
        Spool(spool.fs).claim(name)


def test_one_intake_at_a_time(spool):
    held = try_lock(spool)
    assert held is not None and try_lock(spool) is None
    assert not take_in(spool)
    spool.fs.close(held)
    assert take_in(spool)


def test_age_selects_hours_without_reading_the_others(spool, monkeypatch):
    now = 1_800_000_000.0
    writer = spool.writer()
    for age in (0.5, 3, 30, 60):
        writer._clock = lambda age=age: now - age * 3600
        monkeypatch.setattr("mta.spool.layout._last", [0])
        draft = writer.begin()
        draft.write(b"x\r\n")
        writer.commit(draft, [job()], PATH)
    writer.close()
    take_in(spool)
    read = []
    whole, parts = type(spool.fs).list, type(spool.fs).lists
    monkeypatch.setattr(type(spool.fs), "list", lambda s, p: read.append(p) or whole(s, p))
    monkeypatch.setattr(type(spool.fs), "lists", lambda s, p, n: read.append(p) or parts(s, p, n))
    assert len(all_names(spool, newer_than=now - 24 * 3600)) == 2
    assert len(read) == 4, "the spool, the queue, and two hours"
    assert len(all_names(spool, older_than=now - 48 * 3600)) == 1
    assert len(all_names(spool, newer_than=now - 48 * 3600, older_than=now - 3600)) == 2
    ids = [name.id for name in all_names(spool)]
    assert ids == sorted(ids) and len(ids) == 4
    unordered = all_names(spool, ordered=False, newer_than=now - 24 * 3600)
    assert {n.id for n in unordered} == set(ids[2:])


def test_another_version_is_refused(tmp_path):
    (tmp_path / "version").write_text("posthouse spool 2\n")
    with pytest.raises(SpoolError, match="of version 'posthouse spool 2'"):
        Spool.open(str(tmp_path))


def test_a_folder_that_is_no_spool_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SpoolError, match=r"holds 'thesis.tex'"):
        Spool.open(str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_keep_copies_a_message_for_a_person(spool, tmp_path):
    message_id = accept(spool)
    take_in(spool)
    claim = spool.claim(all_names(spool)[0])
    path = spool.keep(claim, "nobody to return it to")
    kept = (tmp_path / "spool" / path).read_bytes()
    assert kept.startswith(b"X-Posthouse-Kept: nobody to return it to\r\nSubject: x\r\n")
    assert message_id in path


def test_damage_in_a_segment_is_kept_for_a_person(spool, tmp_path):
    first, second = spool.writer(), None
    for body in (b"one\r\n", b"two\r\n", b"three\r\n"):
        draft = first.begin()
        draft.write(body)
        first.commit(draft, [job()], PATH)
    first.close()
    (segment,) = os.listdir(tmp_path / "spool/journal")
    path = tmp_path / "spool/journal" / segment
    data = path.read_bytes()
    path.write_bytes(data.replace(b"two\r\n", b"twx\r\n"))
    assert second is None and take_in(spool)
    assert len(all_names(spool)) == 1
    assert b"three\r\n" in (tmp_path / f"spool/bad/journal.{segment}").read_bytes()


def test_a_small_body_stays_in_the_journal_until_the_checkpoint(spool, tmp_path):
    small, large = accept(spool), accept(spool, body=b"x" * 500_000)
    take_in(spool)
    bodies = [f for _, _, fs in os.walk(tmp_path / "spool/msg") for f in fs]
    assert bodies == [large]
    held = spool.claim(spool.find(small)[0])
    checkpoint(spool)
    bodies = [f for _, _, fs in os.walk(tmp_path / "spool/msg") for f in fs]
    assert sorted(bodies) == sorted([small, large]) and not os.listdir(tmp_path / "spool/journal")
    for claim, size in ((held, 21), (spool.claim(spool.find(large)[0]), 500_000)):
        with os.fdopen(claim.open_body(), "rb") as file:
            assert len(file.read()) == size == claim.entry.envelope.size


def test_a_body_that_a_cut_checkpoint_left_torn_is_made_again(spool, tmp_path):
    message_id = accept(spool)
    take_in(spool)
    torn = tmp_path / "spool" / layout.body_path(message_id)
    torn.parent.mkdir(parents=True)
    torn.write_bytes(bytes(10))
    checkpoint(spool)
    assert torn.read_bytes() == b"Subject: x\r\n\r\nhello\r\n"


def test_a_line_that_the_disk_cut_short_harms_no_later_one(spool, monkeypatch):
    accept(spool)
    take_in(spool)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    write = type(spool.fs).write

    def full(fs, fd, data):
        write(fs, fd, data[: len(data) // 2])
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(type(spool.fs), "write", full)
    with pytest.raises(SpoolError, match="no space"):
        claim.settle([settle(0, BUSY, DEFERRED)])
    monkeypatch.setattr(type(spool.fs), "write", write)
    claim.settle([settle(0, BUSY, DEFERRED)])
    claim.release()
    assert spool.peek(name).states[0].attempts == 1


def test_a_job_may_be_settled_in_parts(spool):
    accept(spool, job(recipients=3))
    for begin in (take_in, checkpoint):  # before and after its checkpoint
        begin(spool)
        (name,) = all_names(spool)
        claim = spool.claim(name)
        with pytest.raises(SpoolError, match="without its DSN"):
            claim.settle([settle(1, GONE, FAILED)])
        assert not claim.settle([settle(0, OK, DELIVERED), settle(2, BUSY, DEFERRED)])
        claim.release()
        claim = spool.claim(name)
        assert [(r.index, s.state) for r, s in claim.entry.pending] == [(1, PENDING), (2, DEFERRED)]
        assert not claim.settle([settle(1, GONE, FAILED)], "DSN")
        assert claim.settle([settle(2, OK, DELIVERED)])
        claim.release()
        spool.sync_marks()
        assert all_names(spool) == []
        accept(spool, job(recipients=3))


class _Full(Fs):
    """A disk that is full for job files and bodies, when it is told so."""

    full = False

    def create(self, path):
        if self.full and path.startswith("done/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path)

    def write(self, fd, data):
        if self.full:
            super().write(fd, data[:40])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(fd, data)


@pytest.mark.parametrize("lines", [1, 30_000])
@pytest.mark.parametrize("before", [0, 1])
def test_s3_what_a_full_disk_left_half_made_is_made_again(tmp_path, lines, before):
    fs = _Full(str(tmp_path / "spool"))
    spool, rung = Spool.open(str(tmp_path / "spool"), fs), []
    assert take_in(spool)
    intake = Intake(spool, rung.extend, lambda envelope: None)
    body = b"Subject: x\r\n\r\n" + b"hello\r\n" * lines
    jobs = job(0, "a.test"), job(1, "b.test")
    if before:  # the segment is followed already
        accept(spool, *jobs, body=body)
        intake.step()
    accept(spool, *jobs, body=body)
    accept(spool, *jobs, body=body)
    descriptors = len(os.listdir("/proc/self/fd"))
    fs.full = True
    for _ in range(3):
        with pytest.raises(SpoolError, match="No space left"):
            intake.step()
        for segment in os.listdir(tmp_path / "spool" / "journal"):
            intake.told(Synced(segment, 0))
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2 - before
    fs.full = False
    intake.step()
    names = all_names(spool)
    assert len(names) == 4 + 2 * before and set(rung) == set(names)
    for name in names:
        claim = spool.claim(name)
        fd = claim.open_body()
        assert os.fstat(fd).st_size == len(body)
        os.close(fd)
        claim.release()
    intake.close()


def test_s8_what_is_settled_after_the_checkpoint_is_no_mark(spool):
    """The done file that this process has open may have no name any more."""
    accept(spool, job(0, recipients=2))
    take_in(spool)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    assert not claim.settle([settle(0, OK, DELIVERED)])
    claim.release()
    spool.sync_marks()
    checkpoint(spool)
    synced = []
    sync, spool.fs.sync = spool.fs.sync, lambda fd: (synced.append(fd), sync(fd))
    claim = spool.claim(name)
    claim.note(Note(HOLD, 1.0, "op", "why"))
    assert len(synced) == 1
    assert claim.settle([settle(1, OK, DELIVERED)])
    spool.sync_marks()
    assert len(synced) == 2 and all_names(spool) == []


def test_s6_what_was_given_back_is_not_settled(spool):
    accept(spool)
    take_in(spool)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    claim.release()
    with pytest.raises(SpoolError, match="given back"):
        claim.settle([settle(0, OK, DELIVERED)])
    assert spool.peek(name).pending and not spool.unsynced


def test_a_job_that_the_disk_does_not_give_is_an_error_and_no_descriptor(spool, monkeypatch):
    """It would have ended a deliver, with all the mail of its queues."""
    accept(spool)
    take_in(spool)
    (name,) = all_names(spool)
    before = sorted(os.listdir("/proc/self/fd"))

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool.fs, "read", fail)
    with pytest.raises(SpoolError, match="Input/output error"):
        spool.claim(name)
    assert sorted(os.listdir("/proc/self/fd")) == before
    monkeypatch.undo()
    claim = spool.claim(name)
    assert claim is not None
    claim.release()


def test_s9_what_a_power_cut_left_of_a_count_counts_nothing(spool):
    ident = accept(spool, *[job(number, f"h{number}.test") for number in range(12)])
    checkpoint(spool)
    names = sorted(all_names(spool), key=lambda name: name.number)
    body = layout.body_path(ident)
    spool.fs.close(spool.fs.create(f"{body}.done"))
    fd = spool.fs.open(f"{body}.done", append=True)
    spool.fs.write(fd, b"\n1")  # of job 11
    spool.fs.close(fd)
    for name in names[2:] + names[:1]:
        assert not spool.remove(name, 12)
    spool.fs.close(spool.fs.open(body))  # job 1 still needs it
    assert spool.remove(names[1], 12)
