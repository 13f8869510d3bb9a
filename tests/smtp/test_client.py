from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp.client import Client
from mta.smtp.client_events import Closed, GoAhead, Greeted, Ready, Settled, TlsGo
from mta.smtp.extensions import Transaction
from mta.smtp.states import CLOSED, READY
from mta.types import Mailbox, Outcome
from tests.fakes import BODY, Dialogue
from tests.smtp.play import Driver

A, B, C = (Mailbox(local, "example.net") for local in "abc")
LINES = st.sampled_from(
    [
        b"220 mx",
        b"250 ok",
        b"250-mx\r\n250-PIPELINING\r\n250 SIZE 10",
        b"250-mx\r\n250 PIPELINING",
        b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING",
        b"250-mx\r\n250-LIMITS RCPTMAX=1\r\n250 CHUNKING",
        b"354 go",
        b"421 bye",
        b"450 later",
        b"550 no",
        b"251 hm",
        b"junk",
        b"250-",
    ]
)


def dialogue(*recipients: tuple[Mailbox, ...]) -> Dialogue:
    messages = tuple((Transaction(A, boxes, len(BODY)), BODY) for boxes in recipients)
    return Dialogue("made", "", messages, (), ())


@given(st.lists(LINES, max_size=25), st.booleans(), st.booleans())
def test_c2_c3_whatever_the_server_says(lines: list[bytes], greet: bool, closes: bool) -> None:
    driver = Driver(dialogue((B,), (B, C), (C,)))
    if greet:
        driver.feed(b"220 mx\r\n")
        driver.feed(b"250-mx\r\n250 PIPELINING\r\n" if closes else b"250 mx\r\n")
    for line in lines:
        driver.feed(line + b"\r\n")
    driver.lost("closed by the other end")
    assert driver.client.state == CLOSED
    assert isinstance(driver.events[-1], Closed)
    assert sum(isinstance(event, Closed) for event in driver.events) == 1
    assert len(driver.outcomes) == 4 or driver.events[-1] == Closed(None)
    settled = [event for event in driver.events if isinstance(event, Settled)]
    assert all(event.outcomes for event in settled)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_c2_fuzz(pieces: list[bytes]) -> None:
    client = Client("c.example.test")
    try:
        for piece in pieces:
            client.feed(piece)
            while client.next_event() is not None:
                pass
    except RemoteProtocolError as error:
        client.broken(error)
        assert isinstance(client.next_event(), Closed)
        assert client.next_event() is None


def served(
    lines: list[bytes], offer: bytes, mail: int, rcpts: list[int], end: tuple[int, int]
) -> list[Outcome]:
    """Play a server with its mind made up, in lockstep or not; return the outcomes."""
    driver = Driver(dialogue((A, B, C)))
    driver.feed(b"220 mx\r\n")
    driver.out = b""
    driver.feed(b"250-mx\r\n" + offer)
    answers = {
        b"MAIL": [mail],
        b"RCPT": list(rcpts),
        b"DATA": [end[0]],
        b"RSET": [250],
        b"QUIT": [221],
    }
    in_data = False
    while driver.out and driver.client.state != CLOSED:
        if in_data:
            body, dot, driver.out = driver.out.partition(b"\r\n.\r\n")
            if not dot:  # the lone dot
                assert driver.out == b"" and body == b".\r\n"
            in_data = False
            lines.append(body + dot)
            driver.feed(b"%d said\r\n" % end[1])
            continue
        line, _, driver.out = driver.out.partition(b"\r\n")
        lines.append(line)
        if line.startswith(b"BDAT"):
            octets = int(line.split()[1])
            wanted = mail == 250 and 250 in rcpts
            if wanted:
                lines.append(driver.out[:octets])
            driver.out = driver.out[octets:]
            driver.feed(b"%d said\r\n" % (end[1] if wanted else 503))
            continue
        code = answers[line[:4]].pop(0)
        if line == b"DATA" and code == 354:
            in_data = True
        driver.feed(b"%d said\r\n" % code)
    return driver.outcomes


CODE = st.sampled_from([250, 450, 550])


@given(CODE, st.lists(CODE, min_size=3, max_size=3), st.sampled_from([354, 451, 554]), CODE)
def test_c4_pipelining_changes_no_outcome(
    mail: int, rcpts: list[int], data: int, final: int
) -> None:
    slow, fast, chunked, slowly = [], [], [], []
    outcomes = served(slow, b"250 HELP\r\n", mail, rcpts, (data, final))
    assert outcomes == served(fast, b"250 PIPELINING\r\n", mail, rcpts, (data, final))
    assert len(outcomes) == 3
    delivered = any(outcome.reply.positive for outcome in outcomes)
    whole = any(b"Hello." in line for line in fast)
    assert whole == any(b"Hello." in line for line in slow)
    assert whole == (mail == 250 and 250 in rcpts and data == 354)  # C5
    assert delivered == (whole and final == 250)
    if data == 354:
        offer = b"250-CHUNKING\r\n250 PIPELINING\r\n"
        assert outcomes == served(chunked, offer, mail, rcpts, (data, final))
        assert outcomes == served(slowly, b"250 CHUNKING\r\n", mail, rcpts, (data, final))
        assert not any(line.startswith(b"DATA") for line in chunked + slowly)


def ready(lines: bytes = b"250 mx\r\n") -> Client:
    client = Client("c.example.test")
    client.feed(b"220 mx\r\n")
    assert client.next_event() is None
    client.feed(lines)
    assert isinstance(client.next_event(), Greeted)
    client.proceed()
    assert client.next_event() == Ready()
    client.take()
    return client


def test_one_write_with_pipelining() -> None:
    client = ready(b"250-mx\r\n250 PIPELINING\r\n")
    client.begin(Transaction(A, (B, C)))
    lines = client.take().split(b"\r\n")
    assert [line[:4] for line in lines] == [b"MAIL", b"RCPT", b"RCPT", b"DATA", b""]
    assert client.take() == b""


def test_stray_octets_before_a_transaction_are_out_of_turn() -> None:
    client = ready()
    client.feed(b"250 ")
    with pytest.raises(RemoteProtocolError):
        client.begin(Transaction(A, (B,)))


def test_421_between_messages_closes() -> None:
    client = ready()
    client.feed(b"421 4.3.2 too idle\r\n")
    event = client.next_event()
    assert isinstance(event, Closed)
    assert event.outcome is not None
    assert event.outcome.reply.status == "4.3.2"


def test_an_unasked_reply_between_messages_is_a_protocol_error() -> None:
    client = ready()
    client.feed(b"250 surprise\r\n")
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_answered_tells_a_stale_connection_from_a_refusal() -> None:
    client = ready()
    client.begin(Transaction(A, (B,)))
    assert not client.answered
    client.feed(b"250 ok\r\n")
    client.next_event()
    assert client.answered


@pytest.mark.parametrize("verb", ["finish", "quit", "begin"])
def test_our_own_mistakes_are_local_errors(verb: str) -> None:
    client = Client("c.example.test")
    with pytest.raises(LocalProtocolError):
        client.begin(Transaction(A, (B,))) if verb == "begin" else getattr(client, verb)()
    assert client.state != READY


def test_a_transaction_needs_a_recipient() -> None:
    with pytest.raises(LocalProtocolError):
        ready().begin(Transaction(A, ()))


@pytest.mark.parametrize("reply", [b"221 bye\r\n", b"421 bye\r\n", b"500 what\r\n", b""])
def test_after_our_own_quit_nothing_is_anyones_fault(reply: bytes) -> None:
    client = ready()
    client.quit()
    client.feed(reply)
    if not reply:
        client.lost("closed by the other end")
    assert client.next_event() == Closed(None)


SERVER = (
    b"220-mx\r\n220 ready\r\n|250-mx\r\n250-PIPELINING\r\n250 SIZE 99\r\n|"
    b"250 ok\r\n250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n354 go\r\n|250 2.0.0 kept\r\n|"
    b"250 ok\r\n450 later\r\n354 go\r\n|554 nobody\r\n|221 bye\r\n"
)


def spoken(cuts: list[int]) -> tuple[list[object], bytes]:
    """Play SERVER, each of its turns cut at ``cuts``; return the events and all that we sent."""
    driver = Driver(dialogue((B, C), (B,)))
    for turn in SERVER.split(b"|"):
        for start, end in pairwise([0, *sorted(cuts), len(turn)]):
            driver.feed(turn[start:end])
    return driver.events, driver.out


@given(st.lists(st.integers(0, 60), max_size=10))
def test_c1_splits_do_not_matter(cuts: list[int]) -> None:
    events, out = spoken(cuts)
    assert (events, out) == spoken([])
    assert [event for event in events if isinstance(event, Closed)] == [Closed(None)]
    assert out.endswith(b"\r\nQUIT\r\n")


@given(CODE, st.lists(CODE, min_size=1, max_size=4), st.booleans())
def test_c5_the_client_ends_no_body_of_its_own_accord(
    mail: int, rcpts: list[int], pipelining: bool
) -> None:
    client = ready(b"250-mx\r\n250 PIPELINING\r\n" if pipelining else b"250 mx\r\n")
    client.begin(Transaction(A, (B,) * len(rcpts)))
    sent = [client.take()]
    for code in (mail, *rcpts, 354):
        if client.state == "rset":
            return
        client.feed(b"%d said\r\n" % code)
        while client.next_event() is not None:
            pass
        sent.append(client.take())
    accepted = mail == 250 and 250 in rcpts
    assert (b".\r\n" in sent) != accepted
    assert client.state == ("body" if accepted else "final")
    if accepted:
        client.finish()
        assert client.take() == b""  # the dot is the Stuffer's


OFFERS_TLS = b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"


def asked_for_tls(behind: bytes = b"") -> Client:
    client = Client("c.example.test")
    client.feed(b"220 mx\r\n")
    assert client.next_event() is None
    client.feed(OFFERS_TLS[8:])
    assert isinstance(client.next_event(), Greeted)
    client.take()
    client.starttls()
    assert client.take() == b"STARTTLS\r\n"
    client.feed(b"220 go\r\n" + behind)
    return client


def test_c6_what_was_offered_before_tls_is_forgotten() -> None:
    client = asked_for_tls()
    assert client.next_event() == TlsGo()
    client.secured()
    assert client.take() == b"EHLO c.example.test\r\n"
    assert client.extensions.keywords == ()
    client.feed(b"250 mx\r\n")
    greeted = client.next_event()
    assert isinstance(greeted, Greeted)
    assert not greeted.extensions.pipelining
    assert not client.verified


@pytest.mark.parametrize("behind", [b"2", b"250-mx\r\n250 AUTH PLAIN\r\n", b"\r", b"\x16\x03"])
def test_c6_octets_behind_the_go_ahead_end_the_session(behind: bytes) -> None:
    client = asked_for_tls(behind)
    with pytest.raises(RemoteProtocolError):
        client.next_event()
    later = asked_for_tls()
    assert later.next_event() == TlsGo()
    later.feed(behind)
    with pytest.raises(RemoteProtocolError):
        later.next_event()
        later.secured()


def test_c6_nothing_of_ours_goes_out_in_clear_once_tls_is_agreed() -> None:
    client = asked_for_tls()
    client.next_event()
    for verb in (client.proceed, client.quit, client.starttls):
        with pytest.raises(LocalProtocolError):
            verb()
    assert client.take() == b""


def test_an_early_chunk_that_nobody_answered_may_arrive_twice() -> None:
    client = ready(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    client.begin(Transaction(A, (B,), len(BODY)), BODY)
    assert client.take().endswith(b"BDAT %d LAST\r\n" % len(BODY) + BODY)
    client.lost("gone")
    settled = client.next_event()
    assert isinstance(settled, Settled)
    assert "twice" in settled.outcomes[0].reply.text


def test_a_body_that_is_no_message_does_not_go_out() -> None:
    client = ready(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    with pytest.raises(LocalProtocolError):
        client.begin(Transaction(A, (B,), 3), b"a\nb")
    assert client.take() == b""


def test_a_binary_body_is_streamed_behind_its_length() -> None:
    client = ready(b"250-mx\r\n250-PIPELINING\r\n250-BINARYMIME\r\n250 CHUNKING\r\n")
    client.begin(Transaction(A, (B,), 9999999, True, binary=True))
    assert b"DATA" not in client.take()
    client.feed(b"250 ok\r\n250 ok\r\n")
    assert client.next_event() == GoAhead(raw=True)
    assert client.take() == b"BDAT 9999999 LAST\r\n"
    client.finish()
    client.feed(b"552 too much after all\r\n")
    assert isinstance(client.next_event(), Settled)
    assert client.next_event() is None
    assert client.take() == b"RSET\r\n"
