"""The clients of the world send to our listener; what they send is in the Maildir then.

swaks, s-nail, msmtp, curl, smtp-source, smtplib and aiosmtplib; then Postfix, Exim and
OpenSMTPD as the servers that relay to us.  RFC 3848 names the protocol in Received.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from itertools import count
from typing import Any

import aiosmtplib
import pytest

from tests.certificates import make_certificate
from tests.e2e.house import tool, tool_environment, wait
from tests.e2e.peers.dovecot import PASSWORDS
from tests.e2e.peers.exim import Exim
from tests.e2e.peers.front import PASSWORD, Front
from tests.e2e.peers.opensmtpd import OpenSmtpd
from tests.e2e.peers.postfix import Postfix

ALICE = "alice@example.test"
NUMBERS = count(1)
TEXT = "Subject: {mark}\r\n\r\n.a dot\r\n..\r\n.\r\ngr\u00fc\u00dfe\r\nlast\r\n"


@pytest.fixture(scope="module")
def front(new_shared_house, authority) -> Front:
    return Front(new_shared_house, authority)


@pytest.fixture
def mark() -> str:
    return f"mark-{next(NUMBERS):04}-x"


def protocol(message: bytes) -> str:
    """Return the protocol that our Received field names."""
    found = re.search(rb"by mx\.example\.test\b[^;]*?\bwith ([A-Z0-9]+)", message)
    assert found is not None, message
    return found[1].decode()


def one(front: Front, mark: str, kind: str, user: str = "alice") -> bytes:
    """Return the one message with ``mark``; it came over ``kind``."""
    (message,) = front.arrived(mark, user=user)
    assert protocol(message) == kind, message
    return message


class Program:
    """A client program, unpacked or installed; skipped with its name if neither."""

    def __init__(self, package: str, path: str, *before: str) -> None:
        found = tool(path)
        if found is None:
            pytest.skip(f"{path} is not here (Debian: {package})")
        self._words = [*before, found]

    def __call__(self, *words: Any, text: str = "", ok: bool = True) -> str:
        ran = subprocess.run(
            [*self._words, *map(str, words)],
            input=text.encode(),
            env=tool_environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        assert (ran.returncode == 0) is ok, (ran.returncode, said)
        return said


@pytest.fixture
def swaks(front: Front, mark: str) -> Iterator[Any]:
    """Run swaks with the usual words; the service's port is the first argument."""
    program = Program("swaks", "usr/bin/swaks", "perl")

    def run(service: str, *words: Any, to: str = ALICE, ok: bool = True) -> str:
        where = ["--server", "127.0.0.1", "--port", front.ports[service]]
        mail = ["--from", "ann@far.test", "--to", to, "--header", f"Subject: {mark}"]
        return program(*where, *mail, *words, ok=ok)

    yield run


LOGIN = ("--auth-user", "alice", "--auth-password", PASSWORD)


@pytest.mark.parametrize(
    ("service", "words", "kind"),
    [
        ("mx", [], "ESMTP"),
        ("mx", ["--protocol", "SMTP"], "SMTP"),
        ("mx", ["--pipeline"], "ESMTP"),
        ("mx", ["--tls"], "ESMTPS"),
        ("mx", ["--tls", "--pipeline"], "ESMTPS"),
        ("mx", ["--tls", "--tls-protocol", "tlsv1_2"], "ESMTPS"),
        ("submission", ["--tls", "--auth", "PLAIN", *LOGIN], "ESMTPSA"),
        ("submission", ["--tls", "--auth", "LOGIN", *LOGIN], "ESMTPSA"),
        ("submissions", ["--tls-on-connect", "--auth", "PLAIN", *LOGIN], "ESMTPSA"),
        ("submissions", ["--tls-on-connect", "--auth", "LOGIN", "--pipeline", *LOGIN], "ESMTPSA"),
        ("lmtp", ["--protocol", "LMTP"], "LMTP"),
        ("lmtp", ["--protocol", "LMTP", "--pipeline"], "LMTP"),
        ("lmtp", ["--protocol", "LMTP", "--tls"], "LMTPS"),
    ],
    ids=" ".join,
)
def test_swaks_in_every_mode(swaks, front: Front, mark: str, service, words, kind) -> None:
    swaks(service, *words)
    one(front, mark, kind)


def test_swaks_verifies_our_certificate(swaks, front: Front, mark: str) -> None:
    swaks("mx", "--tls", "--tls-verify", "--tls-ca-path", front.ca)
    one(front, mark, "ESMTPS")


def test_swaks_over_a_unix_socket(front: Front, mark: str) -> None:
    swaks = Program("swaks", "usr/bin/swaks", "perl")
    words = ["--from", "ann@far.test", "--to", ALICE, "--header", f"Subject: {mark}"]
    swaks("--socket", front.root / "lmtp.socket", "--protocol", "LMTP", *words)
    one(front, mark, "LMTP")


PROXIED = ["--proxy-source", "192.0.2.77", "--proxy-source-port", 4711]
PROXIED += ["--proxy-dest", "192.0.2.25", "--proxy-dest-port", 25]


@pytest.mark.parametrize(
    "words",
    [
        ["--proxy-version", 1, "--proxy-family", "TCP4"],
        ["--proxy-version", 2, "--proxy-family", "AF_INET"],
    ],
    ids=["1", "2"],
)
def test_swaks_from_behind_a_proxy(swaks, front: Front, mark: str, words) -> None:
    swaks("proxy", *words, *PROXIED)
    assert b"[192.0.2.77]" in one(front, mark, "ESMTP")


def test_tls_begins_in_the_segment_of_the_proxy_header(front: Front, mark: str) -> None:
    """Nothing that follows the header is lost, as it is where TLS starts on the bare socket."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _context(front).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    header = b"PROXY TCP4 192.0.2.79 192.0.2.25 4711 465\r\n"
    with socket.create_connection(("127.0.0.1", front.ports["proxies"]), timeout=30) as wire:
        wire.sendall(header + outgoing.read())
        while True:
            try:
                tls.do_handshake()
                greeting = tls.read()
                break
            except ssl.SSLWantReadError:
                wire.sendall(outgoing.read())
                octets = wire.recv(65536)
                assert octets
                incoming.write(octets)
        assert greeting.startswith(b"220 ")


def test_a_new_certificate_is_shown_without_a_restart(front: Front, authority) -> None:
    def shown() -> bytes:
        with socket.create_connection(("127.0.0.1", front.ports["submissions"])) as wire:
            with _context(front).wrap_socket(wire, server_hostname="localhost") as tls:
                return tls.getpeercert(binary_form=True) or b""

    renewed = make_certificate(["mx.example.test", "localhost", "127.0.0.1"], authority)
    assert shown() != renewed.der()
    renewed.write(front.root, "next")
    for suffix in ("key", "pem"):
        (front.root / f"next.{suffix}").replace(front.root / f"server.{suffix}")
    wait(lambda: all(shown() == renewed.der() for _ in range(8)))  # whichever worker answers


def test_swaks_says_for_whom_it_speaks(swaks, front: Front, mark: str) -> None:
    swaks("mx", "--xclient-addr", "192.0.2.78", "--xclient-name", "named.far.test")
    assert b"[192.0.2.78]" in one(front, mark, "ESMTP")


@pytest.mark.parametrize(
    ("service", "words", "to", "reply"),
    [
        ("mx", [], "nobody@example.test", "550 5.1.1"),
        ("mx", [], "x@elsewhere.test", "550 5.7.1"),
        ("submission", [], ALICE, "530 5.7.0"),
        ("submission", ["--tls"], ALICE, "530 5.7.0"),
        ("submission", ["--tls", "-a", "PLAIN", "-au", "alice", "-ap", "no"], ALICE, "535 5.7.8"),
        ("submission", ["--tls", "-a", "LOGIN", "-au", "eve", "-ap", "no"], ALICE, "535 5.7.8"),
    ],
)
def test_swaks_is_refused(swaks, service, words, to, reply) -> None:
    assert reply in swaks(service, *words, to=to, ok=False)


def test_swaks_finds_no_authentication_in_the_clear(swaks) -> None:
    said = swaks("submission", "--auth", "PLAIN", *LOGIN, ok=False)
    assert "did not advertise authentication" in said
    assert "AUTH PLAIN" not in said


def test_lmtp_answers_for_each_recipient(front: Front, mark: str) -> None:
    with smtplib.LMTP("127.0.0.1", front.ports["lmtp"]) as client:
        client.ehlo()
        client.mail("ann@far.test")
        codes = [client.rcpt(f"{user}@example.test")[0] for user in ("alice", "nobody", "bob")]
        assert codes == [250, 550, 250]
        client.putcmd("data")
        assert client.getreply()[0] == 354
        client.send(f"Subject: {mark}\r\n\r\nx\r\n.\r\n")
        assert [client.getreply()[0] for _ in range(2)] == [250, 250]
    one(front, mark, "LMTP")
    one(front, mark, "LMTP", user="bob")


@pytest.mark.parametrize(
    "words",
    [
        ["--port=mx", "--auth=off", "--tls=off"],
        ["--port=mx", "--auth=off", "--tls=on"],
        ["--port=submission", "--auth=plain", "--tls=on"],
        ["--port=submission", "--auth=login", "--tls=on"],
        ["--port=submissions", "--auth=on", "--tls=on", "--tls-starttls=off"],
    ],
    ids=" ".join,
)
def test_msmtp(front: Front, mark: str, words) -> None:
    msmtp = Program("msmtp", "usr/bin/msmtp")
    service = words[0].removeprefix("--port=")
    words = [f"--port={front.ports[service]}", *words[1:], "--host=localhost"]
    if "--tls=on" in words:
        words.append(f"--tls-trust-file={front.ca}")
    if service != "mx":
        words += ["--user=alice", f"--passwordeval=printf %s '{PASSWORD}'"]
    text = TEXT.format(mark=mark).replace("\r\n", "\n")
    msmtp("--file=/dev/null", *words, "--from=ann@far.test", ALICE, text=text)
    kind = "ESMTPSA" if service != "mx" else "ESMTPS" if "--tls=on" in words else "ESMTP"
    assert one(front, mark, kind).endswith(text.encode().partition(b"\n\n")[2])


@pytest.mark.parametrize("service", ["mx", "submission", "submissions"])
def test_s_nail(front: Front, mark: str, service: str) -> None:
    nail = Program("s-nail", "usr/bin/s-nail")
    login = "" if service == "mx" else "alice:" + PASSWORD.replace(" ", "%20") + "@"
    login = login.replace("%@", "%25@").replace("ö", "%C3%B6")
    scheme = "smtps" if service == "submissions" else "smtp"
    words = ["-Sv15-compat", f"-Smta={scheme}://{login}localhost:{front.ports[service]}"]
    words += [f"-Stls-ca-file={front.ca}", "-Sfrom=ann@far.test", "-Sttycharset=utf-8"]
    if service == "submission":
        words.append("-Ssmtp-use-starttls")
    words.append("-Ssmtp-auth=" + ("none" if service == "mx" else "plain"))
    nail("-:/", *words, "-s", mark, ALICE, text="hello\n.\nlast\n")
    kind = "SMTP" if service == "mx" else "ESMTPSA"  # without a need, s-nail says HELO
    assert one(front, mark, kind).endswith(b"\nhello\n.\nlast\n")


@pytest.mark.parametrize("service", ["mx", "submission", "submissions"])
def test_curl(front: Front, mark: str, service: str) -> None:
    curl = Program("curl", "usr/bin/curl")
    scheme = "smtps" if service == "submissions" else "smtp"
    words = [f"{scheme}://localhost:{front.ports[service]}", "--cacert", front.ca]
    words += ["--mail-from", "ann@far.test", "--mail-rcpt", ALICE, "--upload-file", "-"]
    if service != "mx":
        words += ["--ssl-reqd", "--user", f"alice:{PASSWORD}"]
    curl("--silent", "--show-error", *words, text=TEXT.format(mark=mark))
    message = one(front, mark, "ESMTP" if service == "mx" else "ESMTPSA")
    assert message.endswith(b"\n\n.a dot\n..\n.\ngr\xc3\xbc\xc3\x9fe\nlast\n")


def test_smtp_source_sends_many_at_once(front: Front, mark: str) -> None:
    source = Program("postfix", "usr/sbin/smtp-source")
    words = ["-s", 8, "-m", 60, "-l", 5000, "-f", "ann@far.test", "-t", ALICE, "-S", mark]
    source(*words, f"127.0.0.1:{front.ports['mx']}")
    assert len(front.arrived(mark, 60)) == 60


def _context(front: Front) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(front.ca))


@pytest.mark.parametrize("service", ["mx", "submission", "submissions"])
def test_smtplib(front: Front, mark: str, service: str) -> None:
    port = front.ports[service]
    if service == "submissions":
        client = smtplib.SMTP_SSL("localhost", port, context=_context(front))
    else:
        client = smtplib.SMTP("localhost", port)
        client.starttls(context=_context(front))
    with client:
        if service != "mx":
            # smtplib can log in with ASCII alone
            client.ehlo()
            client.user, client.password = "alice", PASSWORD
            token = f"\0alice\0{PASSWORD}".encode()
            assert client.docmd("AUTH", "PLAIN " + _base64(token))[0] == 235
        text = TEXT.format(mark=mark).encode()
        client.sendmail("ann@far.test", [ALICE], text, mail_options=["BODY=8BITMIME"])
    message = one(front, mark, "ESMTPS" if service == "mx" else "ESMTPSA")
    assert message.endswith(b"\n\n.a dot\n..\n.\ngr\xc3\xbc\xc3\x9fe\nlast\n")


def _base64(octets: bytes) -> str:
    import base64

    return base64.b64encode(octets).decode()


def test_smtplib_sends_an_address_beyond_ascii(front: Front, mark: str) -> None:
    with smtplib.SMTP("127.0.0.1", front.ports["mx"]) as client:
        client.ehlo()
        assert client.has_extn("smtputf8")
        text = f"Subject: {mark} gr\u00fc\u00dfe\r\n\r\nx\r\n".encode()
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        client.sendmail("j\u00f6rg@b\u00fccher.test", [ALICE], text, mail_options=options)
    assert "j\u00f6rg@".encode() in one(front, mark, "UTF8SMTP")


@pytest.mark.parametrize("service", ["mx", "submission", "submissions"])
def test_aiosmtplib(front: Front, mark: str, service: str) -> None:
    words: dict[str, Any] = {"hostname": "localhost", "port": front.ports[service]}
    words |= {"tls_context": _context(front), "use_tls": service == "submissions"}
    if service != "submissions":
        words["start_tls"] = True
    if service != "mx":
        words |= {"username": "alice", "password": PASSWORD}
    text = TEXT.format(mark=mark).encode()
    asyncio.run(aiosmtplib.send(text, sender="ann@far.test", recipients=[ALICE], **words))
    one(front, mark, "ESMTPS" if service == "mx" else "ESMTPSA")


def test_a_dovecot_knows_the_passwords(new_house, authority, dovecot, mark: str) -> None:
    auth = f"dovecot: {dovecot.auth}, mechanisms: [PLAIN, LOGIN, SCRAM-SHA-256]"
    front = Front(new_house, authority, auth=auth)
    swaks = Program("swaks", "usr/bin/swaks", "perl")
    where = ["--server", "127.0.0.1", "--port", front.ports["submission"], "--tls"]
    mail = ["--from", "ann@far.test", "--to", ALICE, "--header", f"Subject: {mark}"]
    for user, mechanism in (("ann", "PLAIN"), ("ann", "LOGIN"), ("ben", "PLAIN")):
        swaks(*where, *mail, "-a", mechanism, "-au", user, "-ap", PASSWORDS[user])
    wrong = swaks(*where, *mail, "-a", "PLAIN", "-au", "ann", "-ap", "guess", ok=False)
    assert "535 5.7.8" in wrong
    with contextlib.suppress(pytest.skip.Exception):
        msmtp = Program("msmtp", "usr/bin/msmtp")
        words = [f"--tls-trust-file={front.ca}", "--tls=on", "--auth=scram-sha-256"]
        words += ["--host=localhost", f"--port={front.ports['submission']}", "--user=ann"]
        words += [f"--passwordeval=printf %s '{PASSWORDS['ann']}'", "--from=ann@far.test"]
        msmtp("--file=/dev/null", *words, ALICE, text=f"Subject: {mark}\n\nx\n")
        assert len(front.arrived(mark, 4)) == 4
    assert {protocol(message) for message in front.arrived(mark, 3)} == {"ESMTPSA"}


SCHEMES = ["SCRAM-SHA-256", "ARGON2ID", "ARGON2I", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT"]


def test_passwords_as_dovecot_writes_them(new_house, authority, dovecot, mark: str) -> None:
    """The lines of ``doveadm pw`` serve as they are; SCRAM's keys serve SCRAM too."""
    lines = []
    for scheme in SCHEMES:
        made = dovecot.run("doveadm", "pw", "-s", scheme, "-p", PASSWORD).stdout.strip()
        lines.append(f"{scheme.lower()}:{made}\n")
    auth = "passwords: by-dovecot, mechanisms: [PLAIN, LOGIN, SCRAM-SHA-256]"
    front = Front(new_house, authority, auth=auth, files={"by-dovecot": "".join(lines).encode()})
    swaks = Program("swaks", "usr/bin/swaks", "perl")
    where = ["--server", "127.0.0.1", "--port", front.ports["submission"], "--tls"]
    mail = ["--from", "ann@far.test", "--to", ALICE, "--header", f"Subject: {mark}"]
    for scheme in SCHEMES:
        swaks(*where, *mail, "-a", "PLAIN", "-au", scheme.lower(), "-ap", PASSWORD)
    msmtp = Program("msmtp", "usr/bin/msmtp")
    words = [f"--tls-trust-file={front.ca}", "--tls=on", "--auth=scram-sha-256"]
    words += ["--host=localhost", f"--port={front.ports['submission']}"]
    words += ["--user=scram-sha-256", "--from=ann@far.test"]
    right, wrong = (f"--passwordeval=printf %s '{word}'" for word in (PASSWORD, "guess"))
    text = f"Subject: {mark}\n\nx\n"
    msmtp("--file=/dev/null", *words, right, ALICE, text=text)
    msmtp("--file=/dev/null", *words, wrong, ALICE, text=text, ok=False)
    assert len(front.arrived(mark, len(SCHEMES) + 1)) == len(SCHEMES) + 1


@pytest.mark.parametrize("make", [Postfix, Exim, OpenSmtpd])
def test_servers_relay_to_us(front: Front, mark: str, tmp_path, make) -> None:
    peer = make(tmp_path / "peer", relay=front.ports["mx"])
    try:
        with smtplib.SMTP("127.0.0.1", peer.port) as client:
            text = TEXT.format(mark=mark).encode()
            client.sendmail("ann@far.test", [ALICE], text, mail_options=["BODY=8BITMIME"])
            refused = f"Subject: {mark} refused\r\n\r\nx\r\n"
            client.sendmail("back@" + make.DOMAIN, ["nobody@example.test"], refused)
        (message,) = front.arrived(mark)
        assert message.endswith(b"\n\n.a dot\n..\n.\ngr\xc3\xbc\xc3\x9fe\nlast\n"), message
        assert protocol(message) in ("ESMTP", "ESMTPS")
        report = wait(lambda: [m for m in peer.inbox() if b"5.1.1" in m])
        assert b"nobody@example.test" in report[0]
    finally:
        peer.stop()
