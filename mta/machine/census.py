"""Who runs: the programs of one runtime directory, told by their sockets.

There are no pid files to be wrong: a deliver's socket bears its pid, and so does
smtpd's; /proc says whether that lives and what it is doing (its title).

Source   RUNTIME/intake, RUNTIME/smtpd.PID, RUNTIME/wake/QUEUE.PID: see machine/wake.py.
"""

from __future__ import annotations

import os

from mta.machine.wake import wake_intake
from mta.values import frozen

__all__ = ["Deliver", "delivers", "forget_dead", "intake_runs", "listeners", "workers"]

_LISTENER = "smtpd."


@frozen
class Deliver:
    """A deliver that runs: its process, its title, and the queues that it listens for."""

    pid: int
    title: str
    queues: tuple[str, ...]


def intake_runs(runtime: str) -> bool:
    """Tell whether somebody takes in what is accepted; asking makes him look."""
    return wake_intake(runtime)


def listeners(runtime: str) -> list[tuple[int, str]]:
    """Return each smtpd that runs: its process and its title."""
    found = ((pid, _title(pid)) for pid in _listener_pids(runtime))
    return [(pid, title) for pid, title in found if title.startswith("smtpd")]


def workers(pid: int) -> list[tuple[int, str]]:
    """Return the workers of the smtpd ``pid``, with their titles."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            pids = [int(word) for word in file.read().split()]
    except (OSError, ValueError):  # it has ended, or the kernel does not tell
        return []
    found = ((child, _title(child)) for child in sorted(pids))
    return [(child, title) for child, title in found if title.startswith("smtpd[")]


def forget_dead(runtime: str) -> None:
    """Remove what an smtpd that was killed has left."""
    for pid in _listener_pids(runtime):
        if not _title(pid):
            os.unlink(os.path.join(runtime, f"{_LISTENER}{pid}"))


def _listener_pids(runtime: str) -> list[int]:
    try:
        names = os.listdir(runtime)
    except FileNotFoundError:
        return []
    pids = [n.removeprefix(_LISTENER) for n in names if n.startswith(_LISTENER)]
    return sorted(int(pid) for pid in pids if pid.isdecimal())


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
