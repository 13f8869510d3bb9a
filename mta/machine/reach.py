"""Reach: from a target to one open connection, past hosts and addresses that fail.

Hosts are tried in the order of their preference, and each of their addresses.
One that failed is remembered for a while, and is tried last, so that the next
connection does not wait for it again.  One that deliver says to avoid is not tried:
all the names that lead to one dead address wait for one attempt.  A host whose TLS
failed, where TLS was not asked for, is spoken to in the clear for a while.

Source   RFC 5321 s5.1 (all addresses of all hosts, in order); RFC 7435 (TLS that
         nobody asked for must not keep mail from going).
Units    Seconds of the loop's monotonic clock.
State    The addresses that failed, or are to be avoided, and the hosts whose TLS
         failed; lost on exit.

Invariants, each a test in tests/machine/test_reach.py
    H1   An address that failed is tried after all that did not, but it is tried.
    H2   Only a host of level "may" is ever spoken to in the clear after its TLS failed.
    H3   A failure that is final stands only if every host gave a final one.
    H4   No more than REMEMBERED_MAX addresses and hosts are remembered.
    H5   An address to avoid is not tried before its time; where all are, the answer is
         a deferral of the host, without a connection.
    H6   Of each address at which nobody answers, and of one that does after that, deliver
         is told; not of one that has a connection open, nor of trouble with TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mta.channel.records import AddressFact, Avoid, TlsFact
from mta.machine.avoided import Avoided
from mta.machine.credentials import Credentials
from mta.machine.exchangers import MxHost
from mta.machine.net import numeric
from mta.machine.outward import Settings
from mta.machine.places import (
    MAY,
    OFF,
    ClientTerms,
    Contexts,
    Failure,
    Place,
    TlsPolicy,
    TlsResult,
)
from mta.machine.smtp_connection import connect
from mta.machine.smtp_session import Connection, Owner
from mta.machine.sts import TESTING
from mta.machine.targets import Guide, Refusal, Target
from mta.smtp.states import BANNER
from mta.types import HOST, MESSAGE, Host, Outcome, Reply
from mta.values import replace

__all__ = ["Reach"]

ADDRESSES_MAX = 20
OPENING_SHARE = 1.2  # of the greeting's time limit: a few silent hosts must not add up
LOOKUPS_MAX = 60.0
BAD_FOR = 120.0
PLAIN_FOR = 600.0
REMEMBERED_MAX = 10_000

_CLEAR = TlsPolicy(OFF)
_NO_TLS = "starttls-not-supported"

Report = Callable[[TlsFact], None]  # who hears of TLS


class _Memory:
    """Things to remember for a while, at most REMEMBERED_MAX of them, the oldest forgotten."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._until: dict[tuple[str, int], float] = {}

    def add(self, key: tuple[str, int], now: float) -> None:
        self._until[key] = now + self._span
        while len(self._until) > REMEMBERED_MAX:
            del self._until[next(iter(self._until))]

    def drop(self, key: tuple[str, int]) -> None:
        self._until.pop(key, None)

    def holds(self, key: tuple[str, int], now: float) -> bool:
        until = self._until.get(key)
        if until is not None and now >= until:
            del self._until[key]
            until = None
        return until is not None

    def __len__(self) -> int:
        return len(self._until)


class Reach:
    """Opens connections; one instance per program, for what it remembers."""

    def __init__(
        self,
        settings: Settings,
        guide: Guide,
        credentials: Credentials,
        report: Report,
        tell: Callable[[AddressFact], None] = lambda fact: None,
    ) -> None:
        """``report`` hears of connections that had to do with TLS, ``tell`` of addresses."""
        self._settings = settings
        self._guide = guide
        self._credentials = credentials
        self._report = report
        self._tell_address = tell
        self._avoided = Avoided()
        self._terms = ClientTerms(
            settings.hostname,
            settings.lmtp,
            settings.sources,
            contexts=Contexts(settings.ca),
        )
        self._named = replace(self._terms, credentials=self._login)
        self._bad = _Memory(BAD_FOR * settings.scale)
        self._plain = _Memory(PLAIN_FOR * settings.scale)
        self._untrusted = _Memory(PLAIN_FOR * settings.scale)  # failed a policy on trial

    async def open(self, owner: Owner, target: Target, domain: Host) -> Connection | Failure:
        """Return a READY connection to a host of ``target``, or why there is none."""
        now = owner.loop.time()
        try:
            async with asyncio.timeout(LOOKUPS_MAX):
                hosts = await self._guide.hosts(target, domain, now)
        except TimeoutError:
            hosts = Outcome(Reply(421, "4.4.3", "name service: timed out"), HOST)
        if isinstance(hosts, Outcome):
            return Failure(hosts, "")
        until = now + OPENING_SHARE * owner.limit(BANNER)
        failure: Failure | None = None
        pairs, avoided = self._avoided.sift(self._in_order(hosts, target.port, now), target, now)
        if not pairs and avoided is not None:
            return avoided
        for tried, (host, address) in enumerate(pairs):
            if tried and (tried >= ADDRESSES_MAX or owner.loop.time() > until):
                break
            found = await self._try(owner, target, domain, host, address)
            if isinstance(found, Connection):
                return found
            failure = _worse(failure, found)
        return failure or Failure(
            Outcome(Reply(421, "4.4.4", "no address to connect to"), HOST), ""
        )

    def avoid(self, told: Avoid, now: float) -> None:
        """Heed what deliver says of an address."""
        self._avoided.heed(told, now)
        if not told.seconds:
            address, _, port = told.what.rpartition(":")
            self._bad.drop((address.strip("[]"), int(port)))

    def _in_order(
        self, hosts: tuple[MxHost, ...], port: int, now: float
    ) -> list[tuple[MxHost, str]]:
        """Return hosts with each of their addresses, those that failed behind all others."""
        pairs = [(host, address) for host in hosts for address in host.addresses]
        if len(self._bad) and len(pairs) > 1:
            pairs.sort(key=lambda pair: self._bad.holds((pair[1], port), now))
        return pairs

    async def _try(
        self, owner: Owner, target: Target, domain: Host, host: MxHost, address: str
    ) -> Connection | Failure:
        """Try one address, and again with less TLS where that is allowed and may help."""
        name = numeric(host.name) or host.name
        key, now = (name, target.port), owner.loop.time()
        policy = await self._guide.policy(target, host, now)
        if isinstance(policy, Refusal):
            refused = TlsResult(policy.origin, policy.result)
            self._tell(domain, name, policy.origin, refused)
            if not _tested(target, policy.origin):
                return Failure(policy.outcome, "")
            policy = TlsPolicy(target.level)
        elif _tested(target, policy.origin) and self._untrusted.holds(key, now):
            policy = TlsPolicy(target.level)
        if policy.level == MAY and self._plain.holds(key, now):
            policy = _CLEAR
        place = Place(name, address, target.port, policy)
        found = await self._connect(owner, target, domain, place)
        if _trouble(found) and _tested(target, place.policy.origin):
            self._untrusted.add(key, now)
            place = replace(place, policy=TlsPolicy(target.level))
            found = await self._connect(owner, target, domain, place)
        if place.policy.level == MAY and _trouble(found) not in ("", _NO_TLS):
            self._plain.add(key, now)
            place = replace(place, policy=_CLEAR)
            found = await self._connect(owner, target, domain, place)
        if isinstance(found, Failure):
            self._bad.add((address, target.port), owner.loop.time())
        else:
            self._bad.drop((address, target.port))
        fact = self._avoided.learn(found, address, target.port, owner)
        if fact is not None:
            self._tell_address(fact)
        return found

    async def _connect(
        self, owner: Owner, target: Target, domain: Host, place: Place
    ) -> Connection | Failure:
        """Connect once, and tell what TLS came to."""
        terms = self._terms
        if target.configured:
            terms = self._named
            try:
                self._login(place)
            except ValueError as error:
                text = Reply.clean(f"credentials: {error}")
                return Failure(Outcome(Reply(421, "4.3.5", text), HOST), "")
        found = await connect(owner, terms, place)
        if found.tls is not None and not _unasked(place, found.tls):
            word = place.policy.origin if place.policy.origin != "config" else place.policy.level
            self._tell(domain, place.name, word, found.tls)
        if isinstance(found, Failure) and target.requiretls and _trouble(found) == _NO_TLS:
            # The host is set up so: it is no trouble of today.
            reply = Reply(550, "5.7.10", f"REQUIRETLS: {found.outcome.reply.text}"[:500])
            return replace(found, outcome=Outcome(reply, MESSAGE))
        return found

    def _login(self, place: Place) -> tuple[str, str] | None:
        return self._credentials.find(place.name, place.port)

    def _tell(self, domain: Host, host: str, policy: str, result: TlsResult) -> None:
        words = result.result, result.protocol, result.cipher, result.level
        self._report(TlsFact(domain, host, policy, *words))


def _tested(target: Target, origin: str) -> bool:
    """True if what was asked for is a policy on trial (RFC 8461 s5)."""
    return target.sts == TESTING and origin == "sts"


def _unasked(place: Place, result: TlsResult) -> bool:
    """True if nobody wanted TLS: neither we nor the host asked for it, and none came of it."""
    policy = place.policy
    return policy.origin == "config" and policy.level == MAY and result.result == _NO_TLS


def _trouble(found: Connection | Failure) -> str:
    """Return what was wrong with TLS where no connection was had, in RFC 8460's word."""
    return found.tls.result if isinstance(found, Failure) and found.tls is not None else ""


def _worse(before: Failure | None, failure: Failure) -> Failure:
    """Return which failure counts: the last, but no final one after one that is not (H3)."""
    if before is not None and before.outcome.reply.transient and failure.outcome.reply.permanent:
        return before
    return failure
