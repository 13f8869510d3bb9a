"""What one deliver learns of the hosts of one channel: busy, proven, dead, demoted.

A host is *proven* when it has answered a job since this deliver began or since
it was last unreachable; until then one job asks for all.  Who failed stands on the
board, which all delivers of the spool share; how long that keeps this deliver away
is its own TTL's affair.  A host that has failed for long is *demoted*: from then on
the slow channel serves it, whose successes and failures count for the first channel, too.

Units    ``mono`` is monotonic, ``now`` wall-clock seconds.
State    A record for each host with a job in flight, and for the KEPT others
         that were used last.

Invariants, each a property in tests/deliver/test_hosts.py
    H1   in_flight is what was launched less what has landed, and never negative.
    H2   Only a 4yz about the host itself buries it, and only if no other job
         was answered by it since that job began.
    H3   Any word of a host's own proves it, and revives it.
    H4   However many jobs a failure meets in flight, it counts once.
    H5   A host is demoted iff its failures in a row span ``demote_after``.
"""

from __future__ import annotations

from random import random
from zlib import crc32

from mta.deliver.board import Board
from mta.deliver.silence import Silence
from mta.policy.deadhosts import dead
from mta.policy.decide import HostFacts
from mta.types import CHANNEL, HOST, Host, Outcome
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.deliver.board import Pane
    from mta.policy.deadhosts import DeadHost, Failing

__all__ = ["Hosts"]

KEPT = 10_000


class _Record:
    __slots__ = ("answered", "dead", "failing", "in_flight", "proven", "told")

    def __init__(self, proven: bool) -> None:
        self.in_flight = 0
        self.proven = proven
        self.answered = -1.0  # mono: when it last said anything; below 0 = never
        self.told = ""  # the newest id whose job has the burial's reason on file
        self.failing: Failing | None = None  # from which ``dead`` was made
        self.dead: DeadHost | None = None


class Hosts:
    """The hosts of one channel."""

    def __init__(
        self,
        ttl: Callable[[Host], float] | float,
        probing: bool,
        pane: Pane | None = None,
        *,
        heed_after: float = 0.0,
        demote_after: float = 0.0,
        origins: Sequence[tuple[Pane, float]] = (),
        silent: int = 0,
    ) -> None:
        """Leave dead hosts alone for at most ``ttl``; ``probing`` if hosts must prove themselves.

        A channel that has no connections (local, pipe, list) does not probe.
        Failures before ``heed_after`` keep nobody away.  ``demote_after`` 0.0 is
        never; ``origins`` are the panes of the channels that demote hosts to this
        one, with theirs.  ``silent`` bounds the jobs of silent hosts.
        """
        self._ttl: Callable[[Host], float] = (lambda host: ttl) if isinstance(ttl, float) else ttl
        self._probing = probing
        self._pane = Board().pane("") if pane is None else pane
        self._failing = self._pane.failing
        self._heed_after = heed_after
        self._origins = origins
        own = [(self._pane, demote_after)] if demote_after else []
        self._demotions: list[tuple[Pane, float]] = [*own, *origins]
        self._records: dict[Host, _Record] = {}
        self.in_flight = 0
        self.unproven = 0  # of those in flight, to hosts that have still to answer
        self._asking: set[Host] = set()
        self._seed = int(random() * 2**32)
        self._silence = Silence(silent if probing else 0)

    @property
    def silent(self) -> int:
        """How many of those in flight are at hosts that have fallen silent."""
        return self._silence.flights

    def listen(self, mono: float) -> None:
        """Note who has fallen silent; no question is open with them any more."""
        for host in self._silence.listen(mono, lambda host: self._records[host].in_flight):
            self._settle_question(host)

    def _record(self, host: Host) -> _Record:
        record = self._records.get(host)
        if record is None:
            if len(self._records) >= KEPT:
                self._trim()
            record = self._records[host] = _Record(not self._probing or not host)
        return record

    def _trim(self) -> None:
        """Drop the older half of the records that nothing is in flight to."""
        idle = [h for h, r in self._records.items() if not r.in_flight]
        for host in idle[: len(idle) // 2]:
            del self._records[host]

    def is_unproven(self, host: Host) -> bool:
        """Tell whether ``host`` has still to answer, be it that it has fallen silent."""
        record = self._records.get(host)
        if record is None:
            return self._probing and host != ""
        return not record.proven or host in self._silence

    def facts(self, host: Host, now: float, mono: float) -> HostFacts:
        """Return what decide() wants to know of ``host``."""
        record = self._record(host)
        answered = now + record.answered - mono if record.answered >= 0 else 0.0
        demoted = self.demoted(host) if self._demotions else 0.0
        found = self._dead(host, record, now) if host in self._failing else None
        proven = not self.is_unproven(host)
        if found is None:
            return HostFacts(record.in_flight, proven, None, 0.0, answered, demoted)
        known = found, found.until, answered, demoted
        failing = self._failing[host]
        since = 0.0 if failing.hold else failing.at  # no -l ends what a person said
        return HostFacts(record.in_flight, proven, *known, dead_since=since)

    def _dead(self, host: Host, record: _Record, now: float) -> DeadHost | None:
        """Return the burial in force; it is made once for each failure."""
        failing = self._failing[host]
        if record.failing is not failing:
            record.failing = failing
            heeded = self._probing and (failing.at >= self._heed_after or failing.hold > 0)
            ttl = self._ttl(host) if heeded else 0.0
            # The same whenever the failure is read again, and another in each deliver.
            jitter = crc32(f"{host} {failing.failures}".encode(), self._seed) / 2**32
            record.dead = dead(host, failing, ttl, jitter)
        return record.dead if record.dead is not None and now < record.dead.until else None

    def demoted(self, host: Host) -> float:
        """Return since when ``host`` is the slow channel's; 0.0 if it is not."""
        for pane, after in self._demotions:
            failing = pane.failing.get(host)
            if failing is not None and failing.at - failing.since >= after:
                return failing.since + after
        return 0.0

    def launch(self, host: Host, mono: float = 0.0) -> None:
        """A job goes to ``host``."""
        record = self._record(host)
        record.in_flight += 1
        self.in_flight += 1
        if not record.proven and host not in self._asking:
            self._asking.add(host)
            self.unproven += 1
        self._silence.launched(host, mono)

    def land(self, host: Host) -> None:
        """A job that went to ``host`` is back."""
        record = self._record(host)
        record.in_flight -= 1
        self.in_flight -= 1
        self._silence.landed(host, record.in_flight)
        if not record.in_flight:
            self._settle_question(host)

    def _settle_question(self, host: Host) -> None:
        if host in self._asking:
            self._asking.discard(host)
            self.unproven -= 1

    def learn(
        self, host: Host, outcome: Outcome, started: float, mono: float, now: float, relay: str = ""
    ) -> str:
        """Take the outcome of a job that began at ``started``.

        Return what it makes of the host: "buried", "revived", "demoted", "promoted" or "".
        """
        if outcome.scope == CHANNEL or not host:
            return ""
        record = self._record(host)
        if outcome.scope == HOST and not outcome.reply.positive:
            if not outcome.reply.transient or record.answered > started or not self._probing:
                return ""
            return self._failed(host, record, outcome, now, now - mono + started, _via(relay))
        record.answered = mono
        record.proven = True
        if record.in_flight:
            self._silence.spoke(host, mono)
        self._settle_question(host)
        if self._failing and (via := _via(relay)):
            self._pane.well(via, now)
        return self._well(host, now)

    def _failed(
        self, host: Host, record: _Record, outcome: Outcome, now: float, began: float, via: str
    ) -> str:
        record.proven = False
        known = self._failing.get(host)
        if known is not None and began < known.at:
            return ""  # of the same failure, another job
        before, demoted = self.facts(host, now, 0.0).dead, self.demoted(host)
        self._pane.failed(host, outcome.reply, now, via)
        for pane, _ in self._origins:
            if host in pane.failing:
                pane.failed(host, outcome.reply, now, via)
        if not demoted and self.demoted(host):
            return "demoted"
        buried = before is None and self.facts(host, now, 0.0).dead is not None
        return "buried" if buried else ""

    def _well(self, host: Host, now: float) -> str:
        demoted = bool(self._origins) and self.demoted(host) > 0
        revived = self._pane.well(host, now)
        for pane, _ in self._origins:
            pane.well(host, now)
        return "promoted" if demoted else "revived" if revived else ""

    def revive(self, host: Host, now: float) -> None:
        """Forget that ``host`` is dead: it says that it is back, but has still to answer."""
        failing = self._failing.get(host)
        if failing is not None and failing.via:
            self._pane.well(failing.via, now)  # or the program would not even try
        self._pane.well(host, now)

    def heard(self, host: Host, at: float, now: float, mono: float) -> DeadHost | None:
        """Another changed what is known of ``host``; return its burial, None if it may be tried."""
        record = self._records.get(host)
        if host not in self._failing:
            if record is not None:
                record.answered = max(record.answered, mono - max(0.0, now - at))
            return None
        record = self._record(host)
        if record.answered >= 0 and mono - record.answered < now - self._failing[host].at:
            self._pane.well(host, now)  # we know better: it has answered us since
            return None
        record.proven = not self._probing
        return self._dead(host, record, now)

    def news(self, host: Host, message_id: str, arrived: float) -> bool:
        """Tell, once, whether a job with this id has yet to be told why its host is left alone.

        What was there when another deliver found out is that one's to tell, and what was
        there at the failure before has been told.
        """
        record, failing = self._record(host), self._failing.get(host)
        if failing is not None:
            ours = failing.who == self._pane.who
            if arrived <= (failing.before if ours else failing.at):
                return False
        if message_id <= record.told:
            return False
        record.told = message_id
        return True


def _via(relay: str) -> str:
    """Return the address in ``relay``, as "name[192.0.2.1]:25" has it; "" if there is none."""
    start = relay.rfind("[")
    inside, _, port = relay[start + 1 :].partition("]:") if start >= 0 else ("", "", "")
    return f"[{inside}]:{port}" if inside and port.isdecimal() else ""
