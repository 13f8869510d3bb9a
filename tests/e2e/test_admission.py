"""A queue that drains slowly slows who floods it, keeps its age, and nobody else pays for that."""

from __future__ import annotations

import json
import smtplib
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.e2e.house import LOCAL, House, Sink, answers, refused_port, wait

TARGET = 20.0
JOBS, TAKES = 5, 1.0  # connections, and seconds that the slow server takes: five a second
# Connections of the one who floods, and how long each rests between two messages: fifteen
# a second at most, so that the queue has not passed the target before its drain is known.
CROWD, REST = 30, 2.0
FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
TEXT = b"Subject: x\r\n\r\nhello\r\n"


class Site:
    """A house with a listener, and a queue called smtp that has a target."""

    def __init__(self, new_house: Callable[..., House], relay: int) -> None:
        self.port = refused_port()
        row = f'{{name: smtp, program: smtp, domains: "*", relay: ["127.0.0.1:{relay}"], '
        row += f"concurrency: {JOBS}, per_host: {JOBS}, target_age: {TARGET:.0f}s}}"
        more = f'listen:\n  - {{address: "127.0.0.1:{self.port}", service: mx}}\n'
        more += "smtpd: {workers: 2}\nrelay_from: [127.0.0.0/8]\n"
        self.house = new_house([LOCAL, row], more=more)
        self.house.start("smtpd")
        self.house.start("deliver", "-b")
        wait(lambda: answers(self.port))

    def flow(self) -> dict[str, Any]:
        """Return what mta status says of how the queue flows."""
        lines = self.house.run("mta", "status", "--json").stdout.splitlines()
        (queue,) = [part for part in map(json.loads, lines) if part.get("queue") == "smtp"]
        return queue["flow"] or {"backlog": 0, "predicted_age": 0.0}

    def client(self, source: str) -> smtplib.SMTP:
        return smtplib.SMTP(
            "127.0.0.1", self.port, "client.test", timeout=60, source_address=(source, 0)
        )


class Flood(threading.Thread):
    """One of the connections of a client that sends as fast as it is let."""

    def __init__(self, site: Site, number: int, until: threading.Event) -> None:
        super().__init__(daemon=True)
        self._site, self._number, self._until = site, number, until
        self.sent = self.refused = 0
        self.longest = 0.0

    def run(self) -> None:
        with self._site.client(FLOODER) as client:
            client.ehlo()
            while not self._until.wait(REST):
                began = time.monotonic()
                client.mail("a@far.test")
                code, _ = client.rcpt(f"x@h{self._number}.far.test")
                self.longest = max(self.longest, time.monotonic() - began)
                if code == 250:
                    client.data(TEXT)
                    self.sent += 1
                else:
                    assert code == 451
                    client.rset()
                    self.refused += 1


def test_who_floods_a_slow_queue_is_slowed_and_nobody_else(
    new_house: Callable[..., House], new_sink: Callable[..., Sink]
) -> None:
    site = Site(new_house, new_sink(delay=TAKES).port)
    until = threading.Event()
    crowd = [Flood(site, number, until) for number in range(CROWD)]
    for each in crowd:
        each.start()
    try:
        wait(lambda: any(each.longest > 1.5 for each in crowd), within=90)
        ages = []
        for _ in range(5):
            ages.append(site.flow()["predicted_age"])
            with site.client(OTHER) as other:
                other.ehlo()
                for to in ("bob@example.test", "y@other.far.test"):
                    assert other.sendmail("b@far.test", [to], TEXT.decode()) == {}
            time.sleep(1.0)
    finally:
        until.set()
        for each in crowd:
            each.join(60)
    assert max(ages) > TARGET / 2
    assert max(ages) < 2 * TARGET
    assert sum(each.sent for each in crowd) > TARGET / 2 * JOBS / TAKES
    wait(lambda: site.flow()["predicted_age"] < TARGET / 2, within=90)
    with site.client(FLOODER) as client:
        assert client.sendmail("a@far.test", ["x@h0.far.test"], TEXT.decode()) == {}
    site.house.stop()  # before the slow server


def test_a_dead_hosts_jobs_slow_nobody(new_house: Callable[..., House]) -> None:
    site = Site(new_house, refused_port())
    mail = [("a@far.test", [f"x{n}@dead.test"], b"Subject: x\n\nhello\n") for n in range(500)]
    site.house.submit_many(iter(mail))
    wait(lambda: site.house.events("dead_host"))
    wait(lambda: len(site.house.jobs()) == 500)
    time.sleep(2.0)  # in which a deliver tells of its queues
    wait(lambda: site.flow()["backlog"] == 0)
    with site.client(OTHER) as other:
        assert other.sendmail("b@far.test", ["y@dead.test"], TEXT.decode()) == {}
