"""Many messages to many hosts, some of them dead; several delivers on one queue.

POSTHOUSE_MESSAGES scales the runs (default 2000; the release runs 10000).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from tests.e2e.house import LOCAL, House, Sink, refused_port, wait

MESSAGES = int(os.environ.get("POSTHOUSE_MESSAGES", "2000"))
HOSTS = [f"h{number:02d}.example" for number in range(50)]
HUNG_UP, REFUSED = HOSTS[10:13], HOSTS[30:32]  # the dead ones, of two kinds
DEAD = {*HUNG_UP, *REFUSED}
SMTP = (
    "{name: smtp, program: smtp, table: hosts, concurrency: 50, per_host: 20, dead_ttl: 1h,"
    " retry: {first: 1h, factor: 2, max: 4h}}"
)


def mail(count: int, hosts: Sequence[str]) -> Iterator[tuple[str, list[str], bytes]]:
    """Yield ``count`` messages to ``hosts`` in turn, each told apart by its subject."""
    for number in range(count):
        recipient = f"u{number}@{hosts[number % len(hosts)]}"
        yield "alice@example.test", [recipient], b"Subject: %d\n\nbody of %d\n" % (number, number)


def numbers(sink: Sink) -> Counter[int]:
    """Return how often each message came, by the number in its body."""
    return Counter(int(octets.rpartition(b"body of ")[2]) for _, _, octets in list(sink.messages))


def test_dead_hosts_hold_nobody_up_and_cost_one_connection_each(new_house, new_sink) -> None:
    house: House = new_house(channels=[LOCAL, SMTP], daemons=["deliver -b -csmtp"])
    good: Sink = new_sink()
    hung_up: dict[str, Sink] = {host: new_sink("hang up") for host in HUNG_UP}
    ports = dict.fromkeys(HOSTS, good.port)
    ports |= {host: sink.port for host, sink in hung_up.items()}
    ports |= {host: refused_port() for host in REFUSED}
    rows = [f"{host} 127.0.0.1:{port}\n" for host, port in ports.items()]
    (house.root / "hosts").write_text("".join(rows))
    house.submit_many(mail(MESSAGES, HOSTS))
    house.start("deliver", "-b", "-csmtp")
    expected = {n for n in range(MESSAGES) if HOSTS[n % len(HOSTS)] not in DEAD}
    wait(lambda: len(good.messages) >= len(expected), within=60 + MESSAGES / 50)
    assert numbers(good) == Counter(expected)

    dead_jobs = MESSAGES // len(HOSTS) * len(DEAD)
    wait(lambda: len(house.jobs()) == dead_jobs)
    wait(lambda: {e["host"] for e in house.events("dead_host")} == DEAD)
    assert {host: sink.connections for host, sink in hung_up.items()} == dict.fromkeys(HUNG_UP, 1)
    assert Counter(e["host"] for e in house.events("dead_host")) == Counter(DEAD)

    listed = house.run("mta", "queue", "--json", "--deferred").stdout
    jobs = [json.loads(line) for line in listed.split("\n") if line]
    assert {job["host"] for job in jobs} == DEAD, "a deferral with its reason for each dead host"
    for job in jobs:
        for recipient in job["recipients"]:
            assert recipient["state"] == "deferred"
            assert recipient["reason"].startswith("4")
            assert recipient["retry_at"] > recipient["last"] > 0


@pytest.mark.parametrize("delivers", [2, 4])
def test_several_delivers_on_one_queue_deliver_each_job_once(
    delivers: int, new_house, new_sink
) -> None:
    house: House = new_house(channels=[LOCAL, SMTP], daemons=["deliver -b -csmtp"])
    sink: Sink = new_sink()
    (house.root / "hosts").write_text("".join(f"{host} 127.0.0.1:{sink.port}\n" for host in HOSTS))
    half = MESSAGES // 2
    first = list(mail(MESSAGES, HOSTS))
    house.submit_many(iter(first[:half]))
    for _ in range(delivers):
        house.start("deliver", "-b", "-csmtp", "-T2")
    house.submit_many(iter(first[half:]))
    wait(lambda: len(sink.messages) >= MESSAGES, within=60 + MESSAGES / 50)
    wait(lambda: not house.jobs())
    assert numbers(sink) == Counter(range(MESSAGES))
    who = Counter(e["pid"] for e in house.events("attempt"))
    print(f"{delivers} delivers shared the work: {sorted(who.values())}")
    assert len(who) > 1, "one deliver did it all"
