"""One client's session: what the engine asks, policy answers, and what takes time is waited for.

Nothing here waits on its own: an answer that is not known yet leaves the engine
waiting, and reading stops if the client goes on sending meanwhile.

Source   RFC 5321 s4.1, s4.5.3.2 (time limits), s3.8 and s4.2.4.2 (421); RFC 6409
         s4.3 (authentication required).
Units    Times are float seconds on the monotonic clock.
State    One session: its engine, the open transaction, what it waits for.

Invariants, each a test in tests/smtpd/test_session.py
    SE1  Nothing is said once the client is gone, and nothing of its open message stays.
    SE2  A slow client is cut off by the time of a command, of a session, and the rate
         of its data, each with its 421.
    SE3  A session that is draining takes no new transaction; one that is open may end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mta.smtp.commands import AuthAnswer, AuthBegin, Etrn, MailFrom, RcptTo, Xclient
from mta.smtp.server import Server
from mta.smtp.server_events import Chunk, Closed, DataBegin, DataEnd, Event, Reset, StartTls
from mta.smtp.server_replies import START_TLS
from mta.smtpd import errands, login, replies, taking
from mta.smtpd.policy import LMTP, Rights
from mta.smtpd.taking import WORDS
from mta.smtpd.trace import protocol
from mta.types import Reply

if TYPE_CHECKING:
    from mta.machine.smtp_service import Connection, Port
    from mta.machine.tls import TlsFacts
    from mta.smtpd.counters import Key
    from mta.smtpd.hall import Hall
    from mta.smtpd.transaction import Transaction
    from mta.types import ReversePath

__all__ = ["Session"]

STUCK = 600.0  # seconds after which no client waits for an answer (RFC 5321 s4.5.3.2.6)
RATE_OVER = 60.0  # seconds over which the rate of a body is judged


class Session:
    """One client; its connection calls received(), secured(), ended() and lost()."""

    __slots__ = (
        "_connection", "_hall", "address", "busy", "counts", "draining", "entered", "exchange",
        "facts", "helo", "key", "last", "login", "marked", "name", "naming", "octets", "open",
        "over", "port", "relay", "server", "since",
    )  # fmt: skip

    def __init__(
        self, hall: Hall, connection: Connection, address: str, key: Key, rights: Rights
    ) -> None:
        """Serve the client at ``address``, which is counted by ``key``; "" is a Unix socket."""
        self._hall = hall
        self._connection = connection
        self.port: Port = connection.port
        self.address = address
        self.name = ""
        self.helo = ""  # what XCLIENT says instead of HELO
        self.login = ""
        self.relay = rights.relay
        self.key = key
        self.entered = key  # under which the connection is counted, whatever XCLIENT says
        self.server = Server(hall.terms(connection.port, rights))
        self.open: Transaction | None = None
        self.exchange: login.Login | None = None
        self.draining = False
        self.over = ""  # why the session has ended
        self.since = self.last = time.monotonic()
        self.busy = False
        self.facts: TlsFacts | None = None
        self.octets = 0  # of the body, since _marked
        self.marked = 0.0
        self.counts: list[int] | None = None  # of WORDS, said and gone well
        self.naming: asyncio.Task[str] | None = None
        self._find_name()
        if not connection.port.implicit:
            self._greet(connection)

    @property
    def client(self) -> str:
        """The client as the log has it: mx.example[192.0.2.1]."""
        return f"{self.name or 'unknown'}[{self.address or 'unix'}]"

    @property
    def local(self) -> str:
        """The address that the client connected to."""
        return self._connection.local

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.open is None and not self.busy

    # What the connection calls.

    def received(self, octets: bytes) -> None:
        """Take what the client sent."""
        server = self.server
        before = server.commands
        server.feed(octets)
        if self.busy:  # it sends before it was answered: let it wait
            self._connection.hold()
            return
        self.pump()
        if server.commands != before or (server.receiving and self.marked):
            self.last = time.monotonic()

    def secured(self, facts: TlsFacts) -> None:
        """TLS is there: what was said before is forgotten (RFC 3207 s4.2)."""
        self.facts = facts
        self.last = time.monotonic()
        self._hall.log.tls_accepted(self.client, facts.protocol, facts.cipher, facts.bits)
        if self.port.implicit:
            self.server.greet()
        else:
            self.server.secure()
        self.pump()

    def ended(self) -> None:
        """The client sends no more: answer what is open, then go."""
        if not self.busy:
            self._connection.close()

    def lost(self, reason: str) -> None:
        """The connection is gone, and with it what was not being committed."""
        if self.naming is not None:
            self.naming.cancel()
        if self.exchange is not None:
            self.exchange.close()
        if not self.busy:
            self.forget()
        if not self.over:
            self.over = "lost"
            self._hall.log.lost_connection(self._after(), self.client)
        counts = self.counts or []
        said = {word: (counts[2 * n], counts[2 * n + 1]) for n, word in enumerate(WORDS) if counts}
        if self.over == "quit":
            said["quit"] = (1, 1)
        self._hall.log.disconnected(self.client, said)
        self.server.lost(reason)
        self._hall.left(self)

    # What the hall calls.

    def drain(self) -> None:
        """End the session as soon as its transaction has ended."""
        self.draining = True
        if self.idle:
            self.refuse(replies.CLOSING)

    def refuse(self, reply: Reply) -> None:
        """End the session with ``reply``; what is open is dropped."""
        if self.busy or self._connection.unfinished:
            self._connection.abort()
        elif not self.over:
            self.server.refuse(reply)
            self.pump()

    def check(self, now: float) -> None:
        """Cut off a client that is too slow (SE2)."""
        limits = self._hall.config.limits
        if self.busy or self._connection.closing:
            if self.busy and now - self.last >= STUCK:
                self._connection.abort()
            return
        if now - self.last >= limits.command_time:
            self._hall.log.timeout(self._after(), self.client)
            self.refuse(replies.TIMEOUT)
        elif now - self.since >= limits.session_time:
            self.refuse(replies.TOO_LONG)
        elif self.marked and now - self.marked >= RATE_OVER:
            slow = self.octets < limits.data_rate * (now - self.marked)
            self.octets, self.marked = 0, now
            if slow:
                self._hall.log.timeout(self._after(), self.client)
                self.refuse(replies.TOO_SLOW)

    # What login and errands call, too.

    def pump(self) -> None:
        """Let the engine go on until it needs octets, or an answer that takes time."""
        server, hall, react = self.server, self._hall, _REACT
        tls = False
        while not self.busy:
            if self.draining and self.open is None and not self.over:
                server.refuse(replies.CLOSING)
            event = server.next_event()
            if event is None:
                break
            react[type(event)](self, hall, event)
            tls = type(event) is StartTls
        out = server.take()
        if not out:
            return
        if not (self.busy or self.over or tls or server.receiving):
            pause = hall.strain.pause()
            if pause:
                self.later(pause, lambda: self._connection.send(out))
                return
        self._connection.send(out)
        if tls:
            self._connection.start_tls()
        elif self.over:
            self._connection.close(linger=self.over != "quit")

    def wait(self, task: asyncio.Task[Any]) -> None:
        """Let the engine wait until ``task`` has answered and called go_on()."""
        self.busy = True
        self._hall.keep(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        """Whatever a task of ours raised, no client waits for ever."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._hall.defect(error)
            self.abandon()

    def abandon(self) -> None:
        """End the session without a word: a defect, or nobody listens."""
        self.over = self.over or "abandoned"
        self.forget()
        self._connection.abort()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do ``act`` after a while in which nothing else happens here."""
        self.busy = True

        def go() -> None:
            if self.over:
                self.busy = False
                self.forget()
            else:
                try:
                    act()
                    self.go_on()
                except Exception as error:
                    self._hall.defect(error)
                    self.abandon()

        asyncio.get_running_loop().call_later(seconds, go)

    def go_on(self) -> None:
        """The answer is given: go on."""
        self.busy = False
        if self.over:
            self.forget()
            return
        self.last = time.monotonic()
        self._connection.go_on()
        self.pump()
        if self._connection.ended and not self.busy:
            self._connection.close()

    def rejected(
        self, stage: str, reply: Reply, path: ReversePath | None = None, to: str = ""
    ) -> None:
        """Log a refusal."""
        self._hall.log.rejected(
            stage,
            self.client,
            reply,
            reverse_path=path,
            recipient=to,
            protocol=self.protocol(False),
            helo=self.helo or self.server.client_name,
        )

    def _greet(self, connection: Connection) -> None:
        self.server.greet()
        greeting, pause = self.server.take(), self._hall.strain.pause()
        if pause:
            self.later(pause, lambda: connection.send(greeting))
        else:
            connection.send(greeting)

    def _find_name(self) -> None:
        known = self._hall.known_name(self.address)
        if known is None:
            self.naming = asyncio.get_running_loop().create_task(self._hall.look_up(self.address))
            self.naming.add_done_callback(self._named)
        else:
            self.name = known

    def _named(self, task: asyncio.Task[str]) -> None:
        self.naming = None
        if not task.cancelled():
            self.name = "" if task.exception() else task.result()

    def forget(self) -> None:
        """Let go of the open transaction."""
        if self.open is not None:
            self.open.abort()
            self.open = None

    def count(self, word: int, good: bool) -> None:
        """Count one of WORDS, for the log."""
        if self.counts is None:
            self.counts = [0] * (2 * len(WORDS))
        self.counts[2 * word] += 1
        self.counts[2 * word + 1] += good

    def protocol(self, utf8: bool) -> str:
        """Return the type that RFC 3848 has for this session."""
        return protocol(
            lmtp=self.port.service == LMTP,
            esmtp=self.server.esmtp,
            secured=self.facts is not None,
            login=self.login != "",
            utf8=utf8,
        )

    def _after(self) -> str:
        """Return the word that the session has come to, for the log."""
        if self.server.receiving:
            return "DATA"
        if self.open is not None:
            return "RCPT" if self.open.accepted else "MAIL"
        return "EHLO" if self.server.client_name else "CONNECT"


def _reset(session: Session, _: Hall, __: Reset) -> None:
    session.marked = 0.0
    session.forget()
    if session.exchange is not None and not session.login:
        session.exchange.close()
        session.exchange = None


def _closed(session: Session, _: Hall, event: Closed) -> None:
    session.over = event.reason
    session.forget()


def _start_tls(session: Session, _: Hall, __: StartTls) -> None:
    session.server.answer(START_TLS)


# What each event of the engine sets off.
_REACT: dict[type[Event], Callable[[Session, Hall, Any], None]] = {
    MailFrom: taking.mail,
    RcptTo: taking.rcpt,
    DataBegin: taking.data,
    Chunk: taking.chunk,
    DataEnd: taking.data_end,
    StartTls: _start_tls,
    AuthBegin: login.step,
    AuthAnswer: login.step,
    Etrn: errands.etrn,
    Xclient: errands.xclient,
    Reset: _reset,
    Closed: _closed,
}
