"""A million jobs in one queue: how soon the first is delivered, in how much memory, how fast are
the commands that look at it.

    python tests/bench/bench_depth.py [JOBS]

99 of 100 jobs wait for 2,000 hosts and are not due, the others are for a host that takes
them; their arrivals are spread over four days.  Prints, beside the goals,

    from the start of ``deliver -b`` to its first delivery, and the same for new mail then
    its memory: the most it ever had (VmHWM), and its share (PSS)
    one pass of ``deliver -t1``, of which 100 jobs of the last hour are delivered, less the
    time of one over an empty spool
    mta why ID, mta why ADDRESS, mta status, mta queue --host HOST, and the head of mailq,
    beside the deliver

The spool, in $BENCH_DIR (default: build/bench), needs 5 GB and a million inodes, and is removed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mta.spool.spool import Spool
from tests.bench.deep import Deep, fill
from tests.e2e.house import House, refused_port, wait
from tests.e2e.peers.hosts import Hosts, addresses

JOBS = 1_000_000
HOSTS = 2000
DAYS = 4  # less than fail_after
LATE = 300.0  # seconds for the first delivery, and for a command; then it is given up
SETTLED = 20.0  # seconds after which memory is looked at
DEAD_NAMES = [f"h{number}.dead.test" for number in range(HOSTS)]
CONFIG = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {dir: log/, formats: [postfix]}
local: {domains: [example.test], users: [alice], mailbox: "maildir:mail/{user}/"}
channels:
  - {name: local, program: local, domains: $local}
  - {name: smtp, program: smtp, table: hosts, warn_after: 0}
daemons: [deliver -b]
"""


def new_house(root: Path, live: int, dead: int) -> House:
    """Make a house that knows the live host and the dead ones."""
    root.mkdir(parents=True)
    house = House(root)
    house.config.write_text(CONFIG)
    rows = (
        f"live.test 127.0.42.1:{live}\nfresh.test 127.0.42.1:{live}\n.dead.test 127.0.42.1:{dead}\n"
    )
    (root / "hosts").write_text(rows)
    Spool.open(str(root / "spool")).mark_ready()
    return house


def build(root: Path, jobs: int, live_hop: str, dead: str) -> list[str]:
    """Write the queue; return the ids of some that wait."""
    spool, hours = str(root / "spool"), DAYS * 24.0
    half, live = jobs * 99 // 200, jobs // 100
    parts = [
        Deep(spool, half, DEAD_NAMES, hours, 1.5, 7200.0, bodies=False, hop=dead),
        Deep(spool, half, DEAD_NAMES, hours, 1.5, 7200.0, bodies=False, hop=dead),
        Deep(spool, live, ["live.test"], hours, 1.5, hop=live_hop),
    ]
    with multiprocessing.Pool(2) as pool:
        return pool.map(fill, parts, chunksize=1)[0]


def say(what: str, found: float, goal: float, unit: str = "s") -> None:
    """Print one figure beside its goal."""
    judged = "" if not goal else f"   goal {goal:g} {unit}" + ("" if found < goal else "   MISSED")
    print(f"  {what:44}{found:9.2f} {unit}{judged}", flush=True)


def memory(pid: int) -> tuple[float, float]:
    """Return the most memory that a process ever had, and its share of what it has: MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    shares = Path(f"/proc/{pid}/smaps_rollup").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    share = re.search(r"Pss:\s+(\d+) kB", shares)
    assert peak is not None and share is not None
    return int(peak[1]) * 1024 / 1e6, int(share[1]) * 1024 / 1e6


def timed(house: House, *words: str, head: int = 0) -> float:
    """Return how long a command takes, or its first ``head`` lines."""
    start = time.perf_counter()
    with subprocess.Popen(
        house.command(*words), env=house.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if head:
                for _ in range(head):
                    process.stdout.readline()
                process.stdout.close()
            else:
                process.communicate(timeout=LATE)
        except subprocess.TimeoutExpired:
            process.kill()
        took = time.perf_counter() - start
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
    return took


def begin(house: House, hosts: Hosts) -> None:
    """Start the daemon; print how soon it delivers, and its memory."""
    before, start = hosts.count(), time.monotonic()
    daemon = house.start("deliver", "-b")
    wait(lambda: hosts.count() > before, LATE, 0.005)
    say("the first delivery, from the start", hosts.got()[before].at - start, 3)
    house.submit(b"Mark: new\nSent: %.6f\n\nx\n" % time.monotonic(), "new@fresh.test")
    (new, *_) = hosts.await_count("new", 1, LATE)
    say("new mail meanwhile, from submit to the host", new.latency, 0)
    time.sleep(SETTLED)
    peak, share = memory(daemon.pid)
    say(f"memory after {SETTLED:.0f} s: the most ever", peak, 200, "MB")
    say("its share (PSS)", share, 0, "MB")


def commands(house: House, ids: list[str]) -> None:
    """Print how long each command takes."""
    told = [timed(house, "mta", "why", ident) for ident in ids * 3]
    people = [f"user{number}@{DEAD_NAMES[number]}" for number in range(7, 1000, 83)]
    found = [timed(house, "mta", "why", person) for person in people]
    for what, times in (
        (f"ID, half of {len(told)}", told),
        (f"ADDRESS, half of {len(found)}", found),
    ):
        say(f"mta why {what}", sorted(times)[len(times) // 2], 0.5)
        say("    the longest", max(times), 0.5)
    say("mta status", timed(house, "mta", "status"), 0)
    say("mta queue --host HOST", timed(house, "mta", "queue", "--host", DEAD_NAMES[7]), 0)
    say("mailq, its first five lines", timed(house, "mailq", head=5), 0)


def young(house: House, empty: House, hosts: Hosts) -> None:
    """Print how long one pass over the last hour takes."""
    fill(Deep(str(house.root / "spool"), 100, ["live.test"], 0.5, hop=f"127.0.42.1:{hosts.port}"))
    before = hosts.count()
    start_up = timed(empty, "deliver", "-t1", "-csmtp")
    took = timed(house, "deliver", "-t1", "-csmtp")
    say(f"deliver -t1, beyond {start_up:.2f} s of its start", took - start_up, 1)
    delivered = hosts.count() - before
    print(f"  {'':44}{delivered:9} delivered by it", flush=True)


def remove(root: Path) -> None:
    """Remove the spool, by several processes."""
    folders = [str(path) for path in root.glob("*/spool/*/*") if path.is_dir()]
    with multiprocessing.Pool(2) as pool:
        pool.map(shutil.rmtree, folders)
    shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    """Run all of it."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    root = Path(os.environ.get("BENCH_DIR", "build/bench")).absolute() / f"depth.{os.getpid()}"
    root.mkdir(parents=True)
    hosts = Hosts(root, {address: {"behaviour": "good"} for address in addresses(42, 1)})
    dead = refused_port()
    house = new_house(root / "deep", hosts.port, dead)
    empty = new_house(root / "empty", hosts.port, dead)
    try:
        start = time.perf_counter()
        ids = build(root / "deep", jobs, f"127.0.42.1:{hosts.port}", f"127.0.42.1:{dead}")
        print(f"{jobs} jobs, made in {time.perf_counter() - start:.0f} s", flush=True)
        young(house, empty, hosts)
        begin(house, hosts)
        commands(house, ids)
    finally:
        house.stop()
        hosts.close()
        remove(root)


if __name__ == "__main__":
    main()
