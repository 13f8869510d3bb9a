"""Real work pushes the machine over each threshold, and each process does what the table says.

Three houses, each with one threshold, all at the same place: just so far above what the
machine bears now that it comes back below it when the work ends.  Most of the work is
done at idle priority: it counts as load and takes the CPU from nobody.
"""

from __future__ import annotations

import json
import os
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from mta.machine.load import pressures
from tests.e2e.house import LOCAL, House, Sink, refused_port, wait

RISE, FALL = 90.0, 240.0  # seconds that the load may take; others may work here, too
SPIN = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile 1: pass"
QUIET = 35.0  # per cent of pressure from which on the test by pressure makes no sense
MANY = 8
TEXT = b"Subject: x\n\nhello\n"
URGENT = b"Precedence: special-delivery\n" + TEXT


class Work:
    """Processes that do nothing but work, as many as asked for."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def set(self, number: int) -> None:
        while len(self._running) < number:
            self._running.append(subprocess.Popen([sys.executable, "-c", SPIN]))
        surplus, self._running = self._running[number:], self._running[:number]
        for process in surplus:
            process.kill()
        for process in surplus:
            process.wait()


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.set(0)


class Push(NamedTuple):
    """How to push one gauge over ``threshold``, and to hold it there."""

    gauge: str
    threshold: float
    push: int
    hold: int


def by_load() -> Push:
    now = os.getloadavg()[0]
    threshold = round(1.6 * now + 8.0, 1)
    return Push("load", threshold, int(4 * threshold), int(threshold - now) + 6)


def by_pressure() -> Push:
    if not pressures():
        pytest.skip("this kernel tells no pressure")
    deadline = time.monotonic() + 20.0
    while max(pressures().values()) > QUIET:
        if time.monotonic() > deadline:
            pytest.skip("the machine is under pressure already")
        time.sleep(1.0)
    number = 4 * (os.cpu_count() or 1)
    return Push("pressure", 70.0, number, number)


class Watched:
    """A house with one threshold, and a client's view of it."""

    def __init__(self, house: House, port: int, level: str, gauge: str) -> None:
        self.house, self.port, self.level, self.gauge = house, port, level, gauge

    def under_it(self) -> int:
        """Return for how many processes the level is in force, by the log."""
        return sum(1 if e["begins"] else -1 for e in self.house.events("load_level"))

    def standings(self, kind: str) -> list[dict[str, Any] | None]:
        """Return what mta status says of each process of a kind."""
        parts = map(json.loads, self.house.run("mta", "status", "--json").stdout.splitlines())
        found = [part for part in parts if part["kind"] == kind]
        rows = found if kind == "deliver" else [w for part in found for w in part["workers"]]
        return [row["load"] for row in rows]

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, "client.test", timeout=60)

    def greeting(self) -> tuple[str, float]:
        """Return the beginning of the greeting, and how long it took."""
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            return sock.recv(100).decode()[:9], time.monotonic() - began

    def serves(self) -> bool:
        try:
            return self.greeting()[0].startswith("220")
        except OSError:
            return False


@pytest.fixture
def watched(new_house: Callable[..., House]) -> Callable[..., Watched]:
    def make(push: Push, level: str, *channels: str, deliver: bool = True) -> Watched:
        port, marks = refused_port(), f"{level}: {push.threshold}"
        limits = marks if push.gauge == "load" else f"psi: {{{marks}}}"
        more = f'listen:\n  - {{address: "127.0.0.1:{port}", service: mx}}\n'
        more += f"smtpd: {{workers: 1}}\nload: {{{limits}, queue_factor: 30000}}\n"
        house = new_house([LOCAL, *channels], more=more)
        made = Watched(house, port, level, push.gauge)
        house.start("smtpd")
        if deliver:
            house.start("deliver", "-b")
        wait(made.serves)
        return made

    return make


def most_at_once(attempts: list[dict[str, Any]]) -> int:
    """Return how many of ``attempts`` were under way at the same time."""
    steps: list[tuple[str, float, int]] = []
    for attempt in attempts:
        end = time.mktime(time.strptime(attempt["time"][:19], "%Y-%m-%dT%H:%M:%S"))
        end += float("0" + attempt["time"][19:-1])
        steps += [("", end - attempt["delays"][3] + 0.01, 1), ("", end, -1)]
    now = most = 0
    for _, _, step in sorted(steps, key=lambda step: (step[1], step[2])):
        now += step
        most = max(most, now)
    return most


def send_many(house: House) -> list[dict[str, Any]]:
    """Send MANY messages to as many hosts; return the attempts once all have gone."""
    mail = [("a@example.test", [f"x@h{n}.far.test"], TEXT) for n in range(MANY)]
    idents = house.submit_many(iter(mail))
    wait(lambda: house.gone(idents), within=60)
    return [attempt for ident in idents for attempt in house.attempts(ident, "delivered")]


def at_delay(slow: Watched) -> None:
    """The listener takes its time; deliver has a quarter of its jobs in flight."""
    assert all(row and row["level"] == "delay" for row in slow.standings("smtpd"))
    assert all(row and row["level"] == "delay" for row in slow.standings("deliver"))
    word, took = slow.greeting()
    assert word.startswith("220")
    assert took >= 0.4
    assert most_at_once(send_many(slow.house)) <= MANY // 4


def at_refuse(closed: Watched, inside: smtplib.SMTP) -> None:
    """Nobody comes in, and who is in begins no transaction."""
    assert closed.greeting()[0] == "421 4.3.2"
    code, text = inside.mail("a@far.test")
    assert (code, text[:5]) == (451, b"4.3.2")
    assert all(row and row["level"] == "refuse" for row in closed.standings("smtpd"))


def at_queue_only(queueing: Watched) -> str:
    """Mail is accepted, and only what is urgent goes; return the id of what waits."""
    house = queueing.house
    said = house.run("submit", "-v", "alice@example.test", input=TEXT.decode()).stdout
    assert "It waits for the load to fall: " in said
    ident: str = said.partition("(")[2].partition(")")[0]
    with queueing.connect() as client:
        assert client.sendmail("a@far.test", ["bob@example.test"], TEXT.decode()) == {}
    urgent = house.submit(URGENT, "alice@example.test")
    wait(lambda: house.gone([urgent]))
    wait(lambda: len(house.jobs()) == 2)
    assert not house.attempts(ident, "delivered")
    assert all(row and row["level"] == "queue_only" for row in queueing.standings("deliver"))
    assert queueing.standings("smtpd") == [None]
    return ident


@pytest.mark.timeout(2 * FALL + 2 * RISE)
@pytest.mark.parametrize("gauge", [by_load, by_pressure])
def test_each_process_does_what_the_table_says_and_comes_back(
    gauge: Callable[[], Push],
    work: Work,
    watched: Callable[..., Watched],
    new_sink: Callable[..., Sink],
) -> None:
    sink, push = new_sink(delay=0.3), gauge()
    smtp = f'{{name: smtp, program: smtp, domains: "*", relay: ["127.0.0.1:{sink.port}"],'
    slow = watched(push, "delay", f"{smtp} concurrency: {MANY}, per_host: {MANY}}}")
    closed, queueing = watched(push, "refuse", deliver=False), watched(push, "queue_only")
    houses = (slow, closed, queueing)
    for house in houses:  # that they begin is work, too
        wait(lambda h=house: not h.under_it(), within=FALL)
    assert most_at_once(send_many(slow.house)) > MANY // 4
    inside = closed.connect()
    inside.ehlo()
    assert not any(house.under_it() for house in houses)

    work.set(push.push)
    processes = {slow: 2, closed: 1, queueing: 1}
    for house, number in processes.items():
        wait(lambda h=house, n=number: h.under_it() == n, within=RISE)
    work.set(push.hold)
    at_refuse(closed, inside)
    waiting = at_queue_only(queueing)
    at_delay(slow)

    work.set(0)
    for house in houses:
        wait(lambda h=house: not h.under_it(), within=FALL)
    wait(lambda: inside.mail("a@far.test")[0] == 250, within=FALL, step=1.0)
    wait(closed.serves, within=FALL)
    wait(lambda: queueing.house.gone([waiting]), within=FALL)
    wait(lambda: not queueing.house.jobs(), within=FALL)
    wait(lambda: slow.standings("smtpd") == slow.standings("deliver") == [None], within=FALL)
    for house in houses:
        assert_told_once(house, push)


def test_a_pass_by_hand_ends_where_nothing_may_go(new_house: Callable[..., House]) -> None:
    wait(lambda: os.getloadavg()[0] > 0.01)  # while this test runs it is
    house = new_house(more="load: {queue_only: 0.01, queue_factor: 0}\n")
    ident = house.submit(TEXT, "alice@example.test")
    ran = house.run("deliver", "-clocal")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(house.jobs()) == 1
    assert not house.events("attempt")
    house.config.write_text(house.config.read_text().replace("0.01", "0"))
    assert house.run("deliver", "-clocal").returncode == 0
    assert house.gone([ident])


def assert_told_once(watched: Watched, push: Push) -> None:
    """Each beginning is told once, and so is its end, whatever else the machine had to do."""
    last: dict[int, bool] = {}
    for change in watched.house.events("load_level"):
        assert (change["gauge"], change["level"]) == (push.gauge, watched.level)
        assert change["threshold"] == push.threshold
        assert change["begins"] is (change["value"] >= push.threshold)
        assert change["begins"] is not last.get(change["pid"], False)
        last[change["pid"]] = change["begins"]
