"""S1, S3, S4, S8 on a real ext4 whose power goes at a random moment.

A loop mount is shut down by EXT4_IOC_SHUTDOWN without a flush: whatever no sync
has put on the medium is gone.  Then it is mounted again and recovered.
POWERCUTS sets how many cuts there are.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mta.spool.entry import Settlement
from mta.spool.intake import take_in
from mta.types import DELIVERED
from tests.e2e.powercut_child import OK, open_spool, whole

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(900)]

EXT4_IOC_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
NO_LOG_FLUSH = 2

Said = list[list[str]]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Medium:
    """An ext4 of its own in a file."""

    def __init__(self, folder: Path) -> None:
        self.image, self.mount = folder / "image", folder / "mount"
        self.mount.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(256 << 20)
        run("mkfs.ext4", "-q", "-F", str(self.image))
        self.attach()

    def attach(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.mount))

    def detach(self) -> None:
        for _ in range(50):
            try:
                return run("umount", str(self.mount))
            except subprocess.CalledProcessError:
                time.sleep(0.02)
        raise AssertionError("cannot unmount")

    def cut(self) -> None:
        fd = os.open(self.mount, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)


@pytest.fixture
def medium(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    if shutil.which("mkfs.ext4") is None or not os.path.exists("/dev/loop-control"):
        pytest.skip("mkfs.ext4 and loop devices are needed")
    try:
        medium = Medium(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine cannot mount a loop device: {error.stderr.decode().strip()}")
    yield medium
    medium.detach()


def work_until_the_cut(medium: Medium, boot: int, seconds: float) -> tuple[Said, Said]:
    """Return what the child had said before the power went, and what it said later.

    Later counts for nothing: a sync that is under way when ext4 is shut down
    may return success although its commit is thrown away, which no real cut does.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.powercut_child", f"{medium.mount}/spool", str(boot)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    os.set_blocking(child.stdout.fileno(), False)
    before = child.stdout.read() or b""
    medium.cut()
    os.set_blocking(child.stdout.fileno(), True)
    try:
        late, _ = child.communicate(timeout=10)  # it meets EIO and ends
    finally:
        child.kill()
    whole_lines, _, cut = before.rpartition(b"\n")
    return _words(whole_lines), _words(cut + late)


def _words(data: bytes) -> Said:
    return [line.split() for line in data.decode().split("\n") if line]


def test_nothing_accepted_is_lost_in_power_cuts(medium, capsys):
    cuts = int(os.environ.get("POWERCUTS", "25"))
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    expected: set[str] = set()  # job keys accepted and not settled
    again = accepted = 0
    for boot in range(cuts):
        said, late = work_until_the_cut(medium, boot, dice.uniform(0.01, 0.4))
        unsynced: set[str] = set()
        gone: set[str] = set()
        for word, *rest in said:
            if word == "accepted":
                accepted += 1
                expected |= {f"{rest[0]}.{n}" for n in range(int(rest[1]))}
            elif word == "settled":
                unsynced.add(rest[0])
            elif word == "synced":
                gone |= unsynced
                unsynced = set()
        unsynced |= {rest[0] for word, *rest in late if word == "settled"}
        medium.detach()
        medium.attach()
        spool = open_spool(f"{medium.mount}/spool", boot + 1)
        assert take_in(spool)
        names = [name for names in spool.names("smtp") for name in names]
        here, delivered = set(), set()
        for name in names:
            claim = spool.claim(name)
            if claim is None:
                continue  # brought back by the cut, but its file says that it was finished
            here.add(name.key)
            with os.fdopen(claim.open_body(), "rb") as file:
                assert whole(file.read()), f"seed {seed}, cut {boot}: a torn body"
            if dice.random() < 0.8 and name.key not in unsynced:
                delivered.add(name.key)
                ((recipient, _),) = claim.entry.pending
                claim.settle([Settlement(recipient.index, DELIVERED, time.time(), 0, OK)])
            claim.release()
        spool.close()
        lost = expected - here - gone - unsynced
        assert not lost, f"seed {seed}, cut {boot}: lost {lost}"
        assert not here & gone, f"seed {seed}, cut {boot}: back again {here & gone}"
        again += len(here & unsynced)
        expected = here - delivered
    with capsys.disabled():
        print(
            f"\n{cuts} power cuts, {accepted} messages accepted, none lost, "
            f"{again} settled within the last 10 messages came again (seed {seed})"
        )
    assert accepted > cuts
