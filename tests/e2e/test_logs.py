"""Postfix's own log readers understand our text log."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mta.machine.log import Log
from mta.types import NULL_PATH, Mailbox, Outcome, Recipient, Reply
from tests.e2e.house import tool, tool_environment

ALICE, BOB = Mailbox("alice", "example.test"), Mailbox("bob", "example.org")
NOW = 1_795_348_800.0


def write_log(directory: Path) -> Path:
    """Log two messages in, one delivered after a deferral, one failed and its DSN delivered."""
    log = Log(str(directory), ("postfix",), "deliver", clock=lambda: NOW)
    sent = Outcome(Reply(250, "2.0.0", "Ok"))
    busy = Outcome(Reply(451, "4.4.1", "connect to mx.example.org: Connection refused"), "host")
    gone = Outcome(Reply(550, "5.1.1", "no such user"))

    def attempt(ident: str, to: Mailbox, relay: str, state: str, outcome: Outcome) -> None:
        program = "local" if relay == "local" else "smtp"
        when = (NOW - 5, NOW - 1, NOW)
        log.attempt(ident, program, program, program, Recipient(0, to), to.domain, relay, *when,
                    state, outcome)  # type: ignore[arg-type]  # fmt: skip

    log.started("deliver", ["-b", "-csmtp"])
    log.queued("0FX1", ALICE, 4096, 1, "uid=1000")
    log.queued("0FX2", ALICE, 1000, 1, "client=mx.example.net[192.0.2.9]")
    attempt("0FX1", BOB, "", "deferred", busy)
    attempt("0FX1", BOB, "mx.example.org[192.0.2.1]:25", "delivered", sent)
    log.removed("0FX1")
    attempt(
        "0FX2", Mailbox("nobody", "example.org"), "mx.example.org[192.0.2.1]:25", "failed", gone
    )
    log.notified("0FX2", "0FX3", ALICE)
    log.queued("0FX3", NULL_PATH, 2000, 1, "dsn")
    attempt("0FX3", ALICE, "local", "delivered", sent)
    log.warning("spool is nearly full")
    log.close()
    return directory / "mail.log"


def test_pflogsumm_counts_what_happened(tmp_path: Path) -> None:
    pflogsumm = tool("usr/sbin/pflogsumm")
    if pflogsumm is None:
        pytest.skip("pflogsumm is not installed")
    ran = subprocess.run(
        ["perl", pflogsumm, "--syslog-name=posthouse", str(write_log(tmp_path))],
        env=tool_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "Can't locate" in ran.stderr:
        pytest.skip(f"pflogsumm lacks a Perl module: {ran.stderr.splitlines()[0]}")
    totals = dict(re.findall(r"(?m)^ +(\d+k?) +(\S.*?)(?: {2}\(.*| \(.*)?$", ran.stdout))
    assert ran.returncode == 0
    counted = {words: int(number) for number, words in re.findall(
        r"(?m)^ +(\d+) {2,3}(received|delivered|deferred|bounced|senders|recipients)\b", ran.stdout
    )}  # fmt: skip
    assert counted == {
        "received": 2, "delivered": 2, "deferred": 1, "bounced": 1, "senders": 1, "recipients": 2,
    }, (ran.stdout, totals)  # fmt: skip
    assert "connect to mx.example.org" not in ran.stderr
    assert "Connection refused" in ran.stdout and "no such user" in ran.stdout
    assert "spool is nearly full" in ran.stdout
    assert "Messages with no size data" not in ran.stdout


def test_logwatch_matches_every_line(tmp_path: Path) -> None:
    script = tool("usr/share/logwatch/scripts/services/postfix")
    if script is None:
        pytest.skip("logwatch is not installed")
    text = write_log(tmp_path).read_bytes()
    ran = subprocess.run(
        ["perl", script, "--syslog_name=posthouse", "--detail=10", "--long_queue_ids"],
        input=text,
        env={**tool_environment(), "LOGWATCH_DETAIL_LEVEL": "10"},
        capture_output=True,
        check=False,
    )
    out = ran.stdout.decode()
    if "Can't locate" in ran.stderr.decode():
        pytest.skip(f"logwatch lacks a Perl module: {ran.stderr.decode().splitlines()[0]}")
    assert ran.returncode == 0, ran.stderr.decode()
    assert re.search(r"2 +Delivered", out) or re.search(r"(?m)^ +\d+ +Sent via SMTP", out), out
    print(out)
