"""The whole way, beside Postfix in the same run: smtp-source → MTA → smtp-sink.

    python tests/bench/bench_relay.py [MESSAGES [SESSIONS [ROUNDS]]]

For messages of 4 and of 64 KiB, with a connection for each and with kept ones,
prints what each system accepts and delivers a second, and the CPU time of the
whole machine (source and sink included) for a message.  Both spools lie below
$BENCH_DIR (default: build/bench), on one disk, and both say 250 only when the
message is on it.  Then a message of 50 MiB goes through, and the most memory
that each of our processes ever held is printed.

Needs smtp-source and smtp-sink, and Postfix to compare with, from Debian's
package postfix, installed or unpacked below build/tools (.ci/run does that),
and root to run it in a view of its own.  What is absent is said.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _pytest.outcomes

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e.house import House, answers, refused_port, tool, tool_environment, wait
from tests.e2e.peers.postfix import MAIN, MASTER, Postfix

SIZES = (4096, 65536)
LARGE = 50 << 20
PATIENCE = 180.0  # seconds that one case may take
HEAD = f"{'':22}{'accepted':>12}{'delivered':>12}{'CPU a message':>16}"

CONFIG = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {{dir: log/, formats: [postfix]}}
local: {{domains: [example.test], users: [alice], mailbox: "maildir:mail/{{user}}/"}}
listen:
  - {{address: "127.0.0.1:{port}", service: mx}}
relay_from: [127.0.0.0/8]
limits: {{message_size: 100MiB}}
channels:
  - {{name: local, program: local, domains: $local}}
  - {{name: smtp, program: smtp, domains: "*", relay: ["127.0.0.1:{sink}"]}}
"""
# What Debian's Postfix does, and a relay to the sink; nothing that waits for a name server.
RELAY = """\
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_host_lookup = native
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
default_process_limit = 100
default_transport = smtp
message_size_limit = 104857600
"""
CLIENTS = """\
pickup unix n - n 60 1 pickup
smtp unix - - n - - smtp
relay unix - - n - - smtp
"""


class Sink:
    """smtp-sink, and how many messages it has taken."""

    def __init__(self, port: int) -> None:
        """Listen on ``port`` of loopback."""
        program = tool("usr/sbin/smtp-sink")
        self.process = subprocess.Popen(
            [str(program), "-c", "-u", "nobody", f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=tool_environment(),
        )
        self.count = 0
        self.last = 0.0  # when the newest came
        threading.Thread(target=self._read, daemon=True).start()
        wait(lambda: answers(port))

    def _read(self) -> None:
        assert self.process.stdout is not None
        tail = b""
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            tail = (tail + data)[-4096:]
            counts = re.findall(rb"mesg=(\d+)", tail)
            if counts and int(counts[-1]) != self.count:
                self.count, self.last = int(counts[-1]), time.perf_counter()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def busy() -> float:
    """Return the CPU seconds that this machine has worked."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    ticks = sum(fields[:3]) + sum(fields[5:8])
    return ticks / os.sysconf("SC_CLK_TCK")


def send(port: int, count: int, size: int, sessions: int, kept: bool) -> None:
    """Hand ``count`` messages to the MTA on ``port``; return when all are accepted."""
    program = tool("usr/sbin/smtp-source")
    options = ["-d"] if kept else []
    options += ["-s", str(sessions), "-m", str(count), "-l", str(size)]
    options += ["-f", "s@example.test", "-t", "r@dest.test", f"127.0.0.1:{port}"]
    ran = subprocess.run(
        [str(program), *options],
        env=tool_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if ran.returncode:
        raise SystemExit(f"smtp-source: {ran.stderr.strip()}")


def case(
    port: int, sink_port: int, count: int, size: int, sessions: int, kept: bool
) -> tuple[float, float, float]:
    """Run one case; return accepted and delivered a second, and CPU milliseconds a message."""
    sink = Sink(sink_port)
    try:
        before, start = busy(), time.perf_counter()
        send(port, count, size, sessions, kept)
        accepted = time.perf_counter() - start
        wait(lambda: sink.count >= count, PATIENCE, 0.01)
        delivered = sink.last - start
        cpu = busy() - before
    finally:
        sink.close()
    return count / accepted, count / delivered, cpu * 1000 / count


def our_house(root: Path, sink: int) -> tuple[House, int]:
    """Start Posthouse below ``root``, relaying to ``sink``; return it and its port."""
    house = House(root)
    port = refused_port()
    house.config.write_text(CONFIG.format(port=port, sink=sink))
    house.start("deliver", "-b")
    house.start("smtpd")
    wait(lambda: answers(port))
    return house, port


def peaks(house: House) -> Iterator[tuple[str, int]]:
    """Yield each process of ``house`` and the most memory it ever held, in octets."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            status = (process / "status").read_text()
            title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if f"MTA_CONFIG={house.config}".encode() in environment and found is not None:
            yield title, int(found[1]) * 1024


def their_postfix(root: Path, sink: int) -> Postfix | str:
    """Start Postfix below ``root``; return it, or why there is none."""
    import tests.e2e.peers.postfix as module

    # A key given twice is a warning of every process, and too many of them at the start
    # block Postfix's log, and with it Postfix.
    ours = {line.partition(" =")[0] for line in RELAY.split("\n")}
    kept = [line for line in MAIN.split("\n") if line.partition(" =")[0] not in ours]
    module.MAIN, module.MASTER = "\n".join(kept), MASTER + CLIENTS
    try:
        return Postfix(root, more=RELAY.format(sink=sink))
    except _pytest.outcomes.Skipped as skipped:
        return str(skipped)
    finally:
        module.MAIN, module.MASTER = MAIN, MASTER


def compare(systems: dict[str, tuple[int, int]], count: int, sessions: int, rounds: int) -> None:
    """Print the table: the median of each case's rounds, taken in turn."""
    print(HEAD)
    for size in SIZES:
        few = max(sessions, count * SIZES[0] * 4 // size) if size > SIZES[0] else count
        for kept in (False, True):
            results: dict[str, list[Any]] = {name: [] for name in systems}
            for _ in range(rounds):
                for name, (port, sink) in systems.items():
                    results[name].append(case(port, sink, few, size, sessions, kept))
            print(f"{size // 1024} KiB, {'kept' if kept else 'new'} connections, {few} messages")
            medians = {}
            for name, runs in results.items():
                accepted, delivered, cpu = [
                    sorted(column)[rounds // 2] for column in zip(*runs, strict=True)
                ]
                medians[name] = delivered
                print(f"  {name:20}{accepted:10.0f}/s{delivered:10.0f}/s{cpu:13.2f} ms")
            if len(medians) == 2:
                ours, theirs = medians["Posthouse"], medians["Postfix"]
                print(f"  {'ratio':20}{'':12}{ours / theirs:10.2f}")


def main() -> None:
    """Run all of it."""
    words = [int(word) for word in sys.argv[1:]]
    count, sessions, rounds = [*words, *(3000, 20, 3)[len(words) :]]
    if tool("usr/sbin/smtp-source") is None:
        print("smtp-source is not here (Debian: postfix): nothing to measure")
        return
    root = Path(os.environ.get("BENCH_DIR", "build/bench")).absolute() / f"relay.{os.getpid()}"
    (root / "ours").mkdir(parents=True)
    sinks = refused_port(), refused_port()
    house, port = our_house(root / "ours", sinks[0])
    postfix = their_postfix(root / "theirs", sinks[1])
    try:
        systems = {"Posthouse": (port, sinks[0])}
        if isinstance(postfix, str):
            print(f"without Postfix: {postfix}")
        else:
            systems["Postfix"] = (postfix.port, sinks[1])
        compare(systems, count, sessions, rounds)
        case(port, sinks[0], 1, LARGE, 1, False)
        print(f"after a message of {LARGE >> 20} MiB, the most memory of each process:")
        for title, octets in sorted(peaks(house)):
            print(f"  {octets / 1e6:6.1f} MB  {title}")
    finally:
        house.stop()
        if not isinstance(postfix, str):
            postfix.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
