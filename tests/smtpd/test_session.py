"""SE1 to SE3: deadlines, draining, XCLIENT, ETRN and what is said to whom."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mta.machine.wake import Ear
from tests.smtpd.kit import House, Wire, serving, short

XCLIENT = "smtpd: {xclient_from: [127.0.0.1]}\nrelay_from: [192.0.2.0/24]\n"


def begun(house: House) -> Wire:
    wire = house.connect()
    wire.hello()
    wire.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA")
    return wire


def test_se1_what_was_open_is_gone_with_the_client(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = begun(house)
        wire.send(b"Subject: x\r\n\r\n" + b"y" * 300_000)
        while not list((tmp_path / "spool" / "journal").iterdir()):
            pass
        wire.close()
        while house.call(lambda: len(house.worker.hall.connections)):
            pass
        assert house.messages() == []
        assert not list((tmp_path / "spool" / "journal").iterdir())
        assert house.worker.hall.counters.total() == 0
        assert "lost connection after DATA" in house.log()


def test_se2_the_time_of_a_command(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        idle, slow = house.connect(), house.connect()
        connections = house.worker.hall.connections
        idle.hello()
        assert slow.reply()[:3] == "220"
        slow.send(b"EHLO cli")
        house.sweep(299.0)
        assert short(idle.say("NOOP")) == "250 2.0.0"

        def age() -> None:
            for connection in house.worker.hall.connections:
                connection.session.last -= 200.0

        house.call(age)
        slow.send(b"ent")  # an octet now and then does not make a command
        while house.call(lambda: 11 not in [c.session.server.held for c in connections]):
            pass
        house.sweep(101.0)
        for wire in (idle, slow):
            assert short(wire.reply()) == "421 4.4.2"
            assert wire.reply() == ""
        assert "timeout after" in house.log()


def test_se2_the_time_of_a_session(tmp_path: Path) -> None:
    limits = {"session_time": 100.0}
    with serving(tmp_path, limits=limits) as house:
        wire = house.connect()
        wire.hello()
        house.sweep(99.0)
        assert short(wire.say("NOOP")) == "250 2.0.0"
        house.sweep(101.0)
        assert short(wire.reply()) == "421 4.4.2"


def test_se2_the_rate_of_data(tmp_path: Path) -> None:
    with serving(tmp_path, limits={"data_rate": 100}) as house:
        slow, good = begun(house), begun(house)
        slow.send(b"x" * 50 + b"\r\n")
        good.send(b"x" * 20_000 + b"\r\n")
        for wire in (slow, good):
            while not house.call(
                lambda: all(c.session.octets for c in house.worker.hall.connections)
            ):
                pass
            assert wire
        house.sweep(61.0)
        assert short(slow.reply()) == "421 4.4.2"
        good.send(b".\r\n")
        assert short(good.reply()) == "250 2.0.0"


def test_se2_a_client_that_reads_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.sock.settimeout(0.3)
        try:
            for _ in range(10_000):
                wire.send(b"HELP\r\n" * 5000)
        except TimeoutError:
            pass
        (connection,) = house.worker.hall.connections
        assert connection.waiting_since > 0.0
        house.sweep(301.0)
        wire.sock.settimeout(10)
        with pytest.raises(ConnectionError):
            while True:
                wire.send(b"x")


def test_se3_draining_lets_a_transaction_end_and_no_other_begin(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        idle, busy = house.connect(), begun(house)
        idle.hello()
        house.call(house.worker.hall.drain)
        assert short(idle.reply()) == "421 4.3.2"
        assert idle.reply() == ""
        busy.send(b"Subject: x\r\n\r\nx\r\n.\r\nMAIL FROM:<>\r\n")
        assert short(busy.reply()) == "250 2.0.0"
        assert short(busy.reply()) == "421 4.3.2"
        assert busy.reply() == ""
        late = house.connect()
        assert short(late.reply()) == "421 4.3.2"
        assert len(house.messages()) == 1


def test_se3_a_client_whose_message_is_taken_is_idle(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.hello()
        assert short(wire.mail()) == "250 2.0.0"
        house.call(house.worker.hall.drain)
        assert short(wire.reply()) == "421 4.3.2"


def test_se3_a_transaction_that_is_reset_ends_it_too(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        wire.hello()
        wire.codes("MAIL FROM:<>")
        house.call(house.worker.hall.drain)
        assert short(wire.say("RSET")) == "250 2.0.0"
        assert short(wire.reply()) == "421 4.3.2"


def test_xclient_gives_another_identity_and_its_rights(tmp_path: Path) -> None:
    with serving(tmp_path, more=XCLIENT) as house:
        wire = house.connect()
        wire.hello()
        assert wire.codes("MAIL FROM:<>", "RCPT TO:<bob@far.test>", "RSET") == [
            *("250 2.1.0", "550 5.7.1", "250 2.0.0"),
        ]
        given = "XCLIENT ADDR=192.0.2.7 NAME=far.client.test HELO=hello.test"
        assert wire.codes(given, "EHLO x.test") == ["220", wire_last_of_ehlo(wire)]
        assert short(wire.mail(to="bob@far.test")) == "250 2.0.0"
        assert wire.codes("XCLIENT ADDR=nonsense") == ["501 5.5.4"]
        assert wire.codes("XCLIENT ADDR=[UNAVAILABLE]")[0] == "220"
        wire.say("EHLO y.test")
        assert wire.codes("MAIL FROM:<>", "RCPT TO:<bob@far.test>")[1] == "550 5.7.1"
        wire.close()
        ((entry, body),) = house.jobs()
        assert entry.envelope.origin == "client=far.client.test[192.0.2.7]"
        assert body.startswith(b"Received: from hello.test (far.client.test [192.0.2.7])\r\n")


def wire_last_of_ehlo(_: Wire) -> str:
    return "250"


def test_xclient_is_for_named_clients_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        wire = house.connect()
        assert wire.reply()
        assert "XCLIENT" not in wire.say("EHLO c.test")
        assert wire.codes("XCLIENT ADDR=192.0.2.7")[0][:1] == "5"


def test_etrn_wakes_the_delivers_of_a_relay_domain(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        ear = Ear(str(tmp_path / "run"), "wake/smtp.1")
        wire = house.connect()
        wire.hello()
        assert wire.codes("ETRN relay.test", "ETRN far.test") == ["250 2.0.0", "459 4.7.1"]
        assert ear.read() == [b"!relay.test"]
        ear.close()
        assert wire.codes("ETRN relay.test") == ["458 4.4.0"]
