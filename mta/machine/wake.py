"""Wake-ups: Unix datagrams from writers to intake, and from intake to delivers.

    RUNTIME/intake               "SEGMENT OFFSET": synced so far
    RUNTIME/wake/QUEUE.PID       "HOUR/ID.N-TAG.HOST" lines: new jobs; "*": look for yourself;
                                 "!HOST": what waits for that host is to be tried now (ETRN);
                                 "+" before such lines: look at these again; "+*": at all;
                                 "?…": what keeps these jobs: see machine/asking.py

A wake-up may be lost: then the next survey or sweep finds the work.  Nothing
here waits, and nothing here fails a message.

Units    A datagram is at most DATAGRAM octets.
"""

from __future__ import annotations

import _socket
import os
import time

from mta.machine.ownership import give, make_directory
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AGAIN", "DATAGRAM", "Bell", "Ear", "Recall", "send", "wake_host", "wake_intake"]

DATAGRAM = 1 << 14
HELD = 20_000  # names kept for one deliver that does not listen just now; more become "*"
EVERYTHING = b"*"
AGAIN, ALL_AGAIN = b"+", b"+*"
RECALLED = 2000  # names of one queue that are told one by one
PATIENCE = 2.0  # seconds that a deliver has to hear of a change


def _address(runtime: str, name: str) -> tuple[str, int]:
    """Return a path short enough for a Unix address, and a descriptor to close, or -1.

    An address holds 107 octets; a longer path is reached through its directory.
    """
    path = f"{runtime}/{name}"
    if len(os.fsencode(path)) <= 107:
        return path, -1
    directory, _, last = path.rpartition("/")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{fd}/{last}", fd


def send(runtime: str, name: str, datagrams: Iterable[bytes]) -> int | None:
    """Send what can be sent without waiting; return how many, None if nobody listens."""
    sent, fd = 0, -1
    try:
        path, fd = _address(runtime, name)
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK, 0)
    except OSError:
        if fd >= 0:
            os.close(fd)
        return None
    try:
        for data in datagrams:
            sock.sendto(data, path)
            sent += 1
    except (BlockingIOError, InterruptedError):
        pass
    except OSError:
        return None
    finally:
        sock.close()
        if fd >= 0:
            os.close(fd)
    return sent


def wake_intake(runtime: str, segment: str = "", offset: int = 0) -> bool:
    """Tell intake that ``segment`` is synced up to ``offset``; False if none listens."""
    return send(runtime, "intake", [f"{segment} {offset}".encode()]) is not None


def wake_host(runtime: str, queue: str, host: str) -> bool:
    """Ask every deliver of ``queue`` to try now what waits for ``host``; False if none hears."""
    try:
        ears = os.listdir(f"{runtime}/wake")
    except OSError:
        return False
    mine = [ear for ear in ears if ear.rpartition(".")[0] == queue]
    datagram = [b"!" + host.encode("utf-8", "surrogateescape")]
    sent = [send(runtime, f"wake/{ear}", datagram) for ear in mine]
    return any(sent)


class Ear:
    """A socket that wake-ups come to; close() takes its name away."""

    def __init__(self, runtime: str, name: str) -> None:
        """Listen at RUNTIME/``name``; a socket of a dead process of that name is replaced."""
        self._path = f"{runtime}/{name}"
        make_directory(os.path.dirname(self._path))
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        kind = _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        self._sock = _socket.socket(_socket.AF_UNIX, kind, 0)
        address, fd = _address(runtime, name)
        try:
            self._sock.bind(address)
        finally:
            if fd >= 0:
                os.close(fd)
        give(self._path)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._sock.fileno()

    def read(self, most: int = 1000, size: int = DATAGRAM) -> list[bytes]:
        """Return the datagrams that have come, up to ``most``; none if there are none."""
        came: list[bytes] = []
        try:
            while len(came) < most:
                came.append(self._sock.recv(size))
        except (BlockingIOError, InterruptedError):
            pass
        return came

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


class Bell:
    """What intake rings to wake delivers; keeps what a busy deliver could not take yet."""

    def __init__(self, runtime: str) -> None:
        """Ring the delivers that listen below RUNTIME/wake."""
        self._runtime = runtime
        self._held: dict[str, list[str] | None] = {}  # ear -> names, or None for "look yourself"

    def _ears(self) -> list[str]:
        try:
            return os.listdir(f"{self._runtime}/wake")
        except FileNotFoundError:
            return []

    def ring(self, queue: str, files: list[str]) -> None:
        """Tell every deliver of ``queue`` of its new jobs, "HOUR/ID.N-TAG.HOST" each."""
        for ear in self._ears():
            if ear.rpartition(".")[0] == queue:
                held = self._held.setdefault(ear, [])
                if held is not None:
                    held += files
                    if len(held) > HELD:
                        self._held[ear] = None
                self._send(ear)

    @property
    def pending(self) -> bool:
        """Whether retry() has anything to do."""
        return bool(self._held)

    def retry(self) -> None:
        """Tell again those who could not listen."""
        for ear in list(self._held):
            self._send(ear)

    def _send(self, ear: str) -> None:
        names = self._held[ear]
        datagrams, counts = _datagrams(names)
        sent = send(self._runtime, f"wake/{ear}", datagrams)
        if sent is None or sent == len(datagrams):
            del self._held[ear]  # told all, or nobody there
            if sent is None:
                _remove_dead(f"{self._runtime}/wake/{ear}")
        elif names is not None:
            del names[: sum(counts[:sent])]


def _datagrams(names: list[str] | None) -> tuple[list[bytes], list[int]]:
    """Return ``names`` as datagrams, and how many names each holds."""
    if names is None:
        return [EVERYTHING], [0]
    datagrams: list[bytes] = []
    counts: list[int] = []
    lines: list[bytes] = []
    octets = 0
    for name in names:
        line = name.encode("utf-8", "surrogateescape")
        if octets + len(line) + 2 > DATAGRAM:
            datagrams.append(b"\n".join(lines))
            counts.append(len(lines))
            lines, octets = [], 0
        lines.append(line)
        octets += len(line) + 1
    datagrams.append(b"\n".join(lines))
    counts.append(len(lines))
    return datagrams, counts


def _remove_dead(path: str) -> None:
    """Remove the socket of a deliver that was killed: its name would cost every ring."""
    pid = path.rpartition(".")[2]
    if pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


class Recall:
    """What a command has done to jobs, for the delivers that know them already.

    Unlike Bell it is used once, by somebody who can wait a moment.
    """

    def __init__(self, runtime: str) -> None:
        """Tell the delivers that listen below RUNTIME/wake."""
        self._runtime = runtime
        self._files: dict[str, list[str]] = {}
        self._many: set[str] = set()

    def add(self, queue: str, file: str) -> None:
        """Have the delivers of ``queue`` look again at the job "HOUR/ID.N-TAG.HOST"."""
        files = self._files.setdefault(queue, [])
        if len(files) < RECALLED:
            files.append(file)
        else:
            self._many.add(queue)

    def send(self) -> None:
        """Tell them what was added."""
        try:
            ears = os.listdir(f"{self._runtime}/wake") if self._files else []
        except OSError:
            ears = []
        for ear in ears:
            queue = ear.rpartition(".")[0]
            if queue in self._files:
                lines = [ALL_AGAIN]
                if queue not in self._many:
                    lines = [AGAIN + data for data in _datagrams(self._files[queue])[0]]
                self._tell(ear, lines)
        self._files, self._many = {}, set()

    def _tell(self, ear: str, datagrams: list[bytes]) -> None:
        limit = time.monotonic() + PATIENCE
        while datagrams:
            sent = send(self._runtime, f"wake/{ear}", datagrams)
            if sent is None or time.monotonic() > limit:
                return  # it is gone, or hangs: it reads the jobs when it comes to them
            datagrams = datagrams[sent:]
            if datagrams:
                time.sleep(0.01)
