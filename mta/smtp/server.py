"""The listening end of an SMTP or LMTP session: octets in, events out; replies in, octets out.

It answers by itself what needs no knowledge but of the session: greetings, syntax,
sequence, limits.  Everything else is an event that its driver answers.

    feed(octets); then next_event() until None; then send take()
    MailFrom, RcptTo, DataBegin, StartTls, AuthBegin, AuthAnswer, Etrn, Xclient
             answer(reply) is due, and nothing else happens before it; AuthBegin and
             AuthAnswer may have challenge(octets) instead
    Chunk    octets of the body; no answer
    DataEnd  answer(reply): the transaction is over.  LMTP: answer_each(), or answer()
             for all alike
    Reset    the open transaction, or exchange of AUTH, is gone; no answer
    Closed   the session is over; send take() and close

The driver stops reading while an answer is due, so that never more than one read is
held.  To grant AUTH it sets ``authenticated`` before it answers 235; after XCLIENT,
which forgets the session, it sets what the attributes say after its answer.  After
220 to StartTls it sends take(), shakes hands and calls secure().

Source   RFC 5321 s3, s4.1, s4.5.3; PIPELINING: RFC 2920; STARTTLS: RFC 3207; AUTH: RFC 4954;
         CHUNKING: RFC 3030; LMTP: RFC 2033; table in server_states.py.
Units    Limits are those of Terms.
State    One session (server_session.py) and its octets: at most one command line, never
         a body.  What commands do: server_acts.py; what answers do: server_answers.py.

A command line ends at CRLF and nowhere else.  What comes behind DATA before its 354, or
behind STARTTLS, ends the session: an honest client waits (RFC 2920 s3.1), and the octets
would change their meaning.  So does a verb of HTTP: a browser was made to speak here.
A BDAT whose size cannot be read ends it too, for then nothing tells body from commands.

Invariants, each a property in tests/smtp/test_server.py
    S1   However the octets are split, the same replies and events come out (but octets
         behind DATA and STARTTLS are only known for such if they come before the answer).
    S2   Whatever the octets, nothing is raised, and one reply answers each command.
    S3   Replies are whole lines of printable ASCII that repeat nothing of the client's.
    S4   Closed comes once, and nothing after it.
    S5   A transaction that MAIL opened ends with DataEnd, Reset or Closed, once.
    S6   Never more is held than one line, or what was fed while an answer was due.
"""

from __future__ import annotations

from mta.errors import LocalProtocolError
from mta.smtp import commands
from mta.smtp.commands import (
    AuthBegin,
    Etrn,
    MailFrom,
    MailParameters,
    RcptParameters,
    RcptTo,
    Xclient,
)
from mta.smtp.receive import ChunkReader, DataReader
from mta.smtp.server_acts import ACTS, ALONE, JUNK, Said, senseless
from mta.smtp.server_answers import ANSWERS, chunk_end, finish
from mta.smtp.server_events import (
    AuthAnswer,
    Chunk,
    Closed,
    DataBegin,
    DataEnd,
    Event,
    Reset,
    StartTls,
)
from mta.smtp.server_replies import FIXED, GO_AHEAD, Terms, challenge, wire
from mta.smtp.server_session import JUNK_MAX, Session
from mta.smtp.server_states import (
    AUTH,
    CHUNK,
    CLOSED,
    COMMAND_STATES,
    DATA,
    READY,
    SEQUENCE,
    TLS,
    State,
)
from mta.types import Reply
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["AuthAnswer", "AuthBegin", "Chunk", "Closed", "DataBegin", "DataEnd", "Etrn", "Event"]
__all__ += ["GO_AHEAD", "MailFrom", "MailParameters", "RcptParameters", "RcptTo", "Reset"]
__all__ += ["Server", "StartTls", "Terms", "Xclient"]

# A verb, and what is due to it, that nothing may follow before the answer → the reply if it does.
_WAITING: dict[bytes | str, str] = {
    b"DATA": "early",
    "data": "early",
    b"STARTTLS": "early tls",
    "tls": "early tls",
}
_RESET = Reset()


@frozen
class _Starved:
    """What a step returns for want of octets."""


_STARVED = _Starved()


class Server:
    """One session as its listener sees it."""

    __slots__ = ("_at", "_buffer", "_overlong", "_session")

    def __init__(self, terms: Terms) -> None:
        """Offer ``terms``; greet() or refuse() speaks first."""
        self._session = Session(terms)
        self._buffer = b""
        self._at = 0  # the first octet of it that is not read yet
        self._overlong = False  # is a line too long, and dropped until its end?

    @property
    def state(self) -> State:
        """One of server_states.STATES."""
        return self._session.state

    @property
    def client_name(self) -> str:
        """What the client called itself: without any character that hurts in a header."""
        return self._session.client_name

    @property
    def esmtp(self) -> bool:
        """True after EHLO or LHLO."""
        return self._session.esmtp

    @property
    def secured(self) -> bool:
        """True behind TLS."""
        return self._session.secured

    @property
    def authenticated(self) -> str:
        """The user, "" none; the driver sets it."""
        return self._session.authenticated

    @authenticated.setter
    def authenticated(self, user: str) -> None:
        self._session.authenticated = user

    @property
    def errors(self) -> int:
        """How many errors since the last message that was accepted."""
        return self._session.errors

    @property
    def commands(self) -> int:
        """How many command lines have been read."""
        return self._session.commands

    @property
    def accepted(self) -> int:
        """How many recipients the open transaction has."""
        return self._session.accepted

    @property
    def receiving(self) -> bool:
        """True while what comes is a body."""
        return self._session.state in (DATA, CHUNK)

    @property
    def held(self) -> int:
        """How many octets have come and are not read yet."""
        return len(self._buffer) - self._at

    def greet(self) -> None:
        """Say that we are there."""
        self._session.greet()

    def refuse(self, reply: Reply) -> None:
        """End the session with ``reply``, 421 or 554; whatever is open or due is dropped."""
        if not self._session.ended:
            self._session.out.append(wire(reply))
            self._session.end("refused")

    def lost(self, reason: str) -> None:
        """Take in that the connection is gone; next_event() gives Closed(``reason``)."""
        self._session.end(reason or "lost")

    def secure(self) -> None:
        """Begin anew behind TLS: what was said in the clear is forgotten (RFC 3207 s4.2)."""
        if self._session.state != TLS:
            raise LocalProtocolError(f"a handshake in state {self.state}")
        self._session.secured = True
        self._session.start_over()

    def feed(self, octets: bytes) -> None:
        """Take what the client sent."""
        if self._session.ended:
            return
        if self._session.state == TLS:
            raise LocalProtocolError("octets in the clear while TLS begins")
        rest = self._buffer[self._at :]
        self._buffer = rest + octets if rest else octets
        self._at = 0

    def take(self) -> bytes:
        """Return the replies that are due, and forget them."""
        out = self._session.out
        if not out:
            return b""
        octets = b"".join(out)
        out.clear()
        return octets

    def next_event(self) -> Event | None:
        """Return what happened next; None: octets are needed, or an answer."""
        session = self._session
        while not session.due:
            if session.over:
                reason, session.over, session.state = session.over, "", CLOSED
                self._buffer, self._at = b"", 0
                return Closed(reason)
            step = _STEPS.get(session.state)
            event = step(self) if step is not None else _STARVED
            if event is not None:
                return None if isinstance(event, _Starved) else event
        return None

    def answer(self, reply: Reply) -> None:
        """Answer the event that was given last; ignored when the session is over.

        421 ends the session, whatever it answers (RFC 5321 s3.8).
        """
        session = self._session
        if session.ended:
            return
        if not session.due or not 200 <= reply.code < 600:
            raise LocalProtocolError(f"{reply.code} answers {session.due or 'nothing'}")
        if reply.code == 421:
            self.refuse(reply)
            return
        due, session.due = session.due, ""
        if due in _WAITING and reply.code < 400 and self._at < len(self._buffer):
            session.turn_away(_WAITING[due])
            return
        ANSWERS[due](session, reply)

    def answer_each(self, replies: Sequence[Reply]) -> None:
        """Answer DataEnd in LMTP: a reply for each accepted recipient, in order."""
        session = self._session
        if session.ended:
            return
        if session.due != "end" or len(replies) != session.accepted:
            raise LocalProtocolError(f"{len(replies)} replies for {session.accepted} recipients")
        session.due = ""
        finish(session, replies)

    def challenge(self, octets: bytes) -> None:
        """Answer AuthBegin or AuthAnswer with one more challenge."""
        session = self._session
        if session.ended:
            return
        if session.due != "auth":
            raise LocalProtocolError("a challenge to nobody")
        session.due = ""
        session.state = AUTH
        session.out.append(challenge(octets))

    def _line(self) -> bytes | None:
        """Return the next line without its CRLF, None if it is not whole; see ``_overlong``."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at)
        limit = self._session.terms.command_line
        if end >= 0:
            self._at = end + 2
            if end - at > limit:
                self._overlong = True
            return buffer[at:end]
        if at:
            self._buffer = buffer = buffer[at:]
            self._at = 0
        torn = buffer.endswith(b"\r")
        if self._overlong or len(buffer) - torn > limit:
            self._overlong = True
            self._buffer = b"\r" if torn else b""
        return None

    def _command(self) -> Event | _Starved | None:
        line = self._line()
        if line is None:
            return _STARVED
        session = self._session
        session.commands += 1
        junk = session.junk
        if self._overlong:
            self._overlong = False
            said: Said = FIXED["too long"]
        else:
            said = self._act(line)
        event = None
        if isinstance(said, bytes):
            session.say_octets(said)
        elif isinstance(said, Reply):
            session.say(said)
        else:
            event = said
        if JUNK_MAX < session.junk != junk:
            session.count_error()
        return event

    def _act(self, line: bytes) -> Said:
        """Find out whether the command may come now, and do it."""
        session = self._session
        line = line.rstrip(b" \t")  # RFC 5321 s4.1.1 tolerates white space at the end
        text = commands.decode(line)
        if isinstance(text, Reply):
            return text
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        act = ACTS.get(verb)
        if act is None or (verb in ALONE and rest):
            return senseless(session, verb)
        if verb in _WAITING and self._at < len(self._buffer):
            session.turn_away(_WAITING[verb])
            return None
        if verb != b"BDAT":  # a chunk out of its turn is refused behind its octets
            met = SEQUENCE[session.state, verb]
            if met is not None:
                return met
        if verb in JUNK:
            session.junk += 1
        return act(session, text)

    def _auth_line(self) -> Event | _Starved | None:
        """Read the answer to a challenge; "*" gives up (RFC 4954 s4)."""
        line = self._line()
        if line is None:
            return _STARVED
        session = self._session
        if self._overlong:
            self._overlong = False
            session.say_fixed("auth line")
        elif line == b"*":
            session.due = "auth"
            return AuthAnswer(None)
        else:
            octets = commands.base64(line)
            if not isinstance(octets, Reply):
                session.due = "auth"
                return AuthAnswer(octets)
            session.say(octets)
        session.state = READY
        return _RESET

    def _data_octets(self) -> Event | _Starved | None:
        session = self._session
        body = session.body
        assert isinstance(body, DataReader)
        if not body.ended and self._buffer:
            octets = self._buffer[self._at :] if self._at else self._buffer
            piece = body.feed(octets)
            self._buffer, self._at, body.rest = body.rest, 0, b""
            if piece:
                return Chunk(piece)
        if not body.ended:
            return _STARVED
        session.due = "end"
        return DataEnd(body.fault)

    def _chunk_octets(self) -> Event | _Starved | None:
        session = self._session
        body = session.body
        if session.left:
            octets = self._buffer[self._at : self._at + session.left]
            self._at += len(octets)
            session.left -= len(octets)
            if octets and isinstance(body, ChunkReader) and not session.refusal:
                piece = body.feed(octets)
                if piece:
                    return Chunk(piece)
            if session.left:
                self._buffer, self._at = b"", 0
                return _STARVED
        return chunk_end(session)


# state → what is next to be read in it; in the others nothing is
_STEPS: dict[State, Callable[[Server], Event | _Starved | None]] = {
    **dict.fromkeys(COMMAND_STATES, Server._command),
    AUTH: Server._auth_line,
    DATA: Server._data_octets,
    CHUNK: Server._chunk_octets,
}
