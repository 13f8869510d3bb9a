"""Our client against our listener, in memory: what is sent is what arrives, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp import sasl
from mta.smtp.client import Client
from mta.smtp.client_events import Closed, GoAhead, Greeted, Ready, Settled, TlsGo
from mta.smtp.data import Stuffer
from mta.smtp.extensions import Transaction
from mta.smtp.server import Event, MailFrom, RcptTo, Terms
from mta.types import NULL_PATH, Mailbox, Outcome, Reply
from mta.values import replace
from tests.smtp.listen import Host, Verdict

NO = Reply(550, "5.1.1", "no such user")
PLAIN = Terms("mx.example.test", message_size=100_000)
SECURED = Terms("mx.example.test", tls=True, mechanisms=("PLAIN",), auth_required=True)
LMTP = Terms("mx.example.test", service="lmtp")

LOCAL = st.sampled_from(["a", "b", "refused", 'x "y"', "ü", "a+b", ".dots..", "x" * 64])
DOMAIN = st.sampled_from(["example.net", "[192.0.2.1]", "münchen.example"])
BOX = st.builds(Mailbox, LOCAL, DOMAIN)
LINE = st.sampled_from([b"", b".", b"..", b"x", b".x", b"\xc3\xbc", b"\0", b"QUIT", b"y" * 300])
BODY = st.lists(LINE).map(lambda lines: b"".join([line + b"\r\n" for line in lines]))
DSN = st.sampled_from([("", ""), ("NEVER", ""), ("SUCCESS,DELAY", "rfc822;a+b=c@example.net")])


@st.composite
def messages(draw: st.DrawFn) -> tuple[Transaction, bytes]:
    boxes = draw(st.lists(BOX, min_size=1, max_size=4))
    binary = draw(st.booleans())
    body = draw(st.binary(max_size=200)) if binary else draw(BODY)
    path = draw(BOX | st.just(NULL_PATH))
    transaction = Transaction(
        path,
        tuple(boxes),
        len(body),
        eight_bit=True,
        smtputf8="ü" in f"{path}{boxes}",
        binary=binary,
        ret=draw(st.sampled_from(["", "FULL", "HDRS"])),
        envid=draw(st.sampled_from(["", "QQ+314=15", "with space"])),
        dsn=tuple(draw(DSN) for _ in boxes),
    )
    return transaction, body


def knows(event: Event) -> Reply | None:
    return NO if isinstance(event, RcptTo) and event.mailbox.local == "refused" else None


class Pair:
    """One session; octets go over in pieces of at most ``size``."""

    def __init__(self, terms: Terms, size: int, at_once: bool, verdict: Verdict = knows) -> None:
        self.host = Host(terms, verdict)
        self.client = Client("client.example.test", lmtp=terms.service == "lmtp")
        self.outcomes: list[tuple[Outcome, ...]] = []
        self.closed: list[Closed] = []
        self._size = size
        self._at_once = at_once

    def run(self, sent: list[tuple[Transaction, bytes]]) -> None:
        waiting = list(sent)
        body = b""
        while not self.closed:
            last: object = None
            while (event := self.client.next_event()) is not None:
                if isinstance(event, Settled):
                    self.outcomes.append(event.outcomes)
                elif isinstance(event, Closed):
                    self.closed.append(event)
                else:
                    last = event
            if isinstance(last, Greeted):
                self._greeted(last)
            elif isinstance(last, TlsGo):
                self.client.secured(verified=True)
            elif isinstance(last, Ready) and waiting:
                transaction, body = waiting.pop(0)
                self.client.begin(transaction, body if self._at_once else None)
                continue
            elif isinstance(last, Ready):
                self.client.quit()
            elif isinstance(last, GoAhead):
                self._send(self.client.take())
                self._send(body if last.raw else self._stuffed(body))
                self.client.finish()
            self._send(self.client.take())
            self._hear()

    def _greeted(self, event: Greeted) -> None:
        assert event.refusal is None
        words = dict(event.extensions.keywords)
        if "STARTTLS" in words:
            self.client.starttls()
        elif "AUTH" in words and not self.host.server.authenticated:
            exchange = sasl.client(tuple(words["AUTH"].split()), "alice", "secret", "nonce")
            assert exchange is not None
            self.client.authenticate(exchange)
        else:
            self.client.proceed()

    def _stuffed(self, body: bytes) -> bytes:
        stuffer = Stuffer()
        return stuffer.feed(body) + stuffer.end()

    def _send(self, octets: bytes) -> None:
        for at in range(0, len(octets), self._size):
            self.host.feed(octets[at : at + self._size])

    def _hear(self) -> None:
        octets, self.host.out = self.host.out, b""
        for at in range(0, len(octets), self._size):
            self.client.feed(octets[at : at + self._size])


def check(pair: Pair, sent: list[tuple[Transaction, bytes]]) -> None:
    """What the listener was told is what the client was given."""
    assert pair.closed == [Closed(None)]
    mails = [event for event in pair.host.events if isinstance(event, MailFrom)]
    rcpts = [event for event in pair.host.events if isinstance(event, RcptTo)]
    bodies = list(pair.host.bodies)
    for (transaction, body), outcomes in zip(sent, pair.outcomes, strict=True):
        mail = mails.pop(0)
        said = mail.parameters
        assert mail.path == transaction.reverse_path
        assert (said.ret, said.envid) == (transaction.ret, transaction.envid)
        assert said.smtputf8 == transaction.smtputf8
        assert said.body == ("BINARYMIME" if transaction.binary else "8BITMIME")
        for box, dsn, outcome in zip(
            transaction.recipients, transaction.dsn, outcomes, strict=True
        ):
            rcpt = rcpts.pop(0)
            assert rcpt.mailbox == box
            assert (rcpt.parameters.notify, rcpt.parameters.orcpt) == dsn
            assert outcome.reply.positive == (box.local != "refused")
        if any(outcome.reply.positive for outcome in outcomes):
            assert bodies.pop(0) == body
    assert bodies == []
    assert set(pair.host.faults) <= {""}


@pytest.mark.parametrize("terms", [PLAIN, SECURED, LMTP], ids=["plain", "secured", "lmtp"])
@given(
    sent=st.lists(messages(), max_size=3), size=st.sampled_from([1, 2, 7, 9999]), once=st.booleans()
)
@settings(max_examples=60)
def test_what_is_sent_arrives(
    terms: Terms, sent: list[tuple[Transaction, bytes]], size: int, once: bool
) -> None:
    pair = Pair(terms, size, once)
    pair.run(sent)
    check(pair, sent)
    assert pair.host.server.authenticated == ("alice" if terms is SECURED else "")


def test_requiretls_goes_over_when_secured() -> None:
    sent = [(Transaction(NULL_PATH, (Mailbox("a", "b.c"),), 3, requiretls=True), b"x\r\n")]
    pair = Pair(SECURED, 9999, False)
    pair.run(sent)
    mail = next(event for event in pair.host.events if isinstance(event, MailFrom))
    assert mail.parameters.requiretls


def test_the_offer_holds_for_the_client() -> None:
    """Size and recipients beyond what EHLO said are settled without trouble."""
    boxes = tuple(Mailbox(f"u{n}", "example.net") for n in range(5))
    sent = [(Transaction(NULL_PATH, boxes, 10), b"x" * 8 + b"\r\n")]
    pair = Pair(replace(PLAIN, recipients=3, message_size=10), 9999, False)
    pair.run(sent)
    assert [outcome.reply.code for outcome in pair.outcomes[0]] == [250, 250, 250, 452, 452]
    sent = [(Transaction(NULL_PATH, boxes, 11), b"x" * 9 + b"\r\n")]
    pair = Pair(replace(PLAIN, message_size=10), 9999, False)
    pair.run(sent)
    assert [outcome.reply.code for outcome in pair.outcomes[0]] == [552] * 5
