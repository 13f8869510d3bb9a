"""Who runs: the delivers and the intake of one runtime directory, told by their sockets.

There are no pid files to be wrong: a deliver's socket bears its pid, and
/proc says whether that lives and what it is doing (its title).

Source   RUNTIME/intake and RUNTIME/wake/QUEUE.PID: see machine/wake.py.
"""

from __future__ import annotations

import os

from mta.machine.wake import wake_intake
from mta.values import frozen

__all__ = ["Deliver", "delivers", "intake_runs"]


@frozen
class Deliver:
    """A deliver that runs: its process, its title, and the queues that it listens for."""

    pid: int
    title: str
    queues: tuple[str, ...]


def intake_runs(runtime: str) -> bool:
    """Tell whether somebody takes in what is accepted; asking makes him look."""
    return wake_intake(runtime)


def delivers(runtime: str) -> list[Deliver]:
    """Return the delivers that run, by pid."""
    try:
        names = os.listdir(os.path.join(runtime, "wake"))
    except FileNotFoundError:
        return []
    queues: dict[int, list[str]] = {}
    for name in sorted(names):
        queue, _, pid = name.rpartition(".")
        if pid.isdecimal():
            queues.setdefault(int(pid), []).append(queue)
    found = ((pid, _title(pid)) for pid in sorted(queues))
    return [Deliver(pid, title, tuple(queues[pid])) for pid, title in found if title]


def _title(pid: int) -> str:
    """Return how a process calls itself; "" if there is none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            octets = file.read(4096)
    except OSError:
        return ""
    words = octets.rstrip(b"\0").split(b"\0")
    return b" ".join(words).decode("utf-8", "replace").strip()
