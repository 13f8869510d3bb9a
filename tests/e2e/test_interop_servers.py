"""Our smtp and lmtp channels deliver to the servers of the world, octet for octet.

Postfix, Exim, OpenSMTPD and aiosmtpd over SMTP, Dovecot over LMTP; what they offer is used,
what they lack is done without, and what they log says so.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from tests.certificates import Certified, make_ca, make_certificate
from tests.e2e.house import House, refused_port, wait
from tests.e2e.peers import exim as exim_peer
from tests.e2e.peers.front import Front
from tests.e2e.peers.postfix import Postfix
from tests.e2e.peers.recorder import EXTENSIONS, Recorder

NUMBERS = count(1)
BODY = b".\n..\n.a\n\n" + b"x" * 990 + b"\nFrom here\n\tlast\n"
EIGHT = "gr\u00fc\u00dfe \u20ac\n".encode()
FAST = "retry: {first: 1h}"


@pytest.fixture
def mark() -> str:
    return f"mark-{next(NUMBERS):04}-y"


# Name, domain, the peer it goes to, program, and what else its channel says.
CHANNELS = [
    ("post", "postfix.test", "postfix", "smtp", ""),
    ("clear", "off.postfix.test", "postfix", "smtp", "tls: off"),
    ("require", "require.postfix.test", "postfix", "smtp", "tls: require"),
    ("verify", "verify.postfix.test", "postfix", "smtp", "tls: verify, ca: ca.pem"),
    ("mistrust", "mistrust.postfix.test", "postfix", "smtp", "tls: verify, ca: another.pem"),
    ("exim", "exim.test", "exim", "smtp", ""),
    ("login", "login.exim.test", "exim", "smtp", "tls: require, credentials: secrets"),
    ("open", "opensmtpd.test", "opensmtpd", "smtp", ""),
    ("tcp", "tcp.test", "dovecot", "lmtp", ""),
    ("unix", "unix.test", "unix", "lmtp", ""),
    ("plain", "plain.test", "plain", "smtp", "tls: require"),
    ("seven", "seven.test", "seven", "smtp", ""),
    ("knows", "knows.test", "knows", "smtp", ""),
    ("lacks", "lacks.test", "lacks", "smtp", ""),
    ("aio", "aio.test", "aio", "smtp", ""),
]
RECORDERS: dict[str, list[str]] = {
    "plain": [*EXTENSIONS],
    "seven": ["PIPELINING", "SIZE 1000000"],
    "knows": [*EXTENSIONS, "DSN"],
    "lacks": [*EXTENSIONS],
}


class Outward:
    """A house with a channel to each server that is here; those that are not have none."""

    def __init__(
        self, new_house: Callable[..., House], authority: Certified, relays: dict[str, str]
    ) -> None:
        rows, names = [], []
        for name, domain, peer, program, more in CHANNELS:
            if peer in relays:
                row = f"name: {name}, program: {program}, domains: ['{domain}']"
                row += f", relay: ['{relays[peer]}'], {FAST}{', ' if more else ''}{more}"
                rows.append(f"{{{row}}}")
                names.append(name)
        files = {"another.pem": make_ca("Another").pem(), "secrets": b""}
        if "exim" in relays:
            secret = f"{relays['exim']} {exim_peer.USER} {exim_peer.PASSWORD}\n"
            files["secrets"] = secret.encode()
        daemons = [f"deliver -b -c{','.join(names)}"]
        relay = "127.0.0.0/8"
        self.front = Front(new_house, authority, rows, daemons, relay_from=relay, files=files)
        self.house = self.front.house

    def send(self, mark: str, *to: str, body: bytes = BODY) -> str:
        text = f"Subject: {mark}\n\n".encode() + body
        return self.house.submit(text, "-falice@example.test", *to)

    def gone(self, ident: str) -> None:
        wait(lambda: self.house.gone([ident]))

    def deferred(self, ident: str) -> dict[str, Any]:
        """Wait until the message was tried in vain; return that event."""
        return self.until("deferred", ident)

    def failed(self, ident: str) -> dict[str, Any]:
        return self.until("failed", ident)

    def until(self, kind: str, ident: str) -> dict[str, Any]:
        return wait(lambda: self.house.attempts(ident, kind))[0]  # type: ignore[no-any-return]

    def report(self, mark: str, *words: str) -> bytes:
        """Wait for a DSN to alice about the message with ``mark``, with ``words`` in it."""

        def found() -> list[bytes]:
            texts = self.front.holding(mark)
            return [t for t in texts if all(word.encode() in t for word in words)]

        return wait(found)[0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def recorders() -> Iterator[dict[str, Recorder]]:
    made = {name: Recorder(extensions=offered) for name, offered in RECORDERS.items()}
    yield made
    for server in made.values():
        server.close()


Kept = list[tuple[Any, Any]]  # session and envelope, as aiosmtpd has them


@pytest.fixture(scope="module")
def aio(authority: Certified, tmp_path_factory) -> Iterator[tuple[int, Kept]]:
    """An aiosmtpd with STARTTLS and SMTPUTF8, its port, and what it got."""
    got: Kept = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            got.append((session, envelope))
            return "250 2.0.0 kept"

    folder = tmp_path_factory.mktemp("aio")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(["localhost"], authority).write(folder, "own"))

    class Server(Controller):
        def factory(self) -> SMTP:
            return SMTP(self.handler, enable_SMTPUTF8=True, tls_context=context)

    server = Server(Keep(), hostname="127.0.0.1", port=refused_port())
    server.start()
    yield server.port, got
    server.stop()


@pytest.fixture(scope="module")
def outward(request, new_shared_house, authority, recorders, aio) -> Outward:
    ports = {name: server.port for name, server in recorders.items()} | {"aio": aio[0]}
    for name in ("postfix", "exim", "opensmtpd", "dovecot"):
        with contextlib.suppress(pytest.skip.Exception):
            ports[name] = request.getfixturevalue(name).port
    relays = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    if "dovecot" in relays:
        relays["unix"] = f"unix:{request.getfixturevalue('dovecot').lmtp}"
    return Outward(new_shared_house, authority, relays)


def arrived(peer: Any, mark: str, count: int = 1) -> list[bytes]:
    def found() -> list[bytes] | None:
        got = [text for text in peer.inbox() if mark.encode() in text]
        return got if len(got) >= count else None

    return wait(found)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("postfix", b"ESMTPS "), ("exim", b"esmtps "), ("opensmtpd", b"ESMTP")],
)
def test_a_message_arrives_octet_for_octet(request, mark, name, kind) -> None:
    peer = request.getfixturevalue(name)
    outward = request.getfixturevalue("outward")
    idents = [
        outward.send(mark, f"one@{peer.DOMAIN}", f"two@{peer.DOMAIN}"),
        outward.send(mark, f"three@{peer.DOMAIN}", body=EIGHT),
    ]
    for ident in idents:
        outward.gone(ident)
    got = arrived(peer, mark, 3 if name != "exim" else 2)
    bodies = {text.partition(b"\n\n")[2] for text in got}
    assert bodies == {BODY, EIGHT}
    assert all(b"with " + kind in text.partition(b"\n\n")[0] for text in got), got[0]


def test_some_recipients_are_refused_and_some_deferred(postfix, outward, mark: str) -> None:
    users = ("good", "unknown", "later", "fine")
    ident = outward.send(mark, *[f"{user}@postfix.test" for user in users])
    assert len(arrived(postfix, mark, 2)) == 2
    outward.report(mark, "5.1.1", "unknown@postfix.test")
    assert outward.deferred(ident)["to"] == "later@postfix.test"
    assert not outward.house.gone([ident])
    assert len([job for job in outward.house.jobs() if ident in job.name]) == 1


def test_a_list_of_recipients_in_one_transaction(postfix, outward, mark: str) -> None:
    outward.gone(outward.send(mark, *[f"u{n}@postfix.test" for n in range(90)]))
    assert len(arrived(postfix, mark, 90)) == 90
    assert "nrcpt=90 (queue active)" in postfix.log()


@pytest.mark.parametrize(
    ("domain", "kind"), [("off", b"ESMTP "), ("require", b"ESMTPS "), ("verify", b"ESMTPS ")]
)
def test_tls_as_configured(postfix, outward, mark: str, domain: str, kind: bytes) -> None:
    outward.gone(outward.send(mark, f"x@{domain}.postfix.test"))
    assert b"with " + kind in arrived(postfix, mark)[0]


def test_a_certificate_of_somebody_else_keeps_the_mail(postfix, outward, mark: str) -> None:
    event = outward.deferred(outward.send(mark, "x@mistrust.postfix.test"))
    assert event["status"].startswith("4.7."), event
    assert "certificate" in event["text"], event
    assert not [text for text in postfix.inbox() if mark.encode() in text]


def test_without_starttls_required_encryption_keeps_the_mail(outward, recorders, mark: str) -> None:
    event = outward.deferred(outward.send(mark, "x@plain.test"))
    assert event["status"].startswith("4.7."), event
    said = [command for s in recorders["plain"].sessions for command in s.commands]
    assert said and not [command for command in said if command.startswith(("MAIL", "DATA"))]


def test_we_log_in_to_a_smart_host(exim, outward, mark: str) -> None:
    outward.gone(outward.send(mark, "members@login.exim.test"))
    arrived(exim, mark)
    assert f"A=plain:{exim_peer.USER}" in exim.log()


def test_without_a_password_the_smart_host_refuses(exim, outward, mark: str) -> None:
    event = outward.failed(outward.send(mark, "members@exim.test"))
    assert event["status"] == "5.7.0", event
    outward.report(mark, "members@exim.test", "5.7.0")


def test_a_message_beyond_their_size_fails_before_it_is_sent(postfix, outward, mark: str) -> None:
    big = (b"x" * 75 + b"\n") * 20_000
    event = outward.failed(outward.send(mark, "x@postfix.test", body=big))
    assert "5.3.4" in event["status"], event
    outward.report(mark, "x@postfix.test", "5.3.4")


def test_an_address_beyond_ascii(postfix, opensmtpd, outward, mark: str) -> None:
    """RFC 6531: with SMTPUTF8 it goes, without it it comes back as 5.6.7 at once."""
    outward.gone(outward.send(mark, "j\u00f6rg@postfix.test"))
    assert "Delivered-To: j\u00f6rg@postfix.test".encode() in arrived(postfix, mark)[0]
    event = outward.failed(outward.send(mark, "j\u00f6rg@opensmtpd.test"))
    assert "5.6.7" in event["status"], event
    outward.report(mark, "5.6.7")


def test_eight_bits_for_a_server_of_seven(outward, recorders, mark: str) -> None:
    """RFC 6152 s3: such a body is not sent as it is; it is re-encoded, or comes back."""
    outward.gone(outward.send(mark, "x@seven.test", body=EIGHT))
    got = recorders["seven"].got()
    for _, text in got:
        assert text.isascii(), text
        assert b"quoted-printable" in text or b"base64" in text
    if not got:
        outward.report(mark, "5.6.")


def test_aiosmtpd(outward, aio: tuple[int, Kept], mark: str) -> None:
    """A server that knows no DSN, no PIPELINING and no CHUNKING, and has STARTTLS and UTF-8."""
    outward.gone(outward.send(mark, "a@aio.test", "j\u00f6rg@aio.test", body=BODY + EIGHT))
    ((session, envelope),) = aio[1]
    assert envelope.rcpt_tos == ["a@aio.test", "j\u00f6rg@aio.test"]
    assert envelope.content.replace(b"\r\n", b"\n").endswith(b"\n\n" + BODY + EIGHT)
    assert session.ssl is not None


@pytest.mark.parametrize("domain", ["tcp.test", "unix.test"])
def test_dovecot_over_lmtp(dovecot, outward, mark: str, domain: str) -> None:
    """RFC 2033: each recipient has an answer of its own, over TCP and over a Unix socket."""
    to = [f"{user}@{domain}" for user in ("ann", "ghost", "ben")]
    ident = outward.send(mark, *to, body=BODY + EIGHT)
    outward.report(mark, "5.1.1", f"ghost@{domain}")
    outward.gone(ident)
    for user in ("ann", "ben"):
        (message,) = [m for m in dovecot.mail(user) if mark.encode() in m]
        assert message.endswith(b"\n\n" + BODY + EIGHT)


def _send_asking(port: int, to: str, mark: str, reverse_path: str, notify: str) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo()
        asked = [f"NOTIFY={notify}", "ORCPT=rfc822;Some+2Bone@old.test"]
        text = f"Subject: {mark}\r\n\r\nx\r\n"
        options = ["RET=HDRS", "ENVID=QQ+2B314159"]
        client.sendmail(reverse_path, [to], text, mail_options=options, rcpt_options=asked)


def test_what_was_asked_of_dsns_reaches_the_next_server(
    postfix, outward, recorders, mark: str
) -> None:
    """RFC 3461 s4, s5.2.1: all four parameters are passed on, and Postfix answers to them."""
    front, knows, lacks = outward.front, recorders["knows"], recorders["lacks"]
    _send_asking(front.ports["mx"], "x@knows.test", mark, "back@postfix.test", "SUCCESS,DELAY")
    _send_asking(front.ports["mx"], "x@lacks.test", mark, "ann@far.test", "NEVER")
    _send_asking(front.ports["mx"], "x@postfix.test", mark, "back@postfix.test", "SUCCESS")
    wait(lambda: knows.got() and lacks.got())
    said = {c.split(":")[0]: c for s in knows.sessions for c in s.commands if ":" in c}
    assert "RET=HDRS" in said["MAIL FROM"] and "ENVID=QQ+2B314159" in said["MAIL FROM"]
    assert "ORCPT=rfc822;Some+2Bone@old.test" in said["RCPT TO"]
    assert re.search(r"NOTIFY=(SUCCESS,DELAY|DELAY,SUCCESS)\b", said["RCPT TO"])
    plain = " ".join(c for s in lacks.sessions for c in s.commands)
    assert "NOTIFY" not in plain and "ENVID" not in plain and "RET" not in plain
    report = wait(lambda: [m for m in postfix.inbox() if b"QQ+314159" in m])[0]
    assert b"Original-Recipient: rfc822;Some+one@old.test" in report
    assert b"Action: delivered" in report


def test_a_report_says_where_the_trail_of_dsns_ends(postfix, outward, recorders, mark: str) -> None:
    """RFC 3461 s5.2.2: success was asked for, and the next server knows no DSN: "relayed"."""
    _send_asking(outward.front.ports["mx"], "end@lacks.test", mark, "back@postfix.test", "SUCCESS")
    report = wait(lambda: [m for m in postfix.inbox() if b"end@lacks.test" in m])[0]
    assert b"Action: relayed" in report
    assert b"QQ+314159" in report


@pytest.mark.parametrize("to", ["alice@example.test", "nobody@example.test"])
def test_what_another_server_asks_of_dsns_is_done(
    postfix, outward, tmp_path, mark: str, to: str
) -> None:
    """A Postfix relays to us with NOTIFY and ENVID; the report goes to whoever asked it."""
    relay = Postfix(tmp_path / "relay", relay=outward.front.ports["mx"])
    try:
        _send_asking(relay.port, to, mark, "back@postfix.test", "SUCCESS,FAILURE")
        found = wait(lambda: _reports([*postfix.inbox(), *relay.inbox()], to))
    finally:
        relay.stop()
    (report,) = found
    action = b"delivered" if to.startswith("alice") else b"failed"
    assert b"Action: " + action in report
    assert b"Original-Envelope-Id: QQ+314159" in report
    assert re.search(rb"Original-Recipient: rfc822; ?Some\+one@old\.test", report)


def _reports(inbox: list[bytes], to: str) -> list[bytes]:
    field = f"Final-Recipient: rfc822; {to}".lower().replace(" ", "").encode()
    return [text for text in inbox if field in text.lower().replace(b" ", b"")]
