"""TK1, TK2: messages over real sockets, up to the commit."""

from __future__ import annotations

import asyncio
import smtplib
import socket
from pathlib import Path
from typing import Any

import pytest

from mta.errors import SpoolError
from mta.smtpd.space import RESERVE, Space
from mta.types import Mailbox
from tests.smtpd.kit import House, serving, short

RELAY = "relay_from: [127.0.0.1]\n"


def test_tk2_recipients_are_verified_at_rcpt(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.hello()
        assert wire.codes(
            "MAIL FROM:<a@client.test>",
            "RCPT TO:<bob@example.test>",
            "RCPT TO:<nobody@example.test>",
            "RCPT TO:<bob@far.test>",
            "RCPT TO:<bob@relay.test>",
            "RCPT TO:<postmaster>",
            "RCPT TO:<mixed@example.test>",
            "DATA",
        ) == [
            *("250 2.1.0", "250 2.1.5", "550 5.1.1", "550 5.7.1"),
            *("250 2.1.5", "250 2.1.5", "250 2.1.5", "354"),
        ]
        wire.send(b"Subject: x\r\n\r\n..dot\r\n.\r\n")
        assert wire.reply().startswith("250 2.0.0 Ok: queued as ")
        assert short(wire.say("QUIT")) == "221 2.0.0"
        wire.close()
        found = sorted(str(r.mailbox) for e, _ in house.jobs() for r in e.job.recipients)
        assert found == [
            *("alice@example.test", "bob@example.test", "bob@relay.test"),
            "postmaster@example.test",
        ]
        assert all(body.endswith(b"Subject: x\r\n\r\n.dot\r\n") for body in house.messages())
        log = house.log()
        assert "550 5.7.1" in log
        assert "left out" in log


def test_smtplib_sends_a_message_and_the_envelope_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, more=RELAY) as house:
        with smtplib.SMTP("127.0.0.1", house.ports["mx"], "client.test", 10) as client:
            assert client.ehlo()[0] == 250
            client.sendmail(
                "a@client.test",
                ["bob@far.test"],
                "Subject: x\r\n\r\nhello\r\n",
                mail_options=["RET=HDRS", "ENVID=a+2Bb", "BODY=8BITMIME"],
                rcpt_options=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;bob+40far.test"],
            )
        ((entry, body),) = house.jobs()
        assert entry.envelope.reverse_path == Mailbox("a", "client.test")
        assert (entry.envelope.ret, entry.envelope.envid) == ("HDRS", "a+b")
        (recipient,) = entry.job.recipients
        assert (recipient.notify, recipient.orcpt) == ("SUCCESS,DELAY", "rfc822;bob@far.test")
        assert entry.envelope.origin == "client=localhost[127.0.0.1]"
        head, _, rest = body.partition(b"; ")
        assert head.startswith(b"Received: from client.test (localhost [127.0.0.1])\r\n\tby mx.")
        assert b"with ESMTP id " + entry.envelope.id.encode() in head
        assert head.endswith(b"for <bob@far.test>")
        assert rest.endswith(b"Subject: x\r\n\r\nhello\r\n")


def test_a_message_in_chunks_and_one_without_ehlo(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.hello()
        wire.codes("MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<bob@example.test>")
        wire.send(b"BDAT 14\r\nSubject: x\r\n\r\nBDAT 4 LAST\r\na\rb\n")
        assert short(wire.reply()) == "250 2.0.0"
        assert short(wire.reply()) == "250 2.0.0"
        wire.say("HELO client.test")
        assert short(wire.mail()) == "250 2.0.0"
        wire.close()
        binary, plain = house.jobs()
        assert binary[1].endswith(b"Subject: x\r\n\r\na\rb\n")
        assert binary[0].envelope.binary
        assert b" with SMTP id " in plain[1]


REFUSED = [
    (b"Subject: x\r\n\r\nbare\nlf\r\n", "550 5.6.0"),
    (b"Received: x\r\n" * 101 + b"\r\nx\r\n", "554 5.4.6"),
    (b"X: " + b"y" * (2 << 20) + b"\r\n\r\nx\r\n", "552 5.3.4"),
    (b"Subject: x\r\n\r\n" + b"y" * (11 << 20) + b"\r\n", "552 5.3.4"),
]


@pytest.mark.parametrize(("body", "wanted"), REFUSED)
def test_tk1_a_refused_message_leaves_nothing(body: bytes, wanted: str, tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.hello()
        assert short(wire.mail(body)) == wanted
        assert short(wire.mail()) == "250 2.0.0"
        wire.close()
        assert len(house.messages()) == 1


@pytest.mark.parametrize(
    ("why", "wanted"),
    [("Input/output error", "451 4.3.0"), ("No space left on device", "452 4.3.1")],
)
def test_tk1_a_commit_that_fails_is_a_4yz_and_nothing_is_accepted(
    why: str, wanted: str, tmp_path: Path
) -> None:
    with serving(tmp_path) as house:
        group = house.worker.hall.group
        commit = group.commit

        async def fail(*args: Any, **given: Any) -> str:
            args[0].abort()
            raise SpoolError(f"cannot sync the journal: {why}")

        group.commit = fail  # type: ignore[method-assign]
        wire = house.connect()
        wire.hello()
        assert short(wire.mail()) == wanted
        group.commit = commit  # type: ignore[method-assign]
        assert short(wire.mail()) == "250 2.0.0"
        wire.close()
        assert len(house.messages()) == 1


def test_tk1_a_defect_in_a_commit_costs_its_connection_and_no_more(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        group = house.worker.hall.group
        commit = group.commit

        async def fail(*_: Any, **__: Any) -> str:
            raise RuntimeError("a defect")

        group.commit = fail  # type: ignore[method-assign]
        wire = house.connect()
        wire.hello()
        wire.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA")
        wire.send(b"x\r\n.\r\n")
        with pytest.raises(ConnectionError):
            if wire.reply() == "":
                raise ConnectionError
        group.commit = commit  # type: ignore[method-assign]
        other = house.connect()
        other.hello()
        assert short(other.mail()) == "250 2.0.0"
        other.close()
        assert len(house.messages()) == 1
        assert "defect: RuntimeError: a defect at fail" in house.log()


def held(house: House) -> tuple[asyncio.Event, asyncio.Event]:
    """Let each commit say that it has begun, and wait until it may go on."""
    begun, gate = asyncio.Event(), asyncio.Event()
    group = house.worker.hall.group
    commit = group.commit

    async def slow(*args: Any, **given: Any) -> str:
        begun.set()
        await gate.wait()
        return await commit(*args, **given)

    group.commit = slow  # type: ignore[method-assign]
    return begun, gate


def wait(house: House, event: asyncio.Event) -> None:
    house.run(event.wait())


def test_tk1_nothing_is_said_before_the_commit(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        begun, gate = held(house)
        wire = house.connect()
        wire.hello()
        wire.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA")
        wire.send(b"x\r\n.\r\nNOOP\r\n")
        wait(house, begun)
        wire.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            wire.sock.recv(1)
        wire.sock.settimeout(10)
        house.call(gate.set)
        assert wire.sock.recv(1000).startswith(b"250 2.0.0 Ok: queued as ")


def test_tk1_a_client_that_leaves_in_mid_commit_is_told_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        begun, gate = held(house)
        wire = house.connect()
        wire.hello()
        wire.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA")
        wire.send(b"x\r\n.\r\n")
        wait(house, begun)
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.close()
        while house.call(lambda: len(house.worker.hall.connections)):
            pass
        house.call(gate.set)
        house.run(house.worker.hall.settle())
        other = house.connect()
        other.hello()
        assert short(other.mail()) == "250 2.0.0"
        other.close()
        assert "warning" not in house.log()


def test_a_half_closed_connection_gets_its_answer(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.hello()
        wire.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA")
        wire.send(b"x\r\n.\r\n")
        wire.sock.shutdown(socket.SHUT_WR)
        assert short(wire.reply()) == "250 2.0.0"
        assert wire.reply() == ""


def test_a_full_disk_is_told_before_the_body(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        full = Space("/")
        full._free, full._inodes, full._looked = RESERVE + 500, 10**6, 1e12
        house.worker.hall.space = full
        full._look = lambda _: (_ for _ in ()).throw(AssertionError)  # type: ignore[assignment]
        full.has = lambda octets, now: full._free - octets >= RESERVE  # type: ignore[method-assign]
        wire = house.connect()
        wire.hello()
        assert wire.codes("MAIL FROM:<> SIZE=1000", "MAIL FROM:<>") == ["452 4.3.1", "250 2.1.0"]
        assert wire.codes("RCPT TO:<bob@example.test>") == ["250 2.1.5"]
        full._free = 0
        assert wire.codes("DATA", "NOOP") == ["452 4.3.1", "250 2.0.0"]


def test_submission_wants_a_login_or_a_trusted_address(tmp_path: Path) -> None:
    with serving(tmp_path, ("submission",)) as house:
        wire = house.connect("submission")
        wire.hello()
        assert wire.codes("MAIL FROM:<a@client.test>") == ["530 5.7.0"]
        assert wire.codes("AUTH PLAIN AGEAYg==")[0][:1] == "5"
    with serving(tmp_path, ("submission",), more=RELAY) as house:
        wire = house.connect("submission")
        wire.hello()
        assert short(wire.mail(b"Subject: x\n\nbare\n\r\n", "bob@far.test")) == "250 2.0.0"
        (body,) = house.messages()
        assert body.count(b"\n") == body.count(b"\r\n")
        assert b"\r\nMessage-ID: <" in body
        assert b"\r\nFrom: a@client.test\r\n" in body


def test_lmtp_answers_for_each_recipient_and_relays_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, ("lmtp",), more=RELAY) as house:
        wire = house.connect("lmtp")
        assert "LMTP" in wire.reply()
        assert wire.say("LHLO client.test")[:3] == "250"
        assert wire.codes(
            "MAIL FROM:<>",
            "RCPT TO:<bob@example.test>",
            "RCPT TO:<nobody@example.test>",
            "RCPT TO:<alice@example.test>",
            "RCPT TO:<bob@far.test>",
            "DATA",
        ) == ["250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.1.5", "550 5.7.1", "354"]
        wire.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert [short(wire.reply()), short(wire.reply())] == ["250 2.0.0", "250 2.0.0"]
        assert short(wire.say("QUIT")) == "221 2.0.0"
        (body,) = set(house.messages())
        assert b" with LMTP id " in body
