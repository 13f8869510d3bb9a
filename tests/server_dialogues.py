"""Dialogues of the listener, read from tests/dialogs/server, and how they are played.

A dialogue is one session, told line by line:

    # RFC 5321 s3.3: what it shows      the first line cites the section
    O: service=submission auth          the listener, and from where the client comes:
       service=mx|submission|submissions|lmtp, tls (STARTTLS is offered), auth (on the
       submission services), size=N, recipients=N, errors=N, line=N (the limits),
       relay (the client's address may relay), xclient (it may use XCLIENT), proxy (it
       begins with a PROXY header), segment (what is sent means something only in one piece)
    C: a line, sent with CRLF; "(message)": the default body and the dot
    C~ octets without CRLF          C* N a line, N times; with "~" before it without CRLF
    S: 250 2.1.0                    a whole reply, whose last line begins so
    S+ SIZE     S- STARTTLS         the reply just read to EHLO has, or has not, this line
    S! close                        the server closes
    T!                              a TLS handshake (submissions: done already, but for proxy)
    A! SCRAM-SHA-256 bob secret     a whole exchange of AUTH, up to its last reply
    = from=<a@x> to=<b@y>,<c@z> dsn=SUCCESS|rfc822;b@y utf8 ret=HDRS body="…"
       a message that was accepted, in order, and there are no others; also binary,
       requiretls, envid=ID; dsn once for each recipient; none: the default body

C lines that follow each other go in one segment.  In them and in bodies \\xHH, \\r and
\\n are escapes.  The listener serves example.test with its users alice, bob, carol and
postmaster, relays for relay.test, and knows the password "secret" of bob.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mta.smtp import sasl
from mta.values import frozen

DIALOGS = Path(__file__).parent / "dialogs" / "server"
BODY = b"Subject: test\r\n\r\nHello.\r\n"
RELAY_CLIENT, XCLIENT_CLIENT, CLIENT = "127.0.0.2", "127.0.0.3", "127.0.0.1"


@frozen
class Taken:
    """A message that was accepted; recipients with NOTIFY and ORCPT, in order of address."""

    path: str
    recipients: tuple[tuple[str, str, str], ...]
    words: frozenset[str]
    body: bytes


@frozen
class Step:
    """One step: ``kind`` is the letter and mark of its line, "C" for what is sent."""

    kind: str
    octets: bytes
    line: int


@frozen
class Dialogue:
    name: str
    cites: str
    options: tuple[str, ...]
    steps: tuple[Step, ...]
    taken: tuple[Taken, ...]

    def option(self, name: str, default: str = "") -> str:
        """What follows ``name=`` among the options."""
        return option(self.options, name, default)


def option(options: Sequence[str], name: str, default: str = "") -> str:
    """Return what follows ``name=`` among ``options``."""
    given = [word.partition("=")[2] for word in options if word.startswith(name + "=")]
    return given[0] if given else default


class Wire(Protocol):
    """The client's end of one session."""

    def send(self, octets: bytes) -> None:
        """Send ``octets`` as one segment."""

    def line(self) -> bytes:
        """Return the next line of the server with its CRLF; b"" once it has closed."""

    def handshake(self) -> None:
        """Do a TLS handshake."""

    def finish(self) -> bytes:
        """Close; return what the server still says."""

    def taken(self) -> list[Taken]:
        """Return what was accepted."""


_ADDRESS = r'<(?:[^"<>]|"(?:[^"\\]|\\.)*")*>'
_TAKEN = re.compile(
    rf'from=({_ADDRESS}) to=({_ADDRESS}(?:,{_ADDRESS})*)((?: [^ "]+)*)(?: body="(.*)")?'
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))")
_LETTERS = {b"r": b"\r", b"n": b"\n", b"\\": b"\\", b'"': b'"'}


def unescape(text: str) -> bytes:
    """Return the octets that ``text``, read as Latin-1, stands for."""

    def octet(found: re.Match[bytes]) -> bytes:
        return bytes([int(found[1], 16)]) if found[1] else _LETTERS[found[2]]

    return _ESCAPE.sub(octet, text.encode("latin-1"))


def _sent(mark: str, text: str) -> bytes:
    if mark == "*":
        count, _, line = text.partition(" ")
        return int(count) * _sent("~" if line[:1] == "~" else ":", line.removeprefix("~"))
    if text == "(message)":
        return BODY + b".\r\n"
    return unescape(text) + (b"" if mark == "~" else b"\r\n")


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode()


def _taken(text: str) -> Taken:
    found = _TAKEN.fullmatch(text)
    assert found, text
    boxes = [_utf8(box[1:-1]) for box in re.findall(_ADDRESS, found[2])]
    words = _utf8(found[3]).split()
    wishes = [word[4:].split("|") for word in words if word.startswith("dsn=")]
    wishes += [["", ""]] * (len(boxes) - len(wishes))
    body = BODY if found[4] is None else unescape(found[4])
    recipients = [(box, wish[0], wish[1]) for box, wish in zip(boxes, wishes, strict=True)]
    flags = {word for word in words if not word.startswith("dsn=")}
    return Taken(_utf8(found[1][1:-1]), tuple(sorted(recipients)), frozenset(flags), body)


def read_dialogue(path: Path) -> Dialogue:
    """Read one script; ValueError for a line that is none of the above."""
    cites, *lines = path.read_text("latin-1").split("\n")
    options: list[str] = []
    steps: list[Step] = []
    taken: list[Taken] = []
    for number, line in enumerate(lines, 2):
        kind, text = line[:2], line[3:]
        if kind == "O:":
            options += text.split()
        elif kind in ("C:", "C~", "C*"):
            octets = _sent(kind[1], text)
            if steps and steps[-1].kind == "C":
                octets = steps.pop().octets + octets
            steps.append(Step("C", octets, number))
        elif kind in ("S:", "S+", "S-", "T!", "A!") or line == "S! close":
            steps.append(Step(kind, text.encode("latin-1"), number))
        elif kind == "= ":
            taken.append(_taken(line[2:]))
        elif line:
            raise ValueError(f"{path.name}: {line!r}")
    return Dialogue(path.stem, cites, tuple(options), tuple(steps), tuple(taken))


def dialogues() -> list[Dialogue]:
    """Read all scripts, in order of name."""
    return [read_dialogue(path) for path in sorted(DIALOGS.glob("*.txt"))]


def read_reply(wire: Wire) -> list[bytes]:
    """Return the lines of the next reply without CRLF; [] once the server has closed."""
    lines: list[bytes] = []
    while line := wire.line():
        assert re.fullmatch(rb"[2-5][0-9]{2}[ -][ -~]{0,506}\r\n", line), line
        assert line[:3] == (lines or [line])[0][:3], (lines, line)
        lines.append(line[:-2])
        if line[3:4] == b" ":
            break
    return lines


def _is(line: bytes, begins: bytes) -> bool:
    return line == begins or line.startswith(begins + b" ")


def authenticate(wire: Wire, mechanism: str, user: str, password: str) -> list[bytes]:
    """Go through an exchange; return its last reply."""
    exchange = sasl.client((mechanism,), user, password, "rOprNGfwEbeRWgbNEkqO")
    assert exchange is not None
    first = exchange.initial()
    start = b"" if first is None else b" " + base64.b64encode(first)
    wire.send(b"AUTH " + mechanism.encode() + start + b"\r\n")
    while (reply := read_reply(wire)) and reply[0][:4] == b"334 ":
        answer = exchange.step(base64.b64decode(reply[0][4:], validate=True))
        wire.send(base64.b64encode(answer) + b"\r\n")
    return reply


def play(dialogue: Dialogue, wire: Wire) -> None:
    """Play it on ``wire``; AssertionError where what comes is not what it tells."""
    reply: list[bytes] = []
    early: list[list[bytes]] = []  # a reply that an exchange has read
    closed = False
    for step in dialogue.steps:
        where = f"{dialogue.name}.txt:{step.line}"
        if step.kind == "C":
            wire.send(step.octets)
        elif step.kind == "S:":
            reply = early.pop() if early else read_reply(wire)
            assert reply, f"{where}: closed"
            assert _is(reply[-1].replace(b"-", b" ", 1), step.octets), f"{where}: {reply}"
        elif step.kind in ("S+", "S-"):
            there = any(_is(line[4:], step.octets) for line in reply[1:])
            assert there == (step.kind == "S+"), f"{where}: {reply}"
        elif step.kind == "T!":
            wire.handshake()
        elif step.kind == "A!":
            early.append(authenticate(wire, *step.octets.decode().split()))
        else:
            assert wire.line() == b"", f"{where}: not closed"
            closed = True
    rest = b"" if closed else wire.finish()
    assert rest == b"", f"{dialogue.name}: {rest!r} is too much"
    assert wire.taken() == list(dialogue.taken), dialogue.name
