"""What no intake has taken in yet is seen by those who look, once."""

from mta.spool.intake import Intake, take_in, try_lock
from mta.spool.untaken import untaken
from mta.types import DELIVERED, Mailbox
from tests.spool.kit import OK, accept, all_names, job, settle

OTHER = Mailbox("alice", "home.test")


def test_it_is_seen_until_it_is_taken_in(spool):
    first = accept(spool, job(0, "a.test"), job(1, "b.test"))
    second = accept(spool, body=b"x" * 500_000)
    seen = untaken(spool)
    assert [(n.id, n.number) for n, _ in seen] == [(first, 0), (first, 1), (second, 0)]
    assert "in the journal" in seen[0][1].states[0].outcome.reply.text
    assert seen[0][1].pending and seen[0][1].envelope.jobs == 2
    take_in(spool)
    assert untaken(spool) == []


def test_finished_jobs_of_a_segment_that_is_left_are_not_seen(spool):
    accept(spool, job(0, "a.test"), job(1, "b.test"))
    lock = try_lock(spool)
    Intake(spool, lambda names: None, lambda envelope: None).step()
    spool.fs.close(lock)
    claim = spool.claim(all_names(spool)[0])
    claim.settle([settle(0, OK, DELIVERED)])
    claim.release()
    assert untaken(spool) == []


def test_what_is_taken_in_or_finished_takes_no_room_of_what_is_shown(spool, monkeypatch):
    monkeypatch.setattr("mta.spool.untaken.SHOWN", 4)
    writer = spool.writer()

    def more(count):
        for _ in range(count):
            draft = writer.begin()
            draft.write(b"Subject: x\r\n\r\nhello\r\n")
            writer.commit(draft, [job(0, "a.test")], OTHER)

    more(10)
    spool.mark_ready()
    lock = try_lock(spool)
    Intake(spool, lambda names: None, lambda envelope: None).step()
    spool.fs.close(lock)
    for name in all_names(spool)[:5]:
        claim = spool.claim(name)
        claim.settle([settle(0, OK, DELIVERED)])
        claim.release()
    more(3)
    assert len(untaken(spool)) == 3
    more(3)
    assert len(untaken(spool)) == 4
    writer.close()


def test_what_ends_while_we_look_is_not_taken_for_what_has_no_file_yet(spool, monkeypatch):
    accept(spool)
    lock = try_lock(spool)
    Intake(spool, lambda names: None, lambda envelope: None).step()
    spool.fs.close(lock)
    real = spool.peek

    def peek(name):
        claim = spool.claim(name)
        claim.settle([settle(0, OK, DELIVERED)])
        claim.release()
        return real(name)

    monkeypatch.setattr(spool, "peek", peek)
    assert untaken(spool) == []


def test_a_torn_end_is_not_seen(spool, tmp_path):
    accept(spool)
    (path,) = (tmp_path / "spool/journal").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert untaken(spool) == []
