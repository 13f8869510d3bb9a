from __future__ import annotations

import re
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import LocalProtocolError
from mta.smtp.commands import AuthBegin, Etrn, Xclient
from mta.smtp.server import (
    AuthAnswer,
    Closed,
    DataBegin,
    DataEnd,
    MailFrom,
    RcptTo,
    Reset,
    Server,
    StartTls,
    Terms,
)
from mta.smtp.server_replies import GO_AHEAD, START_TLS
from mta.types import NULL_PATH, Mailbox, Reply
from mta.values import replace
from tests.smtp.listen import OK, TERMS, Host, Verdict, greeted

NO = Reply(550, "5.1.1", "no such user")
LATER = Reply(451, "4.3.0", "later")
BYE = Reply(421, "4.3.2", "bye")
RICH = Terms(
    "mx.example.test",
    message_size=60,
    recipients=3,
    command_line=80,
    errors=6,
    mechanisms=("PLAIN", "LOGIN"),
    etrn=True,
    xclient=True,
    secured=True,
)
LMTP = Terms("mx.example.test", service="lmtp", recipients=3, lenient=True)
PLAIN = Terms("mx.example.test", tls=True, mechanisms=("PLAIN",))

REPLY = re.compile(rb"(?:[2345][0-9]{2}-[ -~]{0,507}\r\n)*[2345][0-9]{2} [ -~]{0,507}\r\n")
MARK = b"zQq"  # what no reply says by itself

# Whole commands, and what they are made of; DATA comes with its own body in another write.
COMMANDS = st.sampled_from(
    [
        *(
            b"EHLO zQq\r\n",
            b"LHLO zQq\r\n",
            b"HELO zQq\r\n",
            b"EHLO\r\n",
            b"RSET\r\n",
            b"NOOP zQq\r\n",
        ),
        *(b"MAIL FROM:<zQq@b.c>\r\n", b"MAIL FROM:<> BODY=BINARYMIME\r\n", b"MAIL FROM:<zQq>\r\n"),
        *(b"RCPT TO:<zQq@b.c>\r\n", b"RCPT TO:<zQq@b.c> ORCPT=rfc822;zQq\r\n", b"RCPT TO:zQq\r\n"),
        *(b"MAIL FROM:<a@b.c> SIZE=100\r\n", b"MAIL FROM:<a@b.c> zQq=1\r\n", b"RCPT TO:<\xff>\r\n"),
        *(
            b"BDAT 5\r\nzQq\r\n",
            b"BDAT 0 LAST\r\n",
            b"BDAT 3 LAST\r\nzQq",
            b"BDAT 100\r\n" + b"x" * 100,
        ),
        *(
            b"AUTH PLAIN eg==\r\n",
            b"AUTH LOGIN\r\nelFx\r\n",
            b"AUTH LOGIN\r\n*\r\n",
            b"AUTH LOGIN\r\n!\r\n",
        ),
        *(b"ETRN zQq.net\r\n", b"XCLIENT NAME=zQq\r\n", b"XCLIENT zQq\r\n", b"zQq\r\n", b"\r\n"),
        *(b"VRFY zQq\r\n", b"EXPN zQq\r\n", b"HELP\r\n", b"STARTTLS zQq\r\n", b"QUIT zQq\r\n"),
        *(
            b"zQq" * 40 + b"\r\n",
            b"zQq\0\r\n",
            b"zQq\n\r\n",
            b"zQq\r",
            b"QUIT\r\n",
            b"BDAT zQq\r\n",
        ),
    ]
)
SESSION = st.lists(COMMANDS, max_size=25).map(b"".join)
SOUP = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b".", b" ", b"zQq", b"<", b">", b":", b"\xff"])
    | st.sampled_from(
        [b"MAIL FROM:", b"RCPT TO:", b"DATA\r\n", b"BDAT ", b"9", b" LAST", b"*", b"EHLO a"]
    )
    | COMMANDS,
    max_size=25,
).map(b"".join)
KINDS = st.sampled_from([RICH, TERMS, LMTP, PLAIN])
CUTS = st.lists(st.integers(0, 400), max_size=8)


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(octets)]
    return [octets[a:b] for a, b in pairwise(places)]


def verdict(event: object) -> Reply | None:
    """Refuse some, by what they are, so that it does not matter when they come."""
    text = repr(event)
    if isinstance(event, (MailFrom, RcptTo)):
        return (None, NO, LATER)[len(text) % 5 % 3]
    return LATER if isinstance(event, DataEnd) and event.fault else None


def yes(event: object) -> Reply | None:
    return None


def run(terms: Terms, pieces: list[bytes], says: Verdict = verdict) -> Host:
    host = Host(terms, says)
    for piece in pieces:
        host.feed(piece)
    return host


@given(SESSION, KINDS, CUTS)
@settings(max_examples=150)
def test_s1_splits_do_not_matter(session: bytes, terms: Terms, cuts: list[int]) -> None:
    begin = b"LHLO a\r\n" if terms.service == "lmtp" else b"EHLO a\r\n"
    session = begin + session
    whole = run(terms, [session])
    for pieces in (cut(session, cuts), [session[at : at + 1] for at in range(len(session))]):
        host = run(terms, pieces)
        assert host.out == whole.out
        assert host.events == whole.events
        assert host.bodies == whole.bodies


def test_s1_every_split_of_one_session() -> None:
    before = (
        b'EHLO a\r\nMAIL FROM:<a@b.c> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<"x y"@b.c> NOTIFY=NEVER\r\n'
        b"NOOP\r\nBDAT 4\r\na\r\n.BDAT 5 LAST\r\n\r\nb\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\n"
        b"DATA\r\n"
    )
    after = b"..\r\n.a\r\n.\r\nRSET\r\nbad\r\nQUIT\r\n"
    whole = run(TERMS, [before, after], yes)
    assert whole.bodies == [b"a\r\n.\r\nb\r\n", b".\r\na\r\n"]
    assert whole.events[-1] == Closed("quit")
    for a in range(len(before) + 1):
        for b in range(0, len(after) + 1, 3):
            host = run(TERMS, [before[:a], before[a:], after[:b], after[b:]], yes)
            assert (host.out, host.events) == (whole.out, whole.events)


@given(SOUP, KINDS, CUTS)
@settings(max_examples=300)
def test_s2_s3_s4_s5_s6_whatever_comes(soup: bytes, terms: Terms, cuts: list[int]) -> None:
    host = Host(terms, verdict)
    opened = 0
    for piece in cut(b"EHLO a\r\n" + soup, cuts):
        host.feed(piece)
        assert host.server.held <= terms.command_line + 2
        opened = max(opened, host.opened)
    host.server.lost("gone")
    host.feed(b"QUIT\r\n")
    assert host.events[-1] in (Closed("gone"), Closed("quit"), Closed("errors"), Closed("protocol"))
    assert sum(isinstance(event, Closed) for event in host.events) == 1
    assert host.opened == 0
    assert re.fullmatch(rb"(?:%s)+" % REPLY.pattern, host.out)
    assert MARK not in host.out


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_s2_s3_fuzz(pieces: list[bytes]) -> None:
    host = run(RICH, pieces)
    assert re.fullmatch(rb"(?:%s)+" % REPLY.pattern, host.out)


LINES = st.sampled_from(
    ["NOOP", "RSET", "", "x", "MAIL FROM:<a@b.c>", "RCPT TO:<a@b.c>", "RCPT TO:<", "VRFY", "BDAT 0"]
)


@given(st.lists(LINES, max_size=19))
def test_s2_one_reply_a_command(lines: list[str]) -> None:
    host = greeted()
    assert len(host.say(*lines)) == len(lines)
    assert host.server.commands == len(lines) + 1


def test_s6_a_line_without_end_is_not_kept() -> None:
    host = greeted(RICH)
    for _ in range(1000):
        host.feed(b"x" * 50)
        assert host.server.held <= 82
    assert host.heard() == []
    assert host.say("", "NOOP") == ["500 5.5.2 the line is too long", "250 2.0.0 ok"]


def test_the_longest_line() -> None:
    host = greeted(RICH)
    for pieces in ([b"\r\n"], [b"\r", b"\n"]):
        host.feed(b"NOOP " + b"x" * 75)
        for piece in pieces:
            host.feed(piece)
        assert host.heard() == ["250 2.0.0 ok"]
        host.feed(b"NOOP " + b"x" * 76)
        for piece in pieces:
            host.feed(piece)
        assert host.heard() == ["500 5.5.2 the line is too long"]


def test_an_idle_session_is_small() -> None:
    host = greeted()
    session = host.server._session
    held = [host.server, session, *(getattr(session, name) for name in session.__slots__[4:])]
    assert sum(sys.getsizeof(value) for value in held) < 1500
    assert host.server.held == 0
    assert session.body is None


def test_the_driver_that_does_wrong_is_told() -> None:
    server = Server(PLAIN)
    server.greet()
    for wrong in (
        lambda: server.answer(OK),
        lambda: server.answer_each([OK]),
        lambda: server.challenge(b""),
        server.secure,
    ):
        with pytest.raises(LocalProtocolError):
            wrong()
    server.feed(b"EHLO a\r\nSTARTTLS\r\n")
    assert server.next_event() is not None
    server.answer(Reply(220, "2.0.0", "go"))
    with pytest.raises(LocalProtocolError):
        server.feed(b"x")


def test_an_answer_that_comes_too_late_is_nothing() -> None:
    server = Server(TERMS)
    server.greet()
    server.feed(b"EHLO a\r\nMAIL FROM:<>\r\n")
    assert server.next_event() == MailFrom(NULL_PATH, server_parameters())
    assert server.next_event() is None
    server.take()
    server.lost("gone")
    server.answer(OK)
    server.challenge(b"")
    server.answer_each([])
    server.refuse(BYE)
    assert server.next_event() == Closed("gone")
    assert server.next_event() is None
    assert server.take() == b""


def server_parameters() -> object:
    from mta.smtp.commands import MailParameters

    return MailParameters()


def test_nothing_happens_before_an_answer() -> None:
    server = Server(TERMS)
    server.greet()
    server.feed(b"EHLO a\r\nMAIL FROM:<>\r\nRSET\r\n")
    server.next_event()
    server.take()
    assert server.next_event() is None
    assert server.take() == b""
    assert server.held == 6
    server.answer(OK)
    assert server.next_event() == Reset()
    assert server.take() == b"250 2.0.0 ok\r\n" * 2


@pytest.mark.parametrize("when", [0, 1, 2, 3])
def test_refuse_ends_at_any_time(when: int) -> None:
    server = Server(TERMS)
    if when:
        server.greet()
        server.feed(b"EHLO a\r\nMAIL FROM:<>\r\n"[: (0, 3, 8, 22)[when]])
        server.next_event()
    server.take()
    server.refuse(BYE)
    assert server.next_event() == Closed("refused")
    assert server.take() == b"421 4.3.2 bye\r\n"


def test_421_closes_whatever_it_answers() -> None:
    host = greeted(verdict=lambda event: BYE if isinstance(event, RcptTo) else None)
    assert host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>", "RCPT TO:<a@b.c>") == [
        "250 2.0.0 ok",
        "421 4.3.2 bye",
    ]
    assert host.events[-1] == Closed("refused")


def test_too_many_errors() -> None:
    host = greeted(RICH)
    assert host.say(*["x"] * 9) == [
        *["500 5.5.2 not a command"] * 6,
        "421 4.7.0 too many errors",
    ]
    assert host.events == [Closed("errors")]


def test_a_message_forgives_errors() -> None:
    host = greeted(RICH)
    for _ in range(3):
        host.say(*["x"] * 5, "MAIL FROM:<>", "RCPT TO:<a@b.c>", "BDAT 3 LAST")
        host.feed(b"a\r\n")
    assert host.server.state == "ready"
    assert host.server.errors == 0


def test_refused_recipients_are_errors_when_they_are_the_most() -> None:
    def known(event: object) -> Reply | None:
        return NO if isinstance(event, RcptTo) and event.mailbox.local == "x" else None

    host = greeted(verdict=known)
    host.say("MAIL FROM:<>", *["RCPT TO:<a@b.c>", "RCPT TO:<x@b.c>"] * 50)
    assert host.server.errors == 0
    host.say("RSET", "MAIL FROM:<>", *["RCPT TO:<x@b.c>"] * 40)
    assert host.events[-1] == Closed("errors")


def test_noops_without_end_are_errors() -> None:
    host = greeted()
    assert set(host.say(*["NOOP"] * 99)) == {"250 2.0.0 ok"}
    assert host.say(*["NOOP"] * 30)[-1] == "421 4.7.0 too many errors"


def test_only_the_noops_are_errors() -> None:
    host = greeted()
    host.say(*["NOOP"] * 100)
    assert host.server.errors == 1
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>")
    assert host.server.errors == 1


def test_421_is_said_once() -> None:
    host = greeted(replace(TERMS, errors=1))
    host.say(*["NOOP"] * 99)
    assert host.say("EXPN a") == ["502 5.7.0 lists are not shown", "421 4.7.0 too many errors"]


def test_quit_behind_the_dot_comes_in_order() -> None:
    host = greeted()
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>", "DATA")
    host.feed(b"a\r\n.\r\nQUIT\r\nNOOP\r\n")
    assert host.heard() == ["250 2.0.0 ok", "221 2.0.0 bye"]
    assert host.events[-2:] == [DataEnd(""), Closed("quit")]


@pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST / HTTP/1.0", "CONNECT a:25 HTTP/1.1"])
def test_a_browser_is_sent_away(verb: str) -> None:
    host = Host()
    host.heard()
    assert host.say(verb, "MAIL FROM:<>") == ["554 5.7.0 this is not a web server"]
    assert host.events == [Closed("protocol")]


def test_octets_behind_data_end_the_session() -> None:
    host = greeted()
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>")
    assert host.say("DATA", "Subject: x", ".") == ["554 5.5.0 octets before the go-ahead"]
    assert host.events[-1] == Closed("protocol")
    server = Server(TERMS)
    server.greet()
    server.feed(b"EHLO a\r\nMAIL FROM:<>\r\n")
    server.next_event()
    server.answer(OK)
    server.feed(b"RCPT TO:<a@b.c>\r\nDATA\r\n")
    server.next_event()
    server.answer(OK)
    assert server.next_event() == DataBegin()
    server.take()
    server.feed(b"early")
    server.answer(GO_AHEAD)
    assert server.next_event() == Closed("protocol")
    assert server.take() == b"554 5.5.0 octets before the go-ahead\r\n"


def test_octets_behind_starttls_end_the_session() -> None:
    host = greeted(PLAIN)
    assert host.say("STARTTLS", "EHLO evil") == ["554 5.5.1 octets behind STARTTLS"]
    assert host.events == [Closed("protocol")]
    server = Server(PLAIN)
    server.greet()
    server.feed(b"EHLO a\r\nSTARTTLS\r\n")
    assert server.next_event() == StartTls()
    server.take()
    server.feed(b"EHLO evil\r\n")
    server.answer(START_TLS)
    assert server.next_event() == Closed("protocol")
    assert server.take() == b"554 5.5.1 octets behind STARTTLS\r\n"


def test_tls_may_be_refused() -> None:
    host = greeted(PLAIN, lambda event: LATER if isinstance(event, StartTls) else None)
    assert host.say("STARTTLS") == ["451 4.3.0 later"]
    assert host.say("MAIL FROM:<>") == ["250 2.0.0 ok"]
    assert host.say("STARTTLS")[0].startswith("503 5.5.1")
    assert greeted().say("STARTTLS") == ["502 5.5.1 not offered here"]


def test_starttls_forgets_everything() -> None:
    host = greeted(PLAIN)
    assert host.say("AUTH PLAIN AGEAYg==") == ["538 5.7.11 only behind TLS"]
    assert host.say("STARTTLS") == ["220 2.0.0 ready for TLS"]
    assert (host.server.secured, host.server.client_name, host.server.state) == (True, "", "start")
    assert host.say("MAIL FROM:<>")[0].startswith("503 5.5.1")
    offered = host.say("EHLO a")
    assert "250-AUTH PLAIN" in offered
    assert "250 REQUIRETLS" in offered
    assert "250-STARTTLS" not in offered
    assert host.say("STARTTLS") == ["503 5.5.1 TLS is there already"]
    assert host.say("AUTH PLAIN AGEAYg==") == ["235 2.7.0 welcome"]
    assert host.say("AUTH PLAIN AGEAYg==") == ["503 5.5.1 authenticated already"]
    assert host.server.authenticated == "alice"


def test_auth() -> None:
    host = greeted(RICH)
    assert host.say("AUTH LOGIN") == ["334 VXNlcm5hbWU6"]
    assert host.say("*") == ["501 5.7.0 given up"]
    assert host.say("AUTH LOGIN", "!") == ["334 VXNlcm5hbWU6", "501 5.5.2 this is not base64"]
    assert host.events[-1] == Reset()
    assert host.say("AUTH CRAM-MD5") == ["504 5.5.4 this mechanism is not offered"]
    assert host.say("AUTH LOGIN", "") == ["334 VXNlcm5hbWU6", "235 2.7.0 welcome"]
    assert host.events[-2:] == [AuthBegin("LOGIN", None), AuthAnswer(b"")]
    host = greeted(RICH)
    host.say("AUTH LOGIN")
    assert host.say("A" * 81) == ["500 5.5.6 the line is too long"]
    host.say("MAIL FROM:<>")
    assert host.say("AUTH LOGIN")[0].startswith("503 5.5.1")


def test_authentication_may_be_required() -> None:
    terms = Terms("mx", "submission", tls=True, mechanisms=("PLAIN",), auth_required=True)
    host = greeted(terms)
    assert host.say("MAIL FROM:<>") == ["530 5.7.0 STARTTLS comes first"]
    host.say("STARTTLS", "")
    host = greeted(terms)
    host.say("STARTTLS")
    host.say("EHLO a")
    assert host.say("MAIL FROM:<>") == ["530 5.7.0 authentication is required"]
    host.say("AUTH PLAIN AGEAYg==")
    assert host.say("MAIL FROM:<> AUTH=<>") == ["250 2.0.0 ok"]


def test_limits_of_a_transaction() -> None:
    host = greeted(RICH)
    assert host.say("MAIL FROM:<> SIZE=61")[0][:10] == "552 5.3.4 "
    assert host.say("MAIL FROM:<> SIZE=60", *["RCPT TO:<a@b.c>"] * 4) == [
        *["250 2.0.0 ok"] * 4,
        "452 4.5.3 too many recipients",
    ]
    host.say("DATA")
    host.feed(b"x" * 70 + b"\r\n.\r\n")
    assert host.faults == ["size"]
    assert host.server.errors == 2


def test_a_bare_line_end_refuses_the_message_behind_its_end() -> None:
    host = greeted()
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>", "DATA")
    host.feed(b"a\n.\nMAIL FROM:<evil@b.c>\r\n")
    assert host.heard() == []
    host.feed(b".\r\n")
    assert host.heard() == ["550 5.6.0 a CR or LF stands alone in the message"]
    assert host.bodies == []


def test_lmtp_answers_each_recipient() -> None:
    host = greeted(LMTP)
    assert host.say("EHLO a", "HELO a") == ["500 5.5.1 this is LMTP: greet with LHLO"] * 2
    assert host.say("MAIL FROM:<>", "DATA") == ["250 2.0.0 ok", "503 5.5.1 no valid recipients"]
    host.say("RCPT TO:<a@b.c>", "RCPT TO:<b@b.c>", "DATA")
    host.feed(b"x\n.\r\n")
    assert host.bodies == []
    host.feed(b".\r\n")
    assert host.bodies == [b"x\r\n.\r\n"]
    assert host.heard() == ["250 2.0.0 ok"] * 2
    server = host.server
    server.feed(
        b"MAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<b@b.c>\r\nBDAT 2\r\nabBDAT 0 LAST\r\n"
    )
    for answer in (OK, OK, OK, OK):
        assert server.next_event() is not None
        server.answer(answer)
    while not isinstance(server.next_event(), DataEnd):
        pass
    server.take()
    with pytest.raises(LocalProtocolError):
        server.answer_each([OK])
    server.answer_each([OK, NO])
    assert server.take() == b"250 2.0.0 ok\r\n550 5.1.1 no such user\r\n"


def test_smtp_knows_no_lhlo() -> None:
    assert greeted().say("LHLO a") == ["500 5.5.1 this is SMTP: greet with EHLO"]


def test_helo_offers_nothing() -> None:
    host = Host()
    host.heard()
    assert host.say("HELO a") == ["250 mx.example.test"]
    assert not host.server.esmtp
    assert host.say("MAIL FROM:<> SIZE=1")[0].startswith("555 5.5.4")
    assert host.say("MAIL FROM:<>") == ["250 2.0.0 ok"]
    assert host.say("RCPT TO:<a@b.c> NOTIFY=NEVER")[0].startswith("555 5.5.4")


def test_bdat() -> None:
    host = greeted()
    host.say("MAIL FROM:<a@b.c> BODY=BINARYMIME", "RCPT TO:<a@b.c>")
    assert host.say("DATA") == ["503 5.5.1 BINARYMIME goes by BDAT"]
    host.feed(b"BDAT 5\r\n\n.\r\n.BDAT 1\r\n\rBDAT 2 LAST\r\n\0\nRSET\r\n")
    assert host.heard() == ["250 2.0.0 chunk taken"] * 2 + ["250 2.0.0 ok"] * 2
    assert host.bodies == [b"\n.\r\n.\r\0\n"]


def test_bdat_and_data_do_not_mix() -> None:
    host = greeted()
    host.say("MAIL FROM:<a@b.c>", "RCPT TO:<a@b.c>")
    host.feed(b"BDAT 3\r\na\r\n")
    host.heard()
    for line in ("DATA", "MAIL FROM:<>", "RCPT TO:<a@b.c>"):
        assert host.say(line)[0].startswith("503 5.5.1")
    assert host.say("RSET") == ["250 2.0.0 ok"]
    assert host.events[-1] == Reset()
    assert host.bodies == []


def test_the_limit_holds_for_all_chunks_together() -> None:
    host = greeted(RICH)
    host.say("MAIL FROM:<>")
    host.feed(b"BDAT 50\r\n" + b"x" * 50)  # refused, so it does not count
    host.say("RCPT TO:<a@b.c>")
    host.feed(b"BDAT 30\r\n" + b"x" * 30 + b"BDAT 30 LAST\r\n" + b"x" * 28 + b"\r\n")
    assert host.heard()[-2:] == ["250 2.0.0 chunk taken", "250 2.0.0 ok"]
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>")
    host.feed(b"BDAT 30\r\n" + b"x" * 30 + b"BDAT 31 LAST\r\n" + b"x" * 31)
    assert [line[:3] for line in host.heard()] == ["250", "552"]
    assert host.events[-1] == Reset()


def test_a_refused_chunk_is_read_to_its_end() -> None:
    host = greeted(RICH)
    host.feed(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert host.heard() == ["503 5.5.1 MAIL comes first", "250 2.0.0 ok"]
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>")
    host.feed(b"BDAT 61\r\n" + b"QUIT\r\n" * 10 + b"xNOOP\r\n")
    assert host.heard()[0][:10] == "552 5.3.4 "
    assert host.events[-1] == Reset()
    host = greeted(verdict=lambda event: LATER if isinstance(event, DataBegin) else None)
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>")
    host.feed(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert host.heard() == ["451 4.3.0 later", "503 5.5.1 MAIL comes first", "250 2.0.0 ok"]


@pytest.mark.parametrize("size", ["x", "-1", "", "9" * 20, "9" * 30, str(1 << 63), "1 2"])
def test_a_chunk_that_cannot_be_read_ends_the_session(size: str) -> None:
    host = greeted()
    host.say("MAIL FROM:<>", "RCPT TO:<a@b.c>")
    replies = host.say(f"BDAT {size}", "MAIL FROM:<>")
    assert len(replies) == 1
    assert replies[0][:3] in ("501", "552")
    if size.isdigit():
        early = greeted()
        assert early.say("BDAT 70000000", "NOOP")[0][:3] == "552"
        assert early.events == [Closed("protocol")]
    assert host.events[-1] == Closed("protocol")


def test_etrn_and_xclient() -> None:
    host = greeted(RICH)
    assert host.say("ETRN example.net") == ["250 2.0.0 ok"]
    assert host.events[-1] == Etrn("example.net")
    assert host.say("XCLIENT ADDR=192.0.2.1") == ["220 mx.example.test ESMTP Posthouse"]
    assert host.events[-1] == Xclient((("ADDR", "192.0.2.1"),))
    assert host.server.client_name == ""
    assert host.say("ETRN example.net")[0].startswith("503 5.5.1")
    other = greeted()
    assert other.say("ETRN example.net", "XCLIENT ADDR=::1") == ["502 5.5.1 not offered here"] * 2


def test_small_commands() -> None:
    host = greeted()
    assert host.say("VRFY bob", "VRFY", "EXPN all", "HELP", "HELP x", "TURN", "SAML x") == [
        "252 2.0.0 not verified; send mail to try",
        "501 5.5.4 an argument is due",
        "502 5.7.0 lists are not shown",
        *["214 2.0.0 see RFC 5321"] * 2,
        *["502 5.5.1 not implemented"] * 2,
    ]
    assert host.say("RSET x", "DATA x") == ["501 5.5.4 no argument is due"] * 2
    assert host.say("rset  ", "quit\t") == ["250 2.0.0 ok", "221 2.0.0 bye"]


def test_ehlo_ends_a_transaction() -> None:
    host = greeted()
    host.say("MAIL FROM:<>", "EHLO b")
    assert host.events[-1] == Reset()
    assert host.server.client_name == "b"
    assert host.say("RCPT TO:<a@b.c>") == ["503 5.5.1 MAIL comes first"]
    assert Mailbox("a", "b.c")


def test_a_parameter_is_known_only_where_its_extension_was_offered() -> None:
    unknown = "555 5.5.4 a parameter is not known here"
    assert greeted().say("MAIL FROM:<> REQUIRETLS", "MAIL FROM:<> AUTH=<>") == [unknown] * 2
    assert greeted(RICH).say("MAIL FROM:<> REQUIRETLS AUTH=<>") == ["250 2.0.0 ok"]
    assert greeted(PLAIN).say("MAIL FROM:<> REQUIRETLS", "MAIL FROM:<> AUTH=<>") == [
        unknown,
        "250 2.0.0 ok",
    ]


def test_421_to_one_recipient_ends_an_lmtp_session() -> None:
    server = Server(LMTP)
    server.greet()
    server.feed(b"LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<b@b.c>\r\nBDAT 0 LAST\r\n")
    for _ in range(4):
        assert server.next_event() is not None
        server.answer(OK)
    assert server.next_event() == DataEnd("")
    server.take()
    server.answer_each([OK, BYE])
    assert server.next_event() == Closed("refused")
    assert server.take() == b"250 2.0.0 ok\r\n421 4.3.2 bye\r\n"
