"""Names to addresses, by DNS, remembered for as long as the answer allows.

Trouble with the DNS never fails a recipient: a server that does not answer, or
answers with an error, is a deferral with the reason.  Only a name that surely
does not exist is a failure.  Numeric addresses never come here.  MX records
will.

Source   AAAA before A: RFC 6724.  NXDOMAIN: RFC 2308, RFC 8020.  localhost:
         RFC 6761 s6.3; it is never asked of a server.
Units    Seconds, on the caller's monotonic clock.
State    A bounded cache, and the questions under way: each name is asked once
         however many wait for it.  Lost on exit.

Invariants, each a property in tests/machine/test_resolve.py
    N1   Within its time to live, a name is asked once.
    N2   SERVFAIL, time-outs and an answer without an address are 4yz.
    N3   The cache never holds more than CACHE_MAX names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mta.machine.net import Endpoint
from mta.types import HOST, RECIPIENT, Outcome, Reply
from mta.values import frozen

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as DnsResolver

__all__ = ["CACHE_MAX", "Addresses", "Resolver"]

CACHE_MAX = 10_000
LIFETIME = 20.0  # for both questions of one name, all tries included
TTL_MIN, TTL_MAX = 5.0, 3600.0
TTL_TROUBLE = 5.0
TTL_ABSENT = 60.0


@frozen
class Addresses:
    """What a name stands for: ``addresses`` in the order to try, or the ``trouble``."""

    addresses: tuple[str, ...]
    trouble: Outcome | None = None


@frozen
class _Answer:
    """One question's answer: addresses, or "absent" (no such name), "empty" or what failed."""

    addresses: tuple[str, ...]
    ttl: float
    trouble: str = ""


Ask = Callable[[str, str], Awaitable[_Answer]]


class Resolver:
    """Addresses of host names; one instance per process."""

    def __init__(self, nameservers: tuple[Endpoint, ...] = (), ask: Ask | None = None) -> None:
        """Ask ``nameservers``, whose hosts are addresses, else the system's.

        ``ask`` is the question itself, for tests.
        """
        self._nameservers = nameservers
        self._ask = ask or self._ask_dns
        self._dns: DnsResolver | None = None
        self._cache: dict[str, tuple[float, Addresses]] = {}
        self._asking: dict[str, asyncio.Task[Addresses]] = {}

    async def addresses(self, host: str, now: float) -> Addresses:
        """Return what ``host`` stands for; asks only what it does not remember."""
        if host == "localhost" or host.endswith(".localhost"):
            return Addresses(("127.0.0.1", "::1"))
        until, known = self._cache.get(host, (0.0, None))
        if known is not None and now < until:
            return known
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = asyncio.ensure_future(self._look_up(host, now))
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        return await asyncio.shield(task)

    async def _look_up(self, host: str, now: float) -> Addresses:
        answers = await asyncio.gather(self._ask(host, "AAAA"), self._ask(host, "A"))
        found = tuple([address for answer in answers for address in answer.addresses])
        troubles = [answer.trouble for answer in answers if answer.trouble]
        if found:
            ttl = min(answer.ttl for answer in answers if answer.addresses)
            result = Addresses(found)
        elif "absent" in troubles:  # RFC 8020: nothing of any type has this name
            reply = Reply(550, "5.1.2", f"{host}: no such host name")
            ttl, result = TTL_ABSENT, Addresses((), Outcome(reply, RECIPIENT))
        elif troubles == ["empty", "empty"]:
            reply = Reply(421, "4.4.4", f"{host}: the name has no address")
            ttl, result = TTL_ABSENT, Addresses((), Outcome(reply, HOST))
        else:
            why = ", ".join(sorted(set(troubles) - {"empty"}))
            reply = Reply(421, "4.4.3", Reply.clean(f"{host}: name service: {why}"))
            ttl, result = TTL_TROUBLE, Addresses((), Outcome(reply, HOST))
        self._remember(host, now, now + min(max(ttl, TTL_MIN), TTL_MAX), result)
        return result

    def _remember(self, host: str, now: float, until: float, result: Addresses) -> None:
        if len(self._cache) >= CACHE_MAX:
            self._cache = {h: kept for h, kept in self._cache.items() if now < kept[0]}
        while len(self._cache) >= CACHE_MAX:
            del self._cache[next(iter(self._cache))]
        self._cache[host] = (until, result)

    async def _ask_dns(self, host: str, kind: str) -> _Answer:
        """Ask one question of the DNS; every failure of it is an answer too."""
        import dns.exception
        import dns.resolver

        try:
            answer = await self._resolver().resolve(host, kind, search=False, lifetime=LIFETIME)
        except dns.resolver.NXDOMAIN:
            return _Answer((), 0.0, "absent")
        except dns.resolver.NoAnswer:
            return _Answer((), 0.0, "empty")
        except dns.resolver.LifetimeTimeout:
            return _Answer((), 0.0, "timed out")
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return _Answer((), 0.0, _short(error))
        addresses = tuple([record.to_text() for record in answer])
        return _Answer(addresses, float(answer.rrset.ttl if answer.rrset else 0))

    def _resolver(self) -> DnsResolver:
        """Make the resolver when the first name comes: dnspython is slow to import."""
        if self._dns is None:
            from dns.asyncresolver import Resolver as DnsResolver

            self._dns = DnsResolver(configure=not self._nameservers)
            if self._nameservers:
                self._dns.nameservers = [place.host for place in self._nameservers]
                ports = {place.host: place.port for place in self._nameservers}
                self._dns.nameserver_ports = ports
        return self._dns


def _short(error: Exception) -> str:
    """Return the kind of ``error`` in words, without dnspython's page of detail."""
    text = str(error)
    for word in ("SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"):
        if word in text:
            return word
    return type(error).__name__
