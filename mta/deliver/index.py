"""What one deliver knows of a queue: names that may go, by host, and names that wait.

Fed by sweeps and wake-ups, so that no directory is listed for each message.
What does not fit is not lost: its file is in the queue, and the next sweep
reads its name again.

Units    ``when`` and ``until`` are wall-clock seconds.
State    At most ``limit`` names that may go, as many of dead hosts, and as many
         that wait for a time.  A host may hold half of what is still free, so
         that one host's flood leaves room for the others.

Invariants, each a property in tests/deliver/test_index.py
    X1   A name is in one place at a time: to go, with its dead host, taken,
         waiting for a time, or unknown.
    X2   Names of one host are taken in the order they were offered; of the hosts
         that may be asked, the one whose oldest name is the oldest comes first.
    X3   However many are offered, the bounds hold, and ``overflow`` tells that a
         name was refused.
    X4   No name of a dead host is taken before its time, and none stays behind after.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from mta.spool.layout import JobName
from mta.types import Host
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["LIMIT", "Index"]

LIMIT = 100_000
LEAST = 64  # names that any host may hold, however full the index is
_HERE = 0.0  # in ``_known``: to go, with its dead host, or taken


class _Pile:
    """Names by host, counted, with the bound that leaves room for other hosts."""

    def __init__(self, limit: int) -> None:
        self.names: dict[Host, deque[JobName]] = {}
        self.count = 0
        self._limit = limit

    def add(self, name: JobName) -> bool:
        names = self.names.get(name.host)
        free = self._limit - self.count
        if free <= 0 or (names is not None and len(names) >= max(LEAST, free // 2)):
            return False
        if names is None:
            names = self.names[name.host] = deque()
        names.append(name)
        self.count += 1
        return True

    def pop(self, host: Host) -> JobName:
        names = self.names[host]
        name = names.popleft()
        if not names:
            del self.names[host]
        self.count -= 1
        return name

    def take(self, host: Host) -> deque[JobName]:
        names = self.names.pop(host, None) or deque()
        self.count -= len(names)
        return names

    def give(self, host: Host, names: deque[JobName]) -> None:
        """Take in names that another pile had room for."""
        if names:
            self.names.setdefault(host, deque()).extend(names)
            self.count += len(names)


class Index:
    """The names of one queue; hosts are the words that stand in the names."""

    def __init__(self, unproven: Callable[[Host], bool], limit: int = LIMIT) -> None:
        """Ask ``unproven`` whether a host has still to answer: take_host() can pass over it."""
        self._limit = limit
        self._is_unproven = unproven
        self._known: dict[str, float] = {}
        self._to_go = _Pile(limit)
        self._shelved = _Pile(limit)
        self._dead: dict[Host, float] = {}
        self._returns: list[tuple[float, Host]] = []  # a heap: when dead hosts come back
        self._later: list[tuple[float, str, JobName]] = []  # a heap
        self._ready: tuple[list[tuple[str, Host]], list[tuple[str, Host]]] = ([], [])  # heaps
        self._queued: set[Host] = set()
        self.overflow = False

    @property
    def waiting(self) -> int:
        """How many names may go."""
        return self._to_go.count

    @property
    def answering(self) -> int:
        """How many of them are for hosts that answer: what the channel could work off."""
        names, unproven = self._to_go.names, self._is_unproven
        return sum([len(waiting) for host, waiting in names.items() if not unproven(host)])

    @property
    def full(self) -> bool:
        """Whether a sweep should pause before it reads on."""
        return self._to_go.count >= self._limit

    @property
    def next_due(self) -> float | None:
        """When the first of the names or hosts that wait for a time is due."""
        times = [heap[0][0] for heap in (self._later, self._returns) if heap]
        return min(times) if times else None

    def __len__(self) -> int:
        return len(self._known)

    def when(self, name: JobName) -> float | None:
        """Return when a name may go: 0.0 if its turn decides, None if it is not known here."""
        at = self._known.get(name.key)
        return self._dead[name.host] if at == _HERE and name.host in self._dead else at

    def offer(self, name: JobName) -> bool:
        """Take in a name that was seen in the queue; return whether it is new here."""
        key = name.key
        return key not in self._known and self._admit(key, name)

    def _admit(self, key: str, name: JobName) -> bool:
        dead = name.host in self._dead
        if not (self._shelved if dead else self._to_go).add(name):
            self._known.pop(key, None)
            # A sweep finds a dead host's surplus in its own time; no need to hurry.
            self.overflow = self.overflow or not dead
            return False
        self._known[key] = _HERE
        if not dead:
            self.ready(name.host)
        return True

    def ready(self, host: Host) -> None:
        """Let ``host`` be asked again: it has room, or has become worth a question."""
        names = self._to_go.names.get(host)
        if names and host not in self._queued:
            self._queued.add(host)
            heappush(self._ready[self._is_unproven(host)], (names[0].id, host))

    def take_host(self, unproven: bool) -> Host | None:
        """Return the host to be asked next, or None; only ready() puts it back.

        Hosts that have still to answer are passed over unless ``unproven``.
        """
        proven, others = self._ready
        while True:
            heap = proven
            if unproven and others and (not proven or others[0] < proven[0]):
                heap = others
            if not heap:
                return None
            host = heappop(heap)[1]
            self._queued.discard(host)
            if host in self._to_go.names:
                return host

    def head(self, host: Host) -> JobName:
        """Return the oldest name that may go to ``host``, which take_host() gave."""
        return self._to_go.names[host][0]

    def pop(self, host: Host) -> JobName:
        """Take the oldest name that may go to ``host``; later() or forget() follows some day."""
        return self._to_go.pop(host)

    def later(self, name: JobName, when: float) -> None:
        """Keep a taken name until ``when``; if there is no room, a sweep will find it."""
        key = name.key
        if len(self._later) >= self._limit:
            self._known.pop(key, None)
            return
        self._known[key] = when
        heappush(self._later, (when, key, name))

    def forget(self, name: JobName) -> None:
        """Drop a taken name: it is finished, gone, or somebody else's."""
        self._known.pop(name.key, None)

    def shelve(self, host: Host, until: float) -> Iterable[JobName]:
        """Put ``host`` with its names aside until then; return those names, oldest first."""
        self._dead[host] = until
        heappush(self._returns, (until, host))
        self._shelved.give(host, self._to_go.take(host))
        return self._shelved.names.get(host, ())

    def is_shelved(self, host: Host) -> bool:
        """Tell whether ``host`` is put aside."""
        return host in self._dead

    def unshelve(self, host: Host) -> None:
        """Let the names of ``host`` go again; no error if it is not put aside."""
        if self._dead.pop(host, None) is not None:
            self._to_go.give(host, self._shelved.take(host))
            self.ready(host)

    def hurry(self, host: Host) -> None:
        """Let the names of ``host`` go that wait for a time; it is put aside no more."""
        self.unshelve(host)
        waiting = sorted([entry for entry in self._later if entry[2].host == host])
        self._later = [entry for entry in self._later if entry[2].host != host]
        heapify(self._later)
        for when, key, name in waiting:
            if self._known.get(key) == when:
                self._admit(key, name)

    def recall(self, name: JobName) -> bool:
        """Let a name go though it waits for a time, or is new; return whether it does."""
        if self._known.get(name.key):
            del self._known[name.key]
        return self.offer(name)

    def recall_all(self) -> None:
        """Let all names go that wait for a time."""
        waiting, self._later = self._later, []
        for when, key, name, *_ in sorted(waiting, key=lambda entry: entry[1]):
            if self._known.get(key) == when:
                self.recall(name)

    def revisit(self, now: float, most: int = 1000) -> bool:
        """Let go whose time has come, at most so many names; return whether more wait for it."""
        while self._returns and self._returns[0][0] <= now:
            until, host = heappop(self._returns)
            if self._dead.get(host) == until:
                self.unshelve(host)
        while most and self._later and self._later[0][0] <= now:
            when, key, name = heappop(self._later)
            if self._known.get(key) == when:  # else it was dropped and found again meanwhile
                self._admit(key, name)
            most -= 1
        return not most
