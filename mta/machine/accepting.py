"""Accepting connections no faster than somebody allows: what comes faster waits in the kernel.

asyncio's own servers accept whatever has come.  This one asks before each
connection; while the answer is no it does not look at its socket, and serves
those who are in as if nobody else had come.

Source   sendmail's ConnectionRateThrottle.
Units    Seconds.
State    One listening socket; the tasks that make connections of what was accepted.

Invariants, each a test in tests/machine/test_accepting.py
    AC1  Nobody is accepted without leave, and who waits is accepted once there is leave.
    AC2  A lack of descriptors is waited out; the server goes on.
    AC3  After close() nobody is accepted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Accepting"]

TROUBLE = 1.0  # seconds of rest when the system has no descriptor or memory for us
AT_ONCE = 64  # connections between two turns of those who are in


class Accepting:
    """Accepts on ``sock`` from the moment it is made, until close()."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        leave: Callable[[], float],
    ) -> None:
        """Give each connection to a ``protocol``.

        ``leave`` returns 0.0 if one more may be accepted now, which it counts, else
        for how many seconds none may.
        """
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._protocol = protocol
        self._leave = leave
        self._tasks: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._open = True
        self._loop.add_reader(sock.fileno(), self._ready)

    def close(self) -> None:
        """Accept nobody any more, and close the socket."""
        if self._open:
            self._open = False
            if self._timer is not None:
                self._timer.cancel()
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _ready(self) -> None:
        for _ in range(AT_ONCE):
            wait = self._leave()
            if wait > 0:
                self._rest(wait)
                return
            try:
                made, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another worker was faster, or it is gone
            except OSError:
                self._rest(TROUBLE)
                return
            made.setblocking(False)
            task = self._loop.create_task(self._begin(made))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self, made: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, made)
        except OSError:
            made.close()

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._timer = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock.fileno(), self._ready)
