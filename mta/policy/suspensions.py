"""Suspensions: rules of an operator that have mail wait until a time, or until he takes them back.

    host     jobs for that next hop, or with ".example" for all below it
    domain   jobs to recipients of that domain, or for that next hop; ".example" as well
    channel  all jobs of a channel        queue    all jobs in a queue
    sender   all jobs of one author

Units    Wall-clock seconds; ``until`` 0.0 is until it is taken back.
State    None: a new set is made when the rules change.

Invariants, each a property in tests/policy/test_suspensions.py
    U1   A job is suspended iff a rule stands for it and has not ended.
    U2   What of_lane(), of_host() and of_author() find of a name, of_job() finds of the job.
    U3   The case of a rule and of what it is about changes nothing.
"""

from __future__ import annotations

from mta.types import Host, Mailbox, ReversePath
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NONE", "WHATS", "Suspension", "Suspensions", "author_text"]

HOST, DOMAIN, CHANNEL, QUEUE, AUTHOR = "host", "domain", "channel", "queue", "sender"
WHATS = (HOST, DOMAIN, CHANNEL, QUEUE, AUTHOR)


@frozen
class Suspension:
    """One rule: whose mail waits, by whom, since and until when, and why.

    ``word`` is what names of jobs have for ``whom``: the host's word, the author's signs.
    """

    what: str
    whom: str
    by: str
    since: float
    until: float = 0.0
    why: str = ""
    word: str = ""

    @property
    def name(self) -> str:
        """The rule as a person types it."""
        return f"{self.what} {self.whom}"

    def stands(self, now: float) -> bool:
        """Tell whether the rule has not ended."""
        return not 0.0 < self.until <= now


class Suspensions:
    """All rules, to be asked about a lane, a host, an author or a job."""

    def __init__(self, rules: Iterable[Suspension] = ()) -> None:
        """Index ``rules``; of two about the same the last counts."""
        self.rules = {(rule.what, rule.whom.lower()): rule for rule in rules}
        self._hosts: dict[str, Suspension] = {}
        self._signs: dict[str, Suspension] = {}
        for rule in self.rules.values():
            if rule.what in (HOST, DOMAIN):
                self._hosts[rule.word or rule.whom.lower()] = rule
            elif rule.what == AUTHOR:
                self._signs[rule.word] = rule

    def __bool__(self) -> bool:
        return bool(self.rules)

    def until(self, now: float) -> float:
        """Return when the next rule ends; 0.0 if none does."""
        return min((r.until for r in self.rules.values() if r.until > now), default=0.0)

    def of_lane(self, channel: str, queue: str, now: float) -> Suspension | None:
        """Return the rule that has all mail of a lane wait."""
        return self._of(CHANNEL, channel, now) or self._of(QUEUE, queue, now)

    def of_host(self, word: Host, now: float) -> Suspension | None:
        """Return the rule about a host as names of jobs have it; those with "%" may have more."""
        return _covering(self._hosts, word, now) if self._hosts else None

    def of_author(self, signs: str, now: float) -> Suspension | None:
        """Return the rule about an author as names of jobs have him."""
        rule = self._signs.get(signs) if signs and self._signs else None
        return rule if rule is not None and rule.stands(now) else None

    def of_job(
        self,
        lane: tuple[str, str],
        host: Host,
        recipients: Iterable[Mailbox],
        path: ReversePath,
        now: float,
    ) -> Suspension | None:
        """Return the rule about a job that is read; ``lane`` is channel and queue."""
        if not self.rules:
            return None
        found = self.of_lane(*lane, now) or self._by_host(host, now)
        if found is None and self._signs:
            found = self._of(AUTHOR, author_text(path), now)
        if found is None and self._hosts:
            domains = dict.fromkeys(r.domain for r in recipients)
            found = next(filter(None, (self._by_domain(d, now) for d in domains)), None)
        return found

    def _of(self, what: str, value: str, now: float) -> Suspension | None:
        rule = self.rules.get((what, value.lower()))
        return rule if rule is not None and rule.stands(now) else None

    def _by_host(self, host: Host, now: float) -> Suspension | None:
        for what in (HOST, DOMAIN):
            for name in _names(host.lower()):
                rule = self._of(what, name, now)
                if rule is not None:
                    return rule
        return None

    def _by_domain(self, domain: str, now: float) -> Suspension | None:
        found = (self._of(DOMAIN, name, now) for name in _names(domain.lower()))
        return next(filter(None, found), None)


NONE = Suspensions()


def author_text(path: ReversePath) -> str:
    """Return what a rule calls an author."""
    return str(path).lower() if isinstance(path, Mailbox) else "<>"


def _names(host: str) -> list[str]:
    """Return the rules' values that stand for ``host``: itself, and each ".suffix" of it."""
    names, dot = [host], host.find(".", 1)
    while dot > 0 and not host.startswith("["):
        names.append(host[dot:])
        dot = host.find(".", dot + 1)
    return names


def _covering(rules: dict[str, Suspension], word: str, now: float) -> Suspension | None:
    for name in _names(word.lower()) if word else ():
        rule = rules.get(name)
        if rule is not None and rule.stands(now):
            return rule
    return None
