"""Hostile line ends through us to servers that would be fooled: one message or none, never two.

Each attack is a body in which a second transaction follows something that looks like the end
of data (RFC 5321 s4.1.1.4 knows one end: CRLF.CRLF).  Postfix and Exim are set as lenient as
they were before 2024, and the first test shows that such a Postfix does fall for it.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.certificates import Certified
from tests.e2e.house import House, wait
from tests.e2e.peers.exim import Exim
from tests.e2e.peers.front import PASSWORD, Front
from tests.e2e.peers.postfix import Postfix

ENDS = [b"\n", b"\r", b"\r\n", b"\r\0\n", b"\0\r\n", b"\r\n\0", b"\r\r\n", b"\n\r", b"\n\r\n"]
DOTS = [b".", b"\0.", b".\0", b"..", b". "]
PLAIN_ENDS = ENDS[:3]
TRUE_END = b"\r\n.\r\n"
NUMBERS = count(1)


def attacks() -> list[bytes]:
    """Every mix of ends around a dot, and of the simple ends around odd dots; not the true end."""
    made = [before + b"." + after for before in ENDS for after in ENDS]
    made += [a + dot + b for a in PLAIN_ENDS for dot in DOTS[1:] for b in PLAIN_ENDS]
    return [attack for attack in dict.fromkeys(made) if TRUE_END not in attack]


def spell(octets: bytes) -> str:
    names = {13: "CR", 10: "LF", 0: "NUL", 32: "SP"}
    return " ".join(names.get(octet, chr(octet)) for octet in octets)


def body(mark: str, attack: bytes) -> bytes:
    inner = b"MAIL FROM:<evil@far.test>\r\nRCPT TO:<victim@postfix.test>\r\n"
    inner += b"RCPT TO:<victim@exim.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
    inner += f"Subject: {mark} smuggled\r\n\r\nsmuggled\r\n".encode()
    return f"Subject: {mark}\r\n\r\nfirst".encode() + attack + inner


class Wire:
    """A client that says exactly what it is told."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        self._file = self._socket.makefile("rb")
        self.reply()

    def reply(self) -> bytes:
        """Return the last line of the next reply; b"" at the end."""
        while line := self._file.readline():
            if line[3:4] != b"-":
                return line
        return b""

    def say(self, line: bytes) -> bytes:
        self._socket.sendall(line)
        return self.reply()

    def rest(self) -> list[bytes]:
        """Say QUIT; return the replies up to the end."""
        self._socket.sendall(b"QUIT\r\n")
        return list(iter(self.reply, b""))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def offer(wire: Wire, mark: str, attack: bytes, *to: str) -> tuple[bytes, list[bytes]]:
    """Send one attack as a client would; return the reply to the data and those after it."""
    path = b"MAIL FROM:<ann@far.test>\r\n"
    assert wire.say(path).startswith(b"250")
    for recipient in to:
        assert wire.say(f"RCPT TO:<{recipient}>\r\n".encode()).startswith(b"250")
    assert wire.say(b"DATA\r\n").startswith(b"354")
    text = body(mark, attack).replace(TRUE_END, b"\r\n..\r\n")
    reply = wire.say(text + b".\r\n")
    return reply, wire.rest()


class Pair:
    """Postfix and Exim as they once were, and our listener that relays to both."""

    def __init__(self, root, new_house, authority: Certified) -> None:
        self.postfix = Postfix(root / "postfix", strict=False)
        self.exim = Exim(root / "exim", strict=False)
        self.peers = (self.postfix, self.exim)
        rows = [
            f"{{name: {peer.DOMAIN[:-5]}, program: smtp, domains: [{peer.DOMAIN}],"
            f" relay: ['127.0.0.1:{peer.port}']}}"
            for peer in self.peers
        ]
        daemons = ["deliver -b -cpostfix", "deliver -b -cexim"]
        limits = "recipients: 100, connections: 1000, connections_per_client: 500"
        self.front = Front(
            new_house, authority, rows, daemons, relay_from="127.0.0.0/8", limits=limits
        )
        self.to = [f"x@{peer.DOMAIN}" for peer in self.peers]
        self._accepted = 0

    @property
    def house(self) -> House:
        return self.front.house

    def settle(self, marks: dict[str, tuple[bytes, bool]]) -> None:
        """Wait until nothing is on its way any more: neither here nor in the servers."""
        self._accepted += sum(accepted for _, accepted in marks.values())
        wait(lambda: self._finished() >= self._accepted)
        queues = ["queue/incoming", "queue/active", "queue/maildrop", "spool/input"]
        wait(
            lambda: (
                not any(
                    path.is_file()
                    for peer in self.peers
                    for queue in queues
                    for path in (peer.root / queue).rglob("*")
                )
            )
        )

    def _finished(self) -> int:
        return len({event["id"] for event in self.house.events("removed")})

    def judge(self, marks: dict[str, tuple[bytes, bool]]) -> list[str]:
        """Return what is wrong: marks are of (attack, whether the message was accepted)."""
        wrong = []
        for peer in self.peers:
            inbox = peer.inbox()
            for mark, (attack, accepted) in marks.items():
                got = [text for text in inbox if mark.encode() in text]
                where = f"{peer.DOMAIN}: {spell(attack)}"
                if len(got) != accepted:
                    wrong.append(f"{where}: {len(got)} messages, accepted {accepted}")
                wrong += [f"{where}: smuggled" for text in got if _to_victim(text)]
        mine = [text for path in self.house.maildir() for text in [path.read_bytes()]]
        return wrong + [f"local: {text!r}" for text in mine if b"smuggled" in text]


def _to_victim(text: bytes) -> bool:
    head = text.partition(b"\n\n")[0].lower()
    return b"for <victim@" in head or b"-to: victim@" in head or b"<evil@far.test>" in head


@pytest.fixture(scope="module")
def pair(tmp_path_factory, new_shared_house, authority) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("pair"), new_shared_house, authority)
    yield made
    for peer in made.peers:
        peer.stop()


def new_mark() -> str:
    return f"mark-{next(NUMBERS):05}-s"


def test_there_are_all_the_attacks() -> None:
    made = attacks()
    for known in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r"):
        assert known in made
    assert b"\r\n\0.\r\n" in made and b"\r\n.\0\r\n" in made and TRUE_END not in made
    assert len(made) > 90


def test_such_a_postfix_is_fooled_by_what_we_stop(pair: Pair) -> None:
    mark, wire = new_mark(), Wire(pair.postfix.port)
    wire.say(b"EHLO far.test\r\n")
    _, more = offer(wire, mark, b"\n.\r\n", "x@postfix.test")
    wire.close()
    assert len(more) > 2, more
    found = wait(lambda: [t for t in pair.postfix.inbox() if mark.encode() in t and _to_victim(t)])
    assert found


def test_no_attack_passes_through_mx(pair: Pair) -> None:
    """A bare CR or LF is refused whole, and the session goes on."""
    marks = {}
    for attack in attacks():
        mark, wire = new_mark(), Wire(pair.front.ports["mx"])
        wire.say(b"EHLO far.test\r\n")
        reply, more = offer(wire, mark, attack, *pair.to)
        wire.close()
        assert [line[:3] for line in more] == [b"221"], (spell(attack), reply, more)
        bare = attack.replace(b"\r\n", b"").strip(b".\0 ")
        bare = b"\r" in bare or b"\n" in bare
        assert reply[:3] == b"550" if bare else reply[:1] in b"25", (spell(attack), reply)
        marks[mark] = (attack, reply[:1] == b"2")
    assert {accepted for _, accepted in marks.values()} == {True, False}
    pair.settle(marks)
    assert pair.judge(marks) == []


def test_no_attack_passes_through_submission(pair: Pair) -> None:
    """Line ends are made whole: each attack is one message, in which nothing ends early."""
    context = ssl.create_default_context(cafile=str(pair.front.ca))
    token = base64.b64encode(f"\0alice\0{PASSWORD}".encode())
    marks = {}
    for attack in attacks():
        mark, wire = new_mark(), Wire(pair.front.ports["submissions"], context)
        wire.say(b"EHLO far.test\r\n")
        assert wire.say(b"AUTH PLAIN " + token + b"\r\n").startswith(b"235")
        reply, more = offer(wire, mark, attack, *pair.to)
        wire.close()
        assert [line[:3] for line in more] == [b"221"], (spell(attack), reply, more)
        marks[mark] = (attack, reply[:1] == b"2")
    refused = [spell(a) for a, accepted in marks.values() if not accepted and b"\0" not in a]
    assert refused == []
    pair.settle(marks)
    assert pair.judge(marks) == []


def test_no_attack_passes_through_the_command_line(pair: Pair) -> None:
    """submit takes whatever a script pipes into it, even the true end of data."""
    marks = {}
    for attack in [*[attack for attack in attacks() if b"\0" not in attack], TRUE_END]:
        mark = new_mark()
        words = ["-fann@far.test", *pair.to]
        ran = pair.house.run("submit", *words, input=body(mark, attack), text=False)
        marks[mark] = (attack, ran.returncode == 0)
        assert ran.returncode == 0, (spell(attack), ran.stderr)
    pair.settle(marks)
    assert pair.judge(marks) == []


def test_no_attack_passes_in_chunks(pair: Pair) -> None:
    """RFC 3030 s2: BDAT counts octets, and what came in by it leaves by whatever is there."""
    marks = {}
    for attack in [*attacks(), TRUE_END]:
        mark, wire = new_mark(), Wire(pair.front.ports["mx"])
        wire.say(b"EHLO far.test\r\n")
        assert wire.say(b"MAIL FROM:<ann@far.test>\r\n").startswith(b"250")
        for recipient in pair.to:
            assert wire.say(f"RCPT TO:<{recipient}>\r\n".encode()).startswith(b"250")
        text = body(mark, attack)
        cut = len(text) // 3
        first = wire.say(b"BDAT %d\r\n" % cut + text[:cut])
        assert first.startswith((b"250", b"550")), (spell(attack), first)
        reply = wire.say(b"BDAT %d LAST\r\n" % (len(text) - cut) + text[cut:])
        more = wire.rest()
        wire.close()
        assert [line[:3] for line in more] == [b"221"], (spell(attack), reply, more)
        marks[mark] = (attack, reply[:1] == b"2")
    pair.settle(marks)
    assert pair.judge(marks) == []


def test_binary_bodies_go_to_nobody_who_cannot_take_them(pair: Pair) -> None:
    """RFC 3030 s3: a bare CR or LF may stand in BODY=BINARYMIME, which neither server offers."""
    marks = {}
    for attack in [attack for attack in attacks() if len(attack) < 5]:
        mark, wire = new_mark(), Wire(pair.front.ports["mx"])
        wire.say(b"EHLO far.test\r\n")
        assert wire.say(b"MAIL FROM:<> BODY=BINARYMIME\r\n").startswith(b"250")
        for recipient in pair.to:
            assert wire.say(f"RCPT TO:<{recipient}>\r\n".encode()).startswith(b"250")
        text = body(mark, attack)
        reply = wire.say(b"BDAT %d LAST\r\n" % len(text) + text)
        more = wire.rest()
        wire.close()
        assert [line[:3] for line in more] == [b"221"], (spell(attack), reply, more)
        assert reply.startswith(b"250"), (spell(attack), reply)
        marks[mark] = (attack, False)
    failed = wait(lambda: _failures(pair.house, 2 * len(marks)))
    assert {event["status"] for event in failed} <= {"5.6.1", "5.6.3"}, failed[0]
    pair.settle({mark: (attack, True) for mark, (attack, _) in marks.items()})
    assert pair.judge(marks) == []


def _failures(house: House, number: int) -> list[dict[str, Any]]:
    """Return the failures of the house, once there are ``number``."""
    failed = [event for event in house.events("attempt") if event["state"] == "failed"]
    return failed if len(failed) >= number else []
