"""An SMTP server on several loopback addresses that writes down who was asked for what.

It is no program of others: it shows what ours says where theirs would not tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.e2e.house import answers, refused_port

__all__ = ["Recorder", "Session", "common_port"]

EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 1000000", "ENHANCEDSTATUSCODES")


@dataclass
class Session:
    """One connection: the address it came to, what was said, and what was sent."""

    address: str
    commands: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    protocol: str = ""  # of TLS


def common_port(addresses: Sequence[str]) -> int:
    """Return a port that nobody listens on at any of ``addresses``."""
    while True:
        port = refused_port()
        if not any(answers(port, address) for address in addresses):
            return port


class Recorder:
    """Takes all mail at ``addresses``; offers ``extensions``, and STARTTLS with ``context``."""

    def __init__(
        self,
        addresses: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
        extensions: Sequence[str] = EXTENSIONS,
        context: ssl.SSLContext | None = None,
        refuse: str = "",
    ) -> None:
        self.port = port or common_port(addresses)
        self.sessions: list[Session] = []
        self._extensions = [*extensions]
        self._context = context
        self._refuse = refuse  # a reply to each RCPT
        families = [socket.AF_INET6 if ":" in a else socket.AF_INET for a in addresses]
        self._sockets = [
            socket.create_server((address, self.port), family=family, backlog=512)
            for address, family in zip(addresses, families, strict=True)
        ]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            for one in self._sockets:
                await asyncio.start_server(self._talk, sock=one, limit=1 << 20)

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(writer.get_extra_info("sockname")[0])
        self.sessions.append(session)
        gone = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*gone):
                await self._dialogue(session, reader, writer)
        finally:
            writer.close()

    async def _dialogue(
        self, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")

        say("220 recorder.test ESMTP")
        accepted = 0
        while True:
            line = await reader.readuntil(b"\r\n")
            session.commands.append(line[:-2].decode("utf-8", "surrogateescape"))
            verb = line[:4].upper().rstrip()
            if verb in (b"EHLO", b"LHLO"):
                offered = [*self._extensions]
                if self._context is not None and not session.protocol:
                    offered.append("STARTTLS")
                lines = ["recorder.test", *offered]
                say("\r\n".join([f"250-{text}" for text in lines[:-1]] + [f"250 {lines[-1]}"]))
            elif verb == b"STAR" and self._context is not None:
                say("220 2.0.0 go on")
                await writer.start_tls(self._context)
                session.protocol = writer.get_extra_info("ssl_object").version()
            elif verb == b"MAIL":
                accepted = 0
                say("250 2.1.0 ok")
            elif verb == b"RCPT":
                accepted += not self._refuse
                say(self._refuse or "250 2.1.5 ok")
            elif verb == b"BDAT":
                session.messages.append(await reader.readexactly(int(line.split()[1])))
                say("250 2.0.0 kept")
            elif verb == b"DATA" and not accepted:
                say("554 5.5.1 nobody to send it to")
            elif verb == b"DATA":
                say("354 go on")
                text = b""
                while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
                    text += line.removeprefix(b".")
                session.messages.append(text)
                say("250 2.0.0 kept")
            elif verb == b"QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("250 2.0.0 ok")

    def got(self) -> list[tuple[str, bytes]]:
        """Return the messages so far, each with the address it came to."""
        return [(s.address, text) for s in self.sessions for text in s.messages]

    def close(self) -> None:
        def stop() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.1, self._loop.stop)

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(5)
        for one in self._sockets:
            one.close()
