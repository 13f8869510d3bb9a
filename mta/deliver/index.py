"""What one deliver knows of a queue: names that may go, by host, and names that wait.

Fed by sweeps and wake-ups, so that no directory is listed for each message.
What does not fit is not lost: its file is in the queue, and the next sweep
reads its name again.

A host is cold whose latest job was opened in vain: it was not due.  After a start
nobody knows which of a long queue are due, and new mail does not wait until all
have been opened.

Each name has a place in line (policy.order).  A host stands where its first
name does; in the order by host, one whose turn it is keeps it until all that
it had then has gone.

Units    ``when`` and ``until`` are wall-clock seconds.
State    At most ``limit`` names that may go, as many of dead hosts, and as many
         that wait for a time; see pile.py for who gets the room.

Invariants, each a property in tests/deliver/test_index.py
    X1   A name is in one place at a time: to go, with its dead host, taken,
         waiting for a time, or unknown.
    X2   Names of one host are taken in the order of their places, equals as they
         were offered; of the hosts that may be asked, the one whose first name
         stands first comes first.
    X3   However many are offered, the bounds hold, and ``overflow`` tells that a
         name was refused or dropped; a host with few names finds room beside
         others that have many.
    X4   No name of a dead host is taken before its time, and none stays behind after.
    X5   A host that rests is not given before its time, and is given after it.
    X6   By host, a host whose turn it is comes first until as many have gone as it
         had when its turn began, and then stands where its first name does.
    X7   While other hosts may be asked, a host that is cold gets one turn in COLD,
         and no fewer; a host that is new, or has new mail, is not cold.
    X8   A call of revisit() lets go of no more names that wait for a time than it is told,
         also where all are recalled at once; calls enough let go of all that may.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from mta.deliver.pile import Pile
from mta.policy.order import HOST, Order
from mta.spool.layout import JobName, arrived
from mta.types import Host
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mta.deliver.pile import Item

__all__ = ["LIMIT", "Index"]

LIMIT = 100_000
COLD = 4  # one turn in so many is for hosts whose jobs may not be due, while others wait
SLACK = 1000  # stale entries that a heap of hosts may hold, besides as many as there are hosts
_HERE = 0.0  # in ``_known``: to go, with its dead host, or taken
_RECALLED = 1e-6  # a time that has come, whatever the clock says
_FIRST = float("-inf")

Rank = tuple[float, int]
Heap = list[tuple[Rank, Host, int]]


class Index:
    """The names of one queue; hosts are the words that stand in the names."""

    def __init__(
        self, unproven: Callable[[Host], bool], limit: int = LIMIT, order: Order | None = None
    ) -> None:
        """Ask ``unproven`` whether a host has still to answer: take_host() can pass over it."""
        self._limit = limit
        self._is_unproven = unproven
        self._order = Order() if order is None else order
        self._known: dict[str, float] = {}
        self._to_go = Pile(limit)
        self._shelved = Pile(limit)
        self._dead: dict[Host, float] = {}
        self._returns: list[tuple[float, Host]] = []  # a heap: when dead hosts come back
        self._resting: dict[Host, float] = {}
        self._rests: list[tuple[float, Host]] = []  # a heap: when those may be asked again
        self._later: list[tuple[float, str, JobName, int]] = []  # a heap
        # Heaps of hosts: proven, and those that have still to answer; warm, then cold.
        self._ready: tuple[Heap, Heap, Heap, Heap] = ([], [], [], [])
        self._cold: set[Host] = set()
        self._looks = 0
        self._queued: dict[Host, tuple[int, Rank, int]] = {}  # heap, entry; others are stale
        self._tickets = 0
        self._turns: dict[Host, list[int]] = {}  # by host: whose turn it is, and for how many
        self._serial = 0
        self._taken = 0
        self._kept = 0
        self.overflow = False
        self._missed = ""  # the oldest message of those that were refused or dropped since

    @property
    def waiting(self) -> int:
        """How many names may go."""
        return self._to_go.count

    @property
    def answering(self) -> tuple[int, int]:
        """How many of them are for hosts that answer, and how many of those a rate keeps."""
        unproven, resting = self._is_unproven, self._resting
        sizes = [(h in resting, len(x)) for h, x in self._to_go.lines.items() if not unproven(h)]
        return sum([size for _, size in sizes]), sum([size for rests, size in sizes if rests])

    @property
    def full(self) -> bool:
        """Whether a sweep should pause: there is no room, and enough to go on with.

        While all that is here waits for hosts that have still to answer, what a
        sweep finds for others is worth more than the last of their names.
        """
        return self._to_go.full and bool(self._ready[0])

    def others(self, host: Host | None = None) -> bool:
        """Tell whether any host but ``host`` is ready to be asked."""
        return len(self._queued) > (host in self._queued)

    def may_ask(self, unproven: bool) -> bool:
        """Tell whether take_host() may give a host."""
        return bool(self._ready[0] or self._ready[2]) or (unproven and bool(self._queued))

    @property
    def hungry(self) -> bool:
        """Whether names were refused, and so much has gone since the sweep that they may fit."""
        return self.overflow and (not self.waiting or self._taken > 3 * self._kept // 4)

    @property
    def missed_at(self) -> float | None:
        """When the oldest arrived of what was refused or dropped; None if nothing was."""
        return arrived(self._missed) if self.overflow and self._missed else None

    def _miss(self, name: JobName) -> None:
        if not self.overflow or name.id < self._missed:
            self._missed = name.id
        self.overflow = True

    @property
    def next_due(self) -> float | None:
        """When the first of the names or hosts that wait for a time is due."""
        times = [heap[0][0] for heap in (self._later, self._returns, self._rests) if heap]
        return min(times) if times else None

    def __len__(self) -> int:
        return len(self._known)

    def when(self, name: JobName) -> float | None:
        """Return when a name may go: 0.0 if its turn decides, None if it is not known here."""
        at = self._known.get(name.key)
        return self._dead[name.host] if at == _HERE and name.host in self._dead else at

    def swept(self) -> None:
        """A sweep has ended: what was refused is worth another when enough has gone."""
        self._taken, self._kept = 0, self.waiting

    def offer(self, name: JobName, *, old: bool = False) -> bool:
        """Take in a name that was seen in the queue; return whether it is new here.

        ``old``: it has been there for a while, so that it may not be due.  A host of
        which nothing else is known is cold then: new mail does not stand behind it.
        """
        key, host = name.key, name.host
        if key in self._known:
            return False
        unknown = old and host not in self._to_go.lines and self._is_unproven(host)
        admitted = self._admit(key, name, 0)
        if admitted and unknown:
            self.cool(host)
        return admitted

    def _admit(self, key: str, name: JobName, attempts: int) -> bool:
        host = name.host
        dead = host in self._dead
        pile = self._shelved if dead else self._to_go
        if not pile.fits(host) or (pile.full and not self._make_room(pile, host)):
            self._known.pop(key, None)
            if not dead:  # a sweep finds a dead host's surplus in its own time: no need to hurry
                self._miss(name)
            return False
        self._known[key] = _HERE
        self._serial += 1
        about = name.kind, name.octets, name.recipients, attempts
        place = self._order.place(arrived(name.id), *about)
        if dead:
            pile.add((place, self._serial, name))
            return True
        place = self._order.enter(name.flood, place)
        if pile.add((place, self._serial, name)) or host not in self._queued:
            self.ready(host)
        return True

    def _make_room(self, pile: Pile, host: Host) -> bool:
        dropped = list(pile.make_room(host))
        self._drop(dropped, alive=pile is self._to_go)
        return bool(dropped)

    def _drop(self, items: Iterable[Item], *, alive: bool) -> None:
        """Forget names that lost their room; a sweep finds them again."""
        for _, _, name in items:
            self._known.pop(name.key, None)
            if alive:
                self._order.leave(name.flood)
                self._miss(name)

    def ready(self, host: Host) -> None:
        """Let ``host`` be asked again: it has room, or has become worth a question."""
        line = self._to_go.lines.get(host)
        if not line or host in self._resting:
            return
        rank = line[0][:2] if host not in self._turns else (_FIRST, self._turns[host][0])
        side, known = self._is_unproven(host) + 2 * (host in self._cold), self._queued.get(host)
        if known is not None and known[0] == side and known[1] <= rank:
            return
        self._tickets += 1
        self._queued[host] = side, rank, self._tickets
        heap = self._ready[side]
        heappush(heap, (rank, host, self._tickets))
        if len(heap) > 2 * len(self._queued) + SLACK:
            heap[:] = [entry for entry in heap if self._is_valid(entry)]
            heapify(heap)

    def take_host(self, unproven: bool) -> Host | None:
        """Return the host to be asked next, or None; only ready() puts it back.

        Hosts that have still to answer are passed over unless ``unproven``.
        """
        self._looks += 1
        halves = (self._ready[:2], self._ready[2:])
        for proven, others in halves if self._looks % COLD else reversed(halves):
            host = self._first(proven, others if unproven else [])
            if host is not None:
                return host
        return None

    def _first(self, proven: Heap, others: Heap) -> Host | None:
        """Take the host that stands first out of two heaps."""
        while proven or others:
            heap = others if others and (not proven or others[0] < proven[0]) else proven
            entry = heappop(heap)
            if not self._is_valid(entry):
                continue
            host = entry[1]
            del self._queued[host]
            if host in self._to_go.lines:
                return host
        return None

    def _is_valid(self, entry: tuple[Rank, Host, int]) -> bool:
        known = self._queued.get(entry[1])
        return known is not None and known[2] == entry[2]

    def is_cold(self, host: Host) -> bool:
        """Tell whether the jobs of ``host`` may not be due."""
        return host in self._cold

    def cool(self, host: Host) -> None:
        """A job of ``host`` was opened in vain: its others may not be due, either."""
        if host not in self._cold and host in self._to_go.lines:
            self._cold.add(host)
            self._requeue(host)

    def warm(self, host: Host) -> None:
        """A job of ``host`` is due, or is new."""
        if host in self._cold:
            self._cold.discard(host)
            self._requeue(host)

    def _requeue(self, host: Host) -> None:
        if self._queued.pop(host, None) is not None:
            self.ready(host)

    def has(self, host: Host) -> bool:
        """Tell whether a name of ``host`` may go."""
        return host in self._to_go.lines

    def awaits(self, keys: Iterable[str]) -> bool:
        """Tell whether any of these jobs is to go, taken, or with its dead host."""
        return any(self._known.get(key) == _HERE for key in keys)

    def head(self, host: Host) -> JobName:
        """Return the first name that may go to ``host``, which take_host() gave."""
        return self._to_go.lines[host][0][2]

    def pop(self, host: Host) -> JobName:
        """Take the first name that may go to ``host``; later() or forget() follows some day."""
        if self._order.kind == HOST:
            self._turn(host)
        name = self._to_go.pop(host)[2]
        if host not in self._to_go.lines:
            self._turns.pop(host, None)
            self._cold.discard(host)
        self._taken += 1
        self._order.leave(name.flood)
        return name

    def _turn(self, host: Host) -> None:
        """Count a name of ``host``: its turn begins, goes on, or ends."""
        turn = self._turns.get(host)
        if turn is None:
            self._serial += 1
            turn = self._turns[host] = [self._serial, len(self._to_go.lines[host])]
        turn[1] -= 1
        if turn[1] <= 0:
            del self._turns[host]

    def later(self, name: JobName, when: float, attempts: int = 0) -> None:
        """Keep a taken name until ``when``; if there is no room, a sweep will find it."""
        key = name.key
        if len(self._later) >= self._limit:
            self._known.pop(key, None)
            return
        self._known[key] = when
        heappush(self._later, (when, key, name, attempts))

    def forget(self, name: JobName) -> None:
        """Drop a taken name: it is finished, gone, or somebody else's."""
        self._known.pop(name.key, None)

    def rest(self, host: Host, until: float) -> None:
        """Ask ``host``, which take_host() gave, again at that time."""
        self._resting[host] = until
        heappush(self._rests, (until, host))

    def shelve(self, host: Host, until: float) -> Iterable[JobName]:
        """Put ``host`` with its names aside until then; return those names, in their order."""
        self._dead[host] = until
        heappush(self._returns, (until, host))
        self._turns.pop(host, None)
        self._cold.discard(host)
        items = self._to_go.take(host)
        for _, _, name in items:
            self._order.leave(name.flood)
        self._drop(self._shelved.give(host, items), alive=False)
        return [name for _, _, name in sorted(self._shelved.lines.get(host, ()))]

    def is_shelved(self, host: Host) -> bool:
        """Tell whether ``host`` is put aside."""
        return host in self._dead

    def unshelve(self, host: Host) -> None:
        """Let the names of ``host`` go again; no error if it is not put aside."""
        if self._dead.pop(host, None) is None:
            return
        items = self._shelved.take(host)
        for place, _, name in items:
            self._order.rejoin(name.flood, place)
        self._drop(self._to_go.give(host, items), alive=True)
        self.ready(host)

    def hurry(self, *hosts: Host) -> None:
        """Let the names of ``hosts`` go that wait for a time; they are put aside no more."""
        for host in hosts:
            self.unshelve(host)
            self.warm(host)
        asked = frozenset(hosts)
        if not (waiting := sorted([entry for entry in self._later if entry[2].host in asked])):
            return
        self._later = [entry for entry in self._later if entry[2].host not in asked]
        heapify(self._later)
        for when, key, name, attempts in waiting:
            if self._known.get(key) == when:
                self._admit(key, name, attempts)

    def recall(self, name: JobName) -> bool:
        """Let a name go though it waits for a time, or is new; return whether it does."""
        if self._known.get(name.key):
            del self._known[name.key]
        return self.offer(name)

    def recall_all(self) -> None:
        """Have revisit() let all names go that wait for a time; let all hosts go that rest."""
        resting, self._resting = self._resting, {}
        for host in resting:
            self.ready(host)
        waiting = [entry for entry in self._later if self._known.get(entry[1]) == entry[0]]
        self._later = [(_RECALLED, key, name, 0) for _, key, name, _ in waiting]
        heapify(self._later)
        self._known.update(dict.fromkeys([entry[1] for entry in waiting], _RECALLED))

    def revisit(self, now: float, most: int = 1000) -> bool:
        """Let go whose time has come, at most so many names; return whether more wait for it."""
        while self._returns and self._returns[0][0] <= now:
            until, host = heappop(self._returns)
            if self._dead.get(host) == until:
                self.unshelve(host)
        while self._rests and self._rests[0][0] <= now:
            until, host = heappop(self._rests)
            if self._resting.get(host) == until:
                del self._resting[host]
                self.ready(host)
        while most and self._later and self._later[0][0] <= now:
            when, key, name, attempts = heappop(self._later)
            if self._known.get(key) == when:  # else it was dropped and found again meanwhile
                self._admit(key, name, attempts)
            most -= 1
        return not most
