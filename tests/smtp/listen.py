"""Plays a driver to the listening engine, in memory: it says yes unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Callable

from mta.smtp.server import (
    AuthAnswer,
    AuthBegin,
    Chunk,
    Closed,
    DataBegin,
    DataEnd,
    Event,
    MailFrom,
    Reset,
    Server,
    StartTls,
    Terms,
)
from mta.smtp.server_replies import FAULTS, GO_AHEAD, START_TLS
from mta.smtp.server_states import TLS
from mta.types import Reply

OK = Reply(250, "2.0.0", "ok")
GRANTED = Reply(235, "2.7.0", "welcome")
GIVEN_UP = Reply(501, "5.7.0", "given up")
TERMS = Terms("mx.example.test")

Verdict = Callable[[Event], Reply | None]


class Host:
    """Answers the events of one session, and keeps them; chunks are joined into ``bodies``."""

    def __init__(self, terms: Terms = TERMS, verdict: Verdict = lambda event: None) -> None:
        self.server = Server(terms)
        self.events: list[Event] = []
        self.bodies: list[bytes] = []
        self.faults: list[str] = []
        self.out = b""
        self.opened = 0  # transactions open: 0 or 1
        self._verdict = verdict
        self._body = b""
        self.server.greet()
        self.out += self.server.take()

    def feed(self, octets: bytes) -> None:
        self.server.feed(octets)
        while (event := self.server.next_event()) is not None:
            if isinstance(event, Chunk):
                assert event.octets
                self._body += event.octets
                continue
            assert not (self.events and isinstance(self.events[-1], Closed)), "after Closed"
            self.events.append(event)
            self._on(event)
        self.out += self.server.take()
        if self.server.state == TLS:
            self.server.secure()

    def _on(self, event: Event) -> None:
        told = self._verdict(event)
        if isinstance(event, (Reset, Closed)):
            self._body, self.opened = b"", 0
        elif isinstance(event, DataEnd):
            self.faults.append(event.fault)
            if not event.fault:
                self.bodies.append(self._body)
            self._body, self.opened = b"", 0
            self.server.answer(told or FAULTS.get(event.fault, OK))
        elif isinstance(event, DataBegin):
            self.server.answer(told or GO_AHEAD)
        elif isinstance(event, StartTls):
            self.server.answer(told or START_TLS)
        elif isinstance(event, AuthBegin) and event.initial is None and told is None:
            self.server.challenge(b"Username:")
        elif isinstance(event, (AuthBegin, AuthAnswer)):
            if event == AuthAnswer(None):
                told = GIVEN_UP
            if told is None:
                self.server.authenticated = "alice"
            self.server.answer(told or GRANTED)
        else:
            self.opened |= isinstance(event, MailFrom) and (told or OK).positive
            self.server.answer(told or OK)

    def say(self, *lines: str) -> list[str]:
        """Send lines in one piece; return the replies' lines."""
        self.feed("".join(line + "\r\n" for line in lines).encode())
        return self.heard()

    def heard(self) -> list[str]:
        octets, self.out = self.out, b""
        assert octets.endswith(b"\r\n") or not octets
        return octets.decode("ascii").split("\r\n")[:-1]


def greeted(terms: Terms = TERMS, verdict: Verdict = lambda event: None) -> Host:
    """A session after EHLO."""
    host = Host(terms, verdict)
    host.heard()
    host.say("LHLO client" if terms.service == "lmtp" else "EHLO client")
    return host
