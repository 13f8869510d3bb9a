"""The board: what this deliver knows of hosts that fail, and how others hear of it.

All lanes of a deliver look at one board; a lane's own failures and successes stand
on it at once, and go into the spool's log with the next look at it; what other
delivers and ``mta host`` wrote there is heard then, at most a tick later.

Units    Wall-clock seconds.
State    policy.deadhosts; news that could not be written yet, UNSAID_MAX at most.

Invariants, each a property in tests/deliver/test_board.py
    O1   Boards of one log know the same of every host once each has looked.
    O2   A listener hears of each change that its lane did not make, and of no other.
    O3   What the disk or another's lock holds up is written later, and is bounded.
"""

from __future__ import annotations

from collections import deque

from mta.policy.deadhosts import DeadHosts, News
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from mta.policy.deadhosts import Failing
    from mta.types import Host, Reply

    class Log(Protocol):
        """spool.hostlog.HostLog, or a test's."""

        def tell(self, news: Sequence[News]) -> bool:
            """Write ``news``; False if it has to wait."""

        def hear(self) -> tuple[list[News], bool]:
            """Return what is new, and whether it is all there is."""

        def shrink(self, now: float) -> bool:
            """Keep the log small."""

        def close(self) -> None:
            """Give its descriptor away."""

    Listener = Callable[[News], None]

__all__ = ["Board", "Pane"]

UNSAID_MAX = 1000
UNHEARD_MAX = 20_000  # changes that lanes of this deliver are told of with the next look
AWRY = 1.0  # seconds by which a clock may go back unnoticed


class Board:
    """What is known of the hosts of all channels."""

    def __init__(
        self, log: Log | None = None, who: str = "", complain: Callable[[str], None] | None = None
    ) -> None:
        """Share by ``log``, or with nobody; ``who`` signs our news.

        ``complain`` hears of trouble with the disk, once for all that comes together.
        """
        self._log = log
        self._who = who
        self._complain = complain
        self._known = DeadHosts()
        self._listeners: dict[str, list[Listener]] = {}
        self._unsaid: deque[News] = deque(maxlen=UNSAID_MAX)
        self._unheard: deque[tuple[News, Listener | None]] = deque(maxlen=UNHEARD_MAX)
        self._latest = 0.0
        self._troubled = False

    def pane(self, channel: str, listener: Listener | None = None) -> Pane:
        """Return what a lane sees of ``channel``; ``listener`` hears of what others change."""
        if listener is not None:
            self._listeners.setdefault(channel, []).append(listener)
        return Pane(self, channel, self._known.of(channel), listener, self._who)

    def leave(self, listener: Listener) -> None:
        """A lane has ended: its listener hears of nothing more."""
        for listeners in self._listeners.values():
            while listener in listeners:
                listeners.remove(listener)

    def failed(
        self,
        channel: str,
        host: Host,
        reply: Reply,
        now: float,
        via: str = "",
        by: Listener | None = None,
    ) -> None:
        """``host`` did not answer."""
        self._note(self._known.failed(channel, host, reply, now, via, self._who), now, by)

    def well(self, channel: str, host: Host, now: float, by: Listener | None = None) -> None:
        """``host`` answered, though it failed before; so will who failed for its address.

        A person's word stands, though: a job that was under way is no answer to that.
        """
        failing = self._known.of(channel)
        for each in (host, *(self._known.behind(channel, host) if host[:1] == "[" else ())):
            if each in failing and failing[each].held(now):
                continue
            self._note(News(now, channel, each, None, self._who), now, by if each == host else None)

    def _note(self, news: News, now: float, by: Listener | None) -> None:
        if self._known.apply(news, now):
            if self._log is not None:
                self._unsaid.append(news)
            self._unheard.append((news, by))

    def look(self, now: float) -> bool:
        """Write what we have to say, hear what others say, and tell the lanes.

        Return whether the clock was put back since the last time.
        """
        back = now < self._latest - AWRY
        if back:
            self._unheard.extend((news, None) for news in self._known.turn_back(now))
        self._latest = now
        if self._log is not None:
            try:
                self._exchange(self._log, now)
                self._troubled = False
            except OSError as error:
                if not self._troubled and self._complain is not None:
                    self._complain(f"the log of hosts: {error.strerror}")
                self._troubled = True
        while self._unheard:
            news, by = self._unheard.popleft()
            for listener in self._listeners.get(news.channel, ()):
                if listener is not by:
                    listener(news)
        return back

    def close(self) -> None:
        """Share with nobody from now on, and give the log's descriptor away."""
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def _exchange(self, log: Log, now: float) -> None:
        if self._unsaid and log.tell(self._unsaid):
            self._unsaid.clear()
        heard, whole = log.hear()
        if whole:
            heard = [*self._known.outdated(heard, now), *heard]
        for news in heard:
            if news.channel in self._listeners and self._known.apply(news, now):
                for listener in self._listeners[news.channel]:
                    listener(news)
        if heard:
            log.shrink(now)


class Pane:
    """One lane's view of one channel's hosts."""

    def __init__(
        self,
        board: Board,
        channel: str,
        failing: dict[Host, Failing],
        by: Listener | None,
        who: str,
    ) -> None:
        self._board = board
        self._channel = channel
        self._by = by
        self.who = who
        self.failing = failing  # the board's own: to look into

    def failed(self, host: Host, reply: Reply, now: float, via: str = "") -> Failing:
        """``host`` did not answer; return what is known of it now."""
        self._board.failed(self._channel, host, reply, now, via, self._by)
        return self.failing[host]

    def well(self, host: Host, now: float) -> bool:
        """``host`` answered; return whether it is left alone no more."""
        if host not in self.failing:
            return False
        self._board.well(self._channel, host, now, self._by)
        return host not in self.failing
