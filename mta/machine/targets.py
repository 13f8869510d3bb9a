"""Targets: which hosts take a job's mail, and how each of them may be spoken to.

A target is what all jobs share that go to the same hosts under the same rules:
two domains with one set of MX hosts have one target, so one set of connections.

How a host is spoken to follows from the level that was asked for, and from what
the DNS and the domain's policy say:

    off        in the clear
    may        DANE where MX, addresses and TLSA are secure, else MTA-STS if it is
               enforced, else TLS without a proof if it is offered
    require    as may, but never in the clear
    verify     the certificate proves the name of the host, or of the domain
    dane-only  DANE, or not at all

A policy that is being tested is asked for first, and then does not stop anything.
Trouble with any of this is a deferral with the reason; only a message with
REQUIRETLS fails where its demand cannot be met by how the domain is set up.

Source   MX: RFC 5321 s5.1.  DANE: RFC 7672 s2.2, s3.1.  MTA-STS: RFC 8461 s2 (DANE
         goes first), s4.1, s5.1.  REQUIRETLS: RFC 8689 s4.2.1.
Units    ``now`` is of the caller's monotonic clock.

Invariants, each a test in tests/machine/test_targets.py
    G1   A target does not depend on the order of MX records of one preference.
    G2   A domain's own name may be in a certificate only for a target of its own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Protocol

from mta.machine import dane, exchangers, sts
from mta.machine.answers import Exchangers, Hop
from mta.machine.exchangers import MxHost
from mta.machine.net import UNIX, numeric
from mta.machine.outward import SMTP_PORT, Settings
from mta.machine.places import DANE, OFF, REQUIRE, VERIFY, TlsPolicy
from mta.machine.resolve import Resolver
from mta.machine.sts import ENFORCE, TESTING, StsPolicy
from mta.types import HOST, MESSAGE, Host, Outcome, Reply
from mta.values import frozen

__all__ = ["Guide", "Refusal", "Target"]

_DANE_LEVELS = ("may", "require", "dane-only")
_STS_LEVELS = ("may", "require")


@frozen
class Target:
    """Hosts that stand for one another, by preference, and the rules for them.

    ``mx``: the names are MX hosts, else the one name is where to connect.
    ``configured``: a person named it, so that an unknown name is a mistake there.
    ``secure``: nobody can have forged the names.  ``domain`` is one whose name a
    certificate may show, too, "" if none may.  ``sts`` is the mode of the domain's
    MTA-STS policy, "" if none counts, and ``allowed`` which names it allows.
    """

    groups: tuple[tuple[str, ...], ...]
    port: int
    level: str
    mx: bool = False
    configured: bool = False
    secure: bool = False
    domain: str = ""
    sts: str = ""
    allowed: tuple[str, ...] = ()
    requiretls: bool = False


@frozen
class Refusal:
    """Why a host is not spoken to; ``result`` is RFC 8460's word, under the policy ``origin``."""

    outcome: Outcome
    origin: str
    result: str


class StsSource(Protocol):
    """Where policies come from: sts.StsCache, or a test."""

    def policy(self, domain: str, now: float) -> Awaitable[StsPolicy | None]:
        """Return the policy of ``domain``."""

    def failure(self, domain: str) -> str:
        """Return RFC 8460's word for why the policy could not be had last, "" if it could."""


class Guide:
    """Finds targets, their hosts, and the rules for each host."""

    def __init__(
        self,
        settings: Settings,
        resolver: Resolver,
        policies: StsSource | None = None,
        shuffle: exchangers.Shuffle = random.shuffle,
    ) -> None:
        """``policies``: None if MTA-STS is not looked at."""
        self._settings = settings
        self._resolver = resolver
        self._policies = policies
        self._shuffle = shuffle

    def fixed(self, host: str, port: int, level: str, requiretls: bool, named: bool) -> Target:
        """Return the target that is one host or address; ``named`` by the configuration."""
        return Target(
            ((host,),), port, level, configured=named, secure=named, requiretls=requiretls
        )

    async def find(
        self, domain: Host, level: str, requiretls: bool, now: float
    ) -> Target | Outcome:
        """Return the target of ``domain`` by its MX records, or why there is none."""
        if numeric(domain) and domain[:1] != "[":
            return self.fixed(domain, self._settings.port, level, requiretls, False)
        route = await self._route(domain, lambda hops: None, now)
        if route.trouble is not None:
            return route.trouble
        groups = await self._groups(domain, now)
        names = {name for group in groups for name in group}
        mode, allowed = await self._sts(domain, level, names, now)
        if requiretls and not (route.secure or mode == ENFORCE or level == "verify"):
            if await self._unsure(domain, level, now):
                text = f"REQUIRETLS: the MTA-STS policy of {domain} cannot be had just now"
                return _defer("4.7.5", text)
            text = f"REQUIRETLS: nothing authenticates the MX records of {domain}"
            return Outcome(Reply(550, "5.7.10", text), MESSAGE)
        own = level == "verify" or requiretls or (route.secure and _inside(names, domain))
        return Target(
            groups,
            self._settings.port,
            level,
            mx=True,
            secure=route.secure,
            domain=domain if own else "",
            sts=mode,
            allowed=allowed,
            requiretls=requiretls,
        )

    async def _groups(self, domain: Host, now: float) -> tuple[tuple[str, ...], ...]:
        """Return the names of the MX of ``domain`` by their preference (G1)."""
        if domain[:1] == "[":
            return ((domain,),)
        groups: dict[int, set[str]] = {}
        for hop in (await self._resolver.exchangers(domain, now)).hops:
            groups.setdefault(hop.preference, set()).add(hop.name)
        return tuple([tuple(sorted(groups[preference])) for preference in sorted(groups)])

    async def _sts(
        self, domain: Host, level: str, names: set[str], now: float
    ) -> tuple[str, tuple[str, ...]]:
        """Return the mode of the domain's policy, "" if none counts, and whom it allows."""
        if self._policies is None or level not in _STS_LEVELS or domain[:1] == "[":
            return "", ()
        policy = await self._policies.policy(domain, now)
        if policy is None or policy.mode not in (ENFORCE, TESTING):
            return "", ()
        return policy.mode, tuple(sorted(name for name in names if sts.matches(policy, name)))

    async def _unsure(self, domain: Host, level: str, now: float) -> bool:
        """Whether the domain may have a policy that could not be had."""
        if self._policies is None or level not in _STS_LEVELS or domain[:1] == "[":
            return False
        asked = await self._resolver.text(f"_mta-sts.{domain}", now)  # remembered by now
        return asked.trouble is not None or self._policies.failure(domain) != ""

    async def hosts(self, target: Target, domain: Host, now: float) -> tuple[MxHost, ...] | Outcome:
        """Return the hosts of ``target`` with their addresses, in the order to try them just now.

        ``domain`` is one that led to it.
        """
        if target.mx:
            name = target.groups[0][0]
            label = name if name[:1] == "[" else domain
            fixed = _Fixed(target, self._resolver)
            route = await self._route(label, self._shuffle, now, fixed)
            return route.hosts if route.trouble is None else route.trouble
        name = target.groups[0][0]
        if name.startswith(UNIX) or numeric(name):
            return (MxHost(name, (name,), False),)
        found = await self._resolver.addresses(name, now)
        if found.trouble is None:
            return (MxHost(name, found.addresses, found.secure),)
        reply = found.trouble.reply
        if target.configured and reply.permanent:
            return Outcome(Reply(421, "4.4.4", reply.text), HOST)
        return found.trouble

    async def policy(self, target: Target, host: MxHost, now: float) -> TlsPolicy | Refusal:
        """Return how ``host`` of ``target`` may be spoken to."""
        name = host.name
        if name.startswith(UNIX):
            return TlsPolicy(OFF)
        names = (name, target.domain) if target.domain not in ("", name) else (name,)
        found = None
        if target.level in _DANE_LEVELS:
            found = await self._dane(target, host, names, now)
        return found or _without_dane(target, name, names)

    async def _dane(
        self, target: Target, host: MxHost, names: tuple[str, ...], now: float
    ) -> TlsPolicy | Refusal | None:
        """Return what the TLSA records of ``host`` ask for, None if nothing is asked."""
        only = target.level == "dane-only"
        why = "the MX records are not secure"
        if target.secure and not numeric(host.name):
            name = host.name
            answer = await self._resolver.tlsa(name, target.port, now)
            if answer.trouble is not None:
                outcome = _defer("4.7.5", answer.trouble.reply.text)
                return Refusal(outcome, "dane", "dnssec-invalid")
            usable = dane.usable(answer.records)
            if usable:
                base = answer.base or name
                return TlsPolicy(DANE, tuple(dict.fromkeys((base, *names))), usable, "dane")
            proof = target.sts == ENFORCE or target.requiretls  # PKIX has more to say, then
            if answer.records and not only and not proof:
                return TlsPolicy(REQUIRE, (), (), "dane")  # RFC 7672 s2.2: no usable one
            why = "no TLSA record is usable" if answer.records else "no TLSA record is secure"
        if not only:
            return None
        return Refusal(_defer("4.7.5", f"{host.name}: DANE: {why}"), "dane", "dane-required")

    async def _route(
        self,
        domain: Host,
        shuffle: exchangers.Shuffle,
        now: float,
        names: exchangers.Names | None = None,
    ) -> exchangers.Route:
        own = self._settings
        local = own.port != SMTP_PORT
        asked = names or self._resolver
        return await exchangers.find(
            asked, domain, own.names, own.addresses, shuffle, now, local=local
        )


class _Fixed:
    """The names of a target, whatever the MX records of its domains have become since.

    Jobs of other domains wait there, too: what one domain publishes is nothing to them.
    """

    def __init__(self, target: Target, resolver: Resolver) -> None:
        self._target = target
        self.addresses = resolver.addresses

    async def exchangers(self, domain: str, now: float) -> Exchangers:
        groups = enumerate(self._target.groups)
        hops = [Hop(name, preference) for preference, group in groups for name in group]
        return Exchangers(tuple(hops), self._target.secure, stale=True)  # so it fails nobody


def _without_dane(target: Target, name: str, names: tuple[str, ...]) -> TlsPolicy | Refusal:
    """Return how ``name`` may be spoken to where no TLSA record says it."""
    level = target.level
    if level == "off" and target.requiretls:
        return _refuse_message("REQUIRETLS: TLS is off for this next hop")
    if level == "verify" or (target.requiretls and target.sts != ENFORCE):
        return TlsPolicy(VERIFY, names, (), "config")
    if target.sts:
        if name in target.allowed:
            return TlsPolicy(VERIFY, (name,), (), "sts")
        text = f"{name} is not in the MTA-STS policy of its domain"
        return Refusal(_defer("4.7.5", text), "sts", "validation-failure")
    return TlsPolicy(level)


def _inside(names: set[str], domain: Host) -> bool:
    """True if all MX hosts are of ``domain`` itself: few other domains share them then."""
    return all(name == domain or name.endswith("." + domain) for name in names)


def _defer(status: str, text: str) -> Outcome:
    return Outcome(Reply(421, status, Reply.clean(text)), HOST)


def _refuse_message(text: str) -> Refusal:
    return Refusal(Outcome(Reply(550, "5.7.10", text), MESSAGE), "config", "validation-failure")
