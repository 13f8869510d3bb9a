"""Greylisting: whether a deferral looks like "come again in a few minutes, and you are in".

Such a host is well, and says so; who waits for hours because his first tries
came to nothing only delays the mail.

Source   RFC 6647 s2 and s5: 4yz to a first attempt, 451 4.7.1 recommended.  The
         texts are those of common servers and of tools that greylist for them.

Invariants, each a property in tests/policy/test_greylist.py
    G1   Only a 450 or a 451 is greylisting, whatever the text says.
    G2   A fold of case changes no answer.
"""

from __future__ import annotations

from mta.types import Reply

__all__ = ["greylisted"]

CODES = (450, 451)
STATUSES = ("4.7.1",)
TEXTS = (
    *("greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list"),
    *("postgrey", "milter-grey", "sqlgrey", "gld: ", "policyd"),
    *("try again later", "try later", "retry later", "please retry"),
    *("come back later", "temporarily deferred", "first contact", "not yet authorized"),
)


def greylisted(reply: Reply) -> bool:
    """Tell whether ``reply`` looks like greylisting."""
    if reply.code not in CODES:
        return False
    if reply.status in STATUSES:
        return True
    text = reply.text.lower()
    return any(sign in text for sign in TEXTS)
