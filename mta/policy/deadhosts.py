"""Dead hosts: which next hops do not answer, and until when to leave them be.

``deliver`` asks here before it offers a job to a channel program, so that a
host that is down costs a handful of connections, not one for each message.
What is known is a fact, when it failed and how often in a row; how long that
keeps a deliver away is the deliver's own affair: its TTL, -l or ``dead_ttl``.

The first failure keeps it away for an eighth of the TTL, but at least FIRST, each
further one twice as long, never longer than the TTL.  A success wipes it all out.

Source   RFC 5321 s4.5.4.1: "A client SHOULD keep a list of hosts it cannot
         reach".  The name and the -l flag are MMDF's: see deliver(8).
Units    Times are float seconds since the epoch; nothing here reads a clock,
         sleeps or logs.  A host may also be an address, "[192.0.2.1]:25".
State    One dict of facts a process, shared by the lanes of a deliver and fed by
         the spool's log of hosts (spool.hostlog), which outlives the process.

Invariants, each a property in tests/policy/test_deadhosts.py
    D1   A host is dead at ``now`` iff it failed, nothing has revived it since, and
         the pause of the asker's TTL has not passed since its last failure.
    D2   No pause is longer than the TTL; more failures never mean a shorter one;
         a longer TTL never does, either.  A TTL of 0 is no pause.
    D3   Asking changes no answer.
    D4   Facts put in from their news, in order, are the facts that made the news;
         and once more, nothing changes.
    D5   However many hosts fail, at most ``limit`` are held, those that failed last.
    D6   A fact of the future is one of now: clocks that go back keep nobody away
         longer than the TTL.
    D7   What a person said of a host stands for its time, whoever fails there.
"""

from __future__ import annotations

from mta.types import Host, Reply
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["KEPT", "PERSON", "DeadHost", "DeadHosts", "Failing", "News", "dead", "pause"]

KEPT = 10_000  # hosts of one channel
FIRST = 60.0  # the shortest pause, where the TTL allows it
SHARE = 8  # the first pause is this part of the TTL
SPREAD = 0.1  # of a pause, by which jitter shortens it: one deliver asks before the others
PERSON = "person:"  # what a person's signature begins with
ROW = 172_800.0  # without a failure for so long, the next one is the first of a new row


@frozen
class DeadHost:
    """Why a host is left alone, and the first instant it may be tried again."""

    host: Host
    reply: Reply  # always 4yz: what a job that waits meanwhile is deferred with
    until: float
    failures: int = 32  # in a row; of so many the pause is the TTL
    who: str = ""  # found out, or said so


@frozen
class Failing:
    """What is known of a host that did not answer.

    ``at`` is the last failure, ``since`` the first of the row, ``via`` the address
    that was tried last, or "".  ``hold``: a person buried it, for so many seconds
    from ``at``.  ``who`` says who found out, ``before`` when the failure before this
    one was, 0.0 if it is the first of the row.
    """

    at: float
    since: float
    failures: int
    reply: Reply
    via: str = ""
    hold: float = 0.0
    who: str = ""
    before: float = 0.0

    def held(self, now: float) -> float:
        """Return for how long a person still has it left alone."""
        return max(0.0, self.at + self.hold - now) if self.hold else 0.0


@frozen
class News:
    """Something happened to a host of ``channel``: it failed, or (None) it is well."""

    at: float
    channel: str
    host: Host
    failing: Failing | None
    who: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether a person says so."""
        return self.who.startswith(PERSON)


def pause(failures: int, ttl: float, jitter: float = 0.0) -> float:
    """Return how long ``failures`` in a row keep one away whose TTL is ``ttl``.

    ``jitter`` is the caller's random number in [0, 1).
    """
    wait = max(FIRST, ttl / SHARE)
    for _ in range(failures - 1):
        if wait >= ttl:
            break
        wait *= 2
    return max(0.0, min(wait, ttl)) * (1 - SPREAD * jitter)


def dead(host: Host, failing: Failing, ttl: float, jitter: float = 0.0) -> DeadHost | None:
    """Return until when ``failing`` keeps one away; None where the TTL is 0: never.

    Who heeds no failures heeds no burial by hand, either.
    """
    if ttl <= 0:
        return None
    wait = failing.hold or pause(failing.failures, ttl, jitter)
    who = failing.who.removeprefix(PERSON)
    return DeadHost(host, failing.reply, failing.at + wait, failing.failures, who)


class DeadHosts:
    """The hosts that fail, of all channels; they change only by news."""

    def __init__(self, limit: int = KEPT) -> None:
        """Hold at most ``limit`` hosts of each channel."""
        self._limit = limit
        self._channels: dict[str, dict[Host, Failing]] = {}

    def of(self, channel: str) -> dict[Host, Failing]:
        """Return the hosts of ``channel`` that fail: to look into, and not to change."""
        return self._channels.setdefault(channel, {})

    def failed(
        self, channel: str, host: Host, reply: Reply, now: float, via: str = "", who: str = ""
    ) -> News:
        """Return the news that ``host`` answered ``reply`` at ``now``, or nothing at all.

        Raises ValueError unless ``reply`` is 4yz: a rejection proves a host alive.
        """
        if not reply.transient:
            raise ValueError(f"only a 4yz reply buries a host, not {reply}")
        known = self.of(channel).get(host)
        if known is None or now - known.at >= ROW:
            known = Failing(now, now, 0, reply)
        since, left = min(known.since, now), known.held(now)
        who = known.who if left else who  # what a person said stands
        before = known.at if known.failures else 0.0
        failing = Failing(now, since, known.failures + 1, reply, via, left, who, before)
        return News(now, channel, host, failing, who)

    def apply(self, news: News, now: float) -> bool:
        """Take in ``news`` at ``now``; return whether it changed anything."""
        hosts, failing = self.of(news.channel), news.failing
        if failing is None:
            return hosts.pop(news.host, None) is not None
        if failing.at > now:
            failing = replace(failing, at=now, since=min(failing.since, now))
        if hosts.get(news.host) == failing:
            return False
        hosts.pop(news.host, None)
        hosts[news.host] = failing  # the dict is in the order of the last failures
        if len(hosts) > self._limit:
            del hosts[next(iter(hosts))]
        return True

    def turn_back(self, now: float) -> list[News]:
        """The clock went back to ``now``: nothing has happened after it; return what changes."""
        late = [
            News(now, channel, host, replace(f, at=now, since=min(f.since, now)), f.who)
            for channel, hosts in self._channels.items()
            for host, f in hosts.items()
            if f.at > now
        ]
        return [news for news in late if self.apply(news, now)]

    def outdated(self, all_news: Sequence[News], now: float) -> list[News]:
        """Return that those hosts are well of which ``all_news``, all that is, know nothing."""
        known = DeadHosts(self._limit)
        for news in all_news:
            known.apply(news, now)
        return [
            News(now, channel, host, None)
            for channel, hosts in self._channels.items()
            for host in hosts
            if host not in known.of(channel)
        ]

    def behind(self, channel: str, address: str) -> list[Host]:
        """Return the hosts of ``channel`` whose last failure was that of ``address``."""
        return [host for host, failing in self.of(channel).items() if failing.via == address]

    def lasting(self, now: float) -> Iterator[News]:
        """Yield the news from which all that still matters at ``now`` can be put in again."""
        for channel, hosts in self._channels.items():
            for host, failing in hosts.items():
                if now - failing.at - failing.hold < ROW:
                    yield News(failing.at, channel, host, failing, failing.who)
