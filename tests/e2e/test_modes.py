"""Delivery modes and places with real processes: who is woken, who waits for a sweep."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.house import House, refused_port, wait

MESSAGE = b"Subject: mode\n\nhello\n"
MAIL = "bob@example.test", ["alice@example.test"], MESSAGE


def local(mode: str, more: str = "") -> str:
    return f"{{name: local, program: local, domains: $local, mode: {mode}{more}}}"


def running(house: House) -> None:
    """Start the deliver, and wait until it has swept and its intake listens."""
    house.start("deliver", "-b", "-clocal", "-T3600")
    house.await_sweeps("local")
    first = house.submit(MESSAGE, "--mode", "background", "alice@example.test")
    wait(lambda: house.gone([first]))


def taken_in(house: House, ident: str) -> bool:
    return any(ident in path.name for path in house.jobs())


def test_mail_of_mode_queue_waits_for_a_sweep(new_house: Callable[..., House]) -> None:
    house = new_house(channels=(local("queue"),))
    running(house)
    quiet = house.submit(MESSAGE, "alice@example.test")
    wait(lambda: taken_in(house, quiet))
    loud = house.submit(MESSAGE, "--mode", "background", "alice@example.test")
    wait(lambda: house.gone([loud]))
    assert taken_in(house, quiet), "nobody was told of it"
    assert house.run("deliver", "-clocal").returncode == 0
    assert house.gone([quiet])


@pytest.mark.parametrize("option", ["-odq", "-odd"])
def test_sendmail_s_wish_goes_before_the_channel_s(
    new_house: Callable[..., House], option: str
) -> None:
    house = new_house(channels=(local("background"),))
    running(house)
    ran = house.run("sendmail", "-v", option, "alice", input=MESSAGE, text=False)
    quiet = ran.stdout.decode().partition("(")[2].partition(")")[0]
    wait(lambda: taken_in(house, quiet))
    loud = house.submit(MESSAGE, "alice@example.test")
    wait(lambda: house.gone([loud]))
    assert taken_in(house, quiet)


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "beside a daemon"])
@pytest.mark.parametrize("by_channel", [False, True], ids=["asked for", "by the channel"])
def test_an_interactive_message_is_there_when_submit_returns(
    new_house: Callable[..., House], daemon: bool, by_channel: bool
) -> None:
    house = new_house(channels=(local("interactive" if by_channel else "background"),))
    if daemon:
        running(house)
    before = len(house.maildir())
    options = ["-v"] if by_channel else ["-v", "--mode", "interactive"]
    ran = house.run("submit", *options, "alice@example.test", input=MESSAGE, text=False)
    assert ran.returncode == 0
    assert len(house.maildir()) == before + 1, "delivered before it returned"
    said = ran.stdout.decode()
    assert "Submitted & queued" in said and "alice@example.test" in said.partition("\n")[2]


def test_an_attempt_that_fails_changes_no_status_and_leaves_the_message(
    new_house: Callable[..., House],
) -> None:
    relay = f"127.0.0.1:{refused_port()}"
    far = f'{{name: far, program: smtp, domains: "*", relay: ["{relay}"], mode: interactive}}'
    house = new_house(channels=(local("background"), far))
    ran = house.run("submit", "someone@far.example", input="Subject: x\n\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert len(house.jobs()) == 1 and len(house.events("attempt")) == 1


def _mounts(root: Path) -> list[Path]:
    """Return two directories on disks of their own, where root may mount them."""
    disks = [root / "disk1", root / "disk2"]
    for disk in disks:
        disk.mkdir()
    return disks


def _tmpfs(disk: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _unmount(disk: Path) -> bool:
    command = ["umount", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_jobs_lie_on_two_disks_and_wait_for_the_one_that_is_not_mounted(
    new_house: Callable[..., House], tmp_path: Path
) -> None:
    disks = _mounts(tmp_path)
    mounted = [disk for disk in disks if _tmpfs(disk)]
    if len(mounted) < 2:
        pytest.skip("needs to mount two tmpfs")
    paths = ", ".join(str(disk) for disk in disks)
    house = new_house(channels=(local("queue", f", paths: [{paths}]"),))
    try:
        running(house)
        idents = house.submit_many(iter([MAIL] * 24))
        wait(lambda: all(taken_in_places(disks, ident) for ident in idents))
        assert all(len(jobs(disk)) >= 3 for disk in disks), "both have some"
        house.stop()
        # What lies on a tmpfs survives no unmounting: hide it under another mount.
        hidden = disks[1]
        assert _tmpfs(hidden)
        ran = house.run("deliver", "-clocal")
        assert ran.returncode == 75
        assert "q.local,2 leads to" in ran.stderr and "mounted?" in ran.stderr
        assert list(hidden.iterdir()) == [], "nothing is made where the disk should be"
        late = house.submit(MESSAGE, "alice@example.test")
        subprocess.run(["umount", str(hidden)], check=True)
        assert house.run("deliver", "-clocal").returncode == 0
        wait(lambda: house.gone([*idents, late]))
        assert all(jobs(disk) == [] for disk in disks)
    finally:
        house.stop()
        for disk in disks:
            while (
                subprocess.run(["umount", str(disk)], capture_output=True, check=False).returncode
                == 0
            ):
                pass


def jobs(disk: Path) -> list[Path]:
    return [path for path in disk.glob("q.local/*/*") if path.is_file()]


def taken_in_places(disks: list[Path], ident: str) -> bool:
    return any(ident in path.name for disk in disks for path in jobs(disk))


def test_new_mail_of_every_place_is_delivered_at_once(
    new_house: Callable[..., House], tmp_path: Path
) -> None:
    """Plain directories stand for disks; no sweep comes, so that wake-ups name the places."""
    disks = _mounts(tmp_path)
    paths = ", ".join([f"{disks[0]} weight=2", str(disks[1]), "spool"])
    house = new_house(channels=(local("background", f", paths: [{paths}]"),))
    running(house)
    idents = house.submit_many(iter([MAIL] * 24))
    wait(lambda: house.gone(idents))
    assert {path.name for path in (house.root / "spool").glob("q.local,*")} == {
        "q.local,1",
        "q.local,2",
    }
    assert all(list(disk.glob("q.local/2*")) for disk in disks), "both have had jobs"
    assert list((house.root / "spool").glob("q.local/2*")), "and the spool itself"


def test_a_reload_changes_who_is_woken(new_house: Callable[..., House]) -> None:
    house = new_house(channels=(local("background"),))
    running(house)
    good = house.config.read_text()
    for wrong in (True, False):
        house.config.write_text(good.replace("mode: background", "mode: queue"))
        if wrong:
            house.config.write_text("hostname: [\n")
        before = house.sweeps("local")
        ran = house.run("mta", "reload")
        assert ran.returncode == (78 if wrong else 0), ran.stdout + ran.stderr
        if wrong:
            house.config.write_text(good)
            ident = house.submit(MESSAGE, "alice@example.test")
            wait(lambda ident=ident: house.gone([ident]))
    wait(lambda: len([e for e in house.events("started") if e["process"] == "intake"]) == 2)
    house.await_reload("local", before)  # whose first sweep takes what waits
    quiet = house.submit(MESSAGE, "alice@example.test")
    wait(lambda: taken_in(house, quiet))
    loud = house.submit(MESSAGE, "--mode", "background", "alice@example.test")
    wait(lambda: house.gone([loud]))
    assert taken_in(house, quiet)
    assert not [e for e in house.events("warning") if "intake ended" in str(e)]
