"""Which jobs an operator means: ``mta hold``, ``requeue``, ``delete`` and their kin.

A filter is asked twice: glance() with what a job's name tells, so that of a
million jobs only those are opened that may be meant, and holds() with what its
file says.

Source   The selections of sendmail's -qI, -qR, -qS and -q!, and Postfix's postsuper.
Units    Ages are seconds, sizes octets; ``arrived`` and ``now`` are wall time.

Invariants, each a property in tests/policy/test_filters.py
    F1   glance() never contradicts holds(): True and False are certain, None is "read it".
    F2   Adding a condition never adds a job; an empty filter holds for none.
    F3   The case of addresses and hosts changes nothing.
"""

from __future__ import annotations

from mta.types import NULL_PATH, Host, Mailbox, ReversePath
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from typing import Protocol

    class Named(Protocol):
        """What a job's name tells; see spool.layout.JobName."""

        @property
        def queue(self) -> str:
            """The queue it lies in."""

        @property
        def key(self) -> str:
            """ID.N."""

        @property
        def id(self) -> str:
            """The message."""

        @property
        def host(self) -> str:
            """The host as a word: with "%" in it, it is not the host's own spelling."""

        @property
        def tag(self) -> str:
            """Empty if it tells nothing of kind, author and size."""

        @property
        def kind(self) -> str:
            """How urgent."""

        @property
        def author(self) -> str:
            """Signs of the reverse-path."""

        @property
        def octets(self) -> int:
            """The size, within a factor of two."""


__all__ = [
    "DEFERRED",
    "EVERYTHING",
    "HELD",
    "PENDING",
    "STATES",
    "Filter",
    "Part",
    "Shown",
    "covers",
]

PENDING, DEFERRED, HELD = "pending", "deferred", "held"
STATES = (PENDING, DEFERRED, HELD)
LARGEST = 3 << 28  # what a name says of this size or any above it


@frozen
class Shown:
    """A job as its file has it: what a filter asks about beside the name.

    ``recipients`` and ``reasons`` are of those that are not final yet.
    """

    key: str
    queue: str
    channel: str
    host: Host
    arrived: float
    size: int
    kind: str
    reverse_path: ReversePath
    recipients: tuple[Mailbox, ...]
    reasons: tuple[str, ...] = ()
    tried: bool = False
    held: bool = False


@frozen
class Part:
    """A text that must stand (or not, if ``negated``) in the id, a recipient or the author."""

    what: str  # "id", "recipient", "author"
    text: str
    negated: bool = False


@frozen
class Filter:
    """All that is given must hold; of several ``ids``, ``queues`` or ``parts`` of a kind, one.

    ``recipient`` and ``author`` are "user@domain", "@domain" or "@.domain" (below it);
    the author of the null reverse-path is "<>".  ``signs`` are the author's in names, ""
    if unknown.  ``host`` is a name or ".domain"; ``host_word`` what names call it.
    """

    ids: tuple[str, ...] = ()
    recipient: str = ""
    author: str = ""
    signs: str = ""
    host: str | None = None
    host_word: str = ""
    channel: str = ""
    queues: tuple[str, ...] = ()
    older: float | None = None
    newer: float | None = None
    larger: int | None = None
    smaller: int | None = None
    reason: str = ""
    kind: str = ""
    state: str = ""
    parts: tuple[Part, ...] = ()
    everything: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for."""
        return self == Filter()

    def glance(self, name: Named, arrived: float, now: float) -> bool | None:
        """Tell whether the job called ``name`` is meant; None if its file must say."""
        if self.empty:
            return False
        answers = (
            self._by_id(name),
            None if self.recipient or self.channel or self.reason or self.state else True,
            None if self.parts else True,
            not self.queues or name.queue in self.queues,
            self._of_age(arrived, now),
            self._by_author(name),
            self._by_host(name),
            self._by_size(name),
            True if not self.kind else name.kind == self.kind if name.tag else None,
        )
        if False in answers:
            return False
        return None if None in answers else True

    def holds(self, job: Shown, now: float) -> bool:
        """Tell whether ``job`` is meant."""
        return (
            not self.empty
            and (not self.ids or job.key in self.ids or job.key.partition(".")[0] in self.ids)
            and (not self.queues or job.queue in self.queues)
            and (not self.channel or job.channel == self.channel)
            and self._of_age(job.arrived, now)
            and (self.host is None or covers(self.host, job.host))
            and (self.larger is None or job.size > self.larger)
            and (self.smaller is None or job.size < self.smaller)
            and (not self.kind or job.kind == self.kind)
            and (not self.author or _is(self.author, job.reverse_path))
            and (not self.recipient or any(_is(self.recipient, r) for r in job.recipients))
            and (not self.reason or any(self.reason.lower() in r.lower() for r in job.reasons))
            and (not self.state or self.state == _state(job))
            and _has_parts(self.parts, job)
        )

    def _by_id(self, name: Named) -> bool:
        return not self.ids or name.key in self.ids or name.id in self.ids

    def _of_age(self, arrived: float, now: float) -> bool:
        if self.older is not None and now - arrived <= self.older:
            return False
        return self.newer is None or now - arrived < self.newer

    def _by_author(self, name: Named) -> bool | None:
        if not self.author:
            return True
        if name.tag and self.signs and name.author != self.signs:
            return False
        return None  # many authors share a sign, and a domain has many

    def _by_host(self, name: Named) -> bool | None:
        if self.host is None:
            return True
        if not self.host.startswith("."):
            return name.host == self.host_word
        return None if "%" in name.host else covers(self.host, name.host)

    def _by_size(self, name: Named) -> bool | None:
        if self.larger is None and self.smaller is None:
            return True
        if not name.tag:
            return None
        least, most = _bounds(name.octets)
        if self.larger is not None and most is not None and most <= self.larger:
            return False
        if self.smaller is not None and least >= self.smaller:
            return False
        above = self.larger is None or least > self.larger
        below = self.smaller is None or (most is not None and most < self.smaller)
        return True if above and below else None


EVERYTHING = Filter(everything=True)


def covers(pattern: str, host: Host) -> bool:
    """Tell whether ``pattern``, a name or ".domain", stands for ``host``."""
    pattern, host = pattern.lower(), host.lower()
    return host.endswith(pattern) and host != pattern if pattern[:1] == "." else host == pattern


def _bounds(octets: int) -> tuple[int, int | None]:
    """Return the least and the greatest size that a name shows as ``octets``."""
    if octets < 2:
        return octets, octets
    return octets * 2 // 3, None if octets >= LARGEST else octets * 4 // 3 - 1


def _is(pattern: str, path: ReversePath) -> bool:
    """Tell whether an address is what ``pattern`` stands for."""
    if not isinstance(path, Mailbox):
        return path == NULL_PATH and pattern == "<>"
    if pattern.startswith("@"):
        return covers(pattern[1:], path.domain)
    return str(path).lower() == pattern.lower()


def _state(job: Shown) -> str:
    return HELD if job.held else DEFERRED if job.tried else PENDING


def _has_parts(parts: tuple[Part, ...], job: Shown) -> bool:
    """Of the parts of one kind one must stand there, and of the negated ones none."""
    for what in dict.fromkeys(part.what for part in parts):
        wanted = [p for p in parts if p.what == what and not p.negated]
        unwanted = [p for p in parts if p.what == what and p.negated]
        texts = _texts(what, job)
        if wanted and not any(_in(part, texts) for part in wanted):
            return False
        if any(_in(part, texts) for part in unwanted):
            return False
    return True


def _in(part: Part, texts: tuple[str, ...]) -> bool:
    return any(part.text.lower() in text for text in texts)


def _texts(what: str, job: Shown) -> tuple[str, ...]:
    if what == "recipient":
        return tuple([str(mailbox).lower() for mailbox in job.recipients])
    return ((job.key if what == "id" else str(job.reverse_path)).lower(),)
