"""P1, P2: who may do what, as tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.load import load_config
from mta.config.routing import router
from mta.smtpd.policy import LMTP, MX, SUBMISSION, Access, Networks, Suffixes, canonical
from mta.types import Mailbox, Reply
from tests.smtpd.kit import write_site


def access(folder: Path, more: str = "") -> Access:
    config = load_config(str(write_site(folder, more=more)))
    return Access(config, router(config))


# service, may relay, address → the reply's code and status, "" if it is taken
RECIPIENTS = [
    (MX, False, Mailbox("bob", "example.test"), ""),
    (MX, False, Mailbox("BOB", "example.test"), ""),
    (MX, False, Mailbox("bob+x", "example.test"), ""),
    (MX, False, Mailbox("postmaster", ""), ""),
    (MX, False, Mailbox("postmaster", "mx.example.test"), ""),
    (MX, False, Mailbox("Mailer-Daemon", "mx.example.test"), ""),
    (MX, False, Mailbox("Postmaster", "[127.0.0.1]"), ""),
    (LMTP, False, Mailbox("postmaster", "mx.example.test"), ""),
    (MX, False, Mailbox("postmaster", "[127.0.0.2]"), "550 5.7.1"),
    (MX, False, Mailbox("bob", "mx.example.test"), "550 5.7.1"),
    (MX, False, Mailbox("everyone", "example.test"), ""),
    (MX, False, Mailbox("nobody", "example.test"), "550 5.1.1"),
    (MX, False, Mailbox("bob", "far.test"), "550 5.7.1"),
    (MX, False, Mailbox("bob", "relay.test"), ""),
    (MX, False, Mailbox("bob", "deep.sub.test"), ""),
    (MX, False, Mailbox("bob", "sub.test"), "550 5.7.1"),
    (MX, False, Mailbox("bob", "notrelay.test"), "550 5.7.1"),
    (MX, False, Mailbox("x@far.test", "example.test"), "550 5.1.1"),
    (MX, False, Mailbox("x%far.test", "example.test"), "550 5.1.1"),
    (MX, False, Mailbox("far.test!x", "example.test"), "550 5.1.1"),
    (MX, False, Mailbox("bob", "[127.0.0.1]"), "550 5.7.1"),
    (MX, True, Mailbox("bob", "far.test"), ""),
    (SUBMISSION, True, Mailbox("bob", "far.test"), ""),
    (SUBMISSION, False, Mailbox("bob", "far.test"), "550 5.7.1"),
    (LMTP, True, Mailbox("bob", "far.test"), "550 5.7.1"),
    (LMTP, True, Mailbox("bob", "relay.test"), "550 5.7.1"),
    (LMTP, False, Mailbox("bob", "example.test"), ""),
]


@pytest.mark.parametrize(("service", "may_relay", "mailbox", "wanted"), RECIPIENTS)
def test_p1_a_recipient(
    service: str, may_relay: bool, mailbox: Mailbox, wanted: str, tmp_path: Path
) -> None:
    found = access(tmp_path).recipient(service, may_relay, mailbox)
    said = f"{found.code} {found.status}" if isinstance(found, Reply) else ""
    assert said == wanted


# service, address → may it relay, may it say XCLIENT, is it refused
RIGHTS = [
    (MX, "192.0.2.9", True, False, False),
    (MX, "192.0.3.9", False, False, False),
    (MX, "2001:db8::9", True, False, False),
    (MX, "2001:db9::9", False, False, False),
    (MX, "10.0.0.1", False, True, False),
    (MX, "127.0.0.1", False, False, False),
    (MX, "", False, False, False),
    (LMTP, "", False, False, False),
    (LMTP, "127.0.0.1", False, False, False),
    (LMTP, "::1", False, False, False),
    (LMTP, "192.0.2.9", True, False, False),
    (LMTP, "198.51.100.1", False, False, True),
]
NETWORKS = """\
relay_from: [192.0.2.0/24, "2001:db8::/32"]
smtpd: {xclient_from: [10.0.0.1], proxy_from: [10.0.0.2]}
"""


@pytest.mark.parametrize(("service", "address", "relay", "xclient", "refused"), RIGHTS)
def test_p2_a_client(
    service: str, address: str, relay: bool, xclient: bool, refused: bool, tmp_path: Path
) -> None:
    found = access(tmp_path, NETWORKS).rights(service, address)
    assert (found.relay, found.xclient, found.refusal is not None) == (relay, xclient, refused)


def test_p2_without_a_word_nobody_is_trusted(tmp_path: Path) -> None:
    nothing = access(tmp_path)
    assert not nothing.rights(MX, "127.0.0.1").relay
    assert not nothing.rights(MX, "127.0.0.1").xclient
    assert not nothing.trusts_proxy("127.0.0.1")


def test_a_proxy_is_known_by_any_spelling(tmp_path: Path) -> None:
    some = access(tmp_path, NETWORKS)
    assert some.trusts_proxy("10.0.0.2")
    assert some.trusts_proxy("::ffff:10.0.0.2")
    assert not some.trusts_proxy("10.0.0.3")
    assert not some.trusts_proxy("")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("no address", ""),
        ("", ""),
    ],
)
def test_an_address_has_one_spelling(given: str, wanted: str) -> None:
    assert canonical(given) == wanted


def test_etrn_serves_relay_domains_alone(tmp_path: Path) -> None:
    some = access(tmp_path)
    assert some.served("relay.test") == "smtp"
    assert some.served("x.sub.test") == "smtp"
    assert some.served("far.test") == ""
    assert some.served("example.test") == ""


def test_no_networks_and_no_suffixes_have_nothing() -> None:
    assert not Networks(()).has("192.0.2.1")
    assert not Suffixes(()).has("x.test")
    assert Networks(["0.0.0.0/0"]).has("192.0.2.1")
    assert not Networks(["0.0.0.0/0"]).has("2001:db8::1")


def test_an_answer_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    some = access(tmp_path)
    asked: list[Mailbox] = []
    route = some.router.route

    def count(mailbox: Mailbox) -> object:
        asked.append(mailbox)
        return route(mailbox)

    some.router.route = count  # type: ignore[method-assign, assignment]
    for _ in range(3):
        some.recipient(MX, False, Mailbox("bob", "example.test"))
        some.recipient(MX, False, Mailbox("nobody", "example.test"))
    assert len(asked) == 2
    some.forget()
    some.recipient(MX, False, Mailbox("bob", "example.test"))
    assert len(asked) == 3
