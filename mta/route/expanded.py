"""Addresses that stand for several, and what their author is told when he asked for it.

Who asked to hear of the success of an address that an alias makes several of
hears that the message has arrived there, once ("expanded"); where the alias has
an owner it is a list, and has been "delivered".  The mark of that is a recipient
of its own, in a job of its own: it goes to no program, and is settled when its
DSN is accepted.  The members then are not asked for successes any more.

Source   RFC 3461 s5.2.7.2 and s5.2.7.3; RFC 3464 s2.3.3.

Invariants, each a property in tests/route/test_expanded.py
    X1   There is a mark for each address of which SUCCESS was asked, and which has several
         targets or an owner; none for others, nor with the null reverse-path.
    X2   Nobody hears of the success of a member of such an address; all else that was
         asked for goes with each member, but what is an owner's business.
    X3   A mark has a job of its own.
"""

from __future__ import annotations

from mta.types import NULL_PATH, Outcome, Reply
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mta.route.router import Routed
    from mta.types import Job, Mailbox, ReversePath

    Asked = tuple[str, str]  # NOTIFY, ORCPT

__all__ = ["EXPANDED", "LISTED", "MARKS", "arrived_here", "expansions", "for_members"]

# The action of a mark's recipient; no address and no alias can have one like it.
EXPANDED, LISTED = "=expanded", "=listed"
MARKS = {EXPANDED: "expanded", LISTED: "delivered"}  # by action: RFC 3464's word


MARKED = Outcome(Reply(250, "2.0.0", "the address stands for others, whom the message goes to"))


def arrived_here(job: Job) -> Outcome | None:
    """Return what becomes of a job of marks, which goes to no program; None of another job."""
    return MARKED if job.recipients[0].action in MARKS else None


def expansions(
    routed: Sequence[Routed],
    reverse_path: ReversePath,
    dsn: Mapping[Mailbox, Asked] | None,
) -> dict[Mailbox, str]:
    """Return the addresses that get a mark, and its action."""
    if not dsn or reverse_path == NULL_PATH:
        return {}
    found = {}
    for each in routed:
        if "SUCCESS" not in dsn.get(each.mailbox, ("", ""))[0].split(","):
            continue
        if any(target.reverse_path is not None for target in each.targets):
            found[each.mailbox] = LISTED
        elif len(each.targets) > 1:
            found[each.mailbox] = EXPANDED
    return found


def for_members(asked: Asked, action: str) -> Asked:
    """Return what is asked of the members of an address whose mark is ``action``."""
    if action == LISTED:
        return "", ""  # what becomes of them is told to the owner, who asked for nothing
    words = [word for word in asked[0].split(",") if word != "SUCCESS"]
    return ",".join(words) or "NEVER", asked[1]
