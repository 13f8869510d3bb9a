"""What one deliver learns of the hosts of one channel: busy, proven, dead.

A host is *proven* when it has answered a job since this deliver began or since
it was last unreachable; until then one job asks for all.

Units    ``mono`` is monotonic, ``now`` wall-clock seconds.
State    A record for each host with a job in flight, and for the KEPT others
         that were used last; the burials of policy.deadhosts.

Invariants, each a property in tests/deliver/test_hosts.py
    H1   in_flight is what was launched less what has landed, and never negative.
    H2   Only a 4yz about the host itself buries it, and only if no other job
         was answered by it since that job began.
    H3   Any word of a host's own proves it, and revives it.
"""

from __future__ import annotations

from mta.policy.deadhosts import DeadHosts
from mta.policy.decide import HostFacts
from mta.types import CHANNEL, HOST, Host, Outcome

__all__ = ["Hosts"]

KEPT = 10_000


class _Record:
    __slots__ = ("answered", "in_flight", "proven", "told")

    def __init__(self, proven: bool) -> None:
        self.in_flight = 0
        self.proven = proven
        self.answered = -1.0  # mono: when it last said anything; below 0 = never
        self.told = ""  # the newest id whose job has the burial's reason on file


class Hosts:
    """The hosts of one channel."""

    def __init__(self, ttl: float, probing: bool) -> None:
        """Remember dead hosts for ``ttl`` seconds; ``probing`` if hosts have to prove themselves.

        A channel that has no connections (local, pipe, list) does not probe.
        """
        self._dead = DeadHosts(ttl)
        self._ttl = ttl
        self._probing = probing
        self._records: dict[Host, _Record] = {}
        self.in_flight = 0
        self.unproven = 0  # of those in flight, to hosts that have still to answer
        self._asking: set[Host] = set()

    def _record(self, host: Host) -> _Record:
        record = self._records.get(host)
        if record is None:
            if len(self._records) >= KEPT:
                self._trim()
            record = self._records[host] = _Record(not self._probing or not host)
        return record

    def _trim(self) -> None:
        """Drop the older half of the records that nothing is in flight to."""
        idle = [h for h, r in self._records.items() if not r.in_flight]
        for host in idle[: len(idle) // 2]:
            del self._records[host]

    def is_unproven(self, host: Host) -> bool:
        """Tell whether ``host`` has still to answer."""
        record = self._records.get(host)
        return self._probing and host != "" if record is None else not record.proven

    def facts(self, host: Host, now: float, mono: float) -> HostFacts:
        """Return what decide() wants to know of ``host``."""
        record = self._record(host)
        dead = self._dead.find(host, mono)
        until = 0.0 if dead is None else now + dead.until - mono
        answered = now + record.answered - mono if record.answered >= 0 else 0.0
        since = until - self._ttl if until else 0.0
        return HostFacts(record.in_flight, record.proven, dead, until, answered, dead_since=since)

    def launch(self, host: Host) -> None:
        """A job goes to ``host``."""
        record = self._record(host)
        record.in_flight += 1
        self.in_flight += 1
        if not record.proven and host not in self._asking:
            self._asking.add(host)
            self.unproven += 1

    def land(self, host: Host) -> None:
        """A job that went to ``host`` is back."""
        record = self._record(host)
        record.in_flight -= 1
        self.in_flight -= 1
        if not record.in_flight:
            self._settle_question(host)

    def _settle_question(self, host: Host) -> None:
        if host in self._asking:
            self._asking.discard(host)
            self.unproven -= 1

    def learn(self, host: Host, outcome: Outcome, started: float, mono: float) -> str:
        """Take the outcome of a job that began at ``started``; return "buried", "revived" or ""."""
        if outcome.scope == CHANNEL or not host:
            return ""
        record = self._record(host)
        if outcome.scope == HOST and not outcome.reply.positive:
            if not outcome.reply.transient or record.answered > started or not self._probing:
                return ""
            known = self._dead.find(host, mono) is not None
            self._dead.bury(host, outcome.reply, mono)
            record.proven = False
            return "" if known or self._dead.find(host, mono) is None else "buried"
        record.answered = mono
        record.proven = True
        self._settle_question(host)
        return "revived" if self._dead.revive(host) else ""

    def revive(self, host: Host) -> None:
        """Forget that ``host`` is dead: it says that it is back, but has still to answer."""
        self._dead.revive(host)

    def news(self, host: Host, message_id: str) -> bool:
        """Tell, once, whether a job with this id has yet to be told why its host is left alone."""
        record = self._record(host)
        if message_id <= record.told:
            return False
        record.told = message_id
        return True
