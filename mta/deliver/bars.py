"""What operators keep back in one lane: holds of jobs, and suspensions of many.

The names of a suspended host are put aside together, without opening a job;
what only a job's file tells is put aside with its name.  When the rules change,
all of it is looked at again.

Units    Wall-clock seconds.
State    The rules that stand; hosts and names put aside for them, NAMES_MAX at most.

Invariants, each a property in tests/deliver/test_bars.py
    BR1  No job is handed over that a rule stands for, whether its name or its file tells.
    BR2  When a rule ends or is taken back, what it kept goes at once.
    BR3  A host, queue, channel or author that is suspended costs no job's file an opening.
"""

from __future__ import annotations

from mta.errors import SpoolError
from mta.policy.decide import Barrier
from mta.policy.suspensions import NONE, Suspension, Suspensions
from mta.spool.rulelog import RuleLog
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mta.config.model import Channel
    from mta.deliver.index import Index
    from mta.deliver.lane import Lane
    from mta.machine.log import Log
    from mta.spool.entry import Entry
    from mta.spool.layout import JobName
    from mta.spool.spool import Spool
    from mta.types import Host

__all__ = ["Bars", "Laws"]

LONG = 3600.0  # until a name is looked at again that waits for a word, not for a time
NAMES_MAX = 100_000


class Bars:
    """The rules as they stand for one lane."""

    def __init__(self, channel: Channel, index: Index) -> None:
        """Keep back what waits in ``index`` for ``channel``."""
        self._lane = channel.name, channel.queue
        self._index = index
        self._rules = NONE
        self._hosts: set[Host] = set()
        self._names: dict[str, JobName] = {}

    def obey(self, rules: Suspensions) -> None:
        """Go by ``rules`` from now on; look again at all that was put aside."""
        self._rules = rules
        hosts, self._hosts = self._hosts, set()
        names, self._names = self._names, {}
        for host in hosts:
            self._index.unshelve(host)
        if len(names) >= NAMES_MAX:
            self._index.recall_all()
        for name in names.values():
            self._index.recall(name)

    def shut(self, now: float) -> bool:
        """Tell whether nothing of this lane may go."""
        return bool(self._rules) and self._rules.of_lane(*self._lane, now) is not None

    def until(self, now: float) -> float:
        """Return when the next rule ends; 0.0 if none does."""
        return self._rules.until(now) if self._rules else 0.0

    def of_host(self, host: Host, now: float) -> Barrier | None:
        """Return what keeps all jobs for ``host``, as names spell it."""
        if not self._rules:
            return None
        return _barrier(self._rules.of_lane(*self._lane, now) or self._rules.of_host(host, now))

    def of_job(self, entry: Entry, now: float) -> Barrier | None:
        """Return what suspends a job that is read."""
        if not self._rules:
            return None
        job, to = entry.job, (recipient.mailbox for recipient, _ in entry.pending)
        found = self._rules.of_job(self._lane, job.host, to, job.reverse_path, now)
        return _barrier(found)

    def keep_host(self, host: Host, until: float, now: float) -> None:
        """Put ``host`` aside with its names; until 0.0 is until the rules change."""
        self._hosts.add(host)
        self._index.shelve(host, until or now + LONG)

    def has(self, host: Host) -> bool:
        """Tell whether ``host`` is put aside here."""
        return host in self._hosts

    def keeps(self, name: JobName, now: float) -> bool:
        """Put a taken name aside if its author is suspended; return whether it was."""
        rule = self._rules.of_author(name.author, now) if self._rules else None
        if rule is not None:
            self._index.later(name, rule.until or now + LONG)
            self.note(name)
        return rule is not None

    def note(self, name: JobName) -> None:
        """Look at ``name``, which waits for a rule to end, again when the rules change."""
        if len(self._names) < NAMES_MAX:
            self._names[name.key] = name


def _barrier(rule: Suspension | None) -> Barrier | None:
    if rule is None:
        return None
    return Barrier(rule.by, rule.since, rule.until, rule.why, rule.name)


class Laws:
    """The rules of the spool, read for all lanes of a deliver."""

    def __init__(self, spool: Spool, log: Log) -> None:
        """Read them below ``spool``; ``log`` hears once of trouble with that."""
        self._rules = RuleLog(spool.fs)
        self._log = log
        self._troubled = False
        self.known = NONE

    def tick(self, lanes: Iterable[Lane]) -> None:
        """Have ``lanes`` obey what has changed since the last time."""
        try:
            changed = self._rules.read()
            self._troubled = False
        except SpoolError as error:
            if not self._troubled:
                self._log.warning(str(error))
            self._troubled = True
            return
        if changed is not None:
            self.known = changed
            for lane in lanes:
                lane.bars.obey(changed)

    def close(self) -> None:
        """Give the log's descriptor away."""
        self._rules.close()
