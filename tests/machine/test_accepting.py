"""AC1 to AC3: who is let in, who waits, and what trouble does."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

from mta.machine.accepting import Accepting


class Client(asyncio.Protocol):
    def __init__(self, came: list[Client]) -> None:
        self.came = came
        self.lines = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.came.append(self)

    def data_received(self, data: bytes) -> None:
        self.lines += data


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def play(test: Callable[[socket.socket], Awaitable[None]]) -> None:
    async def run() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        await test(sock)
        sock.close()

    asyncio.run(run())


def connect(sock: socket.socket) -> socket.socket:
    return socket.create_connection(sock.getsockname())


def test_ac1_nobody_comes_without_leave_and_who_waits_comes_later() -> None:
    async def test(sock: socket.socket) -> None:
        came: list[Client] = []
        allowed = [2]

        def leave() -> float:
            if allowed[0] <= 0:
                return 0.02
            allowed[0] -= 1
            return 0.0

        server = Accepting(sock, lambda: Client(came), leave)
        clients = [connect(sock) for _ in range(5)]
        await until(lambda: len(came) == 2)
        clients[0].sendall(b"those who are in are served")
        await until(lambda: any(c.lines for c in came))
        assert len(came) == 2
        allowed[0] = 2
        await until(lambda: len(came) == 4)
        allowed[0] = 99
        await until(lambda: len(came) == 5)
        server.close()
        for each in clients:
            each.close()

    play(test)


class Poor:
    """A listening socket whose system has no descriptors at first."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.troubles = sock, 2

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        if self.troubles:
            self.troubles -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self.sock.accept()

    def close(self) -> None:
        self.sock.close()


def test_ac2_a_lack_of_descriptors_is_waited_out(monkeypatch) -> None:
    monkeypatch.setattr("mta.machine.accepting.TROUBLE", 0.01)

    async def test(sock: socket.socket) -> None:
        came: list[Client] = []
        poor = Poor(sock)
        server = Accepting(poor, lambda: Client(came), lambda: 0.0)  # type: ignore[arg-type]
        client = connect(sock)
        await until(lambda: len(came) == 1)
        assert poor.troubles == 0
        server.close()
        client.close()

    play(test)


def test_ac3_after_the_end_nobody_comes() -> None:
    async def test(sock: socket.socket) -> None:
        came: list[Client] = []
        open_now = [False]
        server = Accepting(sock, lambda: Client(came), lambda: 0.0 if open_now[0] else 0.01)
        client = connect(sock)
        await asyncio.sleep(0.03)
        server.close()
        server.close()
        open_now[0] = True
        await asyncio.sleep(0.05)
        assert not came
        client.close()

    play(test)
