"""cleanque does an intake's work once, and leaves it to an intake that runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta import cleanque
from mta.errors import UsageError
from mta.machine.logread import read_events
from mta.spool.intake import try_lock
from mta.spool.layout import arrived, body_path
from mta.spool.spool import Spool
from mta.types import Job, Recipient
from tests.queued import ALICE, accept, new_config


def clean(root: Path, now: float, *flags: str) -> list[str]:
    said: list[str] = []
    cleanque.run([*flags, "--config", str(root / "mta.yaml")], now, said.append)
    return said


def test_orphans_go_after_four_hours_and_mail_stays(tmp_path: Path) -> None:
    new_config(tmp_path)
    spool = Spool.open(str(tmp_path / "spool"))
    kept, orphan = accept(spool, "bob@far.example"), accept(spool, "bob@far.example")
    clean(tmp_path, arrived(orphan))  # the journal goes, or intake would make the job again
    (job,) = spool.find(orphan)
    os.unlink(tmp_path / "spool" / job.path)
    clean(tmp_path, arrived(orphan) + cleanque.ORPHAN_AGE - 1)
    assert (tmp_path / "spool" / body_path(orphan)).exists()
    said = clean(tmp_path, arrived(orphan) + cleanque.ORPHAN_AGE + 1, "-w")
    assert not (tmp_path / "spool" / body_path(orphan)).exists()
    assert (tmp_path / "spool" / body_path(kept)).exists() and spool.find(kept)
    assert "removed 1 orphaned bodies" in said


def test_what_was_accepted_is_taken_in_logged_and_the_journal_emptied(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    writer = spool.writer()
    draft = writer.begin()
    draft.write(b"Subject: x\r\n\r\n")
    ident = writer.commit(
        draft, [Job(0, "local", "local", "", "", ALICE, (Recipient(0, ALICE),))], ALICE
    )
    writer.close()
    assert not spool.find(ident)
    assert clean(tmp_path, arrived(ident)) == []
    assert spool.find(ident)
    assert [e["event"] for e in read_events(config.log.dir, ident)] == ["queued"]
    assert list((tmp_path / "spool" / "journal").iterdir()) == []


def test_a_running_intake_is_left_alone(tmp_path: Path) -> None:
    new_config(tmp_path)
    spool = Spool.open(str(tmp_path / "spool"))
    lock = try_lock(spool)
    assert lock is not None
    assert clean(tmp_path, 0.0, "-w") == [
        "intake runs, and cleans as it goes",
        "the spool has not been recovered since the machine started: nothing is aged",
    ]
    spool.fs.close(lock)


def test_what_was_kept_for_a_person_is_named(tmp_path: Path) -> None:
    new_config(tmp_path)
    Spool.open(str(tmp_path / "spool"))
    (tmp_path / "spool" / "bad" / "odd").write_text("")
    assert clean(tmp_path, 0.0) == [f"kept for a person: {tmp_path}/spool/bad/odd"]


def test_operands_are_refused() -> None:
    with pytest.raises(UsageError):
        cleanque.run(["x"], 0.0, print)


HOUR = 3600.0


def test_late_mail_is_warned_of_once_and_given_up_at_last(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    late = accept(spool, "bob@far.example", "eve@near.example")
    young = accept(spool, "bob@far.example")
    at = arrived(late)
    assert "would warn of 0 job(s), give up 0" in clean(tmp_path, at + HOUR, "-n")
    assert "would warn of 3 job(s), give up 0" in clean(tmp_path, at + 5 * HOUR, "-n")
    assert "warned of 3 job(s), gave up 0" in clean(tmp_path, at + 5 * HOUR, "-w")
    notified = [e for e in read_events(config.log.dir, "") if e["event"] == "notified"]
    assert {(e["id"], e["about"]) for e in notified} == {(late, "delay"), (young, "delay")}
    assert len(notified) == 2  # one a message, not one a job
    again = clean(tmp_path, at + 6 * HOUR, "-w")
    assert "warned of 0 job(s), gave up 0" in again
    # The two warnings, which nobody has delivered, are as old, and end with the postmaster.
    assert "warned of 0 job(s), gave up 5" in clean(tmp_path, at + 200 * HOUR, "-w")
    assert not spool.find(late) and not spool.find(young)
    about = [e["about"] for e in read_events(config.log.dir, "") if e["event"] == "notified"]
    assert sorted(about) == ["delay", "delay", "failure", "failure", "orphan", "orphan"]
    failed = [e for e in read_events(config.log.dir, late) if e["event"] == "attempt"]
    assert {(e["status"], e["class"]) for e in failed} == {("5.4.7", "expired")}


def test_more_late_mail_than_is_gathered_at_a_time_is_all_told(tmp_path: Path) -> None:
    spool = Spool.open(new_config(tmp_path).spool)
    idents = [accept(spool, "a@one.example", "b@two.example") for _ in range(70)]
    said = clean(tmp_path, arrived(idents[-1]) + 5 * HOUR, "-w")
    assert "warned of 140 job(s), gave up 0" in said


def test_check_tells_what_is_wrong_and_sets_aside_what_is_needless(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    ident = accept(spool, "bob@far.example")
    (name,) = spool.find(ident)
    hour = tmp_path / "spool" / "q.smtp" / name.hour
    (hour / "core").write_bytes(b"x")
    (hour / "core").chmod(0o600)
    assert clean(tmp_path, arrived(ident), "--check", "-n")[-1] == (
        f"{hour}/core: its name is no job's"
    )
    said = clean(tmp_path, arrived(ident), "--check")
    assert f"{hour}/core: its name is no job's: set aside as bad/q.smtp.{name.hour}.core" in said
    assert clean(tmp_path, arrived(ident), "--check") == [
        f"kept for a person: {tmp_path}/spool/bad/q.smtp.{name.hour}.core"
    ]
    (tmp_path / "spool" / name.path).chmod(0o640)
    status = cleanque.run(
        ["--check", "--config", str(tmp_path / "mta.yaml")], arrived(ident), lambda text: None
    )
    assert status == 1


def test_a_draft_that_was_given_up_leaves_the_journal(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    child = os.fork()
    if child == 0:  # a writer that is killed in the middle of a large message
        draft = spool.writer().begin()
        draft.write(b"Subject: half of a large message\r\n\r\n" + b"x" * (1 << 20))
        os._exit(0)
    os.waitpid(child, 0)
    assert list((tmp_path / "spool" / "journal").iterdir())
    clean(tmp_path, 2e9)
    assert list((tmp_path / "spool" / "journal").iterdir()) == []
    assert list((tmp_path / "spool" / "bad").iterdir()) == []


def test_a_name_that_is_no_text_is_told_as_well_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = new_config(tmp_path)
    Spool.open(str(tmp_path / "spool"))
    (tmp_path / "spool" / "bad" / os.fsdecode(b"\xff\x1b")).write_text("")
    monkeypatch.setattr("sys.argv", ["cleanque", "--config", config.path])
    assert cleanque.main() == 0
    assert capsys.readouterr().out == f"kept for a person: {tmp_path}/spool/bad/??\n"


def test_a_queue_that_cannot_be_read_is_for_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = new_config(tmp_path)
    accept(Spool.open(config.spool), "bob@far.example")
    (tmp_path / "spool" / "q.smtp" / "2026010100").write_text("")
    monkeypatch.setattr("sys.argv", ["cleanque", "-n", "--config", config.path])
    assert cleanque.main() == 75
    assert "q.smtp/2026010100" in capsys.readouterr().err
