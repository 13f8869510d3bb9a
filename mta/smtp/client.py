"""The calling end of an SMTP or LMTP session: octets in, events out; messages in, octets out.

It decides what is sent when: EHLO and the way back to HELO, STARTTLS and AUTH
as its driver asks, MAIL to DATA in one write when the server offers PIPELINING,
BDAT instead of DATA when that saves a round trip or the message is binary, RSET
after a refusal, and what each reply means for each recipient.  Whoever drives it
moves octets and watches the clock; ``state`` names the time limit in force.

    feed(octets); then next_event() until None; then send take()
    Greeted  starttls(), authenticate(), proceed() or quit()
    TlsGo    do the TLS handshake, then call secured(); from then on octets are clear again
    Ready    no transaction is open: begin() or quit()
    GoAhead  send the body (data.Stuffer, or data.Raw if ``raw``), then call finish()
    Settled  what became of each recipient of the transaction
    Closed   of no more use; ``outcome`` tells why, None after our own QUIT

Source   RFC 5321 s3, s4.1.4; PIPELINING: RFC 2920 s3.1; STARTTLS: RFC 3207 s4;
         AUTH: RFC 4954 s4; BDAT: RFC 3030 s2, s4.2; LMTP: RFC 2033 s4; table in states.py.
State    One session; a transaction at a time, and its body if it was given whole.

Invariants, each a property in tests/smtp/test_client.py
    C1   However the server's octets are split, events and output are the same
         (but a reply out of turn is only known for one if it precedes our command).
    C2   Whatever the octets, nothing but RemoteProtocolError is raised, and after
         it fail() settles what was open.
    C3   Every transaction begun is settled once, an outcome for each recipient.
    C4   With and without PIPELINING, and with CHUNKING, the same replies give the
         same outcomes.
    C5   The final dot is sent only by finish(), or alone when nobody was accepted.
    C6   Nothing that was said before the TLS handshake counts after it, and octets
         behind the go-ahead end the session.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp import fates
from mta.smtp.client_auth import Authentication
from mta.smtp.client_events import Closed, Event, Exchange, GoAhead, Greeted, Ready, Settled, TlsGo
from mta.smtp.data import whole
from mta.smtp.extensions import (
    NO_EXTENSIONS,
    Extensions,
    Transaction,
    mail_parameters,
    over_limit,
    parse,
    rcpt_parameters,
    unmet,
)
from mta.smtp.grammar import ReplyReader, WireReply, command, mail_command, rcpt_command
from mta.smtp.states import (
    AUTH,
    BANNER,
    BDAT,
    BODY,
    CLOSED,
    DATA,
    EHLO,
    FINAL,
    GREETED,
    HELO,
    LHLO,
    MAIL,
    QUIT,
    RCPT,
    READY,
    RSET,
    STARTTLS,
    TLS,
    TRANSITIONS,
    State,
)
from mta.types import Outcome

__all__ = ["Client"]

_READY, _GO_AHEAD, _GO_AHEAD_RAW, _TLS_GO = Ready(), GoAhead(), GoAhead(raw=True), TlsGo()


class Client:
    """One SMTP or LMTP session as its client sees it."""

    def __init__(self, hostname: str, *, lmtp: bool = False) -> None:
        """Be ``hostname`` in EHLO, or with ``lmtp`` in LHLO; the server speaks first."""
        self.state: State = BANNER
        self.extensions: Extensions = NO_EXTENSIONS
        self.answered = False  # has any reply but 421 come to the present transaction?
        self.verified = False  # is the session under TLS with a server that proved its name?
        self._lmtp = lmtp
        self._authentication: Authentication | None = None
        self._hostname = hostname
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._open: Transaction | None = None
        self._fates: list[Outcome | None] = []
        self._at = 0  # the recipient whose reply is due next
        self._offered = 0  # how many recipients are offered at all
        self._accepted: list[int] = []
        self._ahead = False  # are all RCPT sent already, and DATA or the chunk?
        self._chunk = b""  # BDAT and the whole body after it, if that is how it goes
        self._streamed = False  # does the body come from the driver, behind BDAT?
        self._react: dict[State, Callable[[WireReply], None]] = {
            BANNER: self._on_greeting,
            EHLO: self._on_greeting,
            HELO: self._on_greeting,
            LHLO: self._on_greeting,
            STARTTLS: self._on_starttls,
            AUTH: self._on_auth,
            MAIL: self._on_mail,
            RCPT: self._on_rcpt,
            DATA: self._on_data,
            BODY: self._on_refusal,
            FINAL: self._on_final,
            BDAT: self._on_final,
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

    def starttls(self) -> None:
        """Ask for TLS; at Greeted only, and only of a server that offers it."""
        self._expect(GREETED, "STARTTLS")
        self.state = STARTTLS
        self._send(b"STARTTLS\r\n")

    def secured(self, verified: bool = False) -> None:
        """Begin anew under TLS; ``verified``: the server proved its name.

        Raises RemoteProtocolError if clear octets have come since the go-ahead.
        """
        self._expect(TLS, "the end of a TLS handshake")
        self.extensions, self.verified = NO_EXTENSIONS, verified
        self._hello(LHLO if self._lmtp else EHLO)

    def authenticate(self, exchange: Exchange) -> None:
        """Say by ``exchange`` who we are; at Greeted only."""
        self._expect(GREETED, "AUTH")
        self.state, self._authentication = AUTH, Authentication(exchange)
        self._send(self._authentication.begin())

    def proceed(self) -> None:
        """Go on to Ready with the session as it is; at Greeted only."""
        self._expect(GREETED, "the first transaction")
        self.state = READY
        self._events.append(_READY)

    def begin(self, transaction: Transaction, body: bytes | None = None) -> None:
        """Open ``transaction``; at Ready only, when next_event() has given None.

        ``body`` is all of it, if it is small and at hand: it may go out at once
        then, with no GoAhead.  A message that this server cannot take is settled
        without a command.  Raises RemoteProtocolError if the server has spoken out
        of turn, and LocalProtocolError if ``body`` is no message.
        """
        if self.state != READY or not transaction.recipients:
            raise LocalProtocolError(f"a transaction begun in state {self.state}")
        offered = self.extensions
        self._open, self.answered, self._accepted = transaction, False, []
        self._fates = [None] * len(transaction.recipients)
        self._at, self._offered = 0, len(transaction.recipients)
        refusal = unmet(offered, transaction, self.verified)
        if refusal is not None:
            self._settle(refusal)
            self._events.append(_READY)
            return
        if 0 < offered.rcpt_max < self._offered:
            self._offered = offered.rcpt_max
            over = len(self._fates) - self._offered
            self._fates[self._offered :] = [over_limit(offered)] * over
        self._chunk = b""
        if body is not None and offered.chunking and not self._lmtp:
            octets = body if transaction.binary else whole(body)
            self._chunk = b"BDAT %d LAST\r\n" % len(octets) + octets
        self._streamed = transaction.binary and not self._chunk
        self.state = MAIL
        lines = [mail_command(transaction.reverse_path, mail_parameters(offered, transaction))]
        self._ahead = offered.pipelining
        if self._ahead:
            lines += [self._rcpt(transaction, at) for at in range(self._offered)]
            if not self._streamed:
                lines.append(self._chunk or b"DATA\r\n")
        self._send(b"".join(lines))

    def finish(self) -> None:
        """Say that the body and its end are sent: the final reply is due now."""
        self._expect(BODY, "end of data")
        self.state = BDAT if self._streamed else FINAL

    def quit(self) -> None:
        """End the session in good order; at Greeted and Ready only."""
        if self.state != GREETED:
            self._expect(READY, "QUIT")
        self.state = QUIT
        self._out.append(b"QUIT\r\n")

    def lost(self, reason: str) -> None:
        """Take in that the connection is gone, or too slow; next_event() gives the rest."""
        out = self._ahead and self._chunk and self.state in (MAIL, RCPT)
        phase = BDAT if out else self.state
        self.fail(None if self.state == QUIT else fates.lost(phase, reason))

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

    def _expect(self, state: State, what: str) -> None:
        if self.state != state:
            raise LocalProtocolError(f"{what} in state {self.state}")

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
        elif due == GREETED:
            self.extensions = parse(reply) if self.state != HELO else NO_EXTENSIONS
            self.state = GREETED
            self._events.append(Greeted(self.extensions))
        else:
            self._hello(LHLO if self._lmtp and due == EHLO else due)

    def _hello(self, verb: State) -> None:
        self.state = verb
        self._send(command(f"{verb.upper()} {self._hostname}"))

    def _on_starttls(self, reply: WireReply) -> None:
        self.state = TRANSITIONS[STARTTLS, reply.severity]
        if self.state == GREETED:
            self._events.append(Greeted(self.extensions, fates.outcome(STARTTLS, reply)))
        elif self._reader.pending:
            raise RemoteProtocolError("octets behind the go-ahead for TLS")
        else:
            self._events.append(_TLS_GO)

    def _on_auth(self, reply: WireReply) -> None:
        assert self._authentication is not None
        if reply.severity == 3:
            self._send(self._authentication.answer(reply))
        else:
            refusal = self._authentication.end(reply)
            self.state = GREETED
            self._events.append(Greeted(self.extensions, refusal))

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
            self._accepted.append(self._at)
        elif self._open is not None:
            self._fates[self._at] = fates.outcome(RCPT, reply, bool(self._accepted))
        self._at += 1
        if self._at < self._offered:
            self._ask_next()
        else:
            self._after_rcpt()

    def _after_rcpt(self) -> None:
        """All recipients have their reply: now the body, if there is anyone to get it."""
        transaction = self._open
        if self._ahead and not self._streamed:
            self.state = BDAT if self._chunk else DATA
        elif not self._accepted or transaction is None:
            self._settle(None)
            self._reset()
        elif self._chunk:
            self.state = BDAT
            self._send(self._chunk)
        elif self._streamed:
            self.state = BODY
            self._send(b"BDAT %d LAST\r\n" % transaction.size)
            self._events.append(_GO_AHEAD_RAW)
        else:
            self.state = DATA
            self._send(b"DATA\r\n")

    def _ask_next(self) -> None:
        """In lockstep, offer the recipient whose turn it is."""
        if not self._ahead and self._open is not None:
            self._send(self._rcpt(self._open, self._at))

    def _rcpt(self, transaction: Transaction, at: int) -> bytes:
        parameters = rcpt_parameters(self.extensions, transaction, at) if transaction.dsn else ""
        return rcpt_command(transaction.recipients[at], parameters)

    def _on_data(self, reply: WireReply) -> None:
        wanted = self._open is not None and bool(self._accepted)
        if reply.severity == 3 and wanted:
            self.state = BODY
            self._events.append(_GO_AHEAD)
        elif reply.severity != 3:
            self._settle(fates.outcome(DATA, reply) if wanted else None)
            self._reset()
        elif self._lmtp:  # RFC 2033 s4.2 forbids it: no reply would come to the dot
            self._settle(None)
            raise RemoteProtocolError("DATA is taken without a recipient")
        else:  # RFC 2920 s3.1: nobody to send to, so end it at once
            self._settle(None)
            self.state = FINAL
            self._send(b".\r\n")

    def _on_refusal(self, reply: WireReply) -> None:
        """The message is refused before it is sent whole, as some do with big ones."""
        self._settle(fates.outcome(FINAL, reply))
        self.fail(None)

    def _on_final(self, reply: WireReply) -> None:
        outcome = fates.outcome(FINAL, reply)
        if self._lmtp:  # one reply for each recipient that was accepted, in order
            self._fates[self._accepted.pop(0)] = fates.of_one(outcome)
            if self._accepted:
                return
        due = TRANSITIONS[self.state, reply.severity]
        self._settle(outcome)  # no-one's, after a lone dot
        if due == RSET:
            self._reset()
        else:
            self.state = READY
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
