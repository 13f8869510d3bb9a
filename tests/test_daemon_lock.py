"""The lock of a daemon, held by real processes of a few lines, whose exec it passes through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.config.model import Config
from mta.daemon_lock import DEAD, RUNNING, STOPPED, RunningError, Seen, forget, see, sign, take
from tests.queued import new_config

WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return new_config(tmp_path)


def begin(config: Config, name: str, command: str) -> subprocess.Popen[bytes]:
    fd = take(config, name)
    try:
        return subprocess.Popen(
            WAITS,
            stdin=subprocess.PIPE,
            pass_fds=(fd,),
            preexec_fn=lambda: sign(fd, command),  # noqa: PLW1509  there are no threads
        )
    finally:
        os.close(fd)


ACTS = st.lists(st.sampled_from(["start", "kill", "end", "forget"]), max_size=5)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ACTS)
def test_dl1_a_lock_tells_what_runs_and_what_died(config: Config, acts: list[str]) -> None:
    forget(config, "deliver1")
    running: subprocess.Popen[bytes] | None = None
    right = Seen()
    for number, act in enumerate(acts):
        if act == "start" and running is None:
            running = begin(config, "deliver1", f"deliver -T{number}")
            right = Seen(RUNNING, running.pid, f"deliver -T{number}")
        elif act == "start":
            with pytest.raises(RunningError, match="deliver1 runs already"):
                take(config, "deliver1", 0.02)
        elif act == "forget":
            right = right if running is not None else Seen()
            forget(config, "deliver1") if running is None else None
        elif running is not None:
            running.kill() if act == "kill" else None
            running.communicate()
            running, right = None, Seen(DEAD, right.pid, right.command)
        assert see(config, "deliver1") == right
    if running is not None:
        running.communicate()


def test_dl1_who_takes_the_lock_is_not_taken_for_who_died(config: Config) -> None:
    died = begin(config, "deliver1", "deliver -b")
    died.communicate()
    assert see(config, "deliver1").state == DEAD
    fd = take(config, "deliver1")
    seen = see(config, "deliver1")
    os.close(fd)
    assert seen == Seen(RUNNING), "a signal would go to whoever has that pid by now"


def test_what_never_ran_leaves_no_file(config: Config) -> None:
    forget(config, "deliver1")
    assert see(config, "deliver1").state == STOPPED
    assert not os.path.exists(f"{config.runtime}/daemon/deliver1")


def test_what_is_forgotten_while_it_runs_goes_on(config: Config) -> None:
    running = begin(config, "deliver1", "deliver")
    forget(config, "deliver1")
    assert see(config, "deliver1") == Seen(RUNNING, running.pid, "deliver")
    running.communicate()
