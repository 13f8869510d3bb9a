"""Where mail of a domain goes: its mail exchangers with their addresses, in the order to try.

The best preference first, equal ones shuffled, and of each host IPv6 and IPv4 by
turns, so that a broken IPv6 costs one attempt and not all of them.  Where we are
in the list ourselves, by name or by address, it ends: the rest would send the
mail back to us.

A domain fails only if the DNS is sure: there is no such domain, it takes no mail,
none of its hosts has an address to connect to, or we are its best one.  If any
of that rests on a question without an answer, it is a deferral.

Source   RFC 5321 s5.1; RFC 7505 s3; RFC 5321 s4.1.3 for "[192.0.2.1]", which needs
         no DNS and is answered here too.
Units    Seconds, on the caller's monotonic clock; FIND_LIMIT and GRACE on the loop's.
State    None; the resolver remembers.

Invariants, each a property in tests/machine/test_exchangers.py
    X1   While any question about a domain has no answer, mail for it never fails,
         unless the DNS has said that there is no such domain, or that it takes no mail.
    X2   No more than ADDRESSES_MAX addresses, and from no host more than its share.
    X3   No host of our own preference or a worse one, and no address that is
         our own, no group's, nor (unless ``local``) this machine's.
    X4   Preferences never mix: a better host stands before a worse one.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from mta.machine.answers import Addresses, Exchangers, Hop
from mta.machine.net import numeric
from mta.types import HOST, RECIPIENT, Outcome, Reply
from mta.values import frozen

__all__ = ["ADDRESSES_MAX", "FIND_LIMIT", "MxHost", "Route", "find"]

ADDRESSES_MAX = 20
SHARE_MAX = 8  # of them, from one host
HOSTS_MAX = 20  # looked up at most, however long the list
HOSTS_AT_ONCE = 5
FIND_LIMIT = 40.0  # for all questions about one domain; TLSA takes up to 20 more
GRACE = 5.0  # how long a host that has an address waits for others to have one


class Names(Protocol):
    """What is asked of a Resolver."""

    async def addresses(self, host: str, now: float) -> Addresses:
        """Return what ``host`` stands for."""

    async def exchangers(self, domain: str, now: float) -> Exchangers:
        """Return the MX records of ``domain``."""


@frozen
class MxHost:
    """One host to try; ``secure``: its name and addresses were proved, so DANE may apply."""

    name: str
    addresses: tuple[str, ...]
    secure: bool = False


@frozen
class Route:
    """The hosts to try in order, or the ``trouble``; ``implicit`` as in Exchangers."""

    hosts: tuple[MxHost, ...]
    trouble: Outcome | None = None
    secure: bool = False  # the list of hosts was proved
    implicit: bool = False


Shuffle = Callable[[list[Any]], None]


async def find(
    resolver: Names,
    domain: str,
    own_names: Collection[str],
    own_addresses: Collection[str],
    shuffle: Shuffle,
    now: float,
    *,
    local: bool = False,
) -> Route:
    """Return where mail of ``domain`` goes.

    ``own_names`` are lower case, ``own_addresses`` where we take mail ourselves,
    in canonical form; ``shuffle`` is random.shuffle.  With ``local``, hosts may
    be on loopback.  Ends within FIND_LIMIT.
    """
    rules = _Rules(frozenset(own_names), frozenset(own_addresses), local)
    if domain[:1] == "[":
        return _literal(domain, rules)
    loop = asyncio.get_running_loop()
    until = loop.time() + FIND_LIMIT
    try:
        async with asyncio.timeout(FIND_LIMIT):
            said = await resolver.exchangers(domain, now)
    except TimeoutError:
        return Route((), _unanswered(domain))
    if said.trouble is not None:
        return Route((), said.trouble)
    hops, ours = _in_order(said.hops, rules, shuffle)
    looked = await _look_up(resolver, hops[:HOSTS_MAX], now, until)
    hosts, here = _usable(looked, said.secure, rules, shuffle)
    if hosts:
        return Route(_limited(hosts), None, said.secure, said.implicit)
    sure = not said.stale and len(hops) <= HOSTS_MAX
    return Route((), _why(domain, looked, sure, ours or here, said.implicit))


@frozen
class _Rules:
    """Who we are, and whether we may connect to this machine."""

    names: frozenset[str]
    addresses: frozenset[str]
    local: bool

    def barred(self, address: str) -> bool:
        """True for an address that is no other host's."""
        ip = ipaddress.ip_address(address)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
            return True
        return ip.is_loopback and not self.local

    def ours(self, addresses: Sequence[str]) -> bool:
        """True if one of ``addresses`` is where we take mail."""
        return any(str(ipaddress.ip_address(a)) in self.addresses for a in addresses)


def _literal(domain: str, rules: _Rules) -> Route:
    address = numeric(domain)
    if not address or rules.barred(address):
        text = Reply.clean(f"{domain}: no address that mail can be sent to")
        return Route((), Outcome(Reply(550, "5.1.2", text), RECIPIENT))
    if rules.ours((address,)):
        return Route((), _loop(domain))
    return Route((MxHost(domain, (address,)),))


def _in_order(hops: Sequence[Hop], rules: _Rules, shuffle: Shuffle) -> tuple[list[Hop], bool]:
    """Return the hops that are better than we are, equal ones shuffled; True if we were there."""
    own = [hop.preference for hop in hops if hop.name in rules.names]
    better = [hop for hop in hops if not own or hop.preference < min(own)]
    shuffle(better)
    return sorted(better, key=lambda hop: hop.preference), bool(own)


Looked = list[tuple[Hop, Addresses | None]]  # None: no answer within the time


async def _look_up(resolver: Names, hops: Sequence[Hop], now: float, until: float) -> Looked:
    """Look the hosts up, a few at once, until there are enough addresses or the time is over.

    Those that are still under way then go on: their answers will be remembered.
    """
    loop = asyncio.get_running_loop()
    looked: Looked = []
    limit = until
    for first in range(0, len(hops), HOSTS_AT_ONCE):
        part = hops[first : first + HOSTS_AT_ONCE]
        tasks = [asyncio.ensure_future(resolver.addresses(hop.name, now)) for hop in part]
        pending = set(tasks)
        while pending and (left := limit - loop.time()) > 0:
            done, pending = await asyncio.wait(
                pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if any(task.result().addresses for task in done):
                limit = min(limit, loop.time() + GRACE)
        for task in pending:
            task.cancel()  # the question itself is shielded from this
        found = [task.result() if task not in pending else None for task in tasks]
        looked += zip(part, found, strict=True)
        some = sum(min(len(a.addresses), SHARE_MAX) for _, a in looked if a is not None)
        if some >= ADDRESSES_MAX or loop.time() >= limit:
            break
    looked += [(hop, None) for hop in hops[len(looked) :]]
    return looked


def _usable(
    looked: Looked, secure: bool, rules: _Rules, shuffle: Shuffle
) -> tuple[list[MxHost], bool]:
    """Return the hosts that may be connected to; True if they end where we are."""
    found = [(hop, answer) for hop, answer in looked if answer is not None]
    own = [hop.preference for hop, answer in found if rules.ours(answer.addresses)]
    hosts = []
    for hop, answer in found:
        addresses = [a for a in answer.addresses if not rules.barred(a)]
        if addresses and (not own or hop.preference < min(own)):
            shuffle(addresses)  # the DNS would have, had it been asked again
            hosts.append(MxHost(hop.name, _by_turns(addresses), secure and answer.secure))
    return hosts, bool(own)


def _by_turns(addresses: list[str]) -> tuple[str, ...]:
    """Return IPv6 and IPv4 by turns, each in the order given, at most SHARE_MAX."""
    six = [a for a in addresses if ":" in a]
    four = [a for a in addresses if ":" not in a]
    both = min(len(six), len(four))
    turns = [a for pair in zip(six, four, strict=False) for a in pair]
    return tuple((turns + six[both:] + four[both:])[:SHARE_MAX])


def _limited(hosts: list[MxHost]) -> tuple[MxHost, ...]:
    """Return the first hosts, with ADDRESSES_MAX addresses together."""
    limited = []
    room = ADDRESSES_MAX
    for host in hosts:
        if room > 0:
            limited.append(MxHost(host.name, host.addresses[:room], host.secure))
            room -= len(host.addresses)
    return tuple(limited)


def _why(domain: str, looked: Looked, sure: bool, ours: bool, implicit: bool) -> Outcome:
    """Return why no host can be tried: a failure only if every answer is there and ``sure``."""
    unsure = [answer for _, answer in looked if answer is None or not _sure(answer)]
    if unsure or not sure:
        told = next((a.trouble for a in unsure if a is not None and a.trouble is not None), None)
        return told or _unanswered(domain)
    if ours:
        return _loop(domain)
    what = "the domain has no" if implicit else "no mail exchanger of the domain has an"
    text = Reply.clean(f"{domain}: {what} address that mail can be sent to")
    return Outcome(Reply(550, "5.4.4", text), RECIPIENT)


def _sure(answer: Addresses) -> bool:
    return answer.none or (bool(answer.addresses) and not answer.unsure)


def _loop(domain: str) -> Outcome:
    text = Reply.clean(f"{domain}: mail for it loops back to this host")
    return Outcome(Reply(554, "5.4.6", text), RECIPIENT)


def _unanswered(domain: str) -> Outcome:
    text = Reply.clean(f"{domain}: mail exchangers: name service: timed out")
    return Outcome(Reply(421, "4.4.3", text), HOST)
