"""The program behind ``hosts.Hosts``: SMTP servers on many addresses of loopback, and their names.

    python hosts_program.py SPEC.json

A line of standard input, ``ADDRESS BEHAVIOUR``, changes a host while it runs:

    good     takes all mail, ``delay`` seconds after its end; "gone…" is no user of it,
             and the mailbox of "later…" is full
    silent   accepts connections, and says nothing
    down     does not listen: connections are refused
    hang-up  closes each connection at once

Standard output tells, a line each: ``ready``; ``m TIME ADDRESS RECIPIENTS SENT MARK`` for a
message, with the fields Sent and Mark of its header (``-`` if it has none); ``r ADDRESS COUNT``
for recipients refused; ``h ADDRESS CONNECTIONS OPEN`` of a host, ever and now; ``g GROUP
PEAK RECIPIENTS`` of a group, the most transactions at a time and recipients of one ("*" is all).
TIME is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

FLUSH = 0.02
FIELD = re.compile(rb"(?im)^(sent|mark): *(\S+)")
A, CNAME, MX, SOA = 1, 5, 15, 6


class World:
    """All hosts, and what there is to tell of them."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.hosts: dict[str, dict[str, Any]] = spec["hosts"]
        self.servers: dict[str, asyncio.Server] = {}
        self.lines: list[str] = []
        self.changed: set[tuple[str, str]] = set()
        self.connections: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.widest: Counter[str] = Counter()

    async def behave(self, address: str, behaviour: str) -> None:
        """Make a host good, silent, down or hanging up."""
        host = self.hosts[address]
        host["behaviour"] = behaviour
        server = self.servers.pop(address, None)
        if server is not None:
            server.close()
        if behaviour != "down":
            loop = asyncio.get_running_loop()
            self.servers[address] = await loop.create_server(
                lambda: Talk(self, address), address, self.spec["port"], backlog=1024
            )

    def _groups(self, address: str) -> tuple[str, ...]:
        group = self.hosts[address].get("group")
        return ("*", group) if group else ("*",)

    def began(self, address: str) -> None:
        """A transaction has begun at a host."""
        for group in self._groups(address):
            self.busy[group] += 1
            self.peak[group] = max(self.peak[group], self.busy[group])
            self.changed.add(("g", group))

    def ended(self, address: str, recipients: int) -> None:
        """A transaction has ended, with so many recipients that were accepted."""
        for group in self._groups(address):
            self.busy[group] -= 1
            self.widest[group] = max(self.widest[group], recipients)
            self.changed.add(("g", group))

    def flush(self) -> None:
        """Write what is new."""
        asyncio.get_running_loop().call_later(FLUSH, self.flush)
        for kind, name in self.changed:
            if kind == "h":
                self.lines.append(f"h {name} {self.connections[name]} {self.open[name]}")
            elif kind == "r":
                self.lines.append(f"r {name} {self.refused[name]}")
            else:
                self.lines.append(f"g {name} {self.peak[name]} {self.widest[name]}")
        self.changed.clear()
        if self.lines:
            text = "\n".join(self.lines) + "\n"
            self.lines.clear()
            sys.stdout.write(text)
            sys.stdout.flush()


class Talk(asyncio.Protocol):
    """One connection to a host."""

    def __init__(self, world: World, address: str) -> None:
        self._world = world
        self._address = address
        self._host = world.hosts[address]
        self._buffer = bytearray()
        self._in_data = False
        self._recipients = -1  # of the transaction under way; -1 = there is none
        self._waiting = False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._count(1)
        behaviour = self._host["behaviour"]
        if behaviour == "good":
            transport.write(b"220 host.test ESMTP\r\n")
        elif behaviour == "hang-up":
            transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._count(-1)
        self._end()

    def _count(self, step: int) -> None:
        self._world.connections[self._address] += step > 0
        self._world.open[self._address] += step
        self._world.changed.add(("h", self._address))

    def _end(self) -> None:
        if self._recipients >= 0:
            self._world.ended(self._address, self._recipients)
            self._recipients = -1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._host["behaviour"] == "good":
            self._work()

    def _work(self) -> None:
        out: list[bytes] = []
        while not self._waiting:
            if self._in_data:
                end = (
                    0 if self._buffer.startswith(b".\r\n") else self._buffer.find(b"\r\n.\r\n") + 2
                )
                if end == 1:
                    break
                text = bytes(self._buffer[:end])
                del self._buffer[: end + 3]
                self._take(text, out)
            else:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    break
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                out.append(self._command(line))
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))
            if out[-1].startswith(b"221"):
                self._transport.close()

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-host.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n"
        if verb == b"MAIL":
            self._end()
            self._recipients = 0
            self._world.began(self._address)
            return b"250 2.1.0 ok\r\n"
        if verb == b"RCPT":
            return self._recipient(line[8:].lstrip())
        if verb == b"DATA":
            self._in_data = self._recipients > 0
            return b"354 go on\r\n" if self._in_data else b"554 5.5.1 to whom?\r\n"
        if verb == b"RSET":
            self._end()
        return b"221 2.0.0 bye\r\n" if verb == b"QUIT" else b"250 2.0.0 ok\r\n"

    def _recipient(self, path: bytes) -> bytes:
        if path.startswith(b"<gone"):
            self._world.refused[self._address] += 1
            self._world.changed.add(("r", self._address))
            return b"550 5.1.1 no such user\r\n"
        if path.startswith(b"<later"):
            return b"452 4.2.2 mailbox full\r\n"
        self._recipients += 1
        return b"250 2.1.5 ok\r\n"

    def _take(self, text: bytes, out: list[bytes]) -> None:
        self._in_data = False
        found = dict(FIELD.findall(text[: text.find(b"\r\n\r\n") + 2 or 4096]))
        fields = {name.lower(): value.decode() for name, value in found.items()}
        if delay := self._host.get("delay", 0.0):
            self._waiting = True
            asyncio.get_running_loop().call_later(delay, self._later, fields)
        else:
            out.append(self._kept(fields))

    def _later(self, fields: dict[bytes, str]) -> None:
        self._waiting = False
        reply = self._kept(fields)
        if not self._transport.is_closing():
            self._transport.write(reply)
            self._work()

    def _kept(self, fields: dict[bytes, str]) -> bytes:
        self._world.lines.append(
            f"m {time.monotonic():.6f} {self._address} {self._recipients}"
            f" {fields.get(b'sent', '-')} {fields.get(b'mark', '-')}"
        )
        self._end()
        return b"250 2.0.0 kept\r\n"


class Names(asyncio.DatagramProtocol):
    """Says MX and A of the names in ``names``; no other type has records, no other name exists.

    ``mx.NAME`` is where the mail of NAME goes.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        with contextlib.suppress(struct.error, IndexError, ValueError):
            self._transport.sendto(self._answer(data), addr)

    def _answer(self, data: bytes) -> bytes:
        labels, at = [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        (kind,) = struct.unpack_from("!H", data, at + 1)
        question, name = data[12 : at + 5], ".".join(labels)
        records, known = b"", name in self._names
        if kind == MX and known:
            rdata = struct.pack("!H", 10) + b"\x02mx\xc0\x0c"
            records = struct.pack("!HHHIH", 0xC00C, MX, 1, 300, len(rdata)) + rdata
        elif kind == A and name.startswith("mx.") and name[3:] in self._names:
            rdata = socket.inet_aton(self._names[name[3:]])
            records = struct.pack("!HHHIH", 0xC00C, A, 1, 300, 4) + rdata
        known = known or name[3:] in self._names or name == "test"
        flags = 0x8180 if known else 0x8183  # an answer of a resolver; NXDOMAIN
        counts = struct.pack("!HHHH", 1, bool(records), not records, 0)
        return data[:2] + struct.pack("!H", flags) + counts + question + (records or self._soa())

    @staticmethod
    def _soa() -> bytes:
        rdata = b"\x02ns\x04test\x00\x04root\x04test\x00" + struct.pack("!5I", 1, 60, 60, 60, 60)
        return b"\x04test\x00" + struct.pack("!HHIH", SOA, 1, 60, len(rdata)) + rdata


async def serve(spec: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    world = World(spec)
    loop = asyncio.get_running_loop()
    for address, host in world.hosts.items():
        await world.behave(address, host["behaviour"])
    if spec.get("dns"):
        local = (spec["dns"][0], spec["dns"][1])
        await loop.create_datagram_endpoint(lambda: Names(spec["names"]), local_addr=local)
    world.lines.append("ready")
    world.flush()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        await world.behave(*line.decode().split())


def main() -> None:
    """Run."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(spec))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(spec))


if __name__ == "__main__":
    main()
