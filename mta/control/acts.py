"""What is done to one job, under its claim: a note, a removal, a return to its author.

Each act says what became of the job; who claims and releases is the caller's part.

Invariants, each a test in tests/control/test_program.py
    AC1  A job that was held is not delivered until it is released; nothing else of it changes.
    AC2  A job that was deleted is finished as any other, and nobody is told but the log.
    AC3  A job is returned as if its channel had failed it: its author's DSN is accepted first.
    AC4  Jobs of one message that are returned together are told of in one DSN.
"""

from __future__ import annotations

from mta.spool.entry import DUE, HOLD, RELEASE, Note, Settlement
from mta.types import FAILED, MESSAGE, Outcome, Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.machine.log import Log
    from mta.spool.spool import Claim

    Act = Callable[[Claim, "Order", Log], str]

__all__ = ["NOTING", "Order", "delete", "noting"]

DONE, SAME = "done", "same"


@frozen
class Order:
    """Who gave it, when, and the words that go with it."""

    who: str
    at: float
    text: str = ""


def noting(word: str) -> Act:
    """Return the act that notes ``word`` on a job."""

    def note(claim: Claim, order: Order, log: Log) -> str:
        held = claim.entry.held is not None
        if held if word == HOLD else not held and word == RELEASE:
            return SAME
        claim.note(Note(word, order.at, order.who, order.text))
        if word == RELEASE:
            claim.note(Note(DUE, order.at, order.who))  # whatever its next time was
        log.noted(claim.name.id, claim.name.number, claim.name.queue, word, order.who, order.text)
        return DONE

    return note


NOTING = {"hold": noting(HOLD), "release": noting(RELEASE), "requeue": noting(DUE)}


def delete(claim: Claim, order: Order, log: Log) -> str:
    """Finish a job: nobody gets it, and nobody is told."""
    name = claim.name
    why = Reply.clean(f"deleted by {order.who}{': ' if order.text else ''}{order.text}")
    outcome = Outcome(Reply(554, "5.7.1", why), MESSAGE)
    pending = claim.entry.pending
    fates = [
        Settlement(recipient.index, FAILED, order.at, 0.0, outcome) for recipient, _ in pending
    ]
    claim.settle(fates, "-")
    log.deleted(name.id, name.number, name.queue, [r for r, _ in pending], order.who, order.text)
    if claim.message_gone:
        log.removed(name.id)
    return DONE
