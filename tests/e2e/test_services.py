"""The init script as root, and the systemd units: start, kill, reload, stop; nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.house import BIN, LOCAL, TREE, House, answers, refused_port, wait

ETC = TREE / "etc"
SCRIPT = ETC / "init.d" / "posthouse"
UNITS = ETC / "systemd"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an init script is root's")
has_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
SINK = "{name: sink, program: pipe, domains: [sink.test], command: [/bin/cat]}"


class Init:
    """The init script, with the settings of one house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.defaults = house.root / "default"
        self.set()

    def set(self, *more: str) -> None:
        lines = (f"MTA={BIN / 'mta'}", f"MTA_CONFIG={self.house.config}", "STOP_WAIT=40", *more)
        self.defaults.write_text("\n".join(lines) + "\n")

    def __call__(self, *words: str) -> tuple[int, str]:
        # The environment is init's: nothing of ours, but for what marks our processes.
        environment = {
            "PATH": "/sbin:/usr/sbin:/bin:/usr/bin",
            "POSTHOUSE_DEFAULTS": str(self.defaults),
            "SPT_NOENV": "1",
        }
        ran = subprocess.run(
            [shutil.which("dash") or "/bin/sh", str(SCRIPT), *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def table(self) -> dict[str, list[str]]:
        rows = [line.split("\t") for line in self("status")[1].splitlines()]
        return {row[0]: row[1:] for row in rows}


def _init(new_house: Callable[..., House]) -> tuple[Init, int]:
    port = refused_port()
    daemons = ("smtpd --workers 1", "deliver -b -clocal", "deliver -b -l15 -s -T300 -csink")
    more = f'listen: [{{address: "127.0.0.1:{port}", service: mx}}]\n'
    return Init(new_house(channels=(LOCAL, SINK), daemons=daemons, more=more)), port


@root_only
def test_the_init_script_starts_shows_reloads_and_stops_every_line(
    new_house: Callable[..., House],
) -> None:
    init, port = _init(new_house)
    assert init("status")[0] == 3
    status, said = init("start")
    assert status == 0, said
    assert answers(port), "start returns when all serve"
    assert init("status")[0] == 0
    before = init.table()
    assert list(before) == ["smtpd1", "deliver1", "deliver2"]
    assert {row[0] for row in before.values()} == {"running"}
    assert init("start")[0] == 0 and init.table() == before, "what runs is not started twice"
    _kill_one(init, before)
    status, said = init("reload")
    assert status == 0 and said.count("told to read") == 3
    assert init("status")[0] == 0, "nobody dies of a reload"
    status, said = init("stop")
    assert status == 0 and said.count("stopped") == 3
    assert init("status")[0] == 3
    assert init("stop")[0] == 0, "what does not run is stopped"
    assert not init.house.processes(), "nothing is left"
    assert not answers(port)


def _kill_one(init: Init, before: dict[str, list[str]]) -> None:
    """kill -9 one: status shows it, start starts it and no other."""
    os.kill(int(before["deliver2"][1]), signal.SIGKILL)
    wait(lambda: init("status", "deliver2")[0] == 1)
    assert init("status")[0] == 1
    assert init("status", "deliver1", "smtpd")[0] == 0
    assert init.table()["deliver2"][:2] == ["dead", "-"]
    assert init("start", "deliver2")[0] == 0
    after = init.table()
    assert after["deliver2"][0] == "running"
    assert {name: after[name] for name in ("smtpd1", "deliver1")} == {
        name: before[name] for name in ("smtpd1", "deliver1")
    }


@root_only
def test_one_line_is_restarted_without_the_others(new_house: Callable[..., House]) -> None:
    init, _ = _init(new_house)
    assert init("start", "deliver")[0] == 0
    before = init.table()
    assert before["smtpd1"][0] == "stopped" and init("status")[0] == 3
    assert init("restart", "deliver1")[0] == 0
    after = init.table()
    assert after["deliver1"][1] != before["deliver1"][1]
    assert after["deliver2"] == before["deliver2"]
    assert init("try-restart", "smtpd")[0] == 0
    assert init.table()["smtpd1"][0] == "stopped", "what did not run is not started by it"
    assert init("stop")[0] == 0


@root_only
def test_a_wrong_configuration_stops_and_reloads_nobody(new_house: Callable[..., House]) -> None:
    init, port = _init(new_house)
    assert init("start")[0] == 0
    before = init.table()
    good = init.house.config.read_text()
    init.house.config.write_text(good.replace("-csink", "-csnik"))
    for action in ("reload", "force-reload", "restart"):
        status, said = init(action)
        assert status == 6 and "snik" in said
    init.house.config.write_text("hostname: [\n")
    assert init("restart")[0] == init("reload")[0] == init("start")[0] == 6
    init.house.config.write_text(good)
    assert init.table() == before and answers(port)
    assert init("stop")[0] == 0


@root_only
def test_what_cannot_serve_fails_the_start_and_says_why(new_house: Callable[..., House]) -> None:
    init, port = _init(new_house)
    text = init.house.config.read_text()
    init.house.config.write_text(text.replace(f"127.0.0.1:{port}", "192.0.2.1:25"))
    status, said = init("start")
    assert status == 1
    assert "smtpd1 ended with exit status 78: smtpd: cannot listen on 192.0.2.1:25" in said
    assert init("status", "smtpd1")[0] == 1 and init("status", "deliver")[0] == 0
    assert init("stop")[0] == 0


def _skip_unless_nobody_can_run_python() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    words = ["setpriv", "--reuid=nobody", "--regid=65534", "--init-groups", sys.executable]
    ran = subprocess.run([*words, "-c", program], cwd="/", capture_output=True, check=False)
    if ran.returncode != 0:
        pytest.skip("needs an interpreter that other users than root can run")


@root_only
def test_the_daemons_run_as_the_user_of_the_defaults(new_house: Callable[..., House]) -> None:
    _skip_unless_nobody_can_run_python()
    init, _ = _init(new_house)
    runtime = Path("/run") / f"posthouse-test-{os.getpid()}"
    for folder in (init.house.root, *init.house.root.parents[:-1]):
        mode = stat.S_IMODE(folder.stat().st_mode)
        folder.chmod(mode | 0o055 if str(folder).count("/") > 1 else mode)
    shutil.chown(init.house.root, "nobody")
    text = init.house.config.read_text()
    init.house.config.write_text(text.replace("runtime: run/", f"runtime: {runtime}"))
    init.set("POSTHOUSE_USER=nobody", f"POSTHOUSE_RUNTIME={runtime}")
    try:
        status, said = init("start")
        assert status == 0, said
        owners = {Path("/proc", row[1]).stat().st_uid for row in init.table().values()}
        assert owners == {runtime.stat().st_uid} and 0 not in owners
        assert init("stop")[0] == 0
    finally:
        init("stop")
        shutil.rmtree(runtime, ignore_errors=True)


def test_the_script_has_lsb_s_statuses_for_what_goes_wrong(new_house: Callable[..., House]) -> None:
    init, _ = _init(new_house)
    assert init()[0] == init("fly")[0] == init("status", "../x")[0] == 2
    assert init("start", "deliver9")[0] == 2
    assert init("status", "deliver9")[0] == 4
    assert init("reload")[0] == 7, "nothing runs that could be told"
    init.set("MTA=/nowhere/mta")
    assert init("start")[0] == 5 and init("stop")[0] == 0 and init("status")[0] == 4


def test_the_script_has_a_whole_lsb_header_and_is_plain_sh() -> None:
    text = SCRIPT.read_text()
    assert text.startswith("#!/bin/sh\n### BEGIN INIT INFO\n") and os.access(SCRIPT, os.X_OK)
    header = text.partition("### END INIT INFO")[0]
    for key in ("Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop"):
        assert re.search(rf"(?m)^# {key}: +\S", header), key
    for shell in filter(None, map(shutil.which, ("dash", "sh", "bash"))):
        for script in (SCRIPT, UNITS / "posthouse-generator"):
            subprocess.run([shell, "-n", str(script)], check=True)


def _installed(root: Path, house: House) -> Path:
    """Put the units where systemd would find them, with our programs' places in them."""
    folder = root / "units"
    folder.mkdir()
    for unit in UNITS.glob("posthouse*.*"):
        text = unit.read_text().replace("/usr/local/bin/", f"{BIN}/")
        text = text.replace("EnvironmentFile=-/etc/default/posthouse", "")
        (folder / unit.name).write_text(text)
    return folder


@has_analyze
def test_systemd_finds_nothing_wrong_with_the_units(
    new_house: Callable[..., House], tmp_path: Path
) -> None:
    folder = _installed(tmp_path, _init(new_house)[0].house)
    (folder / "posthouse-deliver@2.service").symlink_to(folder / "posthouse-deliver@.service")
    units = [str(path) for path in sorted(folder.iterdir()) if "@." not in path.name]
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in ran.stderr.splitlines() if "posthouse" in line]
    assert not ours, ran.stderr


@has_analyze
@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("posthouse-smtpd.service", 2.5),
        ("posthouse-cleanque.service", 2.5),
        ("posthouse-deliver@2.service", 8.0),
    ],
)
def test_the_units_are_as_closed_as_their_work_allows(
    unit: str, most: float, new_house: Callable[..., House], tmp_path: Path
) -> None:
    folder = _installed(tmp_path, _init(new_house)[0].house)
    (folder / "posthouse-deliver@2.service").symlink_to(folder / "posthouse-deliver@.service")
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(folder / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", ran.stdout)
    assert found is not None, ran.stdout + ran.stderr
    assert float(found[1]) <= most, ran.stdout


def test_the_generator_wants_one_unit_for_each_deliver(
    new_house: Callable[..., House], tmp_path: Path
) -> None:
    init, _ = _init(new_house)

    def generated(folder: str) -> set[str]:
        subprocess.run(
            ["/bin/sh", str(UNITS / "posthouse-generator"), str(tmp_path / folder), "x", "y"],
            env={"PATH": "/usr/bin:/bin", "POSTHOUSE_DEFAULTS": str(init.defaults)},
            check=True,
        )
        wants = tmp_path / folder / "posthouse.target.wants"
        return {path.name for path in wants.iterdir()} if wants.exists() else set()

    assert generated("a") == {"posthouse-deliver@1.service", "posthouse-deliver@2.service"}
    init.house.config.write_text("hostname: [\n")
    assert generated("b") == set(), "a wrong configuration stops no boot"


def test_a_unit_s_command_becomes_the_daemon_and_is_seen(new_house: Callable[..., House]) -> None:
    """What ExecStart= runs: no process more than the daemon's, and `mta daemons` knows it."""
    init, _ = _init(new_house)
    house = init.house
    process = house.start("mta", "daemons", "--run", "deliver2")
    wait(lambda: init.table()["deliver2"][:2] == ["running", str(process.pid)])
    again = house.run("mta", "daemons", "--run", "deliver2")
    assert again.returncode == 75 and "deliver2 runs already" in again.stdout
    house.await_sweeps("sink")  # before that a signal just ends it
    process.terminate()
    assert process.wait(40) == 0


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="systemd-socket-activate is not installed",
)
def test_sockets_that_systemd_bound_reach_the_listener(new_house: Callable[..., House]) -> None:
    init, port = _init(new_house)
    house = init.house
    activate = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--setenv=MTA_CONFIG"]
    process = subprocess.Popen(
        [*activate, *house.command("mta", "daemons", "--run", "smtpd1")],
        env=house.environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(lambda: answers(port))  # the first connection starts it, and is served by it
        wait(lambda: init.table()["smtpd1"][:2] == ["running", str(process.pid)])
        wait(lambda: _greets(port))
    finally:
        process.terminate()
        assert process.wait(40) == 0


def _greets(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return connection.recv(100).startswith(b"220 ")


@root_only
def test_a_listener_that_left_root_behind_shares_all_with_delivers_that_did_not(
    new_house: Callable[..., House],
) -> None:
    init, port = _init(new_house)
    house = init.house
    for folder in (house.root, *house.root.parents[:-2]):
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o055)
    for name in ("spool", "run", "log"):
        (house.root / name).mkdir()
        shutil.chown(house.root / name, "nobody")
    house.config.write_text(
        house.config.read_text() + "smtpd: {user: nobody}\nrelay_from: [127.0.0.0/8]\n"
    )
    assert init("start", "deliver")[0] == 0, "root founds the spool"
    status, said = init("start", "smtpd")
    assert status == 0, said
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("a@far.test", ["any@sink.test"], "Subject: x\r\n\r\nhello\r\n")
    wait(lambda: house.events("removed"))
    assert {event["process"] for event in house.events("started")} >= {"smtpd", "deliver"}
    assert init("stop")[0] == 0
