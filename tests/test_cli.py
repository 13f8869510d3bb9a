"""The umbrella command: exit statuses, --config on either side, JSON, one line for an error."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from mta import cli
from mta.machine.log import Log
from mta.spool.spool import Spool
from mta.types import DELIVERED, Outcome, Recipient, Reply
from tests.queued import ALICE, BUSY, accept, defer, new_config

COMMANDS = {"up", "demo", "check", "route", "why", "queue", "trace", "tail", "status", "password"}
COMMANDS |= {"daemons", "failures", "host", "reload"}
COMMANDS |= {"hold", "release", "requeue", "delete", "return", "bounce", "reroute"}
COMMANDS |= {"suspend", "resume", "suspended"}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    new_config(tmp_path)
    return tmp_path


@pytest.fixture
def run(house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run mta with --config behind the command; return status, stdout, stderr."""
    monkeypatch.delenv("MTA_CONFIG", raising=False)

    def call(*arguments: str, config: bool = True) -> tuple[int, str, str]:
        where = ["--config", str(house / "mta.yaml")] if config else []
        monkeypatch.setattr("sys.argv", ["mta", *arguments, *where])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_the_commands_are_those_that_are_whole() -> None:
    assert set(cli.mta.commands) == COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_config_and_explains_itself(name: str, run) -> None:
    command = cli.mta.commands[name]
    if name != "password":  # which is about no installation
        assert any("--config" in parameter.opts for parameter in command.params)
    status, out, _ = run(name, "--help", config=False)
    assert status == 0 and ("--config" in out or name == "password")
    assert isinstance(command, click.Command) and command.help


@pytest.mark.parametrize("words", [["bla"], ["route"], ["status", "--bla"], ["tail", "-n", "x"]])
def test_a_wrong_command_line_exits_64(words: list[str], run) -> None:
    status, _, err = run(*words, config=False)
    assert status == 64 and "Traceback" not in err


def test_config_is_taken_on_either_side_of_the_command(house: Path, run) -> None:
    path = str(house / "mta.yaml")
    assert run("--config", path, "check", config=False)[0] == run("check")[0] == 0
    assert run("--config", "/nowhere", "check")[0] == 0, "the one behind the command wins"


def test_a_broken_configuration_is_one_line_with_its_place_and_exits_78(house: Path, run) -> None:
    (house / "mta.yaml").write_text("hostname: [\n")
    for command in (["check"], ["status"], ["route", "alice"]):
        status, out, err = run(*command)
        assert (status, out) == (78, "")
        assert err.startswith(f"mta: {house}/mta.yaml:") and err.count("\n") == 1


def test_check_exits_0_with_warnings_and_78_with_errors(house: Path, run) -> None:
    status, out, _ = run("check")
    assert status == 0
    assert all(" warning: " in line for line in out.splitlines())
    path = house / "mta.yaml"
    path.write_text(path.read_text().replace("-clocal,smtp", "-clocal,nosuch"))
    status, out, _ = run("check")
    assert status == 78 and "mta.yaml:10: error: " in out and "nosuch" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deliver -b -z", "error: deliver: unknown flag -z"),
        ("deliver -b -mx", "error: deliver: -m: x is not a number"),
        ("deliver -b -p", "error: deliver: -p: there are no passive channels"),
        ("deliver -b -Lmta.yaml/x", "warning: deliver: the log "),
    ],
)
def test_check_reads_the_lines_of_daemons_as_deliver_does(
    line: str, said: str, house: Path, run
) -> None:
    path = house / "mta.yaml"
    (house / "log").mkdir()
    (house / "log" / "mta.yaml").write_text("")  # a file where -L wants a directory
    path.write_text(path.read_text().replace("deliver -b -clocal,smtp", line))
    status, out, _ = run("check")
    assert status == (78 if said.startswith("error") else 0)
    assert f"mta.yaml:10: {said}" in out
    path.write_text(path.read_text().replace(line, "deliver -b -Lnew/deliver1"))
    assert "the log" not in run("check")[1].replace("the logs", ""), "directories are made"


def test_route_explains_and_says_by_its_status_whether_mail_goes(run) -> None:
    status, out, _ = run("route", "bob@far.example")
    assert status == 0 and "channel smtp" in out
    assert run("route", "nobody@example.test")[0] == 67
    assert run("route", "bob@elsewhere.test")[0] == 68
    status, out, _ = run("route", "--json", "bob@far.example")
    (target,) = json.loads(out)["targets"]
    assert (target["channel"], target["host"]) == ("smtp", "far.example")
    assert run("route", "not an address@")[0] == 64


@pytest.fixture
def mail(house: Path) -> str:
    """One message to two hosts: delivered here, deferred there, and logged as that."""
    spool = Spool.open(str(house / "spool"))
    ident = accept(spool, "bob@far.example")
    defer(spool, ident, 100.0, 200.0)
    log = Log(str(house / "log"), ("postfix", "json"), "deliver")
    log.queued(ident, ALICE, 14, 2, "uid=1000")
    sent = Outcome(Reply(250, "2.0.0", "delivered to maildir"))
    places = ("local", "local", "local", Recipient(1, ALICE), "", "local")
    log.attempt(ident, *places, 1.0, 2.0, 3.0, DELIVERED, sent)
    log.close()
    return ident


def test_trace_joins_the_log_and_the_queue(mail: str, run) -> None:
    status, out, _ = run("trace", mail)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{mail}, arrived ")
    assert any("queued from <alice@example.test>, 14 octets" in line for line in lines)
    assert any("delivered alice@example.test on local" in line for line in lines)
    assert "bob@far.example waits in queue smtp" in lines[-1] and "timed out" in lines[-1]
    status, out, _ = run("trace", "--json", mail)
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert sorted(events[:2]) == ["attempt", "queued"] and events[2:] == ["waiting"]


@pytest.mark.parametrize("ident", ["0", "../../etc/passwd", "0000000000000000"])
def test_trace_of_what_is_unknown_exits_1(ident: str, run) -> None:
    status, out, err = run("trace", ident)
    assert (status, out) == (1, "") and "no trace of" in err


def test_why_names_state_time_and_reason(mail: str, run) -> None:
    for subject in (mail, "bob@far.example"):
        status, out, _ = run("why", subject)
        assert status == 0
        assert out.startswith(f"{mail}: bob@far.example waits in queue smtp")
        assert f"because {BUSY.reply}" in out
    assert run("why", "carol@far.example")[0] == 1
    assert run("why", "neither")[0] == 64


def test_queue_lists_jobs_as_text_and_json(mail: str, run) -> None:
    assert run("queue")[1].startswith(f"{mail} smtp smtp far.example bob@far.example deferred due")
    assert json.loads(run("queue", "--json")[1])["id"] == mail
    assert run("queue", "--queue", "local")[1] == ""


def test_tail_shows_the_last_lines_in_words_or_as_they_are(mail: str, run) -> None:
    status, out, _ = run("tail", "--once", "-n", "1")
    assert status == 0 and f"{mail} delivered alice@example.test" in out
    status, out, _ = run("tail", "--once", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [mail, mail]


def test_status_is_text_or_json(mail: str, run) -> None:
    status, out, _ = run("status")
    assert status == 0 and "queue     smtp: 1 job(s)" in out
    kinds = [json.loads(line)["kind"] for line in run("status", "--json")[1].splitlines()]
    assert kinds == ["load", "intake", "queue", "queue"]


def test_ctrl_c_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert cli._run(interrupted) == 130


def test_commands_are_short() -> None:
    source = Path(cli.__file__).read_text().split("\n@mta.command")[1:]
    for part in source:
        body = part.partition('"""\n')[2].split("\n\n\n")[0].split("\n")
        assert len([line for line in body if line.strip()]) <= 10
