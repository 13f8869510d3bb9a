"""MTA-STS: what a domain has published about TLS and the names of its mail exchangers.

A TXT record says that there is a policy, and by its id when it has changed; the
policy itself comes by HTTPS.  Once seen, a policy holds for as long as it said,
whatever becomes of record and server: to forget it is what an attacker wants.  A
policy that cannot be had is as if there were none, and mail never waits for more
than the time limits below.

Source   RFC 8461 s3.1 (record), s3.2 (policy), s3.3 (HTTPS), s4.1 (names), s5.1 (what
         holds); the words of failures() are RFC 8460 s4.3's.
Units    Seconds, on the caller's monotonic clock; the time limits on the loop's.
State    A bounded cache of policies, and the fetches under way.  Lost on exit.

Invariants, each a property in tests/machine/test_sts.py
    M1   A policy is used until its max_age is over, unless a newer one was fetched.
    M2   A policy is fetched once for each id and each REFRESH, however many ask;
         after a failure, not again within RETRY.
    M3   At most DOMAINS_MAX domains are remembered, those asked for last.
    M4   Any octets, as record or policy, are a policy by the grammar, or none.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from typing import Protocol

from mta.machine.answers import Addresses, TextAnswer
from mta.machine.fetch import FetchError, get
from mta.machine.resolve import ascii_name
from mta.types import Reply
from mta.values import frozen

__all__ = ["ENFORCE", "NONE", "TESTING", "StsCache", "StsPolicy", "matches", "parse", "tag"]

ENFORCE, TESTING, NONE = "enforce", "testing", "none"
DOMAINS_MAX = 2000
PATTERNS_MAX = 100
AGE_MAX = 31_557_600  # RFC 8461 s3.2
AGE_MIN = 60
REFRESH = 86400.0  # a policy older than this, or half its age, is looked at again
RETRY = 300.0
RECORD_LIMIT = 10.0
FETCH_LIMIT = 30.0
PATH = "/.well-known/mta-sts.txt"

FETCH_FAILED = "sts-policy-fetch-error"
INVALID = "sts-policy-invalid"
UNTRUSTED = "sts-webpki-invalid"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class Names(Protocol):
    """What is asked of a Resolver."""

    async def addresses(self, host: str, now: float) -> Addresses:
        """Return what ``host`` stands for."""

    async def text(self, name: str, now: float) -> TextAnswer:
        """Return the TXT records of ``name``."""


@frozen
class StsPolicy:
    """A policy: ``mx`` are names, or "*." before one; it holds until ``until``."""

    id: str
    mode: str
    mx: tuple[str, ...]
    until: float


def matches(policy: StsPolicy, name: str) -> bool:
    """True if ``name`` is an MX host that ``policy`` allows: "*" is one whole label."""
    name = name.lower().removesuffix(".")
    _, dot, parent = name.partition(".")
    return name in policy.mx or (bool(dot) and f"*.{parent}" in policy.mx)


def tag(texts: tuple[str, ...]) -> str:
    """Return the id in the one record among ``texts``, "" if there is none, or more."""
    records = []
    for text in texts:
        version, _, rest = text.partition(";")
        if version.rstrip(" \t") == "v=STSv1":
            records.append(rest)
    if len(records) != 1:
        return ""
    for field in records[0].split(";"):
        name, _, value = field.partition("=")
        if name.strip(" \t") == "id":
            value = value.strip(" \t")
            return value if value.isascii() and value.isalnum() and len(value) <= 32 else ""
    return ""


def parse(octets: bytes, number: str, now: float) -> StsPolicy:
    """Return the policy in ``octets``, whose id is ``number``; ValueError with the reason."""
    said: dict[str, str] = {}
    patterns: list[str] = []
    for line in octets.decode("utf-8").split("\n"):
        name, colon, value = line.partition(":")
        name, value = name.strip(" \t\r"), value.strip(" \t\r")
        if not colon and name:
            raise ValueError("a line without a colon")
        if name == "mx":
            patterns.append(_pattern(value))
        elif name:
            said.setdefault(name, value)
    mode, age = said.get("mode", ""), said.get("max_age", "")
    if said.get("version") != "STSv1":
        raise ValueError("the version is not STSv1")
    if mode not in (ENFORCE, TESTING, NONE):
        raise ValueError("no mode that is known")
    if not (age.isascii() and age.isdigit() and len(age) <= 10):
        raise ValueError("max_age is no number")
    if len(patterns) > PATTERNS_MAX or (mode != NONE and not patterns):
        raise ValueError("no mx, or too many")
    until = now + min(max(int(age), AGE_MIN), AGE_MAX)
    return StsPolicy(number, mode, tuple(patterns), until)


def _pattern(text: str) -> str:
    text = text.lower().removesuffix(".")
    name = text.removeprefix("*.")
    if not _NAME.issuperset(name) or len(name) > 253 or "" in name.split("."):
        raise ValueError("an mx that is no name")
    return text


@frozen
class _Known:
    """The last policy of a domain, if any, and what became of the last fetch.

    ``asked`` is the id of that fetch, which is not done again before ``again``.
    """

    policy: StsPolicy | None
    asked: str
    again: float
    failure: str = ""


class StsCache:
    """Policies of domains; one instance per process."""

    def __init__(self, resolver: Names, ca: str = "", port: int = 443) -> None:
        """Trust the authorities in the PEM file ``ca``, "" for the system's."""
        self._resolver = resolver
        self._ca = ca
        self._port = port
        self._context: ssl.SSLContext | None = None
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[StsPolicy | None]] = {}

    def __len__(self) -> int:
        """How many domains are remembered."""
        return len(self._known)

    async def policy(self, domain: str, now: float) -> StsPolicy | None:
        """Return the policy that holds for ``domain`` now; its mode may be "none"."""
        try:
            name = ascii_name(domain)
        except ValueError:
            return None
        number = await self._number(name, now)
        known = self._known.get(name)
        held = _held(known, now)
        if known is not None:
            self._known.move_to_end(name)
        if not number:
            return held
        if known is not None and known.asked == number and now < known.again:
            return held
        task = self._fetching.get(name)
        if task is None:
            task = self._fetching[name] = asyncio.ensure_future(self._renew(name, number, now))
            task.add_done_callback(lambda _: self._fetching.pop(name, None))
        return await asyncio.shield(task)

    def failure(self, domain: str) -> str:
        """Return why the last fetch for ``domain`` failed, as RFC 8460 calls it; "" if not."""
        known = self._known.get(domain)
        return known.failure if known is not None else ""

    async def _number(self, name: str, now: float) -> str:
        """Return the id that the DNS shows, "" if it shows none."""
        try:
            async with asyncio.timeout(RECORD_LIMIT):
                return tag((await self._resolver.text(f"_mta-sts.{name}", now)).texts)
        except TimeoutError:
            return ""

    async def _renew(self, name: str, number: str, now: float) -> StsPolicy | None:
        """Fetch the policy; what is held goes on to hold if that fails."""
        failure = ""
        try:
            async with asyncio.timeout(FETCH_LIMIT):
                policy: StsPolicy | None = parse(await self._fetch(name, now), number, now)
        except FetchError as error:
            failure = UNTRUSTED if error.untrusted else FETCH_FAILED
        except TimeoutError:
            failure = FETCH_FAILED
        except ValueError:
            failure = INVALID
        if failure:
            policy, again = _held(self._known.get(name), now), now + RETRY
        elif policy is not None:
            again = now + min((policy.until - now) / 2, REFRESH)
        self._known[name] = _Known(policy, number, again, failure)
        self._known.move_to_end(name)
        while len(self._known) > DOMAINS_MAX:
            self._known.popitem(last=False)
        return policy

    async def _fetch(self, name: str, now: float) -> bytes:
        host = f"mta-sts.{name}"
        found = await self._resolver.addresses(host, now)
        if found.trouble is not None:
            raise FetchError(found.trouble.reply.text)
        try:
            if self._context is None:
                self._context = ssl.create_default_context(cafile=self._ca or None)
        except OSError as error:
            raise FetchError(Reply.clean(f"{self._ca}: {error}")) from None
        return await get(host, PATH, found.addresses, self._port, self._context)


def _held(known: _Known | None, now: float) -> StsPolicy | None:
    if known is None or known.policy is None or now >= known.policy.until:
        return None
    return known.policy
