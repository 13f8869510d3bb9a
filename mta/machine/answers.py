"""What the DNS said, and for how long it may be believed.

One question, a name and a type, has one Answer.  An answer is remembered for its
time to live, and a failure to get one for a few seconds, so that a burst of mail
asks once.  While the DNS is out of order, an answer that has run out is better
than none, if it says where mail goes: nothing is ever refused because of one.

Source   Negative answers: RFC 2308.  Answers that ran out: RFC 8767 s4, s5, and
         its timers of s5: STALE_WAIT, STALE_AGAIN, STALE_MAX.
Units    Seconds, on the caller's monotonic clock; STALE_WAIT on the loop's.
State    A bounded cache, and the questions under way.  Lost on exit.

Invariants, each a property in tests/machine/test_resolve.py
    N1   Within its time to live, a question is asked once, however many wait for it.
    N3   The cache never holds more than its maximum, and drops the oldest first.
    N4   An answer that ran out is given only if it is positive, marked stale, not
         older than STALE_MAX, and the DNS failed or has kept silent for STALE_WAIT.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from mta.types import Outcome
from mta.values import frozen, replace

__all__ = [
    "ABSENT",
    "CACHE_MAX",
    "EMPTY",
    "Addresses",
    "Answer",
    "Answers",
    "Exchangers",
    "Hop",
    "TextAnswer",
    "Tlsa",
    "TlsaAnswer",
]

CACHE_MAX = 20_000  # answers; a destination with two MX has about seven
TTL_MIN, TTL_MAX = 5.0, 3600.0
TTL_NEGATIVE_MAX = 900.0
TTL_TROUBLE = 5.0
STALE_MAX = 86400.0
STALE_AGAIN = 30.0  # until the DNS is asked once more
STALE_WAIT = 1.8  # for a slow answer, while an old one is at hand

ABSENT = "absent"  # there is no such name
EMPTY = "empty"  # the name has nothing of this type


@frozen
class Answer:
    """One question's answer: ``records`` as master files write them, or the ``trouble``.

    ``trouble`` is ABSENT, EMPTY, or a few words on why there is no answer.
    ``secure``: the records, or that there are none, were proved (DNSSEC).
    ``canonical`` is the name at the end of the aliases, "" if it is the one asked for.
    """

    records: tuple[str, ...]
    ttl: float
    trouble: str = ""
    secure: bool = False
    canonical: str = ""
    stale: bool = False

    @property
    def failed(self) -> bool:
        """True if this is not an answer, but the lack of one."""
        return self.trouble not in ("", ABSENT, EMPTY)


@frozen
class Addresses:
    """What a name stands for: ``addresses`` in the order to try, or the ``trouble``.

    ``none``: the DNS says so, and not from an answer that ran out.  ``unsure``: a part of
    the answer is missing, or has run out.
    """

    addresses: tuple[str, ...]
    trouble: Outcome | None = None
    secure: bool = False
    none: bool = False
    unsure: bool = False


@frozen
class Hop:
    """One MX record."""

    name: str
    preference: int


@frozen
class Exchangers:
    """Where mail of a domain goes, the best first, or the ``trouble``.

    ``implicit``: there is no MX record, the domain itself is the one hop.
    """

    hops: tuple[Hop, ...]
    secure: bool = False
    trouble: Outcome | None = None
    implicit: bool = False
    stale: bool = False


@frozen
class Tlsa:
    """One TLSA record (RFC 6698 s2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


@frozen
class TlsaAnswer:
    """The TLSA records of a server, which ``base`` names, if they can be relied on.

    ``secure`` and no records: it is proved that there are none.  With ``trouble``
    the server may not be used at all (RFC 7672 s2.1.2).
    """

    records: tuple[Tlsa, ...]
    secure: bool = False
    trouble: Outcome | None = None
    base: str = ""


@frozen
class TextAnswer:
    """TXT records, each with its strings joined; none and no trouble: there are none."""

    texts: tuple[str, ...]
    trouble: Outcome | None = None


Ask = Callable[[str, str], Awaitable[Answer]]
Question = tuple[str, str]


@frozen
class _Kept:
    """An answer, good until ``until``; its own time to live ended at ``expired``."""

    answer: Answer
    until: float
    expired: float


class Answers:
    """A cache in front of ``ask``."""

    def __init__(self, ask: Ask, maximum: int = CACHE_MAX) -> None:
        """Remember at most ``maximum`` answers of ``ask``."""
        self._ask = ask
        self._maximum = maximum
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._asking: dict[Question, asyncio.Task[Answer]] = {}

    def __len__(self) -> int:
        """How many answers are held."""
        return len(self._kept)

    async def find(self, name: str, kind: str, now: float) -> Answer:
        """Return the answer, asking only what is not remembered."""
        question = name, kind
        kept = self._kept.get(question)
        if kept is not None and now < kept.until:
            return kept.answer
        task = self._asking.get(question)
        if task is None:
            task = self._asking[question] = asyncio.ensure_future(self._learn(question, now))
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        old = _old(kept, now)
        if old is None:
            return await asyncio.shield(task)
        done, _ = await asyncio.wait({task}, timeout=STALE_WAIT)
        return task.result() if done else old

    async def _learn(self, question: Question, now: float) -> Answer:
        try:
            answer = await self._ask(*question)
        except Exception as error:  # a defect; whoever waits must hear something
            answer = Answer((), 0.0, f"defect: {type(error).__name__}")
        until = expired = now + _lifetime(answer)
        kept = self._kept.pop(question, None)
        old = _old(kept, now)
        if answer.failed and kept is not None and old is not None:
            answer, until, expired = old, now + STALE_AGAIN, kept.expired
        while len(self._kept) >= self._maximum:
            self._kept.popitem(last=False)
        self._kept[question] = _Kept(answer, until, expired)
        return answer


def _lifetime(answer: Answer) -> float:
    if answer.failed:
        return TTL_TROUBLE
    return min(max(answer.ttl, TTL_MIN), TTL_NEGATIVE_MAX if answer.trouble else TTL_MAX)


def _old(kept: _Kept | None, now: float) -> Answer | None:
    """Return the answer in ``kept`` for want of a better one, if it may be used so."""
    if kept is None or kept.answer.trouble or now >= kept.expired + STALE_MAX:
        return None
    return replace(kept.answer, stale=True)
