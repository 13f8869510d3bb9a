"""Good mail beside hosts that say nothing, ours and Postfix's in one run.

    python tests/bench/bench_isolation.py [MESSAGES [SECONDS [JOBS]]]

20 hosts accept connections and then say nothing; each has 50 messages.  Beside them good mail
goes to 50 hosts.  For each system, each as it comes, prints

    empty      good mail of an empty queue: as fast as it goes, then its latency at a steady
               rate of half of that, for SECONDS (8)
    silent     the same while the silent hosts hang, and how many of 500 good messages have
               left within 60 s

and for ours alone, with one smtp channel and one deliver as they come,

    depth      the same while, besides, JOBS (100,000) wait for 200 dead hosts: half of them
               refuse connections, half say nothing; of each, half is known to be dead

The goal for ours is at least 90 % of what the empty queue gave, and 99 % of the good
messages within a second.  Latency is from when a message was due to be handed in until the
host has said 250.

Needs root for Postfix in a view of its own, and for a name server on port 53 of 127.0.50.1,
since it knows no other port; without, what is ours is measured alone.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import _pytest.outcomes

sys.path.insert(0, str(Path(__file__).parents[2]))

from mta.spool.spool import Spool
from tests.bench.deep import Deep, fill
from tests.e2e.house import House, answers, refused_port, wait
from tests.e2e.peers.feeder import Feeder, feed
from tests.e2e.peers.hosts import Hosts, addresses, percentile
from tests.e2e.peers.postfix import Postfix

ROUNDS = 3
SILENT, EACH = 20, 50
RATE = 500.0  # messages a second at most, where latency is measured
FEW, PATIENCE = 500, 60.0  # good messages beside the silent hosts, and how long they have
DEAD = 200
NAMES = "127.0.50.1"
SILENT_NAMES = [f"silent{number}.test" for number in range(SILENT)]
GOOD_NAMES = [f"good{number}.test" for number in range(50)]
DEAD_NAMES = [f"dead{number}.test" for number in range(DEAD)]
CONFIG = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {{dir: log/, formats: [postfix]}}
local: {{domains: [example.test], users: [alice], mailbox: "maildir:mail/{{user}}/"}}
listen: [{{address: "127.0.0.1:{port}", service: mx}}]
smtpd: {{reverse_dns: no}}
relay_from: [127.0.0.0/8]
dns: {{nameservers: ["{dns}"]}}
channels:
  - {{name: local, program: local, domains: $local}}
  - {{name: smtp, program: smtp, domains: "*", port: {hosts}}}
"""


class Figures(NamedTuple):
    """Messages a second, and the latency in seconds that 50 % and 99 % do not exceed."""

    throughput: float
    median: float
    tail: float

    def __str__(self) -> str:
        return f"{self.throughput:8.0f}/s{self.median * 1000:9.0f} ms{self.tail * 1000:9.0f} ms"


def simulated(root: Path, privileged: bool) -> Hosts:
    """Start all hosts: good, silent, and of the dead ones those that do not refuse."""
    silent, good, dead = addresses(40, SILENT), addresses(42, 50), addresses(44, DEAD)
    hosts = {address: {"behaviour": "silent"} for address in silent}
    hosts |= {address: {"behaviour": "good"} for address in good}
    hosts |= {address: {"behaviour": "silent"} for address in dead[::2]}
    named = zip([*SILENT_NAMES, *GOOD_NAMES, *DEAD_NAMES], [*silent, *good, *dead], strict=True)
    if privileged:
        return Hosts(root, hosts, dict(named), dns=(NAMES, 53))
    return Hosts(root, hosts, dict(named))


def throughput(port: int, hosts: Hosts, mark: str, count: int) -> float:
    """Return how many of ``count`` good messages arrive a second, handed in at full speed."""
    plan = {"count": count, "domains": GOOD_NAMES, "mark": mark, "connections": 20}
    report = feed(port, plan)
    arrived = hosts.drained(mark, report["accepted"], PATIENCE)
    if not arrived:
        return 0.0
    return len(arrived) / (max(arrival.at for arrival in arrived) - report["began"])


def figures(port: int, hosts: Hosts, mark: str, count: int, rate: float, span: float) -> Figures:
    """Measure throughput, the median of some rounds; latency at ``rate`` (0: half of that)."""
    runs = [throughput(port, hosts, f"{mark}-{turn}", count) for turn in range(ROUNDS)]
    fast = sorted(runs)[ROUNDS // 2]
    rate = rate or min(fast / 2, RATE)
    steady = {"count": int(rate * span), "domains": GOOD_NAMES, "rate": rate, "connections": 20}
    report = feed(port, {**steady, "mark": f"{mark}-steady"})
    arrived = hosts.drained(f"{mark}-steady", report["accepted"], PATIENCE)
    late = [PATIENCE] * (report["accepted"] - len(arrived))
    latencies = [arrival.latency for arrival in arrived] + late
    return Figures(fast, percentile(latencies, 0.5), percentile(latencies, 0.99))


def beside_silence(port: int, hosts: Hosts, mark: str) -> int:
    """Hand in the silent hosts' mail, then good mail; return how much of that has left."""
    silent = {"count": SILENT * EACH, "domains": SILENT_NAMES, "mark": "silent"}
    feed(port, silent)
    time.sleep(3)  # each system takes up as much of it as it will
    feeder = Feeder(port, {"count": FEW, "domains": GOOD_NAMES, "mark": mark})
    try:
        return len(hosts.drained(mark, FEW, PATIENCE))
    finally:
        feeder.stop()


def system(name: str, port: int, hosts: Hosts, count: int, span: float) -> Iterator[Figures]:
    """Measure one system, and print its lines; yield the figures of its empty queue, too."""
    throughput(port, hosts, f"{name}-warm", count // 2)
    empty = figures(port, hosts, f"{name}-empty", count, 0.0, span)
    print(f"  {name:11}empty   {empty}", flush=True)
    yield empty
    few = beside_silence(port, hosts, f"{name}-few")
    print(f"  {name:11}silent  {few} of {FEW} good messages left within {PATIENCE:.0f} s")
    if few == FEW:
        rate = min(empty.throughput / 2, RATE)
        silent = figures(port, hosts, f"{name}-silent", count, rate, span)
        print(
            f"  {name:11}silent  {silent}  {silent.throughput / empty.throughput:6.0%}", flush=True
        )
        yield silent


def our_house(root: Path, hosts: Hosts) -> tuple[House, int]:
    """Make the house; return it and the port that it will answer on."""
    root.mkdir()
    house, port = House(root), refused_port()
    settings = {"port": port, "hosts": hosts.port, "dns": hosts.nameserver}
    house.config.write_text(CONFIG.format(**settings))
    return house, port


def start(house: House, port: int) -> None:
    """Start one deliver and the listener."""
    house.start("deliver", "-b")
    house.start("smtpd")
    wait(lambda: answers(port), 60)


def end(house: House) -> None:
    """End the house at once: silent hosts would have it wait for them for half a minute."""
    for process in house.running:
        process.terminate()
    time.sleep(1)
    for process in house.running:
        process.terminate()
    house.stop()


def deep(root: Path, hosts: Hosts, jobs: int, count: int, span: float, empty: Figures) -> None:
    """Measure ours beside ``jobs`` for dead hosts, and print its line."""
    house, port = our_house(root, hosts)
    spool = str(root / "spool")
    Spool.open(spool).mark_ready()
    known = Deep(spool, jobs // 2, DEAD_NAMES[: DEAD // 2], hours=3, retry=7200.0)
    fresh = Deep(spool, jobs - jobs // 2, DEAD_NAMES[DEAD // 2 :], hours=1)
    with multiprocessing.Pool(2) as pool:
        pool.map(fill, [known, fresh])
    try:
        start(house, port)
        few = beside_silence(port, hosts, "deep-few")
        print(
            f"  {'Posthouse':11}depth   {few} of {FEW} good messages left within {PATIENCE:.0f} s"
        )
        if few == FEW:
            rate = min(empty.throughput / 2, RATE)
            found = figures(port, hosts, "deep", count, rate, span)
            share = found.throughput / empty.throughput
            print(
                f"  {'Posthouse':11}depth   {found}  {share:6.0%}  beside {jobs} jobs", flush=True
            )
    finally:
        end(house)


def main() -> None:
    """Run all of it."""
    words = [int(word) for word in sys.argv[1:]]
    count, span, jobs = [*words, *(3000, 8, 100_000)[len(words) :]]
    root = Path(os.environ.get("BENCH_DIR", "build/bench")).absolute() / f"iso.{os.getpid()}"
    root.mkdir(parents=True)
    hosts = simulated(root, os.geteuid() == 0)
    house, port = our_house(root / "ours", hosts)
    postfix: Postfix | None = None
    try:
        print(f"{'':21}{'throughput':>10}{'p50':>12}{'p99':>12}   of empty")
        start(house, port)
        empty, *_ = system("Posthouse", port, hosts, count, span)
        end(house)
        try:
            if hosts.dns[1] == 53:
                more = f"smtp_tcp_port = {hosts.port}"
                postfix = Postfix(root / "theirs", nameserver=NAMES, more=more)
                list(system("Postfix", postfix.port, hosts, count, span))
                postfix.stop()
            else:
                print("without Postfix: a name server on port 53 needs root")
        except _pytest.outcomes.Skipped as skipped:
            print(f"without Postfix: {skipped}")
        deep(root / "deep", hosts, jobs, count, span, empty)
    finally:
        end(house)
        hosts.close()
        if postfix is not None:
            postfix.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
