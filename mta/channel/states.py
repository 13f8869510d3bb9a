"""The states of a channel conversation, as the two tables that both of its ends walk.

Source   man/channel.7, "States": the tables are printed there.

Invariants, each a property in tests/channel/test_states.py
    A1   Every state can be reached, and from every state the end can be.
    A2   Every word belongs to exactly one end.
"""

from __future__ import annotations

from mta.channel.records import FD, INLINE
from mta.errors import RemoteProtocolError

__all__ = ["FROM_DELIVER", "FROM_PROGRAM", "JOB", "SESSION", "walk"]

# (state, word) → state; what is not here is an error.  "answer" is the program's hello.
SESSION: dict[tuple[str, str], str] = {
    ("silent", "hello"): "offering",
    ("offering", "option"): "offering",
    ("offering", "go"): "offered",
    ("offered", "answer"): "open",
    ("offered", "quit"): "closing",
    ("open", "job"): "open",
    ("open", "rcpt"): "open",
    ("open", "param"): "open",
    ("open", "send"): "open",
    ("open", "body"): "open",
    ("open", "passed"): "open",
    ("open", "outcome"): "open",
    ("open", "done"): "open",
    ("open", "tls"): "open",
    ("open", "address"): "open",
    ("open", "avoid"): "open",
    ("open", "quit"): "closing",
    ("closing", "answer"): "closing",
    ("closing", "passed"): "closing",
    ("closing", "outcome"): "closing",
    ("closing", "done"): "closing",
    ("closing", "tls"): "closing",
    ("closing", "address"): "closing",
}
# The same for one job, by how the program takes bodies.
JOB: dict[str, dict[tuple[str, str], str]] = {
    FD: {
        ("absent", "job"): "named",
        ("named", "rcpt"): "addressed",
        ("addressed", "rcpt"): "addressed",
        ("addressed", "param"): "addressed",
        ("addressed", "send"): "sent",
        ("sent", "passed"): "sent",
        ("sent", "outcome"): "sent",
        ("sent", "done"): "absent",
    },
    INLINE: {
        ("absent", "job"): "named",
        ("named", "rcpt"): "addressed",
        ("addressed", "rcpt"): "addressed",
        ("addressed", "param"): "addressed",
        ("addressed", "send"): "promised",
        ("promised", "body"): "sent",
        ("sent", "passed"): "sent",
        ("sent", "outcome"): "sent",
        ("sent", "done"): "absent",
    },
}
FROM_DELIVER = frozenset(
    ("hello", "option", "go", "job", "rcpt", "param", "send", "body", "avoid", "quit")
)
FROM_PROGRAM = frozenset(("answer", "passed", "outcome", "done", "tls", "address"))


def walk(table: dict[tuple[str, str], str], state: str, word: str) -> str:
    """Return the state after ``word``; RemoteProtocolError if it may not come now."""
    try:
        return table[state, word]
    except KeyError:
        raise RemoteProtocolError(f"{word!r} may not come when {state}") from None
