"""Finding the jobs of a message, or of an address, in a spool of any size within bounded time.

An id names an hour, and with it the directories to look into.  An address names its
host words: names are chosen by those before any file is opened, the oldest first,
until the time is up, however many an hour holds; what was not looked at is told.

Units    Seconds of the monotonic clock for the time that looking may take.

Invariants, each a property in tests/test_finding.py
    FI1  With time enough, every job of a recipient is found whose host is the address's
         own or where mail for it goes now; with ``everywhere``, every job of it.
    FI2  What is found is a recipient's; when time is up, that is said.
    FI3  All jobs of a message are found, and nothing is read when they are: its hour may
         hold a million.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from mta.address import parse_mailbox
from mta.config.routing import router
from mta.errors import UsageError
from mta.machine.logline import printable
from mta.spool.layout import host_word, valid_id
from mta.spool.names import for_hosts, of_message
from mta.spool.spool import Spool
from mta.spool.untaken import untaken
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mta.config.model import Config
    from mta.spool.layout import JobName
    from mta.spool.states import Entry
    from mta.types import Mailbox, Recipient

__all__ = ["LOOKING", "SHOWN", "Found", "Job", "find"]

LOOKING = 0.15  # seconds that looking for an address may take: half a second in all
SHOWN = 100  # jobs that are told of, unless all are asked for
OPENED = 10_000  # names of one hour that are opened, unless all are asked for
EVERY = 1 << 40


@frozen
class Job:
    """A job that waits: its name, its file, whether it is in the journal only."""

    name: JobName
    entry: Entry
    untaken: bool = False


@frozen
class Found:
    """The jobs, the oldest first; how many names were not opened, and hours not read to the end.

    ``mailbox`` is the address that was asked for, None for all recipients of a message;
    ``took`` is how long it took.
    """

    jobs: tuple[Job, ...]
    names_left: int = 0
    hours_left: int = 0
    mailbox: Mailbox | None = None
    took: float = 0.0

    def about(self, recipient: Recipient) -> bool:
        """Tell whether ``recipient`` was asked for, by itself or as what an alias made of it."""
        return self.mailbox is None or self.mailbox in (recipient.mailbox, recipient.original)


def find(
    config: Config,
    subject: str,
    *,
    everywhere: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Return the jobs of the message or address ``subject``.  UsageError if it is neither.

    ``everywhere`` takes as long as it takes, and looks at all jobs of all hosts.
    """
    spool = Spool.open(config.spool)
    began = clock()
    if valid_id(subject):
        found = _of_message(spool, subject, everywhere=everywhere)
    elif "@" in subject:
        found = _Search(config, subject, clock, began, everywhere=everywhere).run(spool)
    else:
        raise UsageError(f"{printable(subject)} is neither a message id nor an address")
    return replace(found, took=clock() - began)


def _of_message(spool: Spool, ident: str, *, everywhere: bool) -> Found:
    names = spool.find(ident) if everywhere else _names(spool, ident)
    some = names if everywhere else names[:SHOWN]
    jobs = list(_opened(spool, some))
    if not names:
        jobs = [Job(n, e, True) for n, e in untaken(spool, lambda name: name.id == ident)]
    return Found(tuple(jobs), len(names) - len(some))


def _names(spool: Spool, ident: str) -> list[JobName]:
    """Return the jobs of a message; its hour is read no further than to the last of them."""
    found: list[JobName] = []
    entry = None
    for names in of_message(spool.fs, ident):
        found += names
        entry = spool.peek(found[0]) if entry is None and found else entry
        if entry is not None and len(found) >= entry.envelope.jobs:
            break
    return sorted(found, key=lambda name: name.number)


def _opened(spool: Spool, names: Iterable[JobName]) -> Iterator[Job]:
    for name in names:
        entry = spool.peek(name)
        if entry is not None and entry.pending:
            yield Job(name, entry)


class _Search:
    """One search for the jobs of an address."""

    def __init__(
        self,
        config: Config,
        address: str,
        clock: Callable[[], float],
        began: float,
        *,
        everywhere: bool,
    ) -> None:
        way = router(config)
        try:
            self._mailbox = parse_mailbox(address, way.default_domain)
        except ValueError as error:
            raise UsageError(f"{printable(address)}: {error}") from None
        targets = way.route(self._mailbox).targets
        hosts = [self._mailbox.domain, *[target.host for target in targets]]
        self._hosts = {host_word(host) for host in hosts}
        self._everywhere = everywhere
        self._clock = clock
        self._until = began + LOOKING
        self._jobs: list[Job] = []
        self._names_left = 0

    @property
    def _over(self) -> bool:
        return self._is_past(self._until) or (not self._everywhere and len(self._jobs) >= SHOWN)

    def _is_past(self, until: float) -> bool:
        return not self._everywhere and self._clock() >= until

    def run(self, spool: Spool) -> Found:
        """Look into the newest hour, where what one asks about mostly is, then the oldest first."""
        hours = [
            (hour, queue, there)
            for queue in spool.queues()
            for hour, there in spool.hours(queue).items()
        ]
        left = 0
        newest = max([hour for hour, _, _ in hours], default="")
        for hour, queue, there in sorted(hours, key=lambda each: (each[0] != newest, each)):
            if self._over:
                left += 1
                continue
            left += not self._look(spool, queue, hour, there)
        if not self._over:
            self._jobs += [Job(n, e, True) for n, e in untaken(spool, self._may) if self._is(e)]
        jobs = sorted(self._jobs, key=lambda job: (job.name.id, job.name.number))
        return Found(tuple(jobs), self._names_left, left, self._mailbox)

    def _may(self, name: JobName) -> bool:
        return self._everywhere or name.host in self._hosts

    def _is(self, entry: Entry) -> bool:
        asked = Found((), mailbox=self._mailbox)
        return any(asked.about(recipient) for recipient, _ in entry.pending)

    def _look(self, spool: Spool, queue: str, hour: str, there: list[int]) -> bool:
        """Look into an hour; return whether it was read to its end."""
        hosts, most = (None, EVERY) if self._everywhere else (self._hosts, OPENED)
        half = (self._clock() + self._until) / 2  # then what was found is opened
        over = partial(self._is_past, half)
        names, count, whole = for_hosts(spool.fs, queue, hour, there, hosts, most, over)
        self._names_left += count
        for name in names:
            if self._over:
                break
            self._names_left -= 1
            self._jobs += [job for job in _opened(spool, [name]) if self._is(job.entry)]
        return whole
