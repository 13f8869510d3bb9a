"""What up starts, and how often; the first configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import daemon_lock, demo, up
from mta.config import lint
from mta.config.load import load_config
from mta.errors import ConfigError
from mta.starter import Starter, find_starter, host_name, write
from mta.up import LONGEST, PATIENCE, SHORTEST, STEADY, Supervisor, commands, next_pause
from tests.queued import YAML, new_config


def config_with(root: Path, *daemons: str):
    new_config(root)
    text = YAML.partition("daemons:")[0] + "daemons:\n" + "".join(f"  - {d}\n" for d in daemons)
    (root / "mta.yaml").write_text(text)
    return load_config(str(root / "mta.yaml"))


def test_a_deliver_is_run_by_this_interpreter_with_its_flags(tmp_path: Path) -> None:
    (command,) = commands(new_config(tmp_path))
    assert command.argv == (sys.executable, "-m", "mta.deliver.program", "-b", "-clocal,smtp")


def test_a_listener_is_started_like_any_daemon(tmp_path: Path) -> None:
    listener, deliver = commands(config_with(tmp_path, "smtpd --workers 2", "deliver -b"))
    assert listener.argv == (sys.executable, "-m", "mta.smtpd.program", "--workers", "2")
    assert deliver.argv[-1] == "-b"


@pytest.mark.parametrize("daemons", [["delivre -b"], ["''"], ["deliver -b", "/bin/sh"]])
def test_what_is_no_daemon_is_a_configuration_error(tmp_path: Path, daemons: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"mta\.yaml:"):
        commands(config_with(tmp_path, *daemons))


@given(st.lists(st.floats(0, 2 * STEADY), max_size=30))
def test_u1_pauses_grow_to_the_longest_and_begin_anew_after_a_good_run(lives: list[float]) -> None:
    pause = 0.0
    for lived in lives:
        after = next_pause(pause, lived)
        assert SHORTEST <= after <= LONGEST
        if lived >= STEADY or not pause:
            assert after == SHORTEST
        else:
            assert after == min(2 * pause, LONGEST)
        pause = after


class Ended:
    """A child that has ended with ``status``."""

    pid = 4711

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status


@pytest.mark.parametrize(
    ("status", "again"), [(64, False), (78, False), (0, False), (1, True), (-9, True)]
)
def test_u2_only_what_may_help_is_started_again(tmp_path: Path, status: int, again: bool) -> None:
    said: list[str] = []
    supervisor = Supervisor(new_config(tmp_path), said.append)
    try:
        (child,) = supervisor._children
        running = up.replace(child, process=Ended(status), since=100.0)
        ended = supervisor._advance(running, 105.0)
        assert ended.process is None
        assert ended.due == (105.0 + SHORTEST if again else -1.0)
        supervisor._children = [ended]
        assert supervisor.hopeless is not again
        assert supervisor.status == (78 if status in (64, 78) else 0)
        assert ("not started again" in said[-1]) is not again
    finally:
        supervisor._children = []
        supervisor.stop()


class Stubborn:
    """A child that ends only when it is killed."""

    pid = 4711

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waits: list[float | None] = []

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")

    def wait(self, timeout: float | None = None) -> int:
        self.waits.append(timeout)
        if "kill" not in self.told:
            raise subprocess.TimeoutExpired("deliver", timeout or 0.0)
        return -9


def test_u3_what_does_not_stop_within_its_time_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(new_config(tmp_path), said.append)
    child = Stubborn()
    supervisor._children = [up.replace(supervisor._children[0], process=child)]
    supervisor.stop()
    assert child.told == ["terminate", "kill"]
    assert child.waits[0] is not None and child.waits[0] <= PATIENCE
    assert supervisor.hopeless and "did not stop: killed" in said[-1]


def test_u4_what_runs_already_is_left_alone_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "SHORTEST", 0.01)
    sleeps = up.Command("deliver -b", 1, (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(up, "commands", lambda config: [sleeps])
    said: list[str] = []
    config = new_config(tmp_path)
    lock = daemon_lock.take(config, "deliver1")
    os.write(lock, b"4711\ndeliver -b\n")
    supervisor = Supervisor(config, said.append)
    for _ in range(3):
        supervisor.step(0.02)
    assert said[1:] == ["deliver1 runs already (pid 4711): started here when that ends"]
    assert not supervisor.hopeless
    os.close(lock)
    while len(said) < 3:
        supervisor.step(0.02)
    seen = daemon_lock.see(config, "deliver1")
    assert (seen.state, said[2]) == ("running", f"started deliver -b (pid {seen.pid})")
    supervisor.stop()
    assert daemon_lock.see(config, "deliver1").state == "stopped"


def test_the_mail_root_is_made_and_named(tmp_path: Path) -> None:
    config = new_config(tmp_path)
    assert up.make_mail_root(config) == f"{tmp_path}/mail/"
    assert (tmp_path / "mail").is_dir()
    assert up.make_mail_root(config) == ""


@given(st.text(max_size=300))
def test_a_host_name_is_made_of_any_node_name(nodename: str) -> None:
    name = host_name(nodename)
    labels = name.split(".")
    assert len(labels) > 1
    assert all(1 <= len(label) <= 63 and label.strip("-") == label for label in labels)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


@pytest.mark.parametrize("user", ["postmaster", "alice", "al_ice-2"])
def test_the_first_configuration_is_valid_and_serves_one_user(tmp_path: Path, user: str) -> None:
    starter = Starter(
        str(tmp_path / "c" / "mta.yaml"), str(tmp_path / "s t"), user, "vm.localdomain"
    )
    config = load_config(write(starter))
    assert config.local.users == (user,)
    assert config.local.mailbox == str(tmp_path / "s t" / "mail" / "{user}")
    assert not [finding for finding in lint.check(config) if finding.severity == "error"]
    assert demo.local_address(config).endswith("@vm.localdomain")


def test_a_user_without_account_or_with_an_odd_name_reads_postmasters_mail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("pwd.getpwuid", {1000: SimpleNamespace(pw_name="alice")}.__getitem__)
    assert find_starter().user == "alice"
    monkeypatch.setattr("pwd.getpwuid", {1000: SimpleNamespace(pw_name="A. Liz")}.__getitem__)
    assert find_starter().user == "postmaster"
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert find_starter().user == "postmaster"


def test_nothing_that_exists_is_written_over(tmp_path: Path) -> None:
    starter = Starter(str(tmp_path / "mta.yaml"), str(tmp_path), "alice", "vm.localdomain")
    (tmp_path / "mta.yaml").write_text("mine")
    write(starter)
    assert (tmp_path / "mta.yaml").read_text() == "mine"


def test_configure_writes_only_where_nothing_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MTA_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(demo, "SYSTEM_PATH", str(tmp_path / "etc.yaml"))
    config, written = demo.configure(None, load_config)
    assert written and config.path == str(tmp_path / ".config/mta/mta.yaml")
    assert demo.configure(None, load_config) == (config, False)
    monkeypatch.setenv("MTA_CONFIG", str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError):
        demo.configure(None, load_config)
    assert not os.path.exists(tmp_path / "none.yaml")
