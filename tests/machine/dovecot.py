"""A Dovecot's auth socket for tests: the server's side of its protocol, on a Unix socket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

GREETING = (
    "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tEXTERNAL\tprivate\n"
    "MECH\tXOAUTH2\nSPID\t77\nCUID\t12\nCOOKIE\tabcdef\nNEWS\tto\tcome\nDONE\n"
)


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


class FakeDovecot:
    """Knows alice, whose password is "secret"; ``odd`` may answer a line in its place."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.greeting = GREETING
        self.odd: Callable[[str], str | None] = lambda line: None
        self.lines: list[str] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._mechanisms: dict[str, str] = {}
        self._names: dict[str, bytes] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._talk, self.path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.drop()
            await self._server.wait_closed()
            self._server = None

    def drop(self) -> None:
        """End the connections there are."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        writer.write(self.greeting.encode())
        try:
            while octets := await reader.readline():
                line = octets.decode().removesuffix("\n")
                self.lines.append(line)
                answer = self.odd(line)
                writer.write((self._answer(line) if answer is None else answer).encode())
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answer(self, line: str) -> str:
        word, *rest = line.split("\t")
        if word not in ("AUTH", "CONT"):
            return ""
        number, *rest = rest
        response: bytes | None = None
        if word == "AUTH":
            self._mechanisms[number] = rest[0]
            assert rest[1] == "service=smtp"
            if rest[-1].startswith("resp="):
                response = base64.b64decode(rest[-1][5:], validate=True)
        else:
            response = base64.b64decode(rest[0] if rest else "", validate=True)
        return self._step(number, response)

    def _step(self, number: str, response: bytes | None) -> str:
        """PLAIN and LOGIN as Dovecot does them."""
        if self._mechanisms[number] == "LOGIN":
            if response is None:
                return f"CONT\t{number}\t{b64(b'Username:')}\n"
            if number not in self._names:
                self._names[number] = response
                return f"CONT\t{number}\t{b64(b'Password:')}\n"
            return self._verdict(number, self._names.pop(number), response)
        if response is None:
            return f"CONT\t{number}\t\n"
        parts = response.split(b"\0")
        if len(parts) != 3:
            return f"FAIL\t{number}\treason=invalid input\n"
        return self._verdict(number, parts[1], parts[2])

    @staticmethod
    def _verdict(number: str, user: bytes, password: bytes) -> str:
        if user == b"slow":
            return ""
        name = user.decode()
        if user == b"broken":
            return f"FAIL\t{number}\tuser={name}\tcode=temp_fail\n"
        if (user, password) == (b"alice", b"secret"):
            return f"OK\t{number}\tuser=alice\tpass=x\n"
        return f"FAIL\t{number}\tuser={name}\treason=no\x01tway\n"


@asynccontextmanager
async def dovecot(path: Path) -> AsyncIterator[FakeDovecot]:
    fake = FakeDovecot(path / "auth")
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
