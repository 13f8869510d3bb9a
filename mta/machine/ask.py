"""Questions to name servers, as packets: UDP first, TCP for what does not fit.

Each question has a socket, so a port, and an id of its own, both at random; what
does not come from the server, or does not repeat id and question, is not seen.
A server that fails is passed over for the next one; one that keeps silent is
tried again, later and longer, and is asked last from then on.

Source   RFC 1035 s4.1, s4.2; RFC 5452 s4 (what must match); RFC 7766 (TCP);
         RFC 6891 (EDNS; without it for a server that does not know it, s6.2.2);
         RFC 6840 s5.7 (AD in a query asks for AD in the answer).
Units    Seconds.
State    The order of the servers; the number of questions under way is bounded.
"""

from __future__ import annotations

import asyncio
import os
import socket

from mta.machine.net import Endpoint, reason

__all__ = ["LIFETIME", "NameServers", "Unanswered", "encode_name"]

LIFETIME = 20.0  # of one question, all tries and the wait for room included
TRIES = (2.0, 4.0, 6.0, 8.0)  # how long each server is waited for, round by round
TCP_LIMIT = 8.0
UNDER_WAY_MAX = 400  # questions at once: each holds a socket
UDP_SIZE = 1232  # fits every path unfragmented
_FLAGS = b"\x01\x20"  # RD and AD
_EDNS = b"\x00\x00\x29" + UDP_SIZE.to_bytes(2, "big") + bytes(6)
_ONE, _NONE = b"\x00\x01", b"\x00\x00"
_FORMERR, _NOTIMP = 1, 4
_CODES = {0: "", _FORMERR: "FORMERR", 2: "SERVFAIL", 3: "", _NOTIMP: "NOTIMP", 5: "REFUSED"}
_HEADER = 12


class Unanswered(Exception):
    """No server has answered; the message says why in a few words."""


def encode_name(name: str) -> bytes:
    """Return ``name``, ASCII and without a dot at its end, as octets of a question.

    Raises ValueError for what can be no name.
    """
    labels = name.encode("ascii").split(b".")
    if len(name) > 253 or not all(0 < len(label) < 64 for label in labels):
        raise ValueError("a name has labels of 1 to 63 octets, 253 in all")
    if any(not c.isprintable() or c in ' "\\' for c in name):
        raise ValueError("a name has no space, quote or control character")
    return b"".join([bytes((len(label),)) + label for label in labels]) + b"\x00"


class NameServers:
    """Recursive name servers, any of which will do."""

    def __init__(self, servers: tuple[Endpoint, ...]) -> None:
        """Ask ``servers``, whose hosts are addresses, in this order."""
        self._order = [_Server(place) for place in servers]
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)

    async def ask(self, question: bytes) -> bytes:
        """Return the answer to ``question``: its name, type and class in octets.

        It repeats the question, is whole, and its code is NOERROR or NXDOMAIN.
        Raises Unanswered.
        """
        try:
            async with asyncio.timeout(LIFETIME), self._room:
                return await self._rounds(question)
        except TimeoutError:
            raise Unanswered("timed out") from None

    async def _rounds(self, question: bytes) -> bytes:
        why = "timed out"
        servers = list(self._order)
        for limit in TRIES:
            for server in list(servers):
                try:
                    async with asyncio.timeout(limit):
                        wire = await server.by_udp(question)
                    if wire[2] & 2:  # TC
                        async with asyncio.timeout(TCP_LIMIT):
                            wire = await server.by_tcp(question)
                except TimeoutError:
                    self._last(server)
                    continue
                except (OSError, EOFError, ValueError) as error:
                    why = reason(error)
                else:
                    refusal = _refusal(wire)
                    if not refusal:
                        return wire
                    why = refusal
                servers.remove(server)
        raise Unanswered(why)

    def _last(self, server: _Server) -> None:
        if server is not self._order[-1]:
            self._order.remove(server)
            self._order.append(server)


class _Server:
    """One name server."""

    def __init__(self, place: Endpoint) -> None:
        self._place = place
        self._edns = True

    async def by_udp(self, question: bytes) -> bytes:
        """Ask by one datagram; OSError if it cannot be sent or is refused."""
        edns = self._edns
        wire = await self._datagram(question, edns)
        if edns and wire[3] & 15 in (_FORMERR, _NOTIMP):
            plain = await self._datagram(question, False)
            self._edns = plain[3] & 15 == wire[3] & 15  # then it was not for EDNS
            return plain
        return wire

    async def _datagram(self, question: bytes, edns: bool) -> bytes:
        loop = asyncio.get_running_loop()
        query = _query(question, edns)
        with self._socket(socket.SOCK_DGRAM) as udp:
            udp.connect(self._address(socket.SOCK_DGRAM))
            udp.send(query)
            while True:
                wire = await loop.sock_recv(udp, 65535)
                if _matches(wire, query, question):
                    return wire

    async def by_tcp(self, question: bytes) -> bytes:
        """Ask by a connection of its own; OSError, EOFError, or ValueError for nonsense."""
        loop = asyncio.get_running_loop()
        query = _query(question, self._edns)
        with self._socket(socket.SOCK_STREAM) as tcp:
            await loop.sock_connect(tcp, self._address(socket.SOCK_STREAM))
            await loop.sock_sendall(tcp, len(query).to_bytes(2, "big") + query)
            size = int.from_bytes(await _exactly(loop, tcp, 2), "big")
            wire = await _exactly(loop, tcp, size)
        if not _matches(wire, query, question):
            raise ValueError("TCP: not the answer to our question")
        return wire

    def _socket(self, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._place.host else socket.AF_INET
        return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def _address(self, kind: int) -> tuple[str, int]:
        """Return what connect() takes; "fe80::1%eth0" has more to it than host and port."""
        host, port = self._place.host, self._place.port
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
        return found[0][4]  # type: ignore[return-value]


def _query(question: bytes, edns: bool) -> bytes:
    counts = _ONE + _NONE * 2 + (_ONE if edns else _NONE)
    return os.urandom(2) + _FLAGS + counts + question + (_EDNS if edns else b"")


def _matches(wire: bytes, query: bytes, question: bytes) -> bool:
    """True if ``wire`` is a response to ``query``; some errors do not repeat the question."""
    if len(wire) < _HEADER or wire[:2] != query[:2] or not wire[2] & 0x80:
        return False
    if len(wire) == _HEADER:
        return wire[3] & 15 not in (0, 3)
    repeated = wire[_HEADER : _HEADER + len(question)]
    return wire[4:6] == _ONE and repeated.lower() == question.lower()


def _refusal(wire: bytes) -> str:
    """Return why ``wire`` does not answer, or "": a referral elsewhere is no answer either."""
    code = wire[3] & 15
    if code == 0 and wire[6:8] == _NONE and not wire[2] & 4 and not wire[3] & 0x80:
        return "no recursion"
    return _CODES.get(code, f"error {code}")


async def _exactly(loop: asyncio.AbstractEventLoop, tcp: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        octets = await loop.sock_recv(tcp, size - len(got))
        if not octets:
            raise EOFError("TCP: closed before the answer was whole")
        got += octets
    return bytes(got)
