"""The calling end of an SMTP session: octets in, events out; messages in, octets out.

It decides what is sent when: EHLO and the way back to HELO, MAIL to DATA in
one write when the server offers PIPELINING, RSET after a refusal, and what each
reply means for each recipient.  Whoever drives it moves octets and watches the
clock; ``state`` names the time limit in force.

    feed(octets); then next_event() until None; then send take()
    Ready    no transaction is open: begin() or quit()
    GoAhead  send the body (data.Stuffer), then call finish()
    Settled  what became of each recipient of the transaction
    Closed   of no more use; ``outcome`` tells why, None after our own QUIT

Source   RFC 5321 s3, s4.1.4; PIPELINING: RFC 2920 s3.1; table in states.py.
State    One session; a transaction at a time.

Invariants, each a property in tests/smtp/test_client.py
    C1   However the server's octets are split, events and output are the same
         (but a reply out of turn is only known for one if it precedes our command).
    C2   Whatever the octets, nothing but RemoteProtocolError is raised, and after
         it fail() settles what was open.
    C3   Every transaction begun is settled once, an outcome for each recipient.
    C4   With and without PIPELINING the same replies give the same outcomes.
    C5   The final dot is sent only by finish(), or alone when nobody was accepted.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp import fates
from mta.smtp.extensions import (
    NO_EXTENSIONS,
    Extensions,
    Transaction,
    mail_parameters,
    parse,
    unmet,
)
from mta.smtp.grammar import ReplyReader, WireReply, command, mail_command, rcpt_command
from mta.smtp.states import (
    BANNER,
    BODY,
    CLOSED,
    DATA,
    EHLO,
    FINAL,
    HELO,
    MAIL,
    QUIT,
    RCPT,
    READY,
    RSET,
    TRANSITIONS,
    State,
)
from mta.types import Outcome
from mta.values import frozen

__all__ = ["Client", "Closed", "Event", "GoAhead", "Ready", "Settled"]


@frozen
class Ready:
    """No transaction is open, and the server waits for the next."""


@frozen
class GoAhead:
    """354: the body is to be sent now."""


@frozen
class Settled:
    """The transaction is over; ``outcomes`` are in the order of its recipients."""

    outcomes: tuple[Outcome, ...]


@frozen
class Closed:
    """The session is over; ``outcome`` is why, of scope HOST, or None after QUIT."""

    outcome: Outcome | None


Event = Ready | GoAhead | Settled | Closed
_READY, _GO_AHEAD = Ready(), GoAhead()


class Client:
    """One SMTP session as its client sees it."""

    def __init__(self, hostname: str) -> None:
        """Be ``hostname`` in EHLO; the server speaks first."""
        self.state: State = BANNER
        self.extensions: Extensions = NO_EXTENSIONS
        self.answered = False  # has any reply but 421 come to the present transaction?
        self._hostname = hostname
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._open: Transaction | None = None
        self._fates: list[Outcome | None] = []
        self._at = 0  # the recipient whose reply is due next
        self._accepted = 0
        self._ahead = False  # are RCPT and DATA sent already?
        self._react: dict[State, Callable[[WireReply], None]] = {
            BANNER: self._on_greeting,
            EHLO: self._on_greeting,
            HELO: self._on_greeting,
            MAIL: self._on_mail,
            RCPT: self._on_rcpt,
            DATA: self._on_data,
            BODY: self._on_refusal,
            FINAL: self._on_final,
            RSET: self._on_idle,
            QUIT: self._on_idle,
        }

    def feed(self, data: bytes) -> None:
        """Take what the server sent; next_event() tells what it means."""
        self._reader.feed(data)

    def next_event(self) -> Event | None:
        """Return what happened next, None when more octets are needed.

        Raises RemoteProtocolError when the server broke the protocol: call fail().
        """
        while not self._events:
            if self.state == CLOSED:
                return None
            reply = self._reader.next()
            if reply is None:
                return None
            self._take_in(reply)
        return self._events.pop(0)

    def take(self) -> bytes:
        """Return what is to be sent now, and forget it."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def begin(self, transaction: Transaction) -> None:
        """Open ``transaction``; at Ready only, when next_event() has given None.

        A message that this server cannot take is settled without a command.
        Raises RemoteProtocolError if the server has spoken out of turn.
        """
        if self.state != READY or not transaction.recipients:
            raise LocalProtocolError(f"a transaction begun in state {self.state}")
        self._open, self.answered = transaction, False
        self._fates = [None] * len(transaction.recipients)
        self._at = self._accepted = 0
        refusal = unmet(self.extensions, transaction)
        if refusal is not None:
            self._settle(refusal)
            self._events.append(_READY)
            return
        self.state = MAIL
        parameters = mail_parameters(self.extensions, transaction)
        lines = [mail_command(transaction.reverse_path, parameters)]
        self._ahead = self.extensions.pipelining
        if self._ahead:
            lines += [rcpt_command(mailbox) for mailbox in transaction.recipients]
            lines.append(b"DATA\r\n")
        self._send(b"".join(lines))

    def finish(self) -> None:
        """Say that the body and Stuffer.end() are sent: the final reply is due now."""
        if self.state != BODY:
            raise LocalProtocolError(f"end of data in state {self.state}")
        self.state = FINAL

    def quit(self) -> None:
        """End the session in good order; at Ready only."""
        if self.state != READY:
            raise LocalProtocolError(f"QUIT in state {self.state}")
        self.state = QUIT
        self._out.append(b"QUIT\r\n")

    def lost(self, reason: str) -> None:
        """Take in that the connection is gone, or too slow; next_event() gives the rest."""
        self.fail(None if self.state == QUIT else fates.lost(self.state, reason))

    def fail(self, outcome: Outcome | None) -> None:
        """End the session here: what is still open gets ``outcome``, of scope HOST."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        if self._open is not None and outcome is not None:
            self._settle(outcome)
        self._events.append(Closed(outcome))

    def broken(self, error: RemoteProtocolError) -> None:
        """End the session of a server that broke the protocol."""
        self.fail(fates.protocol_error(self.state, str(error)))

    def _send(self, data: bytes) -> None:
        """Queue commands; whatever the server said before it saw them is out of turn."""
        if self._reader.pending:
            raise RemoteProtocolError("a reply before it was due")
        self._out.append(data)

    def _take_in(self, reply: WireReply) -> None:
        if reply.code == 421 and self.state != QUIT:
            self.fail(fates.outcome(self.state, reply))
            return
        if (self.state, reply.severity) not in TRANSITIONS:
            raise RemoteProtocolError(f"{reply.code} is no reply to expect here")
        self._react[self.state](reply)

    def _on_greeting(self, reply: WireReply) -> None:
        """The banner, and EHLO or HELO."""
        due = TRANSITIONS[self.state, reply.severity]
        if due == CLOSED:
            self.fail(fates.outcome(self.state, reply))
            return
        if due == READY:
            if self.state == EHLO:
                self.extensions = parse(reply)
            self._events.append(_READY)
        else:
            self._send(command(f"{due.upper()} {self._hostname}"))
        self.state = due

    def _on_mail(self, reply: WireReply) -> None:
        self.answered = True
        if reply.severity != 2:
            self._settle(fates.outcome(MAIL, reply))
            if not self._ahead:
                self._reset()
                return
        self.state = RCPT
        self._ask_next()

    def _on_rcpt(self, reply: WireReply) -> None:
        if reply.severity == 2:
            self._accepted += 1
        elif self._open is not None:
            self._fates[self._at] = fates.outcome(RCPT, reply, self._accepted > 0)
        self._at += 1
        if self._at < len(self._fates):
            self._ask_next()
        elif self._accepted or self._ahead:
            self.state = DATA
            if not self._ahead:
                self._send(b"DATA\r\n")
        else:
            self._settle(None)
            self._reset()

    def _ask_next(self) -> None:
        """In lockstep, offer the recipient whose turn it is."""
        if not self._ahead and self._open is not None:
            self._send(rcpt_command(self._open.recipients[self._at]))

    def _on_data(self, reply: WireReply) -> None:
        wanted = self._open is not None and self._accepted > 0
        if reply.severity == 3 and wanted:
            self.state = BODY
            self._events.append(_GO_AHEAD)
        elif reply.severity == 3:  # RFC 2920 s3.1: nobody to send to, so end it at once
            self._settle(None)
            self.state = FINAL
            self._send(b".\r\n")
        else:
            self._settle(fates.outcome(DATA, reply) if wanted else None)
            self._reset()

    def _on_refusal(self, reply: WireReply) -> None:
        """The message is refused before it is sent whole, as some do with big ones."""
        self._settle(fates.outcome(FINAL, reply))
        self.fail(None)

    def _on_final(self, reply: WireReply) -> None:
        self.state = READY
        self._settle(fates.outcome(FINAL, reply))  # no-one's, after a lone dot
        self._events.append(_READY)

    def _on_idle(self, reply: WireReply) -> None:
        """RSET and QUIT."""
        due = TRANSITIONS[self.state, reply.severity]
        if due == READY:
            self.state = READY
            self._events.append(_READY)
        else:
            self.fail(fates.outcome(RSET, reply) if self.state == RSET else None)

    def _reset(self) -> None:
        self.state = RSET
        self._send(b"RSET\r\n")

    def _settle(self, outcome: Outcome | None) -> None:
        """Settle the transaction: ``outcome`` for each recipient that has none yet."""
        if self._open is None:
            return
        self._open = None
        settled = [given for fate in self._fates if (given := fate or outcome) is not None]
        self._events.append(Settled(tuple(settled)))
