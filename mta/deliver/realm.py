"""Where the hosts of one lane stand: whose they are, what is known of them, whose rules hold.

The lane asks here whether a host is its own or the other lane's, and until when it is
left alone; here arrive the news from the board, and what is to be looked at again.

Units    Wall-clock seconds.
State    What hosts.py knows; the demoted hosts; those that are back or asked for their
         mail, ASKED_LIMIT at most.

Invariants, each a property in tests/deliver/test_realm.py
    W1   A host is one lane's at a time: the channel's own while it is not demoted,
         the slow one's while it is; who gets it sweeps.
    W2   A host that is well again, by whoever's success or word, is looked at again once.
"""

from __future__ import annotations

from mta.config.host_rules import HostRules
from mta.config.slow_lanes import origins, slow_lane
from mta.deliver.board import Board
from mta.deliver.hosts import Hosts
from mta.policy.deadhosts import dead
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.host_rules import HostSettings
    from mta.config.model import Channel, Config, Retry
    from mta.deliver.desk import Clock, Flight
    from mta.deliver.mover import Mover
    from mta.deliver.picker import Purse
    from mta.deliver.rules import Rules
    from mta.machine.log import Log
    from mta.policy.deadhosts import DeadHost, News
    from mta.policy.rate import Pace
    from mta.spool.spool import Claim
    from mta.types import Host, Outcome, Reply

__all__ = ["PLAIN", "Realm", "Ways", "ways_of"]

ASKED_LIMIT = 1000  # hosts
BRIEFED = 1000  # addresses that a new program is told of
PLAIN = ("local", "pipe", "list")  # programs that connect to nobody: no host can be dead


@frozen
class Ways:
    """What a lane shares with others: the board; rules of hosts; the slow lane, or those it is of.

    ``purse`` holds the lane's tokens, where they are bounded; ``mover`` takes jobs that the
    channel table sends elsewhere; ``elders`` tells what older lanes of it have in flight;
    ``pace`` what they used of rates.
    Hosts that fail for long go to the channel ``demote_to``, or come from ``origins``.
    """

    board: Board
    own: HostRules
    demote_to: str = ""
    origins: tuple[Channel, ...] = ()
    purse: Purse | None = None
    mover: Mover | None = None
    elders: Callable[[], int] = int
    pace: Pace | None = None


def ways_of(config: Config, channel: Channel, board: Board, purse: Purse | None = None) -> Ways:
    """Return what the lane of ``channel`` shares with others."""
    own, slow = HostRules(config.hosts, channel), slow_lane(config, channel)
    return Ways(board, own, slow, origins(config, channel), purse)


class Realm:
    """The hosts of one lane."""

    def __init__(
        self,
        channel: Channel,
        clock: Clock,
        log: Log,
        ways: Ways | None,
        rules: Rules,
        shelve: Callable[[Host, float], None],
    ) -> None:
        """``shelve`` is called with a host that others buried, and until when."""
        ways = Ways(Board(), HostRules((), channel)) if ways is None else ways
        self._channel, self._clock, self._log = channel, clock, log
        self._own, self._flag = ways.own, rules.dead_ttl
        self._shelve, self._heed_after = shelve, rules.force_before
        self._mover, self._elders = ways.mover, ways.elders
        self.bounds = channel.runners, ways.purse, ways.pace
        self.reach: Callable[[str, float, Reply | None], None] = _nobody  # told of addresses
        self.demote_to = ways.demote_to
        self.slow = bool(ways.origins)
        self.probing = channel.program not in PLAIN
        self._board = ways.board
        self.pane = ways.board.pane(channel.name, self._heard)
        panes = [(ways.board.pane(o.name, self._moved), o.demote_after) for o in ways.origins]
        self.hosts = Hosts(
            *(self._ttl, self.probing, self.pane),
            heed_after=rules.force_before,
            demote_after=channel.demote_after if ways.demote_to else 0.0,
            origins=panes,
            silent=channel.silent,
        )
        self._away: set[Host] = set()  # hosts that are demoted
        self._back: dict[Host, None] = {}
        self._asked: dict[Host, float] = {}  # when hosts asked for their mail, or a person did
        self.sweep_due = False

    def leave(self) -> None:
        """The lane has ended: hear of nothing more."""
        self._board.leave(self._heard)
        self._board.leave(self._moved)

    def _ttl(self, host: Host) -> float:
        """Return for how long at most a host is left alone: -l goes before mta.yaml."""
        return self._own.find(host).dead_ttl if self._flag is None else self._flag

    def per_host(self, host: Host) -> int:
        """Return how many jobs may be in flight to ``host``."""
        return self._own.find(host).per_host if self.probing else self._channel.concurrency

    def settings(self, host: Host) -> HostSettings:
        """Return what else holds for ``host``."""
        return self._own.find(host)

    def retry(self, host: Host) -> Retry:
        """Return when what ``host`` deferred is tried again."""
        return self._own.find(host).retry

    def elders(self) -> int:
        """Return how many slots older lanes of this channel have, of ours at most half."""
        return min(self._elders(), self._channel.concurrency // 2)

    def leaves(self, host: Host) -> bool:
        """Tell whether jobs for ``host`` are to go into another queue."""
        return self._mover is not None and self._mover.leaves(self._channel.queue, host)

    @property
    def free(self) -> bool:
        """Whether another job may be on its way into another queue."""
        return self._mover is None or self._mover.free

    def takes(self, claim: Claim, landed: Callable[[Flight, float], None]) -> bool:
        """Have a claim taken over whose job goes another way; return whether it was."""
        return self._mover is not None and self._mover.takes(claim, landed)

    def ours(self, host: Host) -> bool:
        """Tell whether this lane serves ``host``, and not the one beside it."""
        return (host in self._away) == self.slow

    def asked(self, host: Host) -> float:
        """Return when ``host`` last asked for its mail; 0.0 = never."""
        return self._asked.get(host, 0.0)

    def hurry(self, host: Host) -> None:
        """Let all that waits for ``host`` go, due or not: it has asked for its mail."""
        now = self._clock.wall()
        self._ask(host, now)
        self.hosts.revive(host, now)
        self._move(host)

    def _ask(self, host: Host, now: float) -> None:
        self._asked.pop(host, None)
        self._asked[host] = now
        if len(self._asked) > ASKED_LIMIT:
            del self._asked[next(iter(self._asked))]

    def back(self, most: int) -> list[Host]:
        """Return, once, hosts whose waiting jobs are to be looked at again."""
        found = list(self._back)[:most] if self._back else []
        for host in found:
            del self._back[host]
        return found

    def __len__(self) -> int:
        """How many hosts back() has still to give."""
        return len(self._back)

    def learn(self, word: Host, host: Host, outcome: Outcome, mono: float, relay: str) -> float:
        """Take the outcome of a job to ``host`` that began at ``mono``; ``word`` is its name's.

        Return until when the host is left alone, if it is so from now on, else 0.0.
        """
        now, name = self._clock.wall(), self._channel.name
        news = self.hosts.learn(word, outcome, mono, self._clock.monotonic(), now, relay)
        if not news:
            return 0.0
        if news == "revived":
            self._back[word] = None
            self._log.revived(name, host)
            return 0.0
        if news != "buried":
            self._log.demotion(name, host, self._channel.demote_to, news == "demoted")
            self._back[word] = None
        self._move(word)
        until = self.hosts.facts(word, now, self._clock.monotonic()).dead_until
        if until:
            self._log.dead_host(name, host, outcome, until)
        return until

    def _heard(self, news: News) -> None:
        """Another lane or deliver, or a person, changed what is known of a host or an address."""
        host, now = news.host, self._clock.wall()
        if news.failing is None:
            self.reach(host, 0.0, None)  # the program remembers failures, too
        if "]:" in host:
            self._avoid(host, now)
            return
        burial = self.hosts.heard(host, news.at, now, self._clock.monotonic())
        if burial is not None:
            self._shelve(host, burial.until)
        elif news.failing is None:
            self._back[host] = None
            if news.by_hand:
                self._ask(host, now)
        self._move(host)

    def address(self, word: str, reply: Reply) -> None:
        """The program found out whether anybody answers at an address."""
        now = self._clock.wall()
        if reply.positive:
            self.pane.well(word, now)
        elif self._avoid(word, now) is None:  # else the attempt began before that was known
            self.pane.failed(word, reply, now)
            self._avoid(word, now)

    def _avoid(self, word: str, now: float) -> DeadHost | None:
        """Tell the program until when to leave an address alone; return that, if it is so."""
        failing = self.pane.failing.get(word)
        if failing is None or (failing.at < self._heed_after and not failing.hold):
            return None
        burial = dead(word, failing, self._ttl(word))
        if burial is None or burial.until <= now:
            return None
        self.reach(word, burial.until - now, burial.reply)
        return burial

    def brief(self) -> None:
        """Tell the program, which is new, what is known of addresses."""
        now = self._clock.wall()
        for word in [word for word in self.pane.failing if "]:" in word][-BRIEFED:]:
            self._avoid(word, now)

    def _moved(self, news: News) -> None:
        self._move(news.host)

    def _move(self, host: Host) -> None:
        """See whose ``host`` is now; who gets it looks for its jobs."""
        if not (self.slow or self.demote_to):
            return
        away = self.hosts.demoted(host) > 0
        if away != (host in self._away):
            (self._away.add if away else self._away.discard)(host)
            self._back[host] = None
            self.sweep_due = self.sweep_due or away == self.slow


def _nobody(_what: str, _seconds: float, _reply: Reply | None) -> None:
    """Hear of an address before there is a program."""
