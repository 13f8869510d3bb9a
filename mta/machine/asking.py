"""Questions to running delivers: what keeps a job, by datagram, with a time limit for all.

    RUNTIME/wake/QUEUE.PID   "?NAME SERIAL", then at most NAMES lines "HOUR/ID.N-TAG.HOST"
    RUNTIME/NAME             "SERIAL ANSWER": the answer, at a socket of the asker's own

An answer is somebody else's to read (deliver/questions.py).  A deliver that is busy
answers nothing, and costs what is left of the limit once; one that is gone costs nothing,
also where another process has its pid by now.

Units    Seconds; an answer has at most ANSWER octets.
"""

from __future__ import annotations

import os
import select
import time

from mta.machine.wake import Ear, send
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ANSWER", "NAMES", "Answers", "Question", "ask", "read_question", "tell"]

NAMES = 16  # jobs of one question
ANSWER = 1 << 17
PREFIX = "asked."  # of the sockets that answers come to


@frozen
class Question:
    """Who asks (the name of a socket), which of his questions it is, and about which jobs."""

    name: str
    serial: str
    files: tuple[str, ...]


@frozen
class Answers:
    """What came by the pid that sent it; queues and pids of those that were silent."""

    came: tuple[tuple[int, bytes], ...]
    silent: tuple[tuple[str, int], ...]


def read_question(datagram: bytes) -> Question | None:
    """Return the question that ``datagram`` (without its "?") is; None if it is none."""
    head, *files = datagram.decode("utf-8", "surrogateescape").split("\n")
    name, _, serial = head.partition(" ")
    signs = name.removeprefix(PREFIX)
    if name == signs or not signs.replace(".", "").isdecimal() or len(serial) > 20:
        return None
    return Question(name, serial, tuple(files[:NAMES]))


def tell(runtime: str, question: Question, answer: bytes) -> bool:
    """Send ``answer`` without waiting; return whether it was taken."""
    octets = f"{question.serial} ".encode() + answer
    return len(octets) <= ANSWER and send(runtime, question.name, [octets]) == 1


def ask(runtime: str, jobs: Mapping[str, Sequence[str]], limit: float) -> Answers:
    """Ask every deliver of each queue about its files of ``jobs``; wait ``limit`` for all.

    A deliver of several queues is asked for each; one that misses an answer is silent.
    """
    waiting = _questions(runtime, jobs)
    if not waiting:
        return Answers((), ())
    name = f"{PREFIX}{os.getpid()}"
    ear = Ear(runtime, name)
    try:
        _open_to_owner(f"{runtime}/{name}", runtime)
        came = _converse(runtime, name, ear, waiting, time.monotonic() + limit)
    finally:
        ear.close()
    silent = {(ear.rpartition(".")[0], pid) for ear, pid, _ in waiting.values()}
    return Answers(tuple(came), tuple(sorted(silent)))


def _questions(runtime: str, jobs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, int, str]]:
    """Return by serial number: whose ear, its pid, and the names to be asked about."""
    try:
        ears = sorted(os.listdir(f"{runtime}/wake"))
    except OSError:
        return {}
    made: dict[str, tuple[str, int, str]] = {}
    for queue, files in jobs.items():
        for at in range(0, len(files), NAMES):
            lines = "\n".join(files[at : at + NAMES])
            for ear in ears:
                of, _, pid = ear.rpartition(".")
                if of == queue and pid.isdecimal() and os.path.exists(f"/proc/{pid}"):
                    made[str(len(made))] = ear, int(pid), lines
    return made


def _open_to_owner(path: str, runtime: str) -> None:
    """Let the mail system's user answer, and nobody else, also where root asks."""
    os.chmod(path, 0o600)
    if os.geteuid() == 0:
        owner = os.stat(runtime)
        os.chown(path, owner.st_uid, owner.st_gid)


def _converse(
    runtime: str, name: str, ear: Ear, waiting: dict[str, tuple[str, int, str]], deadline: float
) -> list[tuple[int, bytes]]:
    """Ask what is in ``waiting``, and take out of it what was answered."""
    unsent, came = list(waiting), []
    poll = select.poll()
    poll.register(ear.fileno(), select.POLLIN)
    while waiting and (left := deadline - time.monotonic()) > 0:
        unsent = [serial for serial in unsent if not _put(runtime, name, serial, waiting)]
        if waiting:
            poll.poll(min(left, 0.01 if unsent else left) * 1000)
        for datagram in ear.read(size=ANSWER):
            serial, _, answer = datagram.partition(b" ")
            asked = waiting.pop(serial.decode("ascii", "replace"), None)
            if asked is not None:
                came.append((asked[1], answer))
    return came


def _put(runtime: str, name: str, serial: str, waiting: dict[str, tuple[str, int, str]]) -> bool:
    """Ask one question; return whether it need not be asked again."""
    if serial not in waiting:
        return True
    ear, _, lines = waiting[serial]
    datagram = f"?{name} {serial}\n{lines}".encode("utf-8", "surrogateescape")
    sent = send(runtime, f"wake/{ear}", [datagram])
    if sent is None:
        del waiting[serial]  # nobody listens
    return sent != 0  # 0: its queue is full just now
