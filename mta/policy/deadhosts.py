"""Dead hosts: which next hops refused to talk, and until when to leave them be.

``deliver`` asks here before it offers a job to a channel program, so that a
host that is down costs one connection timeout per TTL, not one per message.

Source   RFC 5321 s4.5.4.1: "A client SHOULD keep a list of hosts it cannot
         reach".  The name and the -l flag are MMDF's: see deliver(8).
Units    Times are float seconds on the caller's monotonic clock; nothing here
         reads a clock, sleeps or logs.
State    One dict in one deliver process, lost on restart by choice: forgetting
         a dead host wastes one timeout, remembering a live one delays mail.

Invariants, each a property in tests/policy/test_deadhosts.py
    D1   A host is dead at ``now`` iff its last burial was less than TTL ago
         and nothing has revived it since.
    D2   Asking changes no answer: find() is pure.
    D3   Right after bury(host, ..., now), every other entry is in force at ``now``.
"""

from __future__ import annotations

from mta.types import Host, Reply
from mta.values import frozen

__all__ = ["DeadHost", "DeadHosts"]


@frozen
class DeadHost:
    """Why a host was buried, and the first instant it may be tried again."""

    host: Host
    reply: Reply  # always 4yz: what a job that waits meanwhile is deferred with
    until: float


class DeadHosts:
    """Hosts not worth a connection just now; one instance per channel."""

    def __init__(self, ttl: float) -> None:
        """Keep each burial for ``ttl`` seconds; 0 remembers nothing.

        Raises ValueError if ``ttl`` is negative: "off" is spelt 0, not -1.
        """
        if ttl < 0:
            raise ValueError(f"dead-host TTL must be >= 0 seconds, not {ttl}")
        self._ttl = ttl
        self._dead: dict[Host, DeadHost] = {}

    def bury(self, host: Host, reply: Reply, now: float) -> DeadHost:
        """Record at ``now`` that ``host`` answered ``reply``; restart its TTL.

        Raises ValueError unless ``reply`` is 4yz: a rejection proves a host alive.
        """
        if not reply.transient:
            raise ValueError(f"only a 4yz reply buries a host, not {reply}")
        self._dead = {h: d for h, d in self._dead.items() if now < d.until}
        self._dead[host] = dead = DeadHost(host, reply, now + self._ttl)
        return dead

    def find(self, host: Host, now: float) -> DeadHost | None:
        """Return the burial in force at ``now``, or None if ``host`` may be tried."""
        dead = self._dead.get(host)
        return dead if dead is not None and now < dead.until else None

    def revive(self, host: Host) -> bool:
        """Forget ``host``: it spoke to us.  Return whether it was held as dead."""
        return self._dead.pop(host, None) is not None

    def __len__(self) -> int:
        """How many burials are held, expired ones included; for statistics only."""
        return len(self._dead)
