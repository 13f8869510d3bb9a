"""What channel programs tell of their connections: logged, and counted for RFC 8460's reports.

Counted by domain and policy, and written to the log once an hour and at the
end, so that a report of a day can be added up from the log alone.

Units    Monotonic seconds.
State    Counts of an hour at most, of DOMAINS pairs at most; lost with a deliver that is killed.

Invariants, each a property in tests/deliver/test_tls_counts.py
    T1   What is written in all is what was told, connection for connection.
    T2   However many domains and failures there are, no more than DOMAINS + 1 pairs
         with WORDS + 1 kinds of failure are kept; the rest is counted as "*".
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.channel.records import TlsFact
    from mta.machine.log import Log

__all__ = ["TlsCounts"]

PERIOD = 3600.0
DOMAINS = 10_000
WORDS = 30
REST = "*"


class _Count:
    __slots__ = ("failures", "successful")

    def __init__(self) -> None:
        self.successful = 0
        self.failures: dict[str, int] = {}


class TlsCounts:
    """The counters of one deliver."""

    def __init__(self, log: Log, mono: float) -> None:
        """Count from ``mono`` on; write to ``log``."""
        self._log = log
        self._counts: dict[tuple[str, str], _Count] = {}
        self._written = mono

    def note(self, fact: TlsFact) -> None:
        """Log ``fact`` and count it; one that neither failed nor used TLS is no TLS session."""
        self._log.tls(
            fact.domain,
            fact.host,
            fact.policy,
            fact.result,
            fact.protocol,
            fact.cipher,
            fact.level,
        )
        if not (fact.result or fact.protocol):
            return
        count = self._count((fact.domain, fact.policy))
        if not fact.result:
            count.successful += 1
            return
        known = fact.result in count.failures or len(count.failures) < WORDS
        word = fact.result if known else REST
        count.failures[word] = count.failures.get(word, 0) + 1

    def _count(self, pair: tuple[str, str]) -> _Count:
        if pair not in self._counts and len(self._counts) >= DOMAINS:
            pair = (REST, REST)
        return self._counts.setdefault(pair, _Count())

    def tick(self, mono: float) -> None:
        """Write what was counted if an hour has passed."""
        if mono - self._written >= PERIOD:
            self._written = mono
            self.write()

    def write(self) -> None:
        """Write what was counted, and begin anew."""
        counts, self._counts = self._counts, {}
        for (domain, policy), count in counts.items():
            self._log.tls_counters(domain, policy, count.successful, count.failures)
