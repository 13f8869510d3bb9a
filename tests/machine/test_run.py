from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from mta.machine import run
from mta.machine.run import Account, Ran, Running, account, fork, start
from mta.machine.sysexits import SYSEXITS, exit_outcome

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def wait(running: Running) -> Ran:
    while True:
        left = max(0.0, running.deadline - time.monotonic())
        select.select(running.descriptors, [], [], left)
        ran = running.step(time.monotonic())
        if ran is not None:
            return ran


def sh(code: str, seconds: float = 60.0, who: Account | None = None) -> Ran:
    argv = ["/bin/sh", "-c", code]
    with open("/dev/null", "rb") as empty:
        return wait(
            start(
                argv,
                empty.fileno(),
                ENVIRONMENT,
                time.monotonic() + seconds,
                who=who,
            )
        )


def test_status_and_both_outputs_are_kept() -> None:
    ran = sh("echo one; echo two >&2; exit 75")
    assert (ran.status, ran.output, ran.timed_out) == (75, b"one\ntwo\n", False)
    assert ran.last_line == "two"


def test_x1_a_program_is_ended_at_its_deadline() -> None:
    ran = sh("echo begun; sleep 1000; echo never", seconds=0.3)
    assert ran.timed_out
    assert ran.output == b"begun\n"


def test_x1_who_ignores_the_term_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GRACE", 0.2)
    ran = sh("trap '' TERM; echo begun; while :; do sleep 0.05; done", seconds=0.5)
    assert (ran.status, ran.timed_out) == (-9, True)


def test_x1_the_whole_group_is_ended(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    ran = sh(f"(trap '' TERM; sleep 1000) & echo $! > {pids}; sleep 1000", seconds=0.5)
    assert ran.timed_out
    child = int(pids.read_text())
    for _ in range(1000):  # killed, but init may not have reaped it yet
        try:
            state = Path(f"/proc/{child}/stat").read_text().split()[2]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        os.sched_yield()
    pytest.fail("a child of the command is alive")


def test_x2_only_the_end_of_much_output_is_kept() -> None:
    ran = sh("yes | head -c 1000000; echo last")
    assert len(ran.output) == run.OUTPUT_LIMIT
    assert ran.last_line == "last"


def test_x3_a_child_has_only_its_three_descriptors(tmp_path: Path) -> None:
    with open(tmp_path / "open", "wb") as file:
        os.set_inheritable(file.fileno(), True)
        ran = sh("ls /proc/self/fd")
    assert ran.output.split() == [b"0", b"1", b"2", b"3"]  # 3 is what ls reads


def test_a_background_child_does_not_hold_us_up() -> None:
    ran = sh("sleep 30 & echo done")
    assert (ran.status, ran.output) == (0, b"done\n")


def test_a_program_that_cannot_start_is_an_error() -> None:
    with open("/dev/null", "rb") as empty, pytest.raises(FileNotFoundError):
        start(["/no/such/program"], empty.fileno(), {}, time.monotonic() + 5)


def test_work_in_a_child_gives_its_result_or_its_error() -> None:
    def fail() -> bytes:
        raise ValueError("it broke")

    assert wait(fork(lambda: b"well", (), time.monotonic() + 60, None)).output == b"well"
    ran = wait(fork(fail, (), time.monotonic() + 60, None))
    assert (ran.status, ran.output) == (75, b"ValueError: it broke")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_root_becomes_another_for_ever() -> None:
    nobody = account("nobody")
    assert nobody is not None

    def look() -> bytes:
        try:
            os.setuid(0)
        except PermissionError:
            return f"{os.getresuid()} {os.getresgid()} {os.getgroups()}".encode()
        return b"root again"

    ids = f"{(nobody.uid,) * 3} {(nobody.gid,) * 3} {sorted(nobody.groups)}".encode()
    assert wait(fork(look, (), time.monotonic() + 60, nobody)).output == ids
    assert sh("id -u; id -G", who=nobody).output == b"%d\n%d\n" % (nobody.uid, nobody.gid)


def test_there_is_no_account_of_a_strange_name() -> None:
    assert account("no such user") is None
    assert account("a\0b") is None


@pytest.mark.parametrize("status", range(256))
def test_every_exit_status_means_something(status: int) -> None:
    reply = exit_outcome(Ran(status, b"said so\n", False), "prog").reply
    code, enhanced, _ = SYSEXITS.get(status, (451, "4.3.0", ""))
    assert (reply.code, reply.status) == (code, enhanced)
    assert reply.text.endswith(": said so")


def test_signals_and_time_limits_are_deferrals() -> None:
    killed = exit_outcome(Ran(-9, b"", False), "prog").reply
    late = exit_outcome(Ran(0, b"", True), "prog").reply
    assert (killed.code, killed.text) == (451, "ended by signal 9 (prog)")
    assert (late.code, late.text) == (451, "time limit exceeded (prog)")
