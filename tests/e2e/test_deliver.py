"""deliver as a process: failures come back, programs die, signals end it, flags choose."""

from __future__ import annotations

import os
import signal
import stat
import sys
from email import message_from_bytes

import pytest

from tests.e2e.house import wait

pytestmark = pytest.mark.e2e

LOCAL = "{name: local, program: local, domains: $local}"
PIPE = "{name: pipe, program: pipe, domains: [pipe.test], command: [/bin/sh, -c, %r]}"
MESSAGE = b"From: alice@example.test\nSubject: of great weight\n\nhello\n"


def test_a_failure_comes_back_as_one_dsn_for_the_job(new_house):
    row = PIPE.replace("]}", "], max_recipients: 10}") % "exit 67"
    house = new_house(channels=(LOCAL, row))
    ident = house.submit(MESSAGE, "-f", "alice@example.test", "one@pipe.test", "two@pipe.test")
    ran = house.run("deliver")
    assert (ran.returncode, ran.stderr) == (0, "")
    (path,) = house.maildir("alice")
    octets = path.read_bytes()
    message = message_from_bytes(octets)
    assert message["Return-Path"] == "<>"
    assert message.get_content_type() == "multipart/report"
    _, status, header = message.get_payload()
    failed = [part["Final-Recipient"] for part in status.get_payload()[1:]]
    assert failed == ["rfc822; one@pipe.test", "rfc822; two@pipe.test"]
    assert "Subject: of great weight" in header.get_payload()
    assert house.jobs() == []
    (notified,) = house.events("notified")
    assert notified["id"] == ident


def test_deferred_mail_is_tried_by_hand_and_fails_when_it_expires(new_house):
    row = PIPE.replace("]}", "], fail_after: 1d}") % "exit 75"
    house = new_house(channels=(LOCAL, row))
    house.submit(MESSAGE, "-f", "alice@example.test", "one@pipe.test")
    assert "deferred: 4" in house.run("deliver", "-w").stdout
    assert len(house.jobs()) == 1
    house.config.write_text(house.config.read_text().replace("fail_after: 1d", "fail_after: 1s"))
    wait(lambda: "failed: 554 5.4.7 delivery time expired" in house.run("deliver", "-w").stdout)
    assert house.jobs() == []
    assert len(house.maildir("alice")) == 1


def test_a_program_that_dies_defers_its_jobs_and_a_pass_gives_it_up(new_house):
    house = new_house(channels=(LOCAL, "{name: odd, program: PROGRAM, domains: [odd.test]}"))
    program = house.root / "odd"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('out of luck')\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    house.config.write_text(house.config.read_text().replace("PROGRAM", str(program)))
    house.submit(MESSAGE, "-f", "alice@example.test", "one@odd.test", "bob@example.test")
    ran = house.run("deliver")
    assert ran.returncode == 75
    assert ran.stderr == "deliver: the program of channel odd does not run\n"
    assert len(house.maildir("bob")) == 1 and len(house.jobs()) == 1
    assert any("out of luck" in e["text"] for e in house.events("warning"))
    assert [e["exit"] for e in house.events("program_ended") if e["channel"] == "odd"] == [1] * 3


def test_sigterm_finishes_what_is_in_flight_and_hands_out_no_more(new_house):
    house = new_house(channels=(LOCAL, PIPE.replace("]}", "], concurrency: 2}") % "sleep 1"))
    house.submit_many(iter([("alice@example.test", ["one@pipe.test"], MESSAGE)] * 16))
    process = house.start("deliver", "-b")
    wait(lambda: house.events("attempt"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    states = [e["state"] for e in house.events("attempt")]
    assert set(states) == {"delivered"} and len(states) < 16
    assert len(house.jobs()) == 16 - len(states)
    assert house.events("stopped")
    assert house.processes() == []


def test_ages_and_names_choose(new_house):
    house = new_house(channels=(LOCAL,))
    first = house.submit(MESSAGE, "-f", "alice@example.test", "bob@example.test")
    second = house.submit(MESSAGE, "-f", "alice@example.test", "alice@example.test")
    assert house.run("deliver", "-o1").returncode == 0
    assert len(house.jobs()) == 2
    assert house.run("deliver", second, "-w").stdout.startswith(f"{second}.0 local")
    assert len(house.maildir("alice")) == 1 and len(house.maildir("bob")) == 0
    assert house.run("deliver", "-t1", "-s").returncode == 0
    assert len(house.maildir("bob")) == 1 and first != second


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["-cnosuch"], 78, "no channel is called 'nosuch'"),
        (["-q"], 64, "unknown flag -q"),
        (["-p"], 64, "no passive channels"),
        (["--config", os.devnull + "/none"], 78, "none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(new_house, words, status, reason):
    ran = new_house(channels=(LOCAL,)).run("deliver", *words)
    assert ran.returncode == status
    assert ran.stderr.startswith("deliver: ") and ran.stderr.count("\n") == 1
    assert reason in ran.stderr
