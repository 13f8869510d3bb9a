"""Policy: who may do what, and what is said to the others; deny is the default.

Mail for a domain of ours is taken from anybody, for recipients that exist.
Mail for any other domain is relaying: for clients in ``relay_from``, for who
has logged in, and to ``relay_domains``.  A domain is ours if the router
delivers it on this machine, and for no other reason; but postmaster and
mailer-daemon are reached by the names of the machine itself as well.

Source   RFC 5321 s3.6.2, s7.9 (relaying); s4.5.1 (postmaster); RFC 3463 for the
         status of a refusal.  LMTP never relays, and is never asked to by
         strangers (RFC 2033 s5: it does not belong on a public port).
State    What was found out of domains, until the tables change, and with them the
         Access; and the router's answers, until forget().

Invariants, each a test in tests/smtpd/test_policy.py
    P1   A recipient of a foreign domain is accepted only from whom may relay, or
         for relay_domains; whatever the local part holds.
    P2   Where nothing says otherwise the answer is no.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from mta.config.model import Config
from mta.route.router import Routed, Router
from mta.types import Mailbox, Reply
from mta.values import frozen

__all__ = [
    "LMTP",
    "MX",
    "SUBMISSION",
    "SUBMISSIONS",
    "SUBMITS",
    "Access",
    "Networks",
    "Rights",
    "Suffixes",
    "canonical",
]

MX, SUBMISSION, SUBMISSIONS, LMTP = "mx", "submission", "submissions", "lmtp"
SUBMITS = (SUBMISSION, SUBMISSIONS)  # where messages begin their way (RFC 6409)

ROUTES_MAX = 1000  # answers kept until the next second
DOMAINS_MAX = 10_000  # that are remembered as ours or not

RELAY_DENIED = Reply(550, "5.7.1", "relay access denied")
NO_RELAY_HERE = Reply(550, "5.7.1", "this service takes mail for its own users only")
ALWAYS = ("postmaster", "mailer-daemon")
NOT_YOURS = Reply(554, "5.7.1", "this service is not for your address")


def canonical(address: str) -> str:
    """Return a client's address in its one spelling; an IPv4 address inside IPv6 as IPv4.

    "" for what is no address, which has no rights.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    inside = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(inside or parsed)


class Networks:
    """A list of networks, asked for one address."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take networks as mta.yaml(5) spells them: "192.0.2.0/24", "2001:db8::1"."""
        self._rows: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for text in texts:
            network = ipaddress.ip_network(text.strip("[]"), strict=False)
            row = (int(network.network_address), int(network.netmask))
            self._rows[network.version].append(row)

    def has(self, address: str) -> bool:
        """Whether ``address``, in canonical spelling, lies in one of them; "" never does."""
        rows = self._rows[6 if ":" in address else 4]
        if not rows or not address:
            return False
        number = int(ipaddress.ip_address(address))
        return any(number & mask == network for network, mask in rows)


class Suffixes:
    """A list of domains, "name" or ".suffix", asked for one domain."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Take lower-case patterns; ".example" has every name below example, not itself."""
        self._patterns = frozenset(patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def has(self, domain: str) -> bool:
        """Whether ``domain`` is one of them, or lies below one."""
        if not self._patterns:
            return False
        if domain in self._patterns:
            return True
        at = domain.find(".")
        while at >= 0:
            if domain[at:] in self._patterns:
                return True
            at = domain.find(".", at + 1)
        return False


@frozen
class Rights:
    """What a client's address gives it, before it says a word."""

    relay: bool
    xclient: bool
    refusal: Reply | None


class Access:
    """The decisions over clients and recipients, from one configuration."""

    def __init__(self, config: Config, router: Router) -> None:
        self.router = router
        self._self = {config.hostname, *[_literal(row.address) for row in config.listen]}
        self._ours: dict[str, bool] = {}
        self._routes: dict[tuple[str, str], Routed] = {}
        self.relay_domains = Suffixes(config.relay_domains)
        self._relay_from = Networks(config.relay_from)
        self._xclient_from = Networks(config.smtpd.xclient_from)
        self._proxy_from = Networks(config.smtpd.proxy_from)

    def trusts_proxy(self, address: str) -> bool:
        """Whether what a PROXY header from ``address`` says counts."""
        return self._proxy_from.has(canonical(address))

    def rights(self, service: str, address: str) -> Rights:
        """Return the rights of a client at ``address``; "" is a Unix socket of this machine.

        LMTP over the network is for loopback and ``relay_from`` alone.
        """
        relay = self._relay_from.has(address)
        refusal = None
        if service == LMTP and address and not relay and not _loopback(address):
            refusal = NOT_YOURS
        return Rights(relay, self._xclient_from.has(address), refusal)

    def recipient(self, service: str, may_relay: bool, mailbox: Mailbox) -> Routed | Reply:
        """Return where mail for ``mailbox`` goes, or why it is not taken."""
        if mailbox.domain in self._self and mailbox.local.lower() in ALWAYS:
            mailbox = self._postmaster(mailbox)
        domain = mailbox.domain
        if domain and not self._is_ours(domain):
            if service == LMTP:
                return NO_RELAY_HERE
            if not may_relay and not self.relay_domains.has(domain):
                return RELAY_DENIED
        key = (mailbox.local, domain)
        routed = self._routes.get(key)
        if routed is None:
            routed = self.router.route(mailbox)
            if len(self._routes) < ROUTES_MAX:
                self._routes[key] = routed
        return routed if routed.outcome is None else routed.outcome.reply

    def _postmaster(self, mailbox: Mailbox) -> Mailbox:
        """Return it as one of the first local domain, unless its own is ours (RFC 5321 s4.5.1)."""
        return mailbox if self._is_ours(mailbox.domain) else Mailbox(mailbox.local, "")

    def forget(self) -> None:
        """Ask the router anew: users and lists of addresses may have changed."""
        self._routes.clear()

    def _is_ours(self, domain: str) -> bool:
        known = self._ours.get(domain)
        if known is None:
            if len(self._ours) >= DOMAINS_MAX:
                self._ours.clear()
            known = self._ours[domain] = self.router.is_local(domain)
        return known

    def served(self, domain: str) -> str:
        """Return the queue of a relay domain, for ETRN; "" for any other."""
        if not self.relay_domains.has(domain):
            return ""
        match = self.router.table.find(domain)
        return "" if match is None or match.channel.local else match.channel.queue


def _literal(address: str) -> str:
    """Return the address literal of a listener; "" for a Unix socket."""
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("unix:"):
        return ""
    return f"[ipv6:{host}]" if ":" in host else f"[{host}]"


def _loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
