"""Fakes: SMTP dialogues read from tests/dialogs, and servers that play them.

A dialogue is one connection, told line by line:

    # RFC 5321 s3.3: what it shows       the first line cites the section
    O: lmtp tls=verify auth=user:password     how the client is set up (none: plain SMTP)
    M: from=<a@x> to=<b@y>,<c@z> 8bit utf8    a message to deliver, with needs: also
       binary, requiretls, ret=HDRS, envid=ID, dsn=NOTIFY/ORCPT,NOTIFY/ORCPT
    B: a line of the last message's body      (none: the default body)
    B~ octets of it without CRLF         B- : an empty body
    S: a line that the server sends      S~ octets without CRLF
    S* N octets without CRLF, N times; with "~" before them no CRLF between
    S! close                             the server closes; "silence": the client's time passes;
                                         "tls": a TLS handshake, and on goes the dialogue
    C: a line that the client must send; "(message)": the default body and the dot
    C~ octets of it without CRLF
    = CODE STATUS SCOPE part of text     a recipient's outcome, in order

In S, B and C lines \\xHH, \\r and \\n are escapes.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

from mta.smtp.extensions import Transaction
from mta.types import NULL_PATH, Mailbox, Outcome, ReversePath
from mta.values import frozen

DIALOGS = Path(__file__).parent / "dialogs"
HOSTNAME = "client.example.test"
BODY = b"Subject: test\r\n\r\nHello.\r\n"


@frozen
class Expected:
    """What a dialogue says of one recipient."""

    code: int
    status: str
    scope: str
    text: str

    def fits(self, outcome: Outcome) -> bool:
        reply = outcome.reply
        same = (reply.code, reply.status, outcome.scope) == (self.code, self.status, self.scope)
        return same and self.text in reply.text


@frozen
class Step:
    """One step: ``kind`` "send", "expect", "tls" or "end"; ``octets`` or the word after S!."""

    kind: str
    octets: bytes


@frozen
class Dialogue:
    name: str
    cites: str
    messages: tuple[tuple[Transaction, bytes], ...]
    steps: tuple[Step, ...]
    outcomes: tuple[Expected, ...]
    options: tuple[str, ...] = ()
    special: bool = False  # is more to set up than a server, two addresses and a body?

    def option(self, name: str) -> str:
        """What follows ``name=`` among the options, "" if nothing does."""
        words = [word.partition("=")[2] for word in self.options if word.startswith(name + "=")]
        return words[0] if words else ""


def _octets(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def _path(text: str) -> ReversePath:
    local, at, domain = _octets(text).decode().rpartition("@")
    return Mailbox(local.strip('"'), domain) if at else NULL_PATH


_NEEDS = r"8bit|utf8|binary|requiretls|ret=\w+|envid=\S+|dsn=\S+"


def _message(text: str, body: bytes | None) -> tuple[Transaction, bytes]:
    found = re.fullmatch(rf"from=<(.*?)> to=(<.*?>)((?: (?:{_NEEDS}))*)", text)
    assert found, text
    boxes = tuple(_path(word[1:-1]) for word in found[2].split(","))
    octets = BODY if body is None else body
    recipients = tuple(box for box in boxes if isinstance(box, Mailbox))
    needs = {name: value for name, _, value in [n.partition("=") for n in found[3].split()]}
    wishes = [tuple(wish.split("/")) for wish in needs.get("dsn", "").split(",") if wish]
    transaction = Transaction(
        _path(found[1]),
        recipients,
        len(octets),
        "8bit" in needs,
        "utf8" in needs,
        "binary" in needs,
        "requiretls" in needs,
        needs.get("ret", ""),
        needs.get("envid", ""),
        tuple((notify.replace("+", ","), original) for notify, original in wishes),
    )
    return transaction, octets


def _server_octets(mark: str, text: str) -> bytes:
    if mark == "*":
        count, _, line = text.partition(" ")
        piece = _octets(line[1:]) if line.startswith("~") else _octets(line) + b"\r\n"
        return piece * int(count)
    return _octets(text) + (b"" if mark == "~" else b"\r\n")


def _client_octets(text: str) -> bytes:
    return BODY + b".\r\n" if text == "(message)" else _octets(text) + b"\r\n"


def read_dialogue(path: Path) -> Dialogue:
    """Read one script; ValueError for a line that is none of the above."""
    cites, *lines = path.read_text("latin-1").split("\n")
    texts: list[tuple[str, bytes | None]] = []
    steps: list[Step] = []
    outcomes: list[Expected] = []
    options: list[str] = []
    for line in lines:
        kind, text = line[:2], line[3:]
        if kind == "O:":
            options += text.split()
        elif kind == "M:":
            texts.append((text, None))
        elif kind[:1] == "B":
            piece = b"" if kind == "B-" else _octets(text) + (b"" if kind == "B~" else b"\r\n")
            texts[-1] = (texts[-1][0], (texts[-1][1] or b"") + piece)
        elif kind == "S!":
            steps.append(Step("tls" if text == "tls" else "end", text.encode()))
        elif kind[:1] == "S":
            steps.append(Step("send", _server_octets(kind[1], text)))
        elif kind == "C:":
            steps.append(Step("expect", _client_octets(text)))
        elif kind == "C~":
            steps.append(Step("expect", _octets(text)))
        elif kind == "= ":
            words = [*line[2:].split(" ", 3), ""]
            outcomes.append(Expected(int(words[0]), words[1], words[2], words[3]))
        elif line:
            raise ValueError(f"{path.name}: {line!r}")
    messages = tuple(_message(*text) for text in texts)
    needy = [t for t, _ in messages if t.binary or t.requiretls or t.ret or t.envid or t.dsn]
    special = bool(options or needy)
    steps_made, outcomes_made = tuple(steps), tuple(outcomes)
    return Dialogue(path.stem, cites, messages, steps_made, outcomes_made, tuple(options), special)


def dialogues(folder: str, special: bool = False) -> list[Dialogue]:
    """Read the scripts of ``folder``, in order of name: those that are ``special``, or are not."""
    every = [read_dialogue(path) for path in sorted((DIALOGS / folder).glob("*.txt"))]
    return [dialogue for dialogue in every if dialogue.special == special]


class ScriptedServer:
    """Plays dialogues on a loopback port, one for each connection in turn; then refuses."""

    def __init__(self, *scripts: Dialogue, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.accepted = 0
        self.mistakes: list[str] = []
        self.port = 0
        self._scripts = list(scripts)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close, when all that was accepted is played out."""
        if self._server is not None:
            self._server.close()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=5)
            self.mistakes += ["the client did not close"] * len(pending)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
        self.accepted += 1
        if self.accepted >= len(self._scripts) and self._server is not None:
            self._server.close()
        try:
            await self._play(script, reader, writer)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.mistakes.append(f"{script.name}: {error!r}")
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _play(
        self, script: Dialogue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for step in script.steps:
            if step.kind == "send":
                writer.write(step.octets)
                await writer.drain()
            elif step.kind == "expect":
                got = await reader.readexactly(len(step.octets))
                if got != step.octets:
                    self.mistakes.append(f"{script.name}: {got!r} instead of {step.octets!r}")
                    return
            elif step.kind == "tls":
                assert self._tls is not None
                await writer.start_tls(self._tls)  # before the loop can read any of it
            elif step.octets == b"close":
                return
        try:
            rest = await reader.read()  # "silence", or the end: whatever else is too much
        except ConnectionResetError:
            rest = b""
        if rest:
            self.mistakes.append(f"{script.name}: {rest!r} after the end")


class Sink(asyncio.Protocol):
    """A small SMTP server that accepts everything, and keeps what it got.

    ``made`` collects each connection; ``keywords`` are what EHLO offers.
    """

    def __init__(self, made: list[Sink], keywords: tuple[bytes, ...] = (b"PIPELINING",)) -> None:
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self._made = made
        self._keywords = keywords
        self._buffer = b""
        self._data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._made.append(self)
        transport.write(b"220 sink.example.test\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = b"\r\n.\r\n" if self._data else b"\r\n"
            unit, found, rest = self._buffer.partition(end)
            if not found:
                return
            self._buffer = rest
            if self._data:
                self._data = False
                self.messages.append((unit + b"\r\n")[2:])
                self.reply(b"250 2.0.0 kept as %d" % len(self.messages))
            else:
                self.commands.append(unit)
                self.command(unit)

    def command(self, line: bytes) -> None:
        """Answer one command; tests override it to be less kind."""
        verb = line[:4].upper()
        if verb == b"EHLO":
            lines = (b"sink.example.test", *self._keywords)
            self.reply(
                b"\r\n".join([b"250-" + text for text in lines[:-1]] + [b"250 " + lines[-1]])
            )
        elif verb == b"DATA":
            self._data = True
            self._buffer = b"\r\n" + self._buffer  # so that a lone dot is an end, too
            self.reply(b"354 go ahead")
        elif verb == b"QUIT":
            self.reply(b"221 2.0.0 bye")
            self.close()
        else:
            self.reply(b"250 2.0.0 ok")

    def reply(self, octets: bytes) -> None:
        if self.transport is not None:
            self.transport.write(octets + b"\r\n")

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
