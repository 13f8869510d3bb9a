"""The DNS, as this program asks it: addresses, mail exchangers, TLSA, text and pointers.

Trouble with the DNS never fails a recipient: a server that does not answer, or
answers with an error, is a deferral with the reason.  Only what the DNS says for
sure is a failure.  Numeric addresses never come here.

The questions go out by ask.py, answers are kept by answers.py; here dnspython
reads them.  Its own resolver costs twice the CPU of a question, shows no AD bit of
a negative answer, and asks as often as it is asked.

Source   AAAA before A: RFC 6724.  NXDOMAIN: RFC 2308, RFC 8020.  localhost: RFC
         6761 s6.3; it is never asked of a server.  MX: RFC 5321 s5.1.  Null MX:
         RFC 7505.  TLSA and what must be secure: RFC 7672 s2.  Names that are not
         ASCII: RFC 5891 by way of UTS 46.  resolv.conf(5), with "options trust-ad".
Units    Seconds, on the caller's monotonic clock.
State    The cache of answers.  Lost on exit.

Invariants, each a property in tests/machine/test_resolve.py
    N2   Whatever servers do, the outcome is 4yz unless they said for sure that
         there is no such name, or that it takes no mail.
    N5   Nothing is secure unless AD came, and from servers that are trusted with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from typing import TYPE_CHECKING

from mta.machine.answers import (
    ABSENT,
    EMPTY,
    Addresses,
    Answer,
    Answers,
    Ask,
    Exchangers,
    Hop,
    TextAnswer,
    Tlsa,
    TlsaAnswer,
)
from mta.machine.ask import NameServers, Unanswered, encode_name
from mta.machine.net import Endpoint
from mta.types import HOST, RECIPIENT, Outcome, Reply

if TYPE_CHECKING:
    from dns.message import ChainingResult

__all__ = [
    "Addresses",
    "Exchangers",
    "Hop",
    "Resolver",
    "TextAnswer",
    "Tlsa",
    "TlsaAnswer",
    "ascii_name",
]

RESOLV_CONF = "/etc/resolv.conf"
TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
RECORDS_MAX = 100  # kept of one answer; of MX, the best
POINTERS_MAX = 5
POINTER_LIMIT = 15.0
_UNUSABLE = "255 255 255"  # for a TLSA record that cannot be read: it is not as if there were none
LARGE = 8192  # octets of an answer that are read beside everything else


def ascii_name(name: str) -> str:
    """Return ``name`` as the DNS has it: A-labels, lower case, no dot at the end.

    Raises ValueError for what is no name, with the reason.
    """
    name = name.removesuffix(".")
    if not name.isascii():
        import idna

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:  # a ValueError already, but one that quotes
            raise ValueError("not a name that IDNA allows") from error
    encode_name(name)
    return name.lower()


class Resolver:
    """What the DNS knows; one instance per process."""

    def __init__(
        self,
        nameservers: tuple[Endpoint, ...] = (),
        trust_ad: str = "auto",
        ask: Ask | None = None,
    ) -> None:
        """Ask ``nameservers``, whose hosts are addresses, else the system's.

        ``trust_ad`` "yes" believes their AD bit, "no" does not; "auto" believes
        it if all are on this machine, or resolv.conf has "options trust-ad".
        ``ask`` is the question itself, for tests.
        """
        self._nameservers = nameservers
        self._trust_ad = trust_ad
        self._trusted = False
        self._servers: NameServers | None = None
        self._stamp: tuple[int, int] | None = None  # of resolv.conf, when it was read
        self._answers = Answers(ask or self._ask)

    async def addresses(self, host: str, now: float) -> Addresses:
        """Return what ``host`` stands for."""
        if host == "localhost" or host.endswith(".localhost"):
            return Addresses(("127.0.0.1", "::1"))
        try:
            name = ascii_name(host)
        except ValueError as error:
            return Addresses((), _no_name(error), none=True)
        six, four = await asyncio.gather(
            self._answers.find(name, "AAAA", now), self._answers.find(name, "A", now)
        )
        found = six.records + four.records
        if found:
            secure = all(answer.secure for answer in (six, four) if answer.records)
            unsure = any(answer.stale or answer.failed for answer in (six, four))
            return Addresses(found, None, secure, unsure=unsure)
        trouble = _trouble(name, six if six.failed else four, "")
        if trouble is not None:
            return Addresses((), trouble)
        if ABSENT in (six.trouble, four.trouble):
            gone = Outcome(Reply(550, "5.1.2", f"{name}: no such host name"), RECIPIENT)
            return Addresses((), gone, four.secure, none=True)
        empty = Outcome(Reply(421, "4.4.4", f"{name}: the name has no address"), HOST)
        return Addresses((), empty, four.secure, none=True)

    async def exchangers(self, domain: str, now: float) -> Exchangers:
        """Return where mail of ``domain`` goes: its MX hosts, or itself if it has none.

        A domain that takes no mail (RFC 7505) and one that is not are failures.
        """
        try:
            name = ascii_name(domain)
        except ValueError as error:
            return Exchangers((), trouble=_no_name(error))
        return _exchangers(name, await self._answers.find(name, "MX", now))

    async def tlsa(self, host: str, port: int, now: float) -> TlsaAnswer:
        """Return the TLSA records of ``host``, if its addresses are secure.

        They stand at the end of its aliases, else at ``host`` itself; there, too,
        if only the alias is secure (RFC 7672 s2.2.2).
        """
        found = await self.addresses(host, now)
        if not found.addresses:
            return TlsaAnswer((), trouble=found.trouble)
        try:
            name = ascii_name(host)
        except ValueError:
            return TlsaAnswer(())
        aliases = [
            answer.canonical
            for answer in [await self._answers.find(name, kind, now) for kind in ("AAAA", "A")]
            if answer.records and answer.canonical
        ]
        bases = [name]
        if found.secure:
            bases = [*aliases[:1], name]
        elif not aliases:
            return TlsaAnswer(())
        else:
            alias = await self._answers.find(name, "CNAME", now)
            if alias.failed:  # RFC 7672 s2.1: who can block it must not switch DANE off
                return TlsaAnswer((), trouble=_trouble(name, alias, "CNAME: "))
            if not alias.secure:
                return TlsaAnswer(())
        answer = TlsaAnswer((), secure=True, base=name)
        for base in bases:
            answer = await self._tlsa_at(base, port, now)
            if answer.records or answer.trouble is not None:
                break
        return answer

    async def _tlsa_at(self, base: str, port: int, now: float) -> TlsaAnswer:
        name = f"_{port}._tcp.{base}"
        try:
            encode_name(name)
        except ValueError:  # too long: nothing can be there
            return TlsaAnswer((), secure=True, base=base)
        answer = await self._answers.find(name, "TLSA", now)
        trouble = _trouble(name, answer, "TLSA: ")
        if trouble is not None:
            return TlsaAnswer((), True, trouble, base)
        records = tuple([_tlsa(text) for text in answer.records]) if answer.secure else ()
        return TlsaAnswer(records, answer.secure, None, base)

    async def text(self, name: str, now: float) -> TextAnswer:
        """Return the TXT records of ``name``; that there are none is no trouble."""
        try:
            name = ascii_name(name)
        except ValueError:
            return TextAnswer(())
        answer = await self._answers.find(name, "TXT", now)
        return TextAnswer(answer.records, _trouble(name, answer, "TXT: "))

    async def pointer(self, address: str, now: float) -> str:
        """Return the name of ``address`` that stands for ``address`` in turn; "" if none does."""
        try:
            async with asyncio.timeout(POINTER_LIMIT):
                return await self._pointer(ipaddress.ip_address(address), now)
        except (TimeoutError, ValueError):
            return ""

    async def _pointer(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, now: float
    ) -> str:
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        answer = await self._answers.find(address.reverse_pointer, "PTR", now)
        kind = "A" if address.version == 4 else "AAAA"
        for text in answer.records[:POINTERS_MAX]:
            name = text.removesuffix(".").lower()
            if not name or name.strip("abcdefghijklmnopqrstuvwxyz0123456789-._"):
                continue  # it could be no host, and is not to be shown
            forward = await self._answers.find(name, kind, now)
            if any(ipaddress.ip_address(text) == address for text in forward.records):
                return name
        return ""

    async def _ask(self, name: str, kind: str) -> Answer:
        """Ask one question of the DNS; every failure of it is an answer too."""
        try:
            servers, trusted = self._begin()
            question = encode_name(name) + TYPES[kind].to_bytes(2, "big") + b"\x00\x01"
            wire = await servers.ask(question)
        except (Unanswered, OSError, ValueError) as error:
            return Answer((), 0.0, Reply.clean(str(error), 80) or "unknown")
        if len(wire) <= LARGE:
            return _read(wire, kind, trusted)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, _read, wire, kind, trusted)

    def _begin(self) -> tuple[NameServers, bool]:
        """Return the servers, and whether they are trusted with AD.

        resolv.conf is read again when it has changed; OSError if it cannot be read.
        """
        stamp = None if self._nameservers else _stamp(RESOLV_CONF)
        if self._servers is None or stamp != self._stamp:
            servers, said = self._nameservers, False
            if not servers:
                servers, said = _resolv_conf(RESOLV_CONF)
            hosts = [server.host.partition("%")[0] for server in servers]
            here = all(ipaddress.ip_address(host).is_loopback for host in hosts)
            self._trusted = {"yes": True, "no": False}.get(self._trust_ad, said or here)
            self._servers, self._stamp = NameServers(servers), stamp
        return self._servers, self._trusted


def _stamp(path: str) -> tuple[int, int] | None:
    """Return what is another when the file at ``path`` is; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def _resolv_conf(path: str) -> tuple[tuple[Endpoint, ...], bool]:
    """Return the name servers that ``path`` names, and whether it trusts their AD bit.

    Without any, or without the file, it is the server of this machine.
    """
    servers, trusted = [], False
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:
        lines = []
    for words in lines:
        if words[:1] == ["nameserver"] and len(words) > 1:
            try:
                ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            servers.append(Endpoint(words[1], 53))
        trusted = trusted or (words[:1] == ["options"] and "trust-ad" in words)
    return tuple(servers) or (Endpoint("127.0.0.1", 53),), trusted


def _no_name(error: ValueError) -> Outcome:
    return Outcome(Reply(550, "5.1.2", f"no valid domain name: {error}"), RECIPIENT)


def _trouble(name: str, answer: Answer, what: str) -> Outcome | None:
    """Return the deferral if ``answer`` is none."""
    if not answer.failed:
        return None
    text = Reply.clean(f"{name}: {what}name service: {answer.trouble}")
    return Outcome(Reply(421, "4.4.3", text), HOST)


def _exchangers(name: str, answer: Answer) -> Exchangers:
    """Read the MX records of ``name``."""
    hops = _hops(answer.records)
    trouble = _trouble(name, answer, "MX: ")
    if answer.trouble == EMPTY:
        return Exchangers((Hop(name, 0),), answer.secure, implicit=True)
    if answer.trouble == ABSENT:
        trouble = Outcome(Reply(550, "5.1.2", f"{name}: no such domain name"), RECIPIENT)
    elif answer.stale and not hops:  # it would refuse mail for what was so yesterday
        trouble = Outcome(Reply(421, "4.4.3", f"{name}: MX: name service: no answer"), HOST)
    elif not answer.failed and not hops:
        trouble = Outcome(Reply(556, "5.1.10", f"{name}: the domain takes no mail"), RECIPIENT)
    return Exchangers(hops, answer.secure, trouble, stale=answer.stale)


def _hops(records: tuple[str, ...]) -> tuple[Hop, ...]:
    """Return MX records, the best first, without the one that is none (RFC 7505 s3)."""
    hops = []
    for text in records:
        preference, _, name = text.partition(" ")
        if name.strip(".") and preference.isdigit():
            hops.append(Hop(name.removesuffix("."), int(preference)))
    return tuple(sorted(hops, key=lambda hop: hop.preference))


def _tlsa(text: str) -> Tlsa:
    usage, selector, matching, *data = text.split()
    return Tlsa(int(usage), int(selector), int(matching), bytes.fromhex("".join(data)))


def _read(wire: bytes, kind: str, trusted: bool) -> Answer:
    """Read the answer to a question for ``kind``; what cannot be read is a failure."""
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rcode

    try:
        message = dns.message.from_wire(wire, ignore_trailing=True, continue_on_error=True)
        if not isinstance(message, dns.message.QueryMessage):
            return Answer((), 0.0, "malformed answer")
        chain = message.resolve_chaining()
    except dns.message.ChainTooLong:
        return Answer((), 0.0, "loop of aliases")
    except (dns.exception.DNSException, ValueError, EOFError) as error:
        return Answer((), 0.0, f"malformed answer: {type(error).__name__}")
    secure = trusted and bool(message.flags & dns.flags.AD)
    end = chain.canonical_name.to_text(omit_final_dot=True).lower() if chain.cnames else ""
    ttl = float(chain.minimum_ttl)
    absent = message.rcode() == dns.rcode.NXDOMAIN
    records = _records(chain, kind)
    if message.errors and kind == "TLSA" and not absent:
        records += (_UNUSABLE,)
    if records:
        return Answer(records, ttl, "", secure, end)
    if message.errors:
        return Answer((), 0.0, "malformed answer")
    return Answer((), ttl, ABSENT if absent else EMPTY, secure, end)


def _records(chain: ChainingResult, kind: str) -> tuple[str, ...]:
    """Return the records as text, at most RECORDS_MAX of them."""
    records = list(chain.answer or ())
    if kind == "MX":
        records.sort(key=lambda record: record.preference)
    del records[RECORDS_MAX:]
    if kind == "TXT":
        return tuple([b"".join(record.strings).decode("utf-8", "replace") for record in records])
    return tuple([record.to_text().lower() for record in records])
