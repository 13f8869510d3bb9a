"""The queue as it is listed: order, filters, Postfix's and MMDF's shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta import checkque, listing, mailq, status
from mta.errors import UsageError
from mta.listing import Wanted
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.types import Outcome, Reply, Wishes
from tests.inlet import make_door
from tests.queued import NULL_PATH, accept, defer, new_config

FAR = "bob@far.example"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.open(str(tmp_path / "spool"))


@given(st.lists(st.sets(st.sampled_from(["a@example.test", FAR, "c@near.example"]), min_size=1)))
@settings(deadline=None, max_examples=25)
def test_q1_jobs_come_in_order_of_arrival_and_messages_whole(tmp_path_factory, mail) -> None:
    spool = Spool.open(str(tmp_path_factory.mktemp("spool") / "s"))
    idents = [accept(spool, *sorted(addresses)) for addresses in mail]
    found = [(m, len(group)) for m, group in listing.messages(listing.jobs(spool))]
    assert found == [(i, len(a)) for i, a in zip(idents, mail, strict=True)]


def test_q2_a_job_that_goes_is_passed_over(spool: Spool) -> None:
    accept(spool, FAR)
    later = accept(spool, FAR)
    entries = listing.jobs(spool)
    assert next(entries).envelope.id != later
    (name,) = spool.find(later)
    spool.fs.unlink(name.path)
    assert list(entries) == []


def test_wanted_filters_by_queue_host_and_state(spool: Spool) -> None:
    here, far = accept(spool, "alice@example.test"), accept(spool, FAR)
    defer(spool, far, 100.0, 200.0)

    def ids(**wanted: object) -> list[str]:
        found = listing.jobs(spool, Wanted(**wanted))
        return [entry.envelope.id for entry in found]

    assert ids() == [here, far]
    assert ids(queues=("local",)) == [here]
    assert ids(host="far.example") == [far]
    assert ids(deferred=True) == [far]
    assert ids(queues=("local",), deferred=True) == []


def test_jobs_of_other_hosts_are_not_opened(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million jobs for others must not make the question slow."""
    accept(spool, "alice@example.test")
    far = accept(spool, FAR)
    opened, peek = [], spool.peek
    monkeypatch.setattr(listing, "untaken", lambda _: [])  # the journal's few are read anyhow
    monkeypatch.setattr(spool, "peek", lambda name: opened.append(name.id) or peek(name))
    assert len(list(listing.jobs(spool, Wanted(host="far.example")))) == 1
    assert opened == [far]


def test_queue_lines_say_state_and_reason(tmp_path: Path, spool: Spool) -> None:
    ident = accept(spool, FAR)
    defer(spool, ident, 100.0, 200.0)
    (line,) = listing.lines(str(tmp_path / "spool"), Wanted(), 300.0)
    assert line == (
        f"{ident} smtp smtp far.example bob@far.example deferred due: "
        "451 4.4.1 connect to far.example[192.0.2.1]:25: timed out"
    )
    (record,) = listing.lines(str(tmp_path / "spool"), Wanted(), 300.0, as_json=True)
    assert json.loads(record)["recipients"][0]["retry_at"] == 200.0


def test_mailq_text_has_postfixs_shape(spool: Spool) -> None:
    ident = accept(
        spool, FAR, "eve@far.example", body=b"Subject: x\r\n\r\n" + b"x" * 2034 + b"\r\n"
    )
    null = accept(spool, "carol@near.example", path=NULL_PATH)
    defer(spool, ident, 100.0, time.time() + 1000)
    lines = list(mailq.text_lines(listing.jobs(spool), time.time()))
    when = time.ctime(arrived(ident))[:19]
    assert lines == [
        "----Queue ID----- --Size-- ----Arrival Time---- --Sender/Recipient------",
        f"{ident:<17}     2050 {when} alice@example.test",
        f"{'(451 4.4.1 connect to far.example[192.0.2.1]:25: timed out)':>78}",
        f"{'':<47}bob@far.example",
        f"{'':<47}eve@far.example",
        "",
        f"{null + '*':<17}       14 {time.ctime(arrived(null))[:19]} MAILER-DAEMON",
        f"{'':<47}carol@near.example",
        "",
        "-- 2 Kbytes in 2 Requests.",
    ]
    assert list(mailq.text_lines(iter(()), 0.0)) == ["Mail queue is empty"]


def test_mailq_json_has_postqueues_fields(spool: Spool) -> None:
    ident = accept(spool, FAR, "alice@example.test")
    (line,) = mailq.json_lines(listing.jobs(spool), time.time())
    assert json.loads(line) == {
        "queue_name": "active",
        "queue_id": ident,
        "arrival_time": int(arrived(ident)),
        "message_size": 14,
        "forced_expire": False,
        "sender": "alice@example.test",
        "recipients": [{"address": FAR}, {"address": "alice@example.test"}],
    }
    defer(spool, ident, 100.0, time.time() + 1000)
    (line,) = mailq.json_lines(listing.jobs(spool), time.time())
    assert json.loads(line)["queue_name"] == "deferred"
    assert json.loads(line)["recipients"][0]["delay_reason"].startswith("451 4.4.1 connect")


def lines_of_checkque(tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str, now: float):
    config = new_config(tmp_path)
    checkque.run([*flags, "--config", config.path], now)
    return capsys.readouterr().out.split("\n")[:-1]


def test_checkque_has_mmdfs_shape(tmp_path: Path, spool: Spool, capsys) -> None:
    ident = accept(spool, FAR, body=b"Subject: x\r\n\r\n" + b"x" * 3000 + b"\r\n")
    accept(spool, "carol@near.example")
    tried = arrived(ident) + 60
    defer(spool, ident, tried, tried + 300)
    now = arrived(ident) + 25 * 3600
    stamp, since = time.ctime(now)[:16], time.ctime(arrived(ident))[:16]
    assert lines_of_checkque(tmp_path, capsys, "-fh", now=now) == [
        "",
        f"{stamp}:  2 queued msgs / 1 queue directories",
        "\t\t   3 Kbytes in msg dir",
        "",
        "  0 msgs    0 Kb (local   ) local           :  local",
        "",
        "  2 msgs    3 Kb (smtp    ) smtp            :  smtp",
        f"\t\t  deliver message           :  {time.ctime(tried)[:16]}",
        f"  *** WAITING **  First message             :  {since}  {ident}",
        f"    far.example                      (  1)  :  {since}  ** BLOCKING **",
        f"    near.example                     (  1)  :  {since}  ** BLOCKING **",
    ]


def test_checkque_summary_problems_and_choice(tmp_path: Path, spool: Spool, capsys) -> None:
    ident = accept(spool, FAR)
    soon, late = arrived(ident) + 60, arrived(ident) + 2 * 3600
    assert lines_of_checkque(tmp_path, capsys, "-p", now=soon) == ["No problems with any channels."]
    assert lines_of_checkque(tmp_path, capsys, "-s", "-t", "90m", now=late) == [
        "      0 msgs      0 Kb (local   ) local           :   inactive",
        "*     1 msgs      1 Kb (smtp    ) smtp            :    2 hours",
    ]
    assert len(lines_of_checkque(tmp_path, capsys, "-sz", now=late)) == 1
    assert len(lines_of_checkque(tmp_path, capsys, "-sclocal", now=late)) == 1


@pytest.mark.parametrize("flags", [["-t", "x"], ["-q"], ["operand"], ["-t"]])
def test_checkque_refuses_what_it_does_not_know(flags: list[str]) -> None:
    with pytest.raises(UsageError):
        checkque.run(flags, 0.0)


def test_status_counts_and_gives_reasons(tmp_path: Path, spool: Spool) -> None:
    config = new_config(tmp_path)
    idents = [accept(spool, FAR) for _ in range(3)]
    for ident in idents[:2]:
        defer(spool, ident, 100.0, 200.0)
    now = arrived(idents[0]) + 500
    parts = list(status.gather(config, now))
    (smtp,) = [part for part in parts if part.get("queue") == "smtp"]
    assert (smtp["jobs"], smtp["oldest_seconds"], smtp["deferred"]) == (3, 500, 2)
    assert smtp["reasons"] == [
        {"reason": "451 4.4.1 connect to far.example[192.0.2.1]:25: timed out", "jobs": 2}
    ]
    (intake,) = [part for part in parts if part["kind"] == "intake"]
    assert intake["runs"] is False
    said = list(status.lines(config, now))
    assert said[0] == "deliver   none is running: mta up starts them"
    assert "queue     local: 0 job(s)" in said
    assert [json.loads(line)["kind"] for line in status.lines(config, now, as_json=True)]


def test_status_reads_a_sample_and_counts_all(
    tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        defer(spool, accept(spool, FAR), 100.0, 200.0)
    monkeypatch.setattr(status, "SAMPLE", 2)
    parts = list(status.gather(new_config(tmp_path), 0.0))
    (smtp,) = [part for part in parts if part.get("queue") == "smtp"]
    assert (smtp["jobs"], smtp["sampled"], smtp["deferred"]) == (3, 2, 2)


def test_a_reason_with_escapes_does_not_reach_the_terminal(tmp_path: Path, spool: Spool) -> None:
    ident = accept(spool, FAR)
    defer(spool, ident, 100.0, 200.0, Outcome(Reply(450, "4.2.0", "a\x1b[2Jb"), "recipient"))
    shown = [
        *listing.lines(str(tmp_path / "spool"), Wanted(), 0.0),
        *mailq.text_lines(listing.jobs(spool), 0.0),
        *status.lines(new_config(tmp_path), 0.0),
    ]
    assert all(line.isprintable() for line in shown)


def test_mail_that_no_intake_has_seen_is_listed_with_the_reason(tmp_path: Path) -> None:
    door = make_door(tmp_path)
    draft = door.begin()
    draft.write(b"Subject: x\r\n\r\n")
    ident = door.commit(draft, [door.verify("alice@example.test")], NULL_PATH, Wishes("uid=0"))
    door.close()
    (entry,) = listing.jobs(Spool.open(str(tmp_path / "spool")))
    assert entry.envelope.id == ident
    (line,) = listing.lines(str(tmp_path / "spool"), Wanted(), 0.0)
    assert "intake has not come to it yet" in line


@pytest.mark.parametrize(("command", "main"), [("checkque", "main"), ("mailq", "mailq_main")])
def test_a_reader_who_goes_away_is_no_error_and_a_queue_that_cannot_be_read_is_one(
    tmp_path: Path, command: str, main: str
) -> None:
    config = new_config(tmp_path)
    accept(Spool.open(config.spool), "bob@far.example")
    argv = [
        sys.executable,
        "-c",
        f"from mta.checkque import {main} as main; raise SystemExit(main())",
    ]
    argv += ["--config", config.path]
    end, pipe = os.pipe()
    os.close(end)
    ran = subprocess.run(argv, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    os.close(pipe)
    assert (ran.returncode, ran.stderr) == (1, "")
    (tmp_path / "spool" / "q.smtp" / "2020010100").write_text("no directory")
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 75 and ran.stderr.startswith(f"{command}: ")
    assert ran.stderr.count("\n") == 1 and "2020010100" in ran.stderr
