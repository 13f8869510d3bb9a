"""Servers that refuse, vanish or lack extensions at each step; each case has one right outcome.

Postfix's smtp-sink plays them.  What was not refused for good waits; what was comes back; what
a server does after it took the message changes nothing.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.house import LOCAL, House, answers, refused_port, tool, tool_environment, wait

STEPS = {"connect": "CONNECT", "mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "dot": "."}
AFTER = {"quit": "QUIT", "rset": "RSET"}
BODY = b"hello\n.\nlast\n"

# Case: options of smtp-sink, and what becomes of the message.
CASES: dict[str, tuple[list[str], str]] = {
    "well": ([], "delivered"),
    "helo": (["-e"], "delivered"),
    "pix": (["-P"], "delivered"),
    "no-pipelining": (["-p"], "delivered"),
    "no-8bitmime": (["-8"], "delivered"),
    "no-dsn": (["-N"], "delivered"),
    "no-codes": (["-E"], "delivered"),
    "slow-reader": (["-H", "1"], "delivered"),
    "aborted": (["-A", "0"], "failed"),
    "ehlo-hard": (["-f", "EHLO"], "delivered"),  # RFC 5321 s3.2: then HELO
    "ehlo-soft": (["-r", "EHLO"], "deferred"),
    "ehlo-421": (["-Q", "EHLO"], "deferred"),
    **{f"{name}-gone": (["-q", verb], "deferred") for name, verb in STEPS.items()},
    **{f"{name}-421": (["-Q", verb], "deferred") for name, verb in STEPS.items()},
    **{f"{name}-soft": (["-r", verb], "deferred") for name, verb in STEPS.items()},
    **{f"{name}-hard": (["-f", verb], "failed") for name, verb in STEPS.items()},
    "connect-hard": (["-f", "CONNECT"], "deferred"),  # it speaks of the server, not of the mail
    **{f"{name}-gone": (["-q", verb], "delivered") for name, verb in AFTER.items()},
    **{f"{name}-421": (["-Q", verb], "delivered") for name, verb in AFTER.items()},
    **{f"{name}-hard": (["-f", verb], "delivered") for name, verb in AFTER.items()},
}


class Sinks:
    """One smtp-sink for each case, and a house that sends case.test to it."""

    def __init__(self, root: Path, new_house: Callable[..., House]) -> None:
        program = tool("usr/sbin/smtp-sink")
        if program is None:
            pytest.skip("smtp-sink is not here (Debian: postfix)")
        user = ["-u", pwd.getpwuid(os.geteuid()).pw_name] if os.geteuid() == 0 else []
        self._running = []
        rows = []
        for case, (options, _) in CASES.items():
            port = refused_port()
            (root / case).mkdir()
            command = [program, *user, *options, "-d", f"{case}/%M."]
            command += [f"127.0.0.1:{port}", "100"]
            self._running.append(
                subprocess.Popen(
                    command, cwd=root, env=tool_environment(), stderr=subprocess.DEVNULL
                )
            )
            rows.append((f"{case}.test", port))
        wait(lambda: all(answers(port) for _, port in rows))
        self.root = root
        row = "{name: smtp, program: smtp, table: sinks, retry: {first: 1h}}"
        self.house = new_house([LOCAL, row], ["deliver -b -csmtp,local"], table=rows)
        self.house.start("mta", "up")

    def taken(self, case: str) -> list[bytes]:
        """Return the whole messages that the sink of a case has."""
        texts = [path.read_bytes() for path in (self.root / case).iterdir()]
        return [text for text in texts if text.endswith(BODY + b"\n")]

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def sinks(tmp_path_factory, new_shared_house) -> Iterator[Sinks]:
    def house(*arguments: object, table: list[tuple[str, int]]) -> House:
        made = new_shared_house(*arguments)
        lines = [f"{domain} 127.0.0.1:{port}\n" for domain, port in table]
        (made.root / "sinks").write_text("".join(lines))
        return made

    made = Sinks(tmp_path_factory.mktemp("sinks"), house)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def sent(sinks: Sinks) -> dict[str, str]:
    """Send one message to each server; return their ids by case."""
    text = (b"Subject: x\n\n" + BODY).replace(b"\n.", b"\n..")
    mail = [("alice@example.test", (f"x@{case}.test",), text) for case in CASES]
    return dict(zip(CASES, sinks.house.submit_many(iter(mail)), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_each_fault_has_its_outcome(sinks: Sinks, sent: dict[str, str], case: str) -> None:
    ident, (_, outcome) = sent[case], CASES[case]
    house = sinks.house
    tried = wait(lambda: [e for e in house.events("attempt") if e["id"] == ident])
    assert tried[0]["state"] == outcome, tried[0]
    assert len(tried) == 1
    if outcome == "delivered":
        wait(lambda: house.gone([ident]))
        assert len(sinks.taken(case)) == 1
    elif outcome == "deferred":
        assert str(tried[0]["code"])[0] == "4"
        assert len([job for job in house.jobs() if ident in job.name]) == 1
    else:
        wait(lambda: [e for e in house.events("notified") if e["id"] == ident])
        assert not sinks.taken(case) or case == "dot-hard"


def test_the_hosts_of_one_address_do_not_answer_for_each_other(
    sinks: Sinks, sent: dict[str, str]
) -> None:
    """All are 127.0.0.1: who is dead on one port is not on another."""
    sinks.house.submit(b"Subject: x\n\n" + BODY, "-falice@example.test", "again@well.test")
    wait(lambda: len(sinks.taken("well")) == 2)
