"""Our smtp and lmtp channels deliver to the servers of the world, octet for octet.

Postfix, Exim, OpenSMTPD and aiosmtpd over SMTP, Dovecot over LMTP; what they offer is used,
what they lack is done without, and what they log says so.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from tests.certificates import Certified, make_ca, make_certificate
from tests.e2e.house import LOCAL, House, refused_port, wait
from tests.e2e.peers import exim as exim_peer
from tests.e2e.peers.front import Front
from tests.e2e.peers.recorder import EXTENSIONS, Recorder

NUMBERS = count(1)
BODY = b".\n..\n.a\n\n" + b"x" * 990 + b"\nFrom here\n\tlast\n"
EIGHT = "gr\u00fc\u00dfe \u20ac\n".encode()
FAST = "retry: {first: 1h}"


@pytest.fixture
def mark() -> str:
    return f"mark-{next(NUMBERS):04}-y"


def channel(name: str, domain: str, relay: str, more: str = "", program: str = "smtp") -> str:
    row = f"name: {name}, program: {program}, domains: ['{domain}'], relay: ['{relay}'], {FAST}"
    return f"{{{row}{', ' if more else ''}{more}}}"


class Outward:
    """A house with a channel to each server that a test asked for."""

    def __init__(self, new_house: Callable[..., House], *rows: str) -> None:
        names = [re.match(r"\{name: ([\w-]+)", row)[1] for row in rows]  # type: ignore[index]
        daemons = [f"deliver -b -c{','.join([*names, 'local'])}"]
        self.house = new_house([LOCAL, *rows], daemons)
        self.house.start("mta", "up")

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

    def report(self, *words: str) -> bytes:
        """Wait for a DSN to alice with ``words`` in it."""

        def found() -> list[bytes]:
            texts = [path.read_bytes() for path in self.house.maildir()]
            return [t for t in texts if all(word.encode() in t for word in words)]

        return wait(found)[0]


def arrived(peer: Any, mark: str, count: int = 1) -> list[bytes]:
    def found() -> list[bytes] | None:
        got = [text for text in peer.inbox() if mark.encode() in text]
        return got if len(got) >= count else None

    return wait(found)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("postfix", b"ESMTPS "), ("exim", b"esmtps "), ("opensmtpd", b"ESMTP")],
)
def test_a_message_arrives_octet_for_octet(new_house, request, mark, name, kind) -> None:
    peer = request.getfixturevalue(name)
    outward = Outward(new_house, channel("out", peer.DOMAIN, f"127.0.0.1:{peer.port}"))
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


def test_some_recipients_are_refused_and_some_deferred(new_house, postfix, mark: str) -> None:
    outward = Outward(new_house, channel("out", "postfix.test", f"127.0.0.1:{postfix.port}"))
    users = ("good", "unknown", "later", "fine")
    ident = outward.send(mark, *[f"{user}@postfix.test" for user in users])
    assert len(arrived(postfix, mark, 2)) == 2
    outward.report("5.1.1", "unknown@postfix.test")
    assert outward.deferred(ident)["to"] == "later@postfix.test"
    assert not outward.house.gone([ident])
    assert len(outward.house.jobs()) == 1


def test_a_list_of_recipients_in_one_transaction(new_house, postfix, mark: str) -> None:
    outward = Outward(new_house, channel("out", "postfix.test", f"127.0.0.1:{postfix.port}"))
    outward.gone(outward.send(mark, *[f"u{n}@postfix.test" for n in range(90)]))
    assert len(arrived(postfix, mark, 90)) == 90
    assert "nrcpt=90 (queue active)" in postfix.log()


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ("tls: off", b"ESMTP "),
        ("tls: require", b"ESMTPS "),
        ("tls: verify, ca: ca.pem", b"ESMTPS "),
    ],
)
def test_tls_as_configured(new_house, authority, postfix, mark: str, more, kind) -> None:
    row = channel("out", "postfix.test", f"127.0.0.1:{postfix.port}", more)
    outward = Outward(_with_file(new_house, "ca.pem", authority.pem()), row)
    outward.gone(outward.send(mark, "x@postfix.test"))
    assert b"with " + kind in arrived(postfix, mark)[0]


def _with_file(new_house: Callable[..., House], name: str, octets: bytes) -> Callable[..., House]:
    """Return a maker of houses that have one more file, readable by nobody else."""

    def make(*arguments: Any, **options: Any) -> House:
        house = new_house(*arguments, **options)
        (house.root / name).write_bytes(octets)
        (house.root / name).chmod(0o600)
        return house

    return make


def test_a_certificate_of_somebody_else_keeps_the_mail(new_house, postfix, mark: str) -> None:
    more = "tls: verify, ca: ca.pem"
    row = channel("out", "postfix.test", f"127.0.0.1:{postfix.port}", more)
    outward = Outward(_with_file(new_house, "ca.pem", make_ca("Another").pem()), row)
    event = outward.deferred(outward.send(mark, "x@postfix.test"))
    assert "4.7." in event["status"], event
    assert "certificate" in event["text"], event
    assert not [text for text in postfix.inbox() if mark.encode() in text]


def test_without_starttls_required_encryption_keeps_the_mail(new_house, mark: str) -> None:
    server = Recorder()
    row = channel("out", "plain.test", f"127.0.0.1:{server.port}", "tls: require")
    try:
        outward = Outward(new_house, row)
        event = outward.deferred(outward.send(mark, "x@plain.test"))
        assert "4.7." in event["status"], event
        assert not server.got()
        assert not [c for s in server.sessions for c in s.commands if c.startswith("MAIL")]
    finally:
        server.close()


def test_we_log_in_to_a_smart_host(new_house, exim, mark: str) -> None:
    secret = f"127.0.0.1:{exim.port} {exim_peer.USER} {exim_peer.PASSWORD}\n"
    more = "tls: require, credentials: secrets"
    row = channel("out", "*", f"127.0.0.1:{exim.port}", more)
    outward = Outward(_with_file(new_house, "secrets", secret.encode()), row)
    outward.gone(outward.send(mark, "members@exim.test"))
    arrived(exim, mark)
    assert f"A=plain:{exim_peer.USER}" in exim.log()


def test_without_a_password_the_smart_host_refuses(new_house, exim, mark: str) -> None:
    outward = Outward(new_house, channel("out", "*", f"127.0.0.1:{exim.port}"))
    outward.failed(outward.send(mark, "members@exim.test"))
    outward.report("members@exim.test", "5.7.0")


def test_a_message_beyond_their_size_fails_before_it_is_sent(new_house, postfix, mark: str) -> None:
    outward = Outward(new_house, channel("out", "postfix.test", f"127.0.0.1:{postfix.port}"))
    big = (b"x" * 75 + b"\n") * 20_000
    event = outward.failed(outward.send(mark, "x@postfix.test", body=big))
    assert "5.3.4" in event["status"], event
    outward.report("x@postfix.test", "5.3.4")


def test_an_address_beyond_ascii(new_house, postfix, opensmtpd, mark: str) -> None:
    """RFC 6531: with SMTPUTF8 it goes, without it it comes back as 5.6.7 at once."""
    outward = Outward(
        new_house,
        channel("post", "postfix.test", f"127.0.0.1:{postfix.port}"),
        channel("open", "opensmtpd.test", f"127.0.0.1:{opensmtpd.port}"),
    )
    outward.gone(outward.send(mark, "j\u00f6rg@postfix.test"))
    assert "Delivered-To: j\u00f6rg@postfix.test".encode() in arrived(postfix, mark)[0]
    event = outward.failed(outward.send(mark, "j\u00f6rg@opensmtpd.test"))
    assert "5.6.7" in event["status"], event
    outward.report("5.6.7")


def test_eight_bits_for_a_server_of_seven(new_house, mark: str) -> None:
    """RFC 6152 s3: such a body is not sent as it is; it is re-encoded, or comes back."""
    server = Recorder(extensions=["PIPELINING", "SIZE 1000000"])
    try:
        row = channel("out", "seven.test", f"127.0.0.1:{server.port}")
        outward = Outward(new_house, row)
        ident = outward.send(mark, "x@seven.test", body=EIGHT)
        outward.gone(ident)
        for _, text in server.got():
            assert text.isascii(), text
            assert b"quoted-printable" in text or b"base64" in text
        if not server.got():
            outward.report("5.6.")
    finally:
        server.close()


def test_aiosmtpd(new_house, authority: Certified, tmp_path: Path, mark: str) -> None:
    """A server that knows no DSN, no PIPELINING and no CHUNKING, and has STARTTLS and UTF-8."""
    got: list[Any] = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            got.append((session, envelope))
            return "250 2.0.0 kept"

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(["localhost"], authority).write(tmp_path, "own"))

    class Server(Controller):
        def factory(self) -> SMTP:
            return SMTP(self.handler, enable_SMTPUTF8=True, tls_context=context)

    server = Server(Keep(), hostname="127.0.0.1", port=refused_port())
    server.start()
    try:
        outward = Outward(new_house, channel("out", "*", f"127.0.0.1:{server.port}"))
        outward.gone(outward.send(mark, "a@aio.test", "j\u00f6rg@aio.test", body=BODY + EIGHT))
    finally:
        server.stop()
    ((session, envelope),) = got
    assert envelope.rcpt_tos == ["a@aio.test", "j\u00f6rg@aio.test"]
    assert envelope.content.replace(b"\r\n", b"\n").endswith(b"\n\n" + BODY + EIGHT)
    assert session.ssl is not None


def test_dovecot_over_lmtp(new_house, dovecot, mark: str) -> None:
    """RFC 2033: each recipient has an answer of its own, over TCP and over a Unix socket."""
    outward = Outward(
        new_house,
        channel("tcp", "tcp.test", f"127.0.0.1:{dovecot.port}", program="lmtp"),
        channel("unix", "unix.test", f"unix:{dovecot.lmtp}", program="lmtp"),
    )
    for domain in ("tcp.test", "unix.test"):
        to = [f"{user}@{domain}" for user in ("ann", "ghost", "ben")]
        ident = outward.send(f"{mark} {domain}", *to, body=BODY + EIGHT)
        outward.report("5.1.1", f"ghost@{domain}")
        outward.gone(ident)
        for user in ("ann", "ben"):
            (message,) = [m for m in dovecot.mail(user) if f"{mark} {domain}".encode() in m]
            assert message.endswith(b"\n\n" + BODY + EIGHT)


@pytest.fixture
def passing(new_house, authority, postfix) -> Iterator[tuple[Front, Recorder, Recorder]]:
    """A listener that relays to Postfix, to a server with DSN, and to one without."""
    knows = Recorder(extensions=[*EXTENSIONS, "DSN"])
    lacks = Recorder()
    rows = [
        channel("post", "postfix.test", f"127.0.0.1:{postfix.port}"),
        channel("knows", "knows.test", f"127.0.0.1:{knows.port}"),
        channel("lacks", "lacks.test", f"127.0.0.1:{lacks.port}"),
    ]
    daemons = ["deliver -b -cpost,knows,lacks"]
    relay = "127.0.0.0/8"
    yield Front(new_house, authority, rows, daemons, relay_from=relay), knows, lacks
    knows.close()
    lacks.close()


def _send_asking(front: Front, to: str, mark: str, reverse_path: str, notify: str) -> None:
    with smtplib.SMTP("127.0.0.1", front.ports["mx"]) as client:
        client.ehlo()
        asked = [f"NOTIFY={notify}", "ORCPT=rfc822;Some+2Bone@old.test"]
        text = f"Subject: {mark}\r\n\r\nx\r\n"
        options = ["RET=HDRS", "ENVID=QQ+2B314159"]
        client.sendmail(reverse_path, [to], text, mail_options=options, rcpt_options=asked)


def test_what_was_asked_of_dsns_reaches_the_next_server(passing, postfix, mark: str) -> None:
    """RFC 3461 s4, s5.2.1: all four parameters are passed on, and Postfix answers to them."""
    front, knows, lacks = passing
    _send_asking(front, "x@knows.test", mark, "back@postfix.test", "SUCCESS,DELAY")
    _send_asking(front, "x@lacks.test", mark, "ann@far.test", "NEVER")
    _send_asking(front, "x@postfix.test", mark, "back@postfix.test", "SUCCESS")
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


def test_a_report_says_where_the_trail_of_dsns_ends(passing, postfix, mark: str) -> None:
    """RFC 3461 s5.2.2: success was asked for, and the next server knows no DSN: "relayed"."""
    front, _, lacks = passing
    _send_asking(front, "x@lacks.test", mark, "back@postfix.test", "SUCCESS")
    wait(lacks.got)
    report = wait(lambda: [m for m in postfix.inbox() if b"x@lacks.test" in m])[0]
    assert b"Action: relayed" in report
    assert b"QQ+314159" in report
