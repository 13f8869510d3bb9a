"""One-shot ``submit``: wall time beside a bare interpreter, medians of 40, measured in turns.

Run as ``python tests/bench/bench_submit.py``.  Writes the commands of
``mta.launcher`` and a configuration into a temporary folder, waits until the
configuration's snapshot counts, and sends a message of 1 KiB 40 times.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mta.launcher import install

ROUNDS = 40
CONFIG = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {dir: log/, formats: [postfix, json]}
local:
  domains: [example.test]
  users: [alice, bob]
  mailbox: maildir:mail/{user}/
channels:
  - {name: local, program: local, domains: $local}
  - {name: smtp, program: smtp, domains: "*"}
"""
MESSAGE = b"From: bob@example.test\nTo: alice@example.test\nSubject: a figure\n\n"


def once(command: list[str], message: bytes, environ: dict[str, str]) -> float:
    """Return the wall time in seconds of one run that must succeed."""
    begun = time.perf_counter()
    subprocess.run(command, input=message, env=environ, check=True)
    return time.perf_counter() - begun


def sync_time(folder: Path) -> float:
    """Return the median seconds of one append and fdatasync."""
    times = []
    with open(folder / "sync", "wb", buffering=0) as file:
        for _ in range(ROUNDS):
            file.write(b"x" * 1500)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        (folder / "mta.yaml").write_text(CONFIG)
        install(str(folder / "bin"))
        environ = {**os.environ, "MTA_CONFIG": str(folder / "mta.yaml")}
        message = MESSAGE + b"One line of the body, as long as lines are.\n" * 22
        commands = {
            "bare": [sys.executable, "-I", "-S", "-c", "pass"],
            "submit": [str(folder / "bin" / "submit"), "alice@example.test"],
        }
        once(commands["submit"], message, environ)
        time.sleep(1.2)  # a snapshot counts when its files have been at rest for a second
        once(commands["submit"], message, environ)
        times: dict[str, list[float]] = {kind: [] for kind in commands}
        for _ in range(ROUNDS):
            for kind, command in commands.items():
                times[kind].append(once(command, message, environ))
        bare, submit = (statistics.median(times[kind]) * 1000 for kind in commands)
        print(f"bare python -I -S -c pass   {bare:6.1f} ms")
        print(f"submit, {len(message)} octets         {submit:6.1f} ms")
        print(f"ratio                       {submit / bare:6.2f}   (goal: below 4)")
        print(f"one fdatasync here          {sync_time(folder) * 1000:6.2f} ms")


if __name__ == "__main__":
    main()
