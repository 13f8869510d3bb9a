"""LG1, LG2: AUTH, over TLS, with a password file."""

from __future__ import annotations

import base64
import smtplib
import ssl
from pathlib import Path

import pytest

from mta.smtpd import login
from tests.certificates import make_ca, make_certificate
from tests.smtpd.kit import House, serving, short

CA = make_ca()
SERVER = make_certificate(["mx.example.test", "127.0.0.1"], CA)


def site(folder: Path, more: str = "") -> str:
    chain, key = SERVER.write(folder, "server")
    (folder / "ca.pem").write_bytes(CA.pem())
    (folder / "passwords").write_text("bob:{PLAIN}secret\n")
    (folder / "passwords").chmod(0o600)
    return f"tls: {{certificate: {chain}, key: {key}}}\nauth: {{passwords: passwords}}\n{more}"


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


def starttls(house: House) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", house.ports["submission"], "client.test", 10)
    assert client.ehlo()[0] == 250
    assert not client.has_extn("auth")
    client.starttls(context=trusting(house.folder))
    client.ehlo()
    return client


def test_a_login_over_starttls_may_relay(tmp_path: Path) -> None:
    with serving(tmp_path, ("submission",), more=site(tmp_path)) as house:
        with starttls(house) as client:
            client.login("bob", "secret")
            client.sendmail("bob@example.test", ["x@far.test"], "Subject: x\r\n\r\nx\r\n")
        ((entry, body),) = house.jobs()
        assert b" with ESMTPSA id " in body
        assert b"\t(using TLSv1.3 with cipher " in body
        assert b"bob" not in body.partition(b"From:")[0]
        assert entry.envelope.origin.startswith("client=localhost[127.0.0.1], sasl_method=")
        assert entry.envelope.origin.endswith(", sasl_username=bob")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_implicit_tls_and_each_mechanism(mechanism: str, tmp_path: Path) -> None:
    with serving(tmp_path, ("submissions",), more=site(tmp_path)) as house:
        where = ("127.0.0.1", house.ports["submissions"])
        with smtplib.SMTP_SSL(*where, "client.test", timeout=10, context=trusting(tmp_path)) as c:
            c.ehlo()
            c.user, c.password = "bob", "secret"
            assert mechanism in c.esmtp_features["auth"]
            getter = c.auth_plain if mechanism == "PLAIN" else c.auth_login
            assert c.auth(mechanism, getter)[0] == 235
            c.sendmail("bob@example.test", ["x@far.test"], "Subject: x\r\n\r\nx\r\n")
        assert len(house.messages()) == 1


def test_no_password_in_the_clear(tmp_path: Path) -> None:
    with serving(tmp_path, ("submission", "mx"), more=site(tmp_path)) as house:
        wire = house.connect("submission")
        wire.hello()
        word = base64.b64encode(b"\0bob\0secret").decode()
        assert short(wire.say(f"AUTH PLAIN {word}")) in ("538 5.7.11", "530 5.7.0")
        other = house.connect("mx")
        assert other.reply()
        assert "AUTH" not in other.say("EHLO c.test")


def test_lg1_a_failed_login_waits_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "SHORTEST", 30.0)
    monkeypatch.setattr(login, "LONGEST", 30.0)
    with serving(tmp_path, ("submission",), more=site(tmp_path)) as house:
        with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
            client = starttls(house)
            assert client.sock is not None
            client.sock.settimeout(0.2)
            client.login("bob", "wrong")
        with starttls(house) as other:
            assert other.login("bob", "secret")[0] == 235


def test_lg2_a_client_that_guesses_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "SHORTEST", 0.01)
    monkeypatch.setattr(login, "LONGEST", 0.01)
    limits = {"auth_failures": 2}
    with serving(tmp_path, ("submission",), more=site(tmp_path), limits=limits) as house:
        with starttls(house) as client:
            for _ in range(2):
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.user, client.password = "bob", "wrong"
                    client.auth("PLAIN", client.auth_plain)
            code, text = client.docmd("AUTH", "PLAIN")
            assert (code, text[:5]) == (421, b"4.7.0")
            client.close()
        assert "SASL PLAIN authentication failed" in house.log()
