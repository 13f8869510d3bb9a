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
    assert clean(tmp_path, 0.0, "-w") == ["intake runs, and cleans as it goes"]
    spool.fs.close(lock)


def test_what_was_kept_for_a_person_is_named(tmp_path: Path) -> None:
    new_config(tmp_path)
    Spool.open(str(tmp_path / "spool"))
    (tmp_path / "spool" / "bad" / "odd").write_text("")
    assert clean(tmp_path, 0.0) == [f"kept for a person: {tmp_path}/spool/bad/odd"]


def test_operands_are_refused() -> None:
    with pytest.raises(UsageError):
        cleanque.run(["x"], 0.0, print)
