"""Dialogues on sockets: workers of the real listener, and a client's end of a session.

Workers are kept from dialogue to dialogue, one for each kind of site, since their start
costs more than a session.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

from mta.spool.intake import Intake
from mta.spool.layout import JobName
from mta.spool.spool import Spool
from tests.certificates import make_ca, make_certificate
from tests.server_dialogues import CLIENT, RELAY_CLIENT, XCLIENT_CLIENT, Taken, option
from tests.smtp.doorkeeper import Cut, whole
from tests.smtpd.kit import House, serving

CA = make_ca()
SERVER = make_certificate(["mx.example.test"], CA)
LIMITS = {"size": "message_size", "recipients": "recipients", "errors": "errors"}
LIMITS |= {"line": "command_line"}
SITE = f"""\
relay_from: [{RELAY_CLIENT}]
smtpd: {{xclient_from: [{XCLIENT_CLIENT}], proxy_from: [{CLIENT}]}}
"""
_TRACE = re.compile(rb"Received: [^\n]*\n(?:[ \t][^\n]*\n)*")


class Stage:
    """The sites that dialogues need; close() when all are played."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._houses: dict[tuple[str, ...], House] = {}
        self._intakes: dict[House, _Intake] = {}
        self.context = ssl.create_default_context(cadata=CA.pem().decode())

    def close(self) -> None:
        self._stack.close()

    def house(self, options: tuple[str, ...]) -> House:
        """Return a worker that serves as ``options`` ask for."""
        service = option(options, "service", "mx")
        kind = [service, *[word for word in options if word.partition("=")[0] in LIMITS]]
        kind += [word for word in ("tls", "auth", "proxy") if word in options]
        key = tuple(sorted(kind))
        if key not in self._houses:
            house = self._houses[key] = self._open(options, service)
            intake = self._intakes[house] = _Intake(house.folder / "spool")
            self._stack.callback(intake.close)
        return self._houses[key]

    def _open(self, options: tuple[str, ...], service: str) -> House:
        folder = self._folder / str(len(self._houses))
        folder.mkdir()
        more = SITE
        if "tls" in options or service == "submissions":
            chain, key = SERVER.write(folder, "server")
            more += f"tls: {{certificate: {chain}, key: {key}}}\n"
        if "auth" in options:
            (folder / "passwords").write_text("bob:{PLAIN}secret\n")
            (folder / "passwords").chmod(0o600)
            more += "auth: {passwords: passwords}\n"
        limits = {"auth_failures": 0}
        for word in options:
            name, found, value = word.partition("=")
            if found and name in LIMITS:
                limits[LIMITS[name]] = int(value)
        proxied = "proxy" in options
        opened = serving(folder, (service,), more=more, limits=limits, proxy=proxied)
        return self._stack.enter_context(opened)

    def taken(self, house: House) -> list[Taken]:
        """Return what ``house`` accepted since it was asked last, from its spool."""
        found: dict[str, Taken] = {}
        for one, ident in self._intakes[house].read():
            before = found.get(ident)
            both = one.recipients if before is None else before.recipients + one.recipients
            found[ident] = Taken(one.path, tuple(sorted(both)), one.words, one.body)
        return [found[ident] for ident in sorted(found)]


class _Intake:
    """Takes in what came to one spool, from where it left off."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool.open(str(folder))
        self._names: list[JobName] = []
        self._intake = Intake(self._spool, self._names.extend, lambda envelope: None)

    def read(self) -> list[tuple[Taken, str]]:
        """Return the jobs that are new, and the id of each one's message."""
        while self._intake.step():
            pass
        names = list(self._names)
        self._names.clear()
        return [_read(self._spool, name) for name in names]

    def close(self) -> None:
        self._intake.close()


def _read(spool: Spool, name: JobName) -> tuple[Taken, str]:
    claim = spool.claim(name)
    assert claim is not None
    with os.fdopen(claim.open_body(), "rb") as file:
        body = file.read()
    entry = claim.entry
    claim.release()
    envelope = entry.envelope
    words = {"utf8"} if envelope.smtputf8 else set()
    words |= {"binary"} if envelope.binary else set()
    words |= {"requiretls"} if envelope.requiretls else set()
    words |= {f"ret={envelope.ret}"} if envelope.ret else set()
    words |= {f"envid={envelope.envid}"} if envelope.envid else set()
    boxes = [(str(r.mailbox), r.notify, r.orcpt) for r in entry.job.recipients]
    assert envelope.eight_bit != body.isascii()
    assert envelope.size == len(body)
    trace = _TRACE.match(body)
    assert trace is not None, body
    path = str(envelope.reverse_path)
    rest = body[trace.end() :]
    if rest == b"\r\n":  # what the listener's own field needs where nothing came at all
        rest = b""
    taken = Taken(path, tuple(sorted(boxes)), frozenset(words), rest)
    return taken, envelope.id


class SocketWire:
    """One session with the real listener."""

    def __init__(self, stage: Stage, options: tuple[str, ...], cut: Cut = whole) -> None:
        self._stage = stage
        self._cut = cut
        self._house = stage.house(options)
        self._service = option(options, "service", "mx")
        source = RELAY_CLIENT if "relay" in options else CLIENT
        source = XCLIENT_CLIENT if "xclient" in options else source
        where = ("127.0.0.1", self._house.ports[self._service])
        self._sock = socket.create_connection(where, 10, (source, 0))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        if self._service == "submissions" and "proxy" not in options:
            self.handshake()

    def send(self, octets: bytes) -> None:
        try:
            for piece in self._cut(octets):
                self._sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):  # closed before the last piece
            pass

    def line(self) -> bytes:
        while b"\n" not in self._buffer:
            octets = self._receive()
            if not octets:
                assert self._buffer == b""
                self._sock.close()
                return b""
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(1 << 16)
        except (ssl.SSLEOFError, ConnectionResetError):
            return b""

    def handshake(self) -> None:
        assert self._buffer == b""
        sock = self._stage.context.wrap_socket(self._sock, server_hostname="mx.example.test")
        self._sock = sock

    def finish(self) -> bytes:
        """Send no more, and return what the listener says before it closes, too."""
        rest = self._buffer
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock = self._sock.unwrap()  # which fails if anything else comes before
        else:
            self._sock.shutdown(socket.SHUT_WR)
        while octets := self._receive():
            rest += octets
        self._sock.close()
        return rest

    def taken(self) -> list[Taken]:
        """Return what was accepted, once the listener has let go of the session.

        Else its rest might be read while the next session runs, perhaps in the loop of
        another thread, and the connections of a process share one buffer.
        """
        while self._house.call(lambda: len(self._house.worker.hall.connections)):
            pass
        return self._stage.taken(self._house)
