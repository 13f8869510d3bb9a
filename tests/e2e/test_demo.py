"""What a new user types: the demo ends 0 with the message in a Maildir; up serves, and stops."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.house import BIN, House, wait


def home(root: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MTA_", "XDG_"))}
    return {**kept, "HOME": str(root)}


def test_demo_writes_a_configuration_and_the_message_arrives(tmp_path: Path) -> None:
    command = [str(BIN / "mta"), "demo"]
    ran = subprocess.run(
        command, env=home(tmp_path), capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / ".config/mta/mta.yaml").exists()
    (message,) = (tmp_path / ".local/state/mta/mail").glob("*/new/*")
    assert b"Subject: It works\n" in message.read_bytes()
    assert "delivered" in ran.stdout and "It arrived" in ran.stdout
    again = subprocess.run(
        command, env=home(tmp_path), capture_output=True, text=True, timeout=100, check=False
    )
    assert again.returncode == 0 and "wrote" not in again.stdout
    assert len(list((tmp_path / ".local/state/mta/mail").glob("*/new/*"))) == 2


def test_up_follows_the_log_until_it_is_interrupted(new_house) -> None:
    house: House = new_house()
    up = house.start("mta", "up", "--try")
    wait(lambda: "The log follows" in house.output())
    ident = house.submit(b"Subject: second\n\nhello\n", "alice@example.test")
    wait(lambda: f"{ident} removed" in house.output())
    up.send_signal(signal.SIGINT)
    assert up.wait(40) == 0
    wait(lambda: not house.processes())
    assert len(house.maildir()) == 2
    assert "Traceback" not in house.output()


def test_up_starts_a_deliver_again_that_was_killed(new_house) -> None:
    house: House = new_house()
    house.start("mta", "up")

    def started() -> list[int]:
        events = house.events("started")
        return [event["pid"] for event in events if event["command"] == "deliver"]

    (first,) = wait(started)
    os.kill(first, signal.SIGKILL)
    wait(lambda: len(started()) == 2)
    ident = house.submit(b"Subject: after\n\nhello\n", "alice@example.test")
    wait(lambda: house.gone([ident]))


def test_nothing_outlives_a_killed_up(new_house) -> None:
    house: House = new_house()
    up = house.start("mta", "up")
    wait(lambda: house.events("started"))
    up.kill()
    up.wait()
    wait(lambda: not house.processes())


def test_a_wrong_daemon_is_a_configuration_error(new_house) -> None:
    house: House = new_house(daemons=["delivre -b"])
    ran = house.run("mta", "up")
    assert ran.returncode == 78
    assert ran.stderr.count("\n") == 1 and "mta.yaml:" in ran.stderr and "delivre" in ran.stderr
