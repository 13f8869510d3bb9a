"""Names of daemons, and their locks: one daemon a name, no signal for a stranger, none left."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import daemons, up
from mta.config.load import load_config
from mta.config.model import Config
from mta.daemons import DEAD, RUNNING, STOPPED, choose, look, named, start, stop
from mta.errors import UsageError
from mta.up import Command
from mta.values import replace
from tests.queued import YAML, new_config

# Stands for deliver: it says that it serves, and goes on until it is told to stop.
SERVES = """
import signal, sys
from mta.machine.notify import READY, tell
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
tell(READY)
while True:
    signal.pause()
"""
ENDS = "import sys; sys.exit('no such thing')"


def config_with(root: Path, *lines: str) -> Config:
    new_config(root)
    text = YAML.partition("daemons:")[0] + "daemons:\n" + "".join(f"  - {d}\n" for d in lines)
    (root / "mta.yaml").write_text(text)
    return load_config(str(root / "mta.yaml"))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have every line of the configuration run a small script."""
    real = daemons.commands

    def set_script(script: str) -> None:
        def replaced(config: Config) -> list[Command]:
            return [
                Command(c.text, c.line, (sys.executable, "-c", script, *c.text.split()))
                for c in real(config)
            ]

        monkeypatch.setattr(daemons, "commands", replaced)
        monkeypatch.setattr(up, "commands", replaced)

    yield set_script
    monkeypatch.undo()


@pytest.fixture
def config(tmp_path: Path, play: Callable[[str], None]) -> Iterator[Config]:
    config = config_with(tmp_path, "smtpd", "deliver -b -clocal", "deliver -b -csmtp")
    play(SERVES)
    yield config
    stop(config, (), lambda line: None, 0.1)


def states(config: Config) -> dict[str, str]:
    return {daemon.name: daemon.state for daemon in look(config)}


def pids(config: Config) -> dict[str, int]:
    return {daemon.name: daemon.pid for daemon in look(config) if daemon.state == RUNNING}


def alive(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return os.path.exists(f"/proc/{pid}")


@given(st.lists(st.sampled_from(["smtpd", "deliver -b", "deliver -b -csmtp"]), max_size=30))
def test_da1_every_line_has_one_name_and_no_two_the_same(lines: list[str]) -> None:
    found = named([Command(text, at, ()) for at, text in enumerate(lines)])
    assert [command.line for command in found.values()] == list(range(len(lines)))
    for name, command in found.items():
        word = command.text.split()[0]
        before = [text for text in lines[: command.line] if text.split()[0] == word]
        assert name == f"{word}{len(before) + 1}"


def test_a_command_alone_names_all_its_lines(config: Config) -> None:
    def chosen(*words: str) -> list[str]:
        return [daemon.name for daemon in choose(look(config), words)]

    assert chosen() == ["smtpd1", "deliver1", "deliver2"]
    assert chosen("deliver") == ["deliver1", "deliver2"]
    assert chosen("deliver2", "smtpd") == ["smtpd1", "deliver2"]
    for wrong in ("deliver3", "smtp", "", "deliver0", "deliver1x"):
        with pytest.raises(UsageError, match="no daemon is called"):
            chosen(wrong)


def test_what_is_started_runs_what_is_killed_is_dead_what_is_stopped_is_stopped(
    config: Config,
) -> None:
    said: list[str] = []
    assert set(states(config).values()) == {STOPPED}
    assert start(config, ["smtpd", "deliver1"], said.append)
    assert states(config) == {"smtpd1": RUNNING, "deliver1": RUNNING, "deliver2": STOPPED}
    killed = pids(config)["deliver1"]
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    assert states(config) == {"smtpd1": RUNNING, "deliver1": DEAD, "deliver2": STOPPED}
    assert start(config, (), said.append)
    assert set(states(config).values()) == {RUNNING}
    assert any("smtpd1 runs already" in line for line in said)
    stop(config, (), said.append)
    assert set(states(config).values()) == {STOPPED}


def test_da2_of_one_name_there_is_one_daemon_however_many_start_it(config: Config) -> None:
    outcomes: list[bool] = []
    # Descriptors of one process do not share a flock: threads stand for init scripts.
    racers = [
        threading.Thread(
            target=lambda: outcomes.append(start(config, ["deliver1"], lambda line: None))
        )
        for _ in range(4)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert outcomes == [True] * 4
    ours = str(config.path).encode()
    mine = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if b"MTA_CONFIG=" + ours in Path("/proc", entry, "environ").read_bytes():
                mine.append(int(entry))
        except OSError:
            continue
    assert mine == [pids(config)["deliver1"]]


def test_da3_no_signal_goes_to_a_process_that_does_not_hold_the_lock(config: Config) -> None:
    start(config, ["deliver1"], lambda line: None)
    own = pids(config)["deliver1"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (daemon,) = choose(look(config), ["deliver1"])
        os.kill(own, signal.SIGKILL)
        os.waitpid(own, 0)
        # The pid has gone to somebody else since we looked.
        Path(config.runtime, "daemon", "deliver1").write_text(f"{stranger.pid}\nx\n")
        held = daemons._Held(config, replace(daemon, pid=stranger.pid))
        held.signal(signal.SIGKILL)
        stop(config, (), lambda line: None, 0.1)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
        assert stranger.returncode == 0


def test_da4_what_does_not_stop_in_time_is_killed_and_none_is_left(
    tmp_path: Path, play: Callable[[str], None]
) -> None:
    config = config_with(tmp_path, "deliver -b stubborn", "deliver -b")
    play(SERVES)
    said: list[str] = []
    assert start(config, (), said.append)
    before = pids(config)
    stop(config, (), said.append, 0.2)
    assert not any(alive(pid) for pid in before.values())
    assert any("deliver1" in line and "killed" in line for line in said)
    assert not any("deliver2" in line and "killed" in line for line in said)
    assert set(states(config).values()) == {STOPPED}


def test_what_ends_at_once_is_a_failure_and_its_last_words_are_told(
    tmp_path: Path, play: Callable[[str], None]
) -> None:
    config = config_with(tmp_path, "deliver -b")
    play(ENDS)
    said: list[str] = []
    assert not start(config, (), said.append)
    assert said == ["deliver1 ended with exit status 1: no such thing"]
    assert states(config) == {"deliver1": DEAD}


def test_a_line_that_is_gone_is_shown_while_it_runs_and_stopped_with_the_rest(
    tmp_path: Path, config: Config
) -> None:
    assert start(config, (), lambda line: None)
    shorter = config_with(tmp_path, "smtpd", "deliver -b -csmtp")
    lines: list[str] = []
    assert daemons.command(shorter, "show", (), lines.append) == 0
    assert "runs as: deliver -b -clocal" in lines[1]
    assert lines[2].startswith("deliver2\trunning") and "no more in mta.yaml" in lines[2]
    stop(shorter, (), lambda line: None)
    assert not pids(config)


def test_the_status_of_show_is_that_of_an_init_script(config: Config) -> None:
    def shown(*names: str) -> int:
        return daemons.command(config, "show", names, lambda line: None)

    assert shown() == 3
    start(config, ["deliver"], lambda line: None)
    assert (shown(), shown("deliver"), shown("smtpd1")) == (3, 0, 3)
    pid = pids(config)["deliver2"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (shown(), shown("deliver1"), shown("deliver2")) == (1, 0, 1)


def test_a_link_in_the_place_of_a_daemons_file_is_not_followed(
    config: Config, tmp_path: Path
) -> None:
    folder = Path(config.runtime) / "daemon"
    folder.mkdir(parents=True)
    daemon = look(config)[0]
    (folder / daemon.name).symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="symbolic links"):
        start(config, [daemon.name], lambda line: None)
    (folder / daemon.name).unlink()
    assert not (tmp_path / "new").exists()


def test_a_number_that_is_no_pid_is_none(config: Config) -> None:
    daemon = look(config)[0]
    folder = Path(config.runtime) / "daemon"
    folder.mkdir(parents=True)
    (folder / daemon.name).write_text(f"{10**30}\nx\n")
    with open(folder / daemon.name, encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # somebody's, for whatever reason
        assert (look(config)[0].state, look(config)[0].pid) == (RUNNING, 0)
        stop(config, [daemon.name], lambda line: None, 0.1)


@pytest.fixture
def supervisor(config: Config) -> Iterator[up.Supervisor]:
    """What mta up is made of."""
    supervisor = up.Supervisor(config, SAID.append)
    SAID.clear()
    yield supervisor
    if supervisor._children:
        supervisor.stop()


SAID: list[str] = []


def test_what_mta_up_runs_is_running_and_is_not_started_a_second_time(
    config: Config, supervisor: up.Supervisor
) -> None:
    supervisor.step(0.0)
    assert states(config) == dict.fromkeys(("smtpd1", "deliver1", "deliver2"), RUNNING)
    mine = pids(config)
    assert all(f"(pid {pid})" in line for pid, line in zip(mine.values(), SAID[-3:], strict=True))
    said: list[str] = []
    assert start(config, (), said.append)
    assert pids(config) == mine
    assert said == [f"{name} runs already, pid {pid}" for name, pid in mine.items()]
    os.kill(mine["deliver1"], signal.SIGKILL)
    os.waitid(os.P_PID, mine["deliver1"], os.WEXITED | os.WNOWAIT)
    assert states(config)["deliver1"] == DEAD
    supervisor.stop()
    assert set(states(config).values()) == {STOPPED}
    assert not any(alive(pid) for pid in mine.values())


def test_mta_up_starts_what_runs_already_when_that_has_ended(
    config: Config, supervisor: up.Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "SHORTEST", 0.01)
    assert start(config, ["deliver1"], lambda line: None)
    first = pids(config)["deliver1"]
    for _ in range(3):
        supervisor.step(0.02)
    assert pids(config)["deliver1"] == first
    left = f"deliver1 runs already (pid {first}): started here when that ends"
    assert SAID.count(left) == 1 and not supervisor.hopeless
    stop(config, ["deliver1"], lambda line: None)
    for _ in range(50):
        if states(config)["deliver1"] == RUNNING:
            break
        supervisor.step(0.02)
    assert pids(config)["deliver1"] != first
    assert f"started deliver -b -clocal (pid {pids(config)['deliver1']})" in SAID[-1]


def test_what_another_started_goes_on_when_mta_up_is_stopped(
    config: Config, supervisor: up.Supervisor
) -> None:
    assert start(config, ["deliver1"], lambda line: None)
    first = pids(config)["deliver1"]
    supervisor.step(0.0)
    supervisor.stop()
    assert states(config) == {"smtpd1": STOPPED, "deliver1": RUNNING, "deliver2": STOPPED}
    assert pids(config) == {"deliver1": first}
