"""The listening engine under a driver of a few lines, which plays the house's policy.

It is the other end of a dialogue (tests/server_dialogues.py), in memory; it shares
nothing with mta/smtpd, so that what both say is said twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from mta.smtp import proxy, sasl
from mta.smtp.scram import ScramServer, StoredKeys, derive
from mta.smtp.server import (
    AuthAnswer,
    AuthBegin,
    Chunk,
    Closed,
    DataBegin,
    DataEnd,
    Etrn,
    Event,
    MailFrom,
    MailParameters,
    RcptTo,
    Reset,
    Server,
    StartTls,
    Terms,
    Xclient,
)
from mta.smtp.server_replies import FAULTS, GO_AHEAD, START_TLS
from mta.smtp.server_states import START, TLS
from mta.smtp.steps import MALFORMED, WITHDRAWN, Challenge, Credentials, Failed, Lookup
from mta.types import Reply
from tests.server_dialogues import CLIENT, RELAY_CLIENT, XCLIENT_CLIENT, Taken, option

Cut = Callable[[bytes], list[bytes]]

USERS = ("alice", "bob", "carol", "postmaster")
OURS, RELAYED = "example.test", "relay.test"
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256")

MAIL_OK = Reply(250, "2.1.0", "yes")
RCPT_OK = Reply(250, "2.1.5", "yes")
TAKEN = Reply(250, "2.0.0", "taken")
UNKNOWN = Reply(550, "5.1.1", "nobody")
DENIED = Reply(550, "5.7.1", "not here")
LOGIN_FIRST = Reply(530, "5.7.0", "log in")
WELCOME = Reply(235, "2.7.0", "welcome")
FAULT = {MALFORMED: Reply(501, "5.5.2", "what?"), WITHDRAWN: Reply(501, "5.7.0", "well")}
NOBODY_WAITS, NOT_SERVED = Reply(458, "4.4.0", "later"), Reply(459, "4.7.1", "no")
WRONG = Reply(535, "5.7.8", "no")


def whole(octets: bytes) -> list[bytes]:
    """Cut nothing."""
    return [octets]


def single(octets: bytes) -> list[bytes]:
    """Cut to single octets."""
    return [octets[at : at + 1] for at in range(len(octets))]


def at_ends(octets: bytes) -> list[bytes]:
    """Cut on both sides of each octet that has to do with the end of something."""
    return re.findall(rb"[^\r\n\0.]+|[\r\n\0.]", octets)


class CutAt:
    """Cut the whole of what is sent, over all segments, in two before octet ``at``."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, octets: bytes) -> list[bytes]:
        at, self._left = self._left, self._left - len(octets)
        return [octets[:at], octets[at:]] if 0 < at < len(octets) else [octets]


@lru_cache
def _keys() -> StoredKeys:
    return derive("secret", b"a little salt", 4096)


def terms(options: tuple[str, ...]) -> Terms:
    """Return the terms that a dialogue's options ask for."""
    service = option(options, "service", "mx")
    submits = service.startswith("submission")
    secured = service == "submissions"
    return Terms(
        "mx.example.test",
        service,
        message_size=int(option(options, "size", "10485760")),
        recipients=int(option(options, "recipients", "1000")),
        command_line=int(option(options, "line", "12288")),
        errors=int(option(options, "errors", "20")),
        tls="tls" in options and not secured,
        mechanisms=MECHANISMS if "auth" in options and submits else (),
        lenient=submits,
        etrn=service == "mx",
        xclient="xclient" in options,
        secured=secured,
    )


class EngineWire:
    """One session with the engine; ``cut`` says in which pieces octets reach it."""

    def __init__(self, options: tuple[str, ...], cut: Cut = whole) -> None:
        self._server = Server(terms(options))
        self._cut = cut
        self._submits = option(options, "service", "mx").startswith("submission")
        self._lmtp = "service=lmtp" in options
        self._address = RELAY_CLIENT if "relay" in options else CLIENT
        self._address = XCLIENT_CLIENT if "xclient" in options else self._address
        self._early: bytes | None = b"" if "proxy" in options else None
        self._out = b""
        self._closed = False
        self._taken: list[Taken] = []
        self._exchange: sasl.ServerExchange | None = None
        self._forget()
        if self._early is None:
            self._server.greet()
            self._out = self._server.take()

    # What a dialogue does.

    def send(self, octets: bytes) -> None:
        for piece in self._cut(octets):
            if self._closed:
                return
            if self._early is None:
                self._feed(piece)
            else:
                self._proxied(piece)

    def line(self) -> bytes:
        line, found, rest = self._out.partition(b"\r\n")
        if not found:
            assert self._closed, "nothing is said"
            return b""
        self._out = rest
        return line + found

    def handshake(self) -> None:
        if not self._server.secured:
            assert self._server.state == TLS
            self._server.secure()

    def finish(self) -> bytes:
        assert not self._closed, "closed"
        return self._out

    def taken(self) -> list[Taken]:
        return self._taken

    # What the engine asks.

    def _proxied(self, octets: bytes) -> None:
        assert self._early is not None
        self._early += octets
        try:
            found = proxy.parse(self._early)
        except ValueError:
            self._closed = True
            return
        if found is None:
            return
        header, used = found
        rest, self._early = self._early[used:], None
        self._address = header.source
        self._server.greet()
        self._out += self._server.take()
        if rest:
            self._feed(rest)

    def _feed(self, octets: bytes) -> None:
        self._server.feed(octets)
        while (event := self._server.next_event()) is not None:
            if isinstance(event, Chunk):
                self._body += event.octets
            elif isinstance(event, Closed):
                self._closed = True
            elif isinstance(event, (AuthBegin, AuthAnswer)):
                self._log_in(event)
            elif not isinstance(event, Reset):
                self._server.answer(self._judge(event))
                if isinstance(event, Xclient) and self._server.state == START:
                    login = dict(event.attributes).get("LOGIN", "")
                    self._server.authenticated = login.replace("[UNAVAILABLE]", "")
        self._out += self._server.take()

    def _forget(self) -> None:
        self._path = ""
        self._said = MailParameters()
        self._recipients: dict[str, tuple[str, str]] = {}
        self._body = b""

    def _judge(self, event: Event) -> Reply:
        if isinstance(event, MailFrom):
            self._forget()
            self._path, self._said = str(event.path), event.parameters
            return MAIL_OK if self._may_relay or not self._submits else LOGIN_FIRST
        if isinstance(event, RcptTo):
            return self._recipient(event)
        if isinstance(event, DataEnd):
            return FAULTS[event.fault] if event.fault else self._take()
        if isinstance(event, Etrn):
            return NOBODY_WAITS if event.domain == RELAYED else NOT_SERVED
        if isinstance(event, Xclient):
            return self._become(dict(event.attributes))
        assert isinstance(event, (DataBegin, StartTls))
        return GO_AHEAD if isinstance(event, DataBegin) else START_TLS

    @property
    def _may_relay(self) -> bool:
        return self._address == RELAY_CLIENT or self._server.authenticated != ""

    def _recipient(self, event: RcptTo) -> Reply:
        local, domain = event.mailbox.local, event.mailbox.domain or OURS
        if domain == OURS:
            if local.lower().partition("+")[0] not in USERS:
                return UNKNOWN
        elif self._lmtp or not (self._may_relay or domain == RELAYED):
            return DENIED
        box = str(event.mailbox) + (OURS if not event.mailbox.domain else "")
        self._recipients.setdefault(box, (event.parameters.notify, event.parameters.orcpt))
        return RCPT_OK

    def _take(self) -> Reply:
        said = self._said
        words = {"utf8"} if said.smtputf8 else set()
        words |= {"binary"} if said.body == "BINARYMIME" else set()
        words |= {"requiretls"} if said.requiretls else set()
        words |= {f"ret={said.ret}"} if said.ret else set()
        words |= {f"envid={said.envid}"} if said.envid else set()
        recipients = sorted((box, *wish) for box, wish in self._recipients.items())
        taken = Taken(self._path, tuple(recipients), frozenset(words), self._body)
        self._taken.append(taken)
        self._forget()
        return TAKEN

    def _become(self, given: dict[str, str]) -> Reply:
        if "ADDR" in given:
            if not (given["ADDR"][:1].isdigit() or given["ADDR"] == "[UNAVAILABLE]"):
                return Reply(501, "5.5.4", "")
            self._address = given["ADDR"]
        return Reply(220, "", "")

    def _log_in(self, event: AuthBegin | AuthAnswer) -> None:
        if isinstance(event, AuthBegin):
            self._exchange = sasl.server(event.mechanism, "3rfcNHYJY1ZVvWVs7j")
            assert self._exchange is not None
            told = self._exchange.begin(event.initial)
        else:
            assert self._exchange is not None
            told = self._exchange.step(event.octets)
        if isinstance(told, Lookup):
            assert isinstance(self._exchange, ScramServer)
            told = self._exchange.keys(_keys())
        if isinstance(told, Challenge):
            self._server.challenge(told.octets)
            return
        right = not isinstance(told, Failed) and told.user == "bob"
        if isinstance(told, Credentials):
            right = right and told.password == "secret" and told.authzid in ("", "bob")
        if right:
            self._server.authenticated = "bob"
            self._server.answer(WELCOME)
        else:
            fault = told.fault if isinstance(told, Failed) else ""
            self._server.answer(FAULT.get(fault, WRONG))
