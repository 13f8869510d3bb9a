"""deliver's command line as a whole: what it refuses, and how it says so."""

import pytest

from mta.deliver import program
from mta.spool.spool import Spool
from mta.spool.states import HOLD, Note
from tests.inlet import write_site
from tests.queued import accept, new_config


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["NOID"], 64, "'NOID' is no message id"),
        (["-c", "nope"], 78, "no channel is called 'nope'; there are: local smtp"),
        (["-p"], 64, "passive"),
        (["-l", "x"], 64, "-l: x is not a number"),
        (["--bogus"], 64, "unknown option --bogus"),
        (["--config", "/nonexistent"], 78, "/nonexistent: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, capsys, words, status, said):
    monkeypatch.setenv("MTA_CONFIG", str(write_site(tmp_path)))
    assert program.main(words) == status
    output = capsys.readouterr()
    assert output.out == "" and said in output.err
    assert output.err.startswith("deliver: ") and output.err.count("\n") == 1


def test_help_needs_no_configuration(monkeypatch, capsys):
    monkeypatch.setenv("MTA_CONFIG", "/nonexistent")
    assert program.main(["--help"]) == 0
    assert "usage: deliver" in capsys.readouterr().out


def test_a_log_that_cannot_be_written_is_told_and_keeps_no_mail(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    where = ["--config", str(write_site(tmp_path)), "-clocal"]
    assert program.main([f"-L{tmp_path}/file/deliver1", *where]) == 0
    told = f"deliver: the log cannot be written: {tmp_path}/file/deliver1: Not a directory\n"
    assert capsys.readouterr().err == told
    assert program.main([f"-L{tmp_path}/new/deliver1", *where]) == 0
    assert capsys.readouterr().err == "" and (tmp_path / "new" / "deliver1").exists()


def test_a_queue_that_cannot_be_read_whole_is_75_when_the_rest_has_been_tried(tmp_path, capsys):
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    spool.mark_ready()
    old = accept(spool, "alice@example.test")
    (name,) = spool.find(old)
    (tmp_path / "spool" / "q.local" / "2020010100").write_text("no directory")
    assert program.main(["--config", config.path, "-clocal,smtp"]) == 75
    told = "queue local cannot be read whole: "
    where = f"{tmp_path}/spool/q.local/2020010100: Not a directory\n"
    assert capsys.readouterr().err == f"deliver: {told}{where}"
    assert spool.peek(name) is None, "the hours after it are delivered all the same"
    assert told in (tmp_path / "log" / "mail.log").read_text()
    assert program.main(["--config", config.path, "-csmtp"]) == 0


def test_a_message_that_cannot_be_looked_for_is_75(tmp_path, capsys):
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    spool.mark_ready()
    ident = accept(spool, "alice@example.test")
    (name,) = spool.find(ident)
    (tmp_path / "spool" / "q.smtp").mkdir()
    (tmp_path / "spool" / "q.smtp" / name.hour).write_text("no directory")
    assert program.main(["--config", config.path, ident]) == 75
    assert "Traceback" not in capsys.readouterr().err


def test_a_message_that_was_named_and_is_held_is_told_of(tmp_path, capsys):
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    spool.mark_ready()
    ident = accept(spool, "alice@example.test")
    (name,) = spool.find(ident)
    claim = spool.claim(name)
    claim.note(Note(HOLD, 1e9, "root", "look at it"))
    claim.release()
    assert program.main(["--config", config.path, "-w", ident]) == 0
    assert capsys.readouterr().out == (
        f"{ident}.0 is held by root: look at it; mta release {ident}.0\n"
    )
    assert program.main(["--config", config.path, "-w", f"{ident}.7"]) == 0
    assert capsys.readouterr().out == ""
