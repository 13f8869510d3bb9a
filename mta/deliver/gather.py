"""What authors are owed, gathered: one DSN for a message and its author, not one for each job.

A job of which something is to be reported keeps its claim here while other
jobs of its message are about to end, for ``wait`` seconds since the last that
came, and LONGEST waits since the first.  Then one DSN tells of all of them, and
each is settled by what came of it.  Who dies in between has settled nothing:
those jobs are tried, and reported, again (S7).

Where the author cannot be told of a failure the postmaster is; where he cannot
be, or the message is itself such a notice, it is a dead letter: kept in bad/.

Units    Monotonic seconds.
State    The cases of at most HELD jobs; each holds one descriptor, its claim's.

Invariants, each a test in tests/deliver/test_gather.py
    J1   Each case is answered once, whatever becomes of its DSN.
    J2   Cases of one message and author that come within ``wait`` of each other are one
         DSN, if they are at most HELD.
    J3   No case is held longer than LONGEST waits; with nothing else of its message about
         to end it goes at the next tick; never more than HELD are held.
    J4   A failure is told to the author; else to the postmaster; else it is a dead
         letter; of a null reverse-path, never to an author; and nobody is told of
         what failed on its way to the postmaster.
"""

from __future__ import annotations

import os

from mta.dsn.report import DELAYED, FAILED, HEADER_LIMIT, Group, header_of
from mta.errors import SpoolError
from mta.policy.authors import DISCARD, RETURN
from mta.types import NULL_PATH, Mailbox
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from mta.machine.log import Log
    from mta.spool.spool import Claim
    from mta.types import ReversePath

    Key = tuple[str, ReversePath, str]  # message, author, way

    class Returns(Protocol):
        """Who accepts DSNs; ``answer`` is called once, later or at once."""

        def accept(self, notice: Return, answer: Callable[[str, str], None]) -> None:
            """Answer (dsn id, ""), ("-", why nobody can be told) or ("", why not now)."""


__all__ = ["DSN", "FULL_LIMIT", "HELD", "ORPHAN", "Case", "Gather", "Return", "Told"]

HELD = 256  # cases held at a time: one descriptor each
ASKED = 100  # jobs of a message that are asked about, twice a second
LONGEST = 6  # waits that the first case of a message is held at most
FULL_LIMIT = 1 << 20  # octets of a message that is returned whole; of a larger one its header
DSN, ORPHAN = "dsn", "dsn postmaster"  # origins of what we send: to authors, to the postmaster
NULL = "it failed, and its reverse-path is null"
RULE = "failures of this author are told to the postmaster"


@frozen
class Return:
    """What a DSN is made of: to whom, about which message, which recipients.

    ``to`` is None for the postmaster, who is told ``why``.  ``quoted`` is the
    message's header, or all of it if ``whole``; ``requiretls``: the DSN needs as
    much protection as the message did (RFC 8689 s5).
    """

    to: Mailbox | None
    message_id: str
    arrived: float
    groups: tuple[Group, ...]
    quoted: bytes
    envid: str = ""
    whole: bool = False
    requiretls: bool = False
    why: str = ""


@frozen
class Told:
    """What came of a report: the DSN's id, "-" if nobody is to be told, "" if not now.

    ``kept``: nobody could be told, and the message is to be kept for a person.
    """

    dsn: str
    why: str = ""
    kept: bool = False


class Case:
    """What is owed for one job; ``answer`` is called once, with what came of it."""

    __slots__ = ("answer", "arrived", "claim", "groups")

    def __init__(
        self,
        claim: Claim,
        arrived: float,
        groups: tuple[Group, ...],
        answer: Callable[[Told], None],
    ) -> None:
        self.claim = claim
        self.arrived = arrived
        self.groups = groups
        self.answer = answer


class _Bundle:
    """The cases of one message for one who is told."""

    def __init__(self, mono: float) -> None:
        self.cases: list[Case] = []
        self.first = self.last = mono


class Gather:
    """Gathers what all lanes of one deliver have to report."""

    def __init__(
        self,
        returns: Returns,
        log: Log,
        monotonic: Callable[[], float],
        wait: float,
        expected: Callable[[list[str]], bool] = lambda keys: False,
    ) -> None:
        """Hold cases for ``wait`` seconds; 0 holds none.

        ``expected`` is asked whether any of these jobs (ID.N) may end soon.
        """
        self._returns = returns
        self._log = log
        self._monotonic = monotonic
        self._wait = wait
        self.expected = expected
        self._bundles: dict[Key, _Bundle] = {}
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether half of what may be held is."""
        return self.held >= HELD // 2

    def add(self, case: Case, path: ReversePath, way: str = RETURN) -> None:
        """Take in a case of ``path``: for him, for the POSTMASTER, or for nobody (DISCARD)."""
        envelope, mono = case.claim.entry.envelope, self._monotonic()
        key = (envelope.id, path, way)
        bundle = self._bundles.get(key)
        if bundle is None:
            bundle = self._bundles[key] = _Bundle(mono)
        bundle.cases.append(case)
        bundle.last = mono
        self.held += 1
        if len(bundle.cases) >= envelope.jobs or not self._wait:
            self._send(key)
        while self.held > HELD:
            self._send(next(iter(self._bundles)))

    def tick(self) -> None:
        """Send what has waited long enough, or waits for nothing any more."""
        mono = self._monotonic()
        for key, bundle in list(self._bundles.items()):
            patient = mono - bundle.last < self._wait
            patient = patient and mono - bundle.first < LONGEST * self._wait
            if not patient or not self._awaited(bundle):
                self._send(key)

    def _awaited(self, bundle: _Bundle) -> bool:
        """Whether another job of the message may end soon; of very many, that is taken as given."""
        others = bundle.cases[0].claim.entry.envelope.jobs - len(bundle.cases)
        return others > ASKED or self.expected(_others(bundle))

    def flush(self) -> None:
        """Send all."""
        for key in list(self._bundles):
            self._send(key)

    def _send(self, key: Key) -> None:
        bundle = self._bundles.pop(key)
        self.held -= len(bundle.cases)
        _, path, way = key
        report = _Report(self._returns, self._log, bundle.cases)
        if way == DISCARD:
            report.to_nobody(path)
        elif isinstance(path, Mailbox) and way == RETURN:
            report.to_author(path)
        else:
            report.to_postmaster(RULE if isinstance(path, Mailbox) else NULL)


def _others(bundle: _Bundle) -> list[str]:
    """Return the keys of the message's jobs that are not here."""
    envelope = bundle.cases[0].claim.entry.envelope
    here = {case.claim.name.number for case in bundle.cases}
    return [f"{envelope.id}.{n}" for n in range(envelope.jobs) if n not in here]


class _Report:
    """One bundle on its way to somebody."""

    def __init__(self, returns: Returns, log: Log, cases: list[Case]) -> None:
        self._returns = returns
        self._log = log
        self._cases = cases
        self._groups = tuple([group for case in cases for group in case.groups])
        self._lost = tuple([group for group in self._groups if group.action == FAILED])
        self._envelope = cases[0].claim.entry.envelope

    def to_author(self, path: Mailbox) -> None:
        """Tell the author; of failures the postmaster, if he cannot be told."""

        def answer(dsn: str, why: str) -> None:
            if dsn == "-" and self._lost:
                self._log.warning(f"{self._envelope.id}: {why}: the postmaster is told")
                self.to_postmaster(why)
                return
            if dsn not in ("", "-"):
                about = "failure" if self._lost else _about(self._groups)
                self._log.notified(self._envelope.id, dsn, path, about)
            self._answer(Told(dsn, why))

        whole = bool(self._lost) and self._envelope.ret == "FULL"
        self._offer(path, self._groups, "", whole, answer)

    def to_postmaster(self, why: str) -> None:
        """Tell the postmaster of the failures."""

        def answer(dsn: str, trouble: str) -> None:
            if dsn not in ("", "-"):
                self._log.notified(self._envelope.id, dsn, NULL_PATH, "orphan")
            self._answer(Told(dsn, trouble or why, kept=dsn == "-"))

        if self._envelope.origin == ORPHAN:
            self._answer(Told("-", "it is a notice to the postmaster itself", kept=True))
        else:
            self._offer(None, self._lost, why, True, answer)

    def to_nobody(self, path: ReversePath) -> None:
        """Count what a rule wants nobody to be told of."""
        self._log.discarded(self._envelope.id, path, len(self._lost))
        self._answer(Told("-"))

    def _answer(self, told: Told) -> None:
        for case in self._cases:
            case.answer(told)

    def _offer(
        self,
        to: Mailbox | None,
        groups: tuple[Group, ...],
        why: str,
        whole: bool,
        answer: Callable[[str, str], None],
    ) -> None:
        envelope, case = self._envelope, self._cases[0]
        # No DSN is BINARYMIME; RFC 8689 s5 wants the header alone.
        whole = whole and envelope.size <= FULL_LIMIT
        whole = whole and not (envelope.binary or envelope.requiretls)
        try:
            start = _start(case.claim, FULL_LIMIT if whole else HEADER_LIMIT)
        except SpoolError as error:
            answer("", str(error))
            return
        notice = Return(
            to,
            envelope.id,
            case.arrived,
            groups,
            start if whole else header_of(start),
            envelope.envid,
            whole,
            envelope.requiretls,
            why,
        )
        self._returns.accept(notice, answer)


def _about(groups: tuple[Group, ...]) -> str:
    return "delay" if any(group.action == DELAYED for group in groups) else "success"


def _start(claim: Claim, limit: int) -> bytes:
    """Return the first ``limit`` octets of a body, or all if it has fewer."""
    body = claim.open_body()
    try:
        pieces: list[bytes] = []
        at = 0
        while at < limit and (piece := os.pread(body, limit - at, at)):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)
    except OSError as error:
        raise SpoolError(f"cannot read the body: {error.strerror}") from error
    finally:
        os.close(body)
