"""Plays a dialogue's server to the engine, in memory."""

from __future__ import annotations

from collections.abc import Callable

from mta.errors import RemoteProtocolError
from mta.smtp import sasl
from mta.smtp.client import Client
from mta.smtp.client_events import Closed, GoAhead, Greeted, Ready, Settled, TlsGo
from mta.smtp.data import Raw, Stuffer
from mta.types import HOST, Outcome, Reply
from tests.fakes import HOSTNAME, Dialogue

Split = Callable[[bytes], list[bytes]]


def whole(octets: bytes) -> list[bytes]:
    return [octets]


def single(octets: bytes) -> list[bytes]:
    return [octets[i : i + 1] for i in range(len(octets))]


class Driver:
    """Does what mta.machine.smtp_connection does, without a socket."""

    def __init__(self, dialogue: Dialogue, hostname: str = HOSTNAME) -> None:
        self.client = Client(hostname, lmtp="lmtp" in dialogue.options)
        self._level = dialogue.option("tls")
        self._login = dialogue.option("auth")
        self._handshake = self._asked = False
        self.out = b""
        self.outcomes: list[Outcome] = []
        self.events: list[object] = []
        self._waiting = list(dialogue.messages)
        self._body = b""

    def feed(self, octets: bytes) -> None:
        self.client.feed(octets)
        self.pump()

    def lost(self, reason: str) -> None:
        self.client.lost(reason)
        self.pump()

    def secured(self) -> None:
        """The TLS handshake is done."""
        assert self._handshake
        self._handshake = False
        try:
            self.client.secured(verified=self._level == "verify")
        except RemoteProtocolError as error:
            self.client.broken(error)
        self._level = ""
        self.pump()

    def pump(self) -> None:
        again = True
        while again:
            again = self._step()

    def _step(self) -> bool:
        """Drain the events, then act on the last; True if that may make new ones."""
        last: object = None
        while (event := self._next()) is not None:
            self.events.append(event)
            if isinstance(event, Settled):
                self.outcomes += event.outcomes
            elif isinstance(event, Closed):
                self._closed(event)
                return False
            else:
                last = event
        self.out += self.client.take()
        if isinstance(last, Greeted):
            self._greeted(last)
            return True
        self._handshake = self._handshake or isinstance(last, TlsGo)
        if isinstance(last, GoAhead):
            stuffer = Raw() if last.raw else Stuffer()
            self.out += stuffer.feed(self._body) + stuffer.end()
            self.client.finish()
            return True
        if isinstance(last, Ready):
            if not self._waiting:
                self.client.quit()
            else:
                transaction, self._body = self._waiting.pop(0)
                try:
                    self.client.begin(transaction, self._body)
                except RemoteProtocolError as error:
                    self.client.broken(error)
            return True
        return False

    def _greeted(self, greeted: Greeted) -> None:
        """Go on as the dialogue's options say; give up what is refused, but TLS that may be."""
        offered, refusal = greeted.extensions, greeted.refusal
        if self._level and self._level != "may" and (refusal or not offered.starttls):
            refusal = Outcome(Reply(421, "4.7.10", "no STARTTLS"), HOST)
            self._closed(Closed(refusal))
            self.client.quit()
        elif self._level and offered.starttls and not refusal:
            self.client.starttls()
        elif self._login:
            user, _, password = self._login.partition(":")
            self._login, exchange = "", sasl.client(offered.auth, user, password, "nonce")
            assert exchange is not None
            self.client.authenticate(exchange)
            self._asked = True
        elif self._asked and refusal:
            self._closed(Closed(refusal))
            self.client.quit()
        else:
            self.client.proceed()

    def _next(self) -> object:
        try:
            return self.client.next_event()
        except RemoteProtocolError as error:
            self.client.broken(error)
            return self.client.next_event()

    def _closed(self, event: Closed) -> None:
        if event.outcome is not None:
            for transaction, _ in self._waiting:
                self.outcomes += [event.outcome] * len(transaction.recipients)
        self._waiting = []


def play(dialogue: Dialogue, split: Split = whole) -> Driver:
    """Run the whole dialogue; the server's octets come as ``split`` cuts them."""
    driver = Driver(dialogue)
    said = b""

    def deliver() -> None:
        nonlocal said
        octets, said = said, b""
        assert not octets or driver.out == b"", f"{dialogue.name}: sent before its turn"
        for piece in split(octets):
            driver.feed(piece)

    for step in dialogue.steps:
        if step.kind == "send":
            said += step.octets
            continue
        deliver()
        if step.kind == "expect":
            got, driver.out = driver.out[: len(step.octets)], driver.out[len(step.octets) :]
            assert got == step.octets, dialogue.name
        elif step.kind == "tls":
            assert driver.out == b"", dialogue.name
            driver.secured()
        else:
            assert driver.out == b"", dialogue.name
            driver.lost("timed out" if step.octets == b"silence" else "closed by the other end")
    deliver()
    assert driver.out == b"", dialogue.name
    return driver
