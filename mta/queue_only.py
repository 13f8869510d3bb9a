"""Whether a message that is accepted now would wait for the load to fall, for submit.

Deliver has the last word, and remembers; this is one look by a process that soon ends, with
the same rule: above ``queue_only`` a job's priority must outweigh the load.

Source   sendmail's QueueLA and QueueFactor.
Units    As policy/load.py.
State    None.
"""

from __future__ import annotations

from mta.machine.load import QUICK
from mta.policy.decide import outweighed
from mta.policy.load import LOAD, PRESSURE, Gates, Thresholds
from mta.policy.order import priority
from mta.rank import rank
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.config.model import LoadLimits
    from mta.spool.journal import Draft
    from mta.types import Job, Wishes

__all__ = ["waits_for"]


def waits_for(limits: LoadLimits, draft: Draft, jobs: Sequence[Job], wishes: Wishes) -> str:
    """Return what keeps all ``jobs`` back, "load 9.1 over queue_only 8"; "" if any may go."""
    marks = {LOAD: limits.queue_only, PRESSURE: limits.psi.queue_only}
    gates = Gates({gauge: Thresholds(0.0, begins) for gauge, begins in marks.items()})
    gates.note({gauge: QUICK[gauge]() for gauge in gates.watched})
    standing = gates.standing
    if not standing.level:
        return ""
    said = rank(draft.start())[0] if wishes.precedence is None else wishes.precedence
    above, factor = standing.value - standing.threshold, float(limits.queue_factor)
    points = [priority(draft.size, said, len(job.recipients), 0) for job in jobs]
    return str(standing) if all(outweighed(each, above, factor) for each in points) else ""
