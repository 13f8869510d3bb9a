"""A name server for tests: real packets on loopback, answers as Python literals.

    with NameServer({
        "example.test": {"MX": ["10 mx.example.test."], "TXT": ['"v=1"']},
        "mx.example.test": {"A": ["127.0.0.1"], "AAAA": SERVFAIL},
        "alias.example.test": {"CNAME": ["mx.example.test."]},
        "sick.test": SILENT,
        "late.test": {"A": Rule(["192.0.2.1"], ttl=5, delay=0.2)},
    }, secure=("example.test",)) as server:
        server.endpoint, server.asked, server.zones["new.test"] = ...

It answers as a recursive server does: CNAMEs are followed, a name that is not
there is NXDOMAIN, a type that is not there is an empty answer; both with an SOA
whose minimum is ``negative``.  ``zones`` may be changed while it runs, and
``down = True`` makes it silent altogether.  ``asked`` is a list of (name, type,
"udp" or "tcp").  Names at or below one of ``secure`` are answered with the AD bit,
if the query had AD or DO set and all names of the answer are.

It runs in a thread with a loop of its own, for tests of any kind.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from mta.machine.net import Endpoint

CHAIN = 12  # CNAMEs followed at most, a loop among them


@dataclass
class Rule:
    """How one question is answered."""

    records: Sequence[str] = ()
    ttl: int = 300
    rcode: str = "NOERROR"
    ad: bool | None = None  # None: as ``secure`` of the server says
    delay: float = 0.0
    silent: bool = False  # no answer at all
    truncate: bool = False  # by UDP: TC and nothing else; the whole by TCP
    wrong_id: bool = False  # by UDP: an answer with another id
    wrong_name: bool = False  # by UDP: an answer to another question
    garbage: bytes = b""  # by UDP: these octets instead of an answer
    then: Rule | None = None  # what follows a wrong answer by UDP, if anything
    recursion: bool = True  # False: it does not say that it would ask others
    tcp: bool = True  # False: connections for it are closed without an answer


SERVFAIL = Rule(rcode="SERVFAIL")
REFUSED = Rule(rcode="REFUSED")
NOTIMP = Rule(rcode="NOTIMP")
FORMERR = Rule(rcode="FORMERR")
NXDOMAIN = Rule(rcode="NXDOMAIN")
SILENT = Rule(silent=True)

Entry = Rule | Mapping[str, Rule | Sequence[str]]


@dataclass
class _Found:
    """The answer of a walk along CNAMEs."""

    rule: Rule
    rrsets: list[dns.rrset.RRset] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class NameServer:
    """One name server on loopback, by UDP and TCP on the same port."""

    def __init__(
        self,
        zones: Mapping[str, Entry],
        *,
        secure: Sequence[str] = (),
        negative: int = 60,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.zones: dict[str, Entry] = dict(zones)
        self.secure = tuple(secure)
        self.negative = negative
        self.down = False
        self.asked: list[tuple[str, str, str]] = []
        self.endpoint = Endpoint(host, port)
        self._loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        assert self._started.wait(10), "the name server did not start"
        assert self._stop is not None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def times(self, name: str, kind: str = "") -> int:
        """How often ``name`` (and ``kind``) was asked for."""
        return sum(n == name and kind in ("", k) for n, k, _ in self.asked)

    def _main(self) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        host, port = self.endpoint.host, self.endpoint.port
        for attempt in range(20):  # the port must be free for both
            try:
                server = await asyncio.start_server(self._tcp, host, port)
                port = server.sockets[0].getsockname()[1]
                udp, _ = await self._loop.create_datagram_endpoint(
                    lambda: _Udp(self), local_addr=(host, port)
                )
                break
            except OSError:
                if self.endpoint.port or attempt == 19:
                    raise
                server.close()
                port = 0
        self.endpoint = Endpoint(host, port)
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()
        udp.close()
        server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                query = dns.message.from_wire(await reader.readexactly(size))
                found = self.find(query, "tcp")
                if not found.rule.tcp or self.down:
                    return
                if found.rule.silent:
                    continue
                await asyncio.sleep(found.rule.delay)
                wire = self.answer(query, found).to_wire(max_size=65535)
                writer.write(len(wire).to_bytes(2, "big") + wire)
        except (OSError, EOFError, dns.exception.DNSException, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def udp(self, data: bytes, send: Callable[[bytes], None]) -> None:
        """Answer one datagram."""
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        found = self.find(query, "udp")
        while not self.down:
            rule = found.rule
            if not rule.silent:
                self._loop.call_later(rule.delay, send, self._datagram(query, found))
            if rule.then is None:
                return
            found = self._end(found, rule.then, dns.rdatatype.to_text(query.question[0].rdtype))

    def _datagram(self, query: dns.message.Message, found: _Found) -> bytes:
        rule = found.rule
        if rule.garbage:
            return rule.garbage
        response = self.answer(query, found)
        if rule.wrong_id:
            response.id ^= 0x5555
        if rule.wrong_name:
            asked = query.question[0]
            other = dns.name.from_text("another.test.")
            response.question = [dns.rrset.RRset(other, asked.rdclass, asked.rdtype)]
        if rule.truncate:
            response.answer = []
            response.flags |= dns.flags.TC
        room = max(512, query.payload if query.edns >= 0 else 512)
        try:
            return response.to_wire(max_size=room)
        except dns.exception.TooBig:
            response.answer = []
            response.flags |= dns.flags.TC
            return response.to_wire(max_size=room)

    def answer(self, query: dns.message.Message, found: _Found) -> dns.message.Message:
        """Return the right response to ``query``."""
        response = dns.message.make_response(query, found.rule.recursion)
        response.set_rcode(dns.rcode.from_text(found.rule.rcode))
        response.answer = list(found.rrsets)
        if found.rule.rcode in ("NOERROR", "NXDOMAIN") and not found.rule.records:
            text = f"ns.test. root.test. 1 3600 600 86400 {self.negative}"
            response.authority = [dns.rrset.from_text("test.", 3600, "IN", "SOA", text)]
        wanted = query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO
        ad = found.rule.ad
        ad = all(self._secured(name) for name in found.names) if ad is None else ad
        if wanted and ad and found.rule.rcode in ("NOERROR", "NXDOMAIN"):
            response.flags |= dns.flags.AD
        return response

    def _secured(self, name: str) -> bool:
        return any(name == top or name.endswith("." + top) or top == "*" for top in self.secure)

    def find(self, query: dns.message.Message, way: str) -> _Found:
        """Walk from the name that is asked for to its answer."""
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, way))
        found = _Found(Rule())
        for _ in range(CHAIN):
            found.names.append(name)
            rule = self._rule(name, kind)
            found = self._end(found, rule, kind)
            if rule.records:
                return found
            alias = self._rule(name, "CNAME")
            if rule != Rule() or not alias.records or kind == "CNAME":
                return found
            rrset = dns.rrset.from_text(name + ".", alias.ttl, "IN", "CNAME", *alias.records)
            found.rrsets.append(rrset)
            name = str(alias.records[0]).lower().rstrip(".")
        return found

    def _end(self, found: _Found, rule: Rule, kind: str) -> _Found:
        """Return ``found`` with ``rule`` for the answer to the last of its names."""
        name = found.names[-1] + "."
        rrsets = [rrset for rrset in found.rrsets if rrset.name.to_text() != name]
        if rule.records:
            rrsets.append(dns.rrset.from_text(name, rule.ttl, "IN", kind, *rule.records))
        return _Found(rule, rrsets, found.names)

    def _rule(self, name: str, kind: str) -> Rule:
        entry = self.zones.get(name)
        if entry is None:
            below = any(other.endswith("." + name) for other in list(self.zones))
            return Rule() if below else NXDOMAIN
        if isinstance(entry, Rule):
            return replace(entry)
        said = entry.get(kind, ())
        return replace(said) if isinstance(said, Rule) else Rule(said)


class _Udp(asyncio.DatagramProtocol):
    """The datagram half."""

    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        def send(wire: bytes) -> None:
            if not self._transport.is_closing():
                self._transport.sendto(wire, addr)

        self._server.udp(data, send)
