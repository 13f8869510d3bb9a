"""Enhanced status codes: three numbers that say what kind of trouble it was.

Source   RFC 3463 s2 (syntax: class "." subject "." detail, the class 2, 4 or 5,
         the others one to three digits).

Invariants, each a property in tests/dsn/test_status.py
    E1   parse(str(status)) is status, for every valid status.
    E2   suited() always gives a valid status of the class of the reply's code.
"""

from __future__ import annotations

from mta.types import Reply
from mta.values import frozen

__all__ = ["Status", "parse", "suited"]

# What a reply without an enhanced status most likely meant, by its code.
_BY_CODE = {
    250: "2.0.0",
    251: "2.1.5",
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.3.1",
    454: "4.7.0",
    455: "4.5.4",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    550: "5.1.1",
    551: "5.1.6",
    552: "5.3.4",
    553: "5.1.3",
    554: "5.0.0",
    555: "5.5.4",
}


@frozen
class Status:
    """``kind`` is 2 (success), 4 (persistent transient) or 5 (permanent failure)."""

    kind: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.subject}.{self.detail}"


def parse(text: str) -> Status:
    """Return the status that ``text`` spells; ValueError if it spells none."""
    parts = text.split(".")
    plain = len(parts) == 3 and all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts)
    if not plain or parts[0] not in ("2", "4", "5"):
        raise ValueError("not an RFC 3463 status")
    if any(len(p) > 1 and p[0] == "0" for p in parts):
        raise ValueError("an RFC 3463 status has no leading zeros")
    return Status(*map(int, parts))


def suited(reply: Reply) -> str:
    """Return ``reply``'s own status where it is valid and agrees with the code, else a default."""
    kind = str(reply.code // 100)
    try:
        if str(parse(reply.status))[0] == kind:
            return reply.status
    except ValueError:
        pass
    return _BY_CODE.get(reply.code, f"{kind}.0.0" if kind in ("2", "4", "5") else "5.0.0")
