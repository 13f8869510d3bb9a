"""What a listening session knows of itself, and what it has to say.

server.py moves its octets, server_acts.py gives each command its meaning; both act on
this one value.  A transaction's facts are here as well, and forgotten with it.

Source   Error limit: RFC 5321 s4.3.2 and s7.8.  421 whatever is asked: s3.8.
Units    ``total`` and ``left`` are octets.
State    One session.  An idle one takes less than a kilobyte.
"""

from __future__ import annotations

from mta.smtp.receive import ChunkReader, DataReader
from mta.smtp.server_replies import FIXED, Terms, greeting, wire
from mta.smtp.server_states import CLOSED, CONNECTED, READY, START, State
from mta.types import Reply

__all__ = ["JUNK_MAX", "Session"]

JUNK_MAX = 100  # NOOPs and the like between two messages; more are errors


class Session:
    """The facts of one session; ``due`` names what an answer is due to, "" nothing."""

    __slots__ = (
        *("terms", "state", "client_name", "esmtp", "secured", "authenticated"),
        *("errors", "commands", "junk", "out", "due", "over"),
        *("accepted", "refused", "utf8", "binary", "total", "body"),
        *("left", "last", "refusal", "after"),
    )

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.state: State = CONNECTED
        self.client_name = ""
        self.esmtp = False
        self.secured = terms.secured
        self.authenticated = ""
        self.errors = 0  # since the last message that was accepted
        self.commands = 0
        self.junk = 0
        self.out: list[bytes] = []
        self.due = ""
        self.over = ""  # why the session ends, while Closed is not given yet
        self.left = 0  # octets of the present chunk
        self.last = False  # is it the last?
        self.refusal = b""  # what it will be answered, if it is refused
        self.after: State = READY  # the state before it
        self.body: DataReader | ChunkReader | None = None
        self.forget_transaction()

    @property
    def ended(self) -> bool:
        """True if nothing more is to be heard or said."""
        return self.over != "" or self.state == CLOSED

    def forget_transaction(self) -> None:
        """Close the transaction, if one is open."""
        self.accepted = 0
        self.refused = 0
        self.utf8 = False
        self.binary = False
        self.total = 0  # octets of its chunks
        self.body = None

    def start_over(self) -> None:
        """Forget what the client said, as after STARTTLS (RFC 3207 s4.2)."""
        self.forget_transaction()
        self.client_name = self.authenticated = ""
        self.esmtp = False
        self.state = START

    def greet(self) -> None:
        """Say 220, and await EHLO."""
        self.state = START
        self.out.append(greeting(self.terms))

    def say(self, reply: Reply) -> None:
        """Queue ``reply``; a refusal is an error of the client's."""
        self.say_octets(wire(reply))

    def say_fixed(self, name: str) -> None:
        """Queue a reply of FIXED."""
        self.say_octets(FIXED[name])

    def say_octets(self, octets: bytes) -> None:
        """Queue a reply that is written already."""
        self.out.append(octets)
        if octets[0] == 53:  # "5"
            self.count_error()

    def count_error(self) -> None:
        """Count one error; one too many ends the session."""
        self.errors += 1
        if 0 < self.terms.errors <= self.errors and not self.ended:
            self.out.append(FIXED["errors"])
            self.end("errors")

    def turn_away(self, name: str) -> None:
        """End the session with a reply of FIXED: its octets are no longer commands."""
        self.out.append(FIXED[name])
        self.end("protocol")

    def end(self, reason: str) -> None:
        """Be over for ``reason``; the first reason stands."""
        if not self.ended:
            self.over = reason
            self.due = ""
            self.body = None
