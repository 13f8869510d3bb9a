"""SV1 to SV3: connections, PROXY headers and TLS below a session."""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.smtpd.kit import House, Wire, serving, short
from tests.smtpd.test_login import site, trusting

PROXY = "smtpd: {proxy_from: [127.0.0.1]}\nrelay_from: [192.0.2.0/24]\n"


def version_2(source: str, port: int) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("192.0.2.200")
    ports = struct.pack("!HH", port, 25)
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", 12) + addresses + ports


HEADERS = [
    (b"PROXY TCP4 192.0.2.5 192.0.2.200 4000 25\r\n", "192.0.2.5", "250 2.1.5"),
    (version_2("192.0.2.6", 4000), "192.0.2.6", "250 2.1.5"),
    (b"PROXY TCP4 198.51.100.5 192.0.2.200 4000 25\r\n", "198.51.100.5", "550 5.7.1"),
    (b"PROXY UNKNOWN\r\n", "unix", "550 5.7.1"),
]


@pytest.mark.parametrize(("header", "address", "wanted"), HEADERS)
@pytest.mark.parametrize("cut", [0, 3, 20])
def test_a_proxy_speaks_for_its_client(
    header: bytes, address: str, wanted: str, cut: int, tmp_path: Path
) -> None:
    with serving(tmp_path, more=PROXY, proxy=True) as house:
        house.worker.hall._resolver = None
        wire = house.connect()
        wire.send(header[:cut])
        wire.send(header[cut:] + b"EHLO c.test\r\n" * (cut == 0))
        assert short(wire.reply()) == "220"
        if cut:
            wire.send(b"EHLO c.test\r\n")
        assert short(wire.reply()) == "250"
        assert wire.codes("MAIL FROM:<>", "RCPT TO:<bob@far.test>")[1] == wanted
        assert f"[{address}]" in house.log()


def test_a_header_that_is_none_or_from_a_stranger_ends_the_connection(tmp_path: Path) -> None:
    with serving(tmp_path, more=PROXY, proxy=True) as house:
        wire = house.connect()
        wire.send(b"EHLO c.test\r\n")
        assert wire.reply() == ""
    with serving(tmp_path, proxy=True) as house:
        wire = house.connect()
        with pytest.raises(ConnectionError):
            while wire.sock.recv(100) == b"":
                wire.send(HEADERS[0][0])


def test_a_header_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, more=PROXY, proxy=True) as house:
        wire = house.connect()
        wire.send(b"PROXY ")
        while not house.call(lambda: len(house.worker.hall.connections)):
            pass
        house.sweep(301.0)
        with pytest.raises(ConnectionError):
            wire.file.read(1)
            raise ConnectionError


def test_a_proxy_before_implicit_tls(tmp_path: Path) -> None:
    more = site(tmp_path, PROXY)
    with serving(tmp_path, ("submissions",), more=more, proxy=True) as house:
        house.worker.hall._resolver = None
        sock = socket.create_connection(("127.0.0.1", house.ports["submissions"]), 10)
        sock.sendall(HEADERS[0][0])
        context = trusting(tmp_path)
        wire = Wire(context.wrap_socket(sock, server_hostname="mx.example.test"))
        wire.hello()
        assert short(wire.mail(to="bob@far.test")) == "250 2.0.0"
        (body,) = house.messages()
        assert b"[192.0.2.5])" in body


def test_sv1_a_client_that_does_not_wait_is_not_read_beyond_one_buffer(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        gate: list[Any] = []

        def wait() -> None:
            (connection,) = house.worker.hall.connections
            connection.session.busy = True
            gate.append(connection.session)

        wire = house.connect()
        wire.hello()
        house.call(wait)
        wire.sock.settimeout(0.3)
        sent = 0
        try:
            while sent < 1 << 26:
                sent += wire.sock.send(b"NOOP\r\n" * 10_000)
        except TimeoutError:
            pass
        assert sent < 1 << 26
        session = gate[0]
        assert house.call(lambda: session.server.held) <= 1 << 17
        house.call(session.go_on)
        wire.sock.settimeout(10)
        assert short(wire.reply()) == "250 2.0.0"


def test_sv2_what_follows_the_end_is_thrown_away_and_the_last_reply_arrives(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, limits={"errors": 3}) as house:
        wire = house.connect()
        wire.hello()
        wire.send(b"NONSENSE\r\n" * 1000)
        replies = []
        while reply := wire.reply():
            replies.append(short(reply))
            wire.send(b"MORE NONSENSE\r\n")
        assert replies[-1] == "421 4.7.0"
        assert len(replies) <= 5


def test_sv3_octets_behind_starttls_are_never_taken_for_commands(tmp_path: Path) -> None:
    with serving(tmp_path, more=site(tmp_path)) as house:
        wire = house.connect()
        wire.hello()
        wire.send(b"STARTTLS\r\nMAIL FROM:<injected@client.test>\r\n")
        assert short(wire.reply()) == "554 5.5.1"
        assert wire.reply() == ""


def handshake(house: House, folder: Path) -> tuple[Wire, ssl.SSLSocket]:
    wire = house.connect()
    wire.hello()
    assert short(wire.say("STARTTLS")) == "220 2.0.0"
    secured = trusting(folder).wrap_socket(wire.sock, server_hostname="mx.example.test")
    return Wire(secured), secured


def test_starttls_forgets_what_was_said_and_mail_goes_through(tmp_path: Path) -> None:
    with serving(tmp_path, more=site(tmp_path)) as house:
        wire, secured = handshake(house, tmp_path)
        assert wire.codes("MAIL FROM:<>") == ["503 5.5.1"]
        said = wire.say("EHLO c.test")
        assert "STARTTLS" not in said
        assert "REQUIRETLS" in said
        body = b"Subject: x\r\n\r\n" + b"y" * 76 * 4000 + b"\r\n"
        assert short(wire.mail(body)) == "250 2.0.0"
        assert short(wire.say("QUIT")) == "221 2.0.0"
        assert secured.recv(10) == b""  # a close_notify came
        (got,) = house.messages()
        assert got.endswith(body)
        assert b" with ESMTPS id " in got
        assert "TLS connection established" in house.log()


def test_a_close_notify_ends_the_session(tmp_path: Path) -> None:
    with serving(tmp_path, more=site(tmp_path)) as house:
        wire, secured = handshake(house, tmp_path)
        wire.say("EHLO c.test")
        raw = secured.unwrap()
        try:
            raw.sendall(b"MAIL FROM:<a@client.test>\r\n")
            assert raw.recv(100) == b""
        except OSError:
            pass


def test_a_failed_handshake_ends_the_connection(tmp_path: Path) -> None:
    with serving(tmp_path, ("submissions",), more=site(tmp_path)) as house:
        sock = socket.create_connection(("127.0.0.1", house.ports["submissions"]), 10)
        sock.sendall(b"EHLO c.test\r\n")
        assert b"220" not in sock.recv(1000)
        sock.close()
        idle = socket.create_connection(("127.0.0.1", house.ports["submissions"]), 10)
        while house.call(lambda: len(house.worker.hall.connections)) != 1:
            pass
        house.sweep(301.0)
        with pytest.raises(ConnectionError):
            if not idle.recv(10):
                raise ConnectionError
