"""Simulated hosts, hundreds if need be: good, silent, down or hanging up, each on its address.

They and the name server that knows them are one process (``hosts_program``), so that what
they do takes no time of the test's; what it tells is gathered here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.house import refused_port, wait

__all__ = ["Arrival", "Hosts", "addresses", "percentile"]

PROGRAM = Path(__file__).with_name("hosts_program.py")


class Arrival(NamedTuple):
    """A message that a host took: when, where, for how many, and what its header says."""

    at: float
    address: str
    recipients: int
    sent: float  # 0.0: it does not say
    mark: str

    @property
    def latency(self) -> float:
        return self.at - self.sent


def addresses(net: int, count: int) -> list[str]:
    """Return ``count`` addresses of 127.0.NET."""
    return [f"127.0.{net + n // 250}.{n % 250 + 1}" for n in range(count)]


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Hosts:
    """``hosts`` by address: behaviour, delay, group.  ``names``: the address of a name's mail."""

    def __init__(
        self,
        root: Path,
        hosts: Mapping[str, Mapping[str, Any]],
        names: Mapping[str, str] | None = None,
        port: int = 0,
        dns: tuple[str, int] | None = None,
    ) -> None:
        """Serve on ``port`` of every address, and names on ``dns``."""
        self.port = port or refused_port()
        self.dns = dns or ("127.0.0.1", refused_port())
        self.lock = threading.Lock()
        self.arrivals: list[Arrival] = []
        self._marks: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()  # transactions at a time, by group; "*" is all
        self.widest: Counter[str] = Counter()  # recipients of one transaction, by group
        self._ready = threading.Event()
        spec = {"port": self.port, "hosts": hosts, "names": names or {}, "dns": self.dns}
        path = root / "hosts.json"
        path.write_text(json.dumps(spec))
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._ready.wait(60):
            self.close()
            raise AssertionError("the hosts do not start")

    @property
    def nameserver(self) -> str:
        return f"{self.dns[0]}:{self.dns[1]}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, *words = line.split()
            with self.lock:
                if kind == "m":
                    at, address, recipients, sent, mark = words
                    since = 0.0 if sent == "-" else float(sent)
                    self.arrivals.append(Arrival(float(at), address, int(recipients), since, mark))
                    self._marks[mark] += 1
                elif kind == "h":
                    self.connections[words[0]] = int(words[1])
                    self.open[words[0]] = int(words[2])
                elif kind == "r":
                    self.refused[words[0]] = int(words[1])
                elif kind == "g":
                    self.peak[words[0]], self.widest[words[0]] = int(words[1]), int(words[2])
            if kind == "ready":
                self._ready.set()

    def behave(self, address: str, behaviour: str) -> None:
        """Make a host good, silent, down or hang-up."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{address} {behaviour}\n")
        self._process.stdin.flush()

    def got(self, mark: str = "") -> list[Arrival]:
        """Return what has arrived with ``mark``, or at all."""
        with self.lock:
            return [a for a in self.arrivals if not mark or a.mark == mark]

    def count(self, mark: str = "") -> int:
        with self.lock:
            return self._marks[mark] if mark else len(self.arrivals)

    def await_count(self, mark: str, count: int, within: float) -> list[Arrival]:
        """Wait until ``count`` messages with ``mark`` have arrived."""
        wait(lambda: self.count(mark) >= count, within)
        return self.got(mark)

    def drained(self, mark: str, count: int, within: float) -> list[Arrival]:
        """Return what comes of ``count`` messages within so many seconds, all or not."""
        deadline = time.monotonic() + within
        while self.count(mark) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.got(mark)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
