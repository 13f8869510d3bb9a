"""MA1 to MA3: the whole program, its workers and its signals."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mta.errors import EX_CONFIG, EX_USAGE
from mta.smtpd.master import count_workers
from mta.smtpd.program import main
from tests.smtpd.kit import Wire, short, write_site

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


PATIENCE = 40.0  # seconds: two workers start beside whatever else this machine does


class Program:
    """smtpd as a process, and what is known of it."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.port = port
        self.process = process

    def connect(self) -> Wire:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return Wire(socket.create_connection(("127.0.0.1", self.port), PATIENCE))
            except ConnectionRefusedError:
                assert time.monotonic() < end
                assert self.process.poll() is None, self.process.stderr

    def workers(self) -> list[int]:
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in Path(path).read_text().split()]

    def all_workers(self, count: int) -> list[int]:
        """Return the workers when there are ``count``: one may serve before the next begins."""
        end = time.monotonic() + PATIENCE
        while len(found := self.workers()) != count:
            assert time.monotonic() < end, found
            time.sleep(0.01)
        return found

    def until(self, what: str) -> None:
        """Wait until the log has ``what``."""
        end = time.monotonic() + PATIENCE
        while what not in self.log():
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)

    def log(self) -> str:
        path = self.folder / "log" / "mail.log"
        return path.read_text() if path.exists() else ""


@contextmanager
def running(folder: Path, *arguments: str, more: str = "", lmtp: bool = False) -> Iterator[Program]:
    port = free_port()
    listeners = f'  - {{address: "127.0.0.1:{port}", service: mx}}\n'
    if lmtp:
        listeners += f'  - {{address: "unix:{folder}/lmtp", service: lmtp}}\n'
    path = write_site(folder, listeners, more)
    command = [sys.executable, "-m", "mta.smtpd.program", "--config", str(path), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Program(folder, port, process)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def accepted(program: Program) -> str:
    wire = program.connect()
    wire.hello()
    said = wire.mail()
    wire.close()
    return short(said)


def test_ma1_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "1") as program:
        assert accepted(program) == "250 2.0.0"
        (before,) = program.workers()
        os.kill(before, signal.SIGKILL)
        assert accepted(program) == "250 2.0.0"  # waited in the socket meanwhile
        (after,) = program.workers()
        assert after != before
        program.until("worker 0 ended with signal 9")


def test_ma2_ma3_reload_replaces_the_workers_and_sigterm_ends_all(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2", lmtp=True) as program:
        assert accepted(program) == "250 2.0.0"
        old = program.all_workers(2)
        yaml = tmp_path / "mta.yaml"
        good = yaml.read_text()
        yaml.write_text("nonsense: [\n")
        program.process.send_signal(signal.SIGHUP)
        program.until("smtpd goes on as it was")
        assert program.workers() == old
        os.kill(old[0], signal.SIGKILL)
        program.until("ended with signal 9")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{tmp_path}/lmtp")
            lmtp = Wire(sock)
            assert "LMTP" in lmtp.reply()
            lmtp.close()
        idle = program.connect()
        idle.hello()
        yaml.write_text(good.replace("mx.example.test", "new.example.test"))
        program.process.send_signal(signal.SIGHUP)
        assert short(idle.reply()) == "421 4.3.2"  # once the new ones serve
        while "new.example.test" not in (last := program.connect()).reply():
            pass  # the other old worker has yet to hear of it
        assert short(last.say("EHLO client.test")) == "250"
        program.process.terminate()
        assert short(last.reply()) == "421 4.3.2"
        assert program.process.wait(20) == 0
        assert "killed" not in program.log()


def test_ma2_what_only_new_workers_find_wrong_leaves_the_old_ones_serving(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "1") as program:
        assert accepted(program) == "250 2.0.0"
        old = program.workers()
        yaml = tmp_path / "mta.yaml"
        yaml.write_text(yaml.read_text() + "auth: {passwords: nowhere}\n")
        program.process.send_signal(signal.SIGHUP)
        program.until("the new workers cannot serve")
        assert accepted(program) == "250 2.0.0"
        assert program.workers() == old
        os.kill(old[0], signal.SIGKILL)  # its successor cannot serve either, until it can
        program.until("ended with exit status 78; it starts again")
        (tmp_path / "nowhere").touch(0o600)
        (tmp_path / "nowhere").write_text("bob:{PLAIN}secret\n")
        assert accepted(program) == "250 2.0.0"


def test_ma2_what_workers_find_wrong_at_the_start_ends_it(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2", more="auth: {passwords: nowhere}\n") as program:
        assert program.process.wait(30) == EX_CONFIG


def test_ma2_what_cannot_be_bound_or_used_ends_it_with_a_reason(tmp_path: Path) -> None:
    with running(tmp_path) as program:
        program.connect().close()
        again = subprocess.run(
            [sys.executable, "-m", "mta.smtpd.program", "--config", str(tmp_path / "mta.yaml")],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=15,
        )
        assert again.returncode == EX_CONFIG
        assert "Address already in use" in again.stderr  # though SO_REUSEPORT would let it in


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--workers", "x"], EX_USAGE),
        (["operand"], EX_USAGE),
        (["--nonsense"], EX_USAGE),
        (["-V", "LOUD"], EX_USAGE),
        (["--config", "/nonexistent/mta.yaml"], EX_CONFIG),
        (["--help"], 0),
        (["--version"], 0),
    ],
)
def test_the_command_line(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    _, err = capsys.readouterr()
    assert bool(err) == bool(status)
    assert "Traceback" not in err


def test_ma2_nothing_to_listen_on_is_a_wrong_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_site(tmp_path, "  []\n")
    assert main(["--config", str(path)]) == EX_CONFIG
    assert "nothing to listen on" in capsys.readouterr().err


def test_as_many_workers_as_were_asked_for() -> None:
    assert count_workers(7, 2) == 7
    assert count_workers(0, 2) == 2
    assert count_workers(0, 64) == 4
    assert count_workers(0, 0) == 1


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that other users may enter, as those of tmp_path may not be."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_steps_down_and_its_workers_too(open_path: Path) -> None:
    tmp_path = open_path
    nobody = pwd.getpwnam("nobody").pw_uid
    for name in ("spool", "run", "log"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, nobody, -1)
    more = "smtpd: {user: nobody, workers: 1}\n"
    with running(tmp_path, more=more) as program:
        assert accepted(program) == "250 2.0.0"
        (worker,) = program.workers()
        for pid, saved in ((worker, nobody), (program.process.pid, 0)):
            status = Path(f"/proc/{pid}/status").read_text()
            uids = status.partition("Uid:")[2].split()[:4]
            assert uids[1] == uids[3] == str(nobody)
            assert uids[2] == str(saved)
        wire = program.connect()
        wire.hello()
        program.process.send_signal(signal.SIGHUP)
        assert short(wire.reply()) == "421 4.3.2"  # it can still start workers as root
        assert accepted(program) == "250 2.0.0"
        program.until("disconnect from")
        program.process.kill()
        while Path(f"/proc/{worker}").exists():
            time.sleep(0.01)
