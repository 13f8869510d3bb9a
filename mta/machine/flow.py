"""Flows: what each deliver tells of the queues that it serves, for who lets mail in.

    RUNTIME/flow/QUEUE.PID       "2 BACKLOG RATE DRAIN OLDEST PACED MONO": see policy.admission.Flow

A file is replaced as a whole; one whose process is gone, or that is older than
STALE, is nobody's word.

Units    MONO is the machine's monotonic clock, the same for all processes.
State    A Teller knows what it wrote last.

Invariants, each a test in tests/machine/test_flow.py
    FL1  A reader sees a whole record or none, whatever is in the folder.
    FL2  What a deliver that is dead or stuck wrote does not count.
    FL3  Nothing is written while nothing waits.
"""

from __future__ import annotations

import os

from mta.machine.ownership import give, make_directory
from mta.policy.admission import Flow
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["STALE", "Teller", "read_flows"]

STALE = 10.0  # seconds
_VERSION = "2"


class Teller:
    """Where one deliver tells of one queue; close() takes it back."""

    def __init__(self, runtime: str, queue: str) -> None:
        """Tell in RUNTIME/flow; files of delivers of this queue that are dead are removed."""
        self._path = f"{runtime}/flow/{queue}.{os.getpid()}"
        self._idle = False  # the last record says that nothing waits
        make_directory(f"{runtime}/flow")
        for name in os.listdir(f"{runtime}/flow"):
            other, _, pid = name.rpartition(".")
            if other == queue and pid.isdecimal() and not _lives(pid):
                _remove(f"{runtime}/flow/{name}")

    def tell(self, flow: Flow, mono: float) -> None:
        """Replace what was told; a folder that cannot be written is no trouble of ours."""
        idle = not flow.backlog
        if idle and self._idle:
            return
        told = (flow.backlog, flow.rate, flow.drain, flow.oldest, flow.paced, mono)
        words = [_VERSION, *map(repr, told)]
        temporary = f"{self._path}.new"
        try:
            _remove(temporary)  # whatever it is: the folder may be another user's, and we root
            with open(temporary, "x", encoding="ascii") as file:
                file.write(" ".join(words) + "\n")
            give(temporary)
            os.replace(temporary, self._path)
        except OSError:
            return
        self._idle = idle

    def close(self) -> None:
        """Say nothing any more."""
        _remove(self._path)
        _remove(f"{self._path}.new")


def read_flows(runtime: str, queues: Collection[str], mono: float) -> dict[str, list[Flow]]:
    """Return what is told now of ``queues``; a queue of which nothing is told is left out."""
    found: dict[str, list[Flow]] = {}
    try:
        names = sorted(os.listdir(f"{runtime}/flow"))
    except OSError:
        return found
    for name in names:
        queue, _, pid = name.rpartition(".")
        if queue in queues and pid.isdecimal() and _lives(pid):
            flow = _read(f"{runtime}/flow/{name}", mono)
            if flow is not None:
                found.setdefault(queue, []).append(flow)
    return found


def _read(path: str, mono: float) -> Flow | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            words = file.read(200).split()
        version, backlog, *rest = words
        rate, drain, oldest, paced, at = map(float, rest)
        flow = Flow(int(backlog), rate, drain, oldest, int(paced))
    except (OSError, ValueError):
        return None
    fresh = 0.0 <= mono - at < STALE or not flow.backlog
    return flow if version == _VERSION and fresh else None


def _lives(pid: str) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
