"""kill -9 of listeners while clients send: what was answered 250 arrives, once, and no other half.

LISTENER_KILLS sets how many.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import smtplib
import threading
import time
from collections import Counter
from pathlib import Path

from tests.e2e.house import House, wait
from tests.e2e.peers.front import Front

KILLS = int(os.environ.get("LISTENER_KILLS", "10"))
CLIENTS = 6
ALICE = "alice@example.test"
MARK = re.compile(rb"^Subject: mark-(\d+-\d+)-", re.M)
FILLING = "x" * 70 + "\r\n"


def workers(house: House) -> list[int]:
    """Return the processes that serve clients: the children of the listener's master."""
    parents: dict[int, int] = {}
    for pid in house.processes():
        with contextlib.suppress(OSError):  # it has just ended
            if b"smtpd" in Path("/proc", str(pid), "cmdline").read_bytes():
                stat = Path("/proc", str(pid), "stat").read_text()
                parents[pid] = int(stat.rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parent in parents]


class Client(threading.Thread):
    """Sends messages until it is told to stop; ``accepted`` are those that were answered 250."""

    def __init__(self, number: int, port: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self.broke = 0
        self._number = number
        self._port = port
        self._over = stop
        self._sent = 0

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=30) as client:
                    for _ in range(20):
                        if self._over.is_set():
                            break
                        self._send(client)
            except (OSError, smtplib.SMTPException):
                self.broke += 1
                time.sleep(0.01)

    def _send(self, client: smtplib.SMTP) -> None:
        name = f"{self._number}-{self._sent}"
        self._sent += 1
        size = random.choice([1, 30, 3000])
        text = f"Subject: mark-{name}-\r\n\r\n{FILLING * size}end of {name}\r\n"
        client.sendmail("ann@far.test", [ALICE], text)
        self.accepted.append(name)


def test_what_was_accepted_survives_kill_9_of_listeners(new_house, authority, capsys) -> None:
    front = Front(new_house, authority)
    house, stop = front.house, threading.Event()
    wait(lambda: len(workers(house)) == 2)
    clients = [Client(number, front.ports["mx"], stop) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in range(KILLS):
        before = sum(len(client.accepted) for client in clients)
        wait(lambda before=before: sum(len(c.accepted) for c in clients) > before + 10)
        victim = random.choice(workers(house))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        wait(lambda victim=victim: victim not in workers(house) and workers(house))
    stop.set()
    for client in clients:
        client.join(60)
    accepted = {name for client in clients for name in client.accepted}

    def arrived() -> Counter[str]:
        names: Counter[str] = Counter()
        for path in house.maildir():
            text = path.read_bytes()
            (name,) = MARK.findall(text)
            assert text.endswith(b"end of " + name + b"\n"), f"half of {name!r}"
            names[name.decode()] += 1
        return names

    with contextlib.suppress(AssertionError):
        wait(lambda: set(arrived()) >= accepted, within=60)
    lost = accepted - set(arrived())
    assert not lost
    wait(lambda: not house.jobs())
    twice = {name: count for name, count in arrived().items() if count > 1}
    assert not twice
    with capsys.disabled():
        broke = sum(client.broke for client in clients)
        print(f"\n{KILLS} kills, {len(accepted)} accepted, none lost; {broke} connections broke")
