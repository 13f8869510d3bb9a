"""Thousands who hold a connection and say nothing, or one octet a second, keep nobody's mail.

POSTHOUSE_IDLE and POSTHOUSE_SLOW set how many; what a connection costs in memory is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import smtplib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, wait
from tests.e2e.peers.front import Front

IDLE = int(os.environ.get("POSTHOUSE_IDLE", "2000"))
SLOW = int(os.environ.get("POSTHOUSE_SLOW", "200"))
SOURCES = ["127.0.0.21", "127.0.0.22", "127.0.0.23", "127.0.0.24", "127.0.0.25"]
LIMITS = "connections: 30000, connections_per_client: 20000, recipients: 20000"
GOOD = 100
ALICE = "alice@example.test"
DRIBBLE = b"EHLO slow.test\r\nMAIL FROM:<slow@far.test>\r\nRCPT TO:<alice@example.test>\r\n" * 9


@pytest.fixture(scope="module")
def files() -> Iterator[None]:
    """Allow this process, and ours below it, as many descriptors as the connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = max(soft, IDLE + SLOW + 2000)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, max(hard, need)))
    except (ValueError, OSError):
        pytest.skip(f"{need} descriptors are needed, {hard} can be had: POSTHOUSE_IDLE={IDLE}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(hard, need)))


@pytest.fixture
def front(files, new_house: Callable[..., House], authority) -> Front:
    return Front(new_house, authority, limits=LIMITS)


class Crowd:
    """Clients in a thread of their own; ``greeted`` counts those that were told 220."""

    def __init__(self, port: int, number: int, dribble: bytes = b"") -> None:
        self.greeted = 0
        self.ended = 0
        self._port = port
        self._dribble = dribble
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(number,), daemon=True)
        self._thread.start()

    def _run(self, number: int) -> None:
        asyncio.set_event_loop(self._loop)
        gate = asyncio.Semaphore(100)
        tasks = [self._loop.create_task(self._client(n, gate)) for n in range(number)]
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _client(self, number: int, gate: asyncio.Semaphore) -> None:
        source = (SOURCES[number % len(SOURCES)], 0)
        async with gate:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=source
            )
            line = await reader.readline()
        self.greeted += line.startswith(b"220")
        try:
            for at in range(len(self._dribble)):
                writer.write(self._dribble[at : at + 1])
                await asyncio.sleep(1)
            await reader.read()  # until the server has enough, or we are called off
        finally:
            self.ended += 1
            writer.close()

    def stop(self) -> None:
        def cancel() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        self._loop.call_soon_threadsafe(cancel)
        self._thread.join(30)


def listeners(house: House) -> dict[str, int]:
    """Return the processes of smtpd in this house, by what their titles call them."""
    found = {}
    for pid in house.processes():
        with contextlib.suppress(OSError):  # it has just ended
            title = Path("/proc", str(pid), "cmdline").read_bytes().decode()
            if title.startswith("smtpd"):
                found[title.partition(":")[0]] = pid
    return found


def all_up(house: House) -> dict[str, int]:
    """Wait for the master and its two workers; return them."""
    names = {"smtpd", "smtpd[0]", "smtpd[1]"}  # a worker is called as the master till it begins
    return wait(lambda: names == set(found := listeners(house)) and found)


def memory(pids: Iterable[int]) -> int:
    """Return the octets that these processes have to themselves, shared pages in proportion."""
    total = 0
    for pid in pids:
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().split("\n"):
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def send_good_mail(front: Front, mark: str) -> None:
    """Send ``GOOD`` messages, over a few connections one after the other."""
    for start in range(0, GOOD, 25):
        with smtplib.SMTP("127.0.0.1", front.ports["mx"], timeout=60) as client:
            for number in range(start, start + 25):
                text = f"Subject: {mark} {number}\r\n\r\nx\r\n"
                client.sendmail("ann@far.test", [ALICE], text)


def check_all_there(front: Front, mark: str) -> None:
    got = wait(lambda: len(front.holding(mark)) >= GOOD and front.holding(mark), within=60)
    assert len(got) == GOOD


def test_idle_connections_keep_nobody_waiting(front: Front, capsys) -> None:
    pids = all_up(front.house)
    send_good_mail(front, "before")
    check_all_there(front, "before")
    before = memory(pids.values())
    crowd = Crowd(front.ports["mx"], IDLE)
    try:
        wait(lambda: crowd.greeted >= IDLE, within=90)
        each = (memory(pids.values()) - before) / IDLE / 1024
        send_good_mail(front, "during")
        check_all_there(front, "during")
        assert crowd.ended == 0
    finally:
        crowd.stop()
    with capsys.disabled():
        print(f"\n{IDLE} idle connections: {each:.1f} KiB each, {before >> 20} MiB without them")
    assert listeners(front.house) == pids, "a listener died"


def test_slow_clients_keep_nobody_waiting(front: Front) -> None:
    """One octet a second each, from the first octet of EHLO on."""
    pids = all_up(front.house)
    crowd = Crowd(front.ports["mx"], SLOW, DRIBBLE)
    try:
        wait(lambda: crowd.greeted >= SLOW, within=90)
        for name in ("one", "two", "three"):
            send_good_mail(front, name)
            check_all_there(front, name)
    finally:
        crowd.stop()
    assert listeners(front.house) == pids, "a listener died"


def test_after_the_crowd_the_room_is_free(front: Front) -> None:
    """What idle clients held is given back: the same number comes again."""
    number = min(IDLE, 1000)
    for name in ("first", "second"):
        crowd = Crowd(front.ports["mx"], number)
        try:
            wait(lambda crowd=crowd: crowd.greeted >= number, within=60)
        finally:
            crowd.stop()
        send_good_mail(front, name)
        check_all_there(front, name)
