"""TLS on the way out: every level against every kind of certificate, DANE, MTA-STS, REQUIRETLS."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from mta.machine import site
from mta.machine.sts import StsPolicy
from mta.machine.tls import server_context
from mta.smtp.extensions import Transaction
from mta.types import HOST, MESSAGE
from mta.values import frozen
from tests.certificates import Certified, make_ca, make_certificate
from tests.channels.post import A, B, Hosts, Post, TlsSink, names, run
from tests.fakes import BODY
from tests.nameserver import SERVFAIL

HERE, OTHER = "127.0.0.2", "127.0.0.3"
NAME, DOMAIN = "mx.safe.test", "safe.test"


@frozen
class Keys:
    """Certificates of all kinds, as contexts of servers, and the authority's file."""

    ca: str
    good: Certified
    contexts: dict[str, ssl.SSLContext]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder: Path = tmp_path_factory.mktemp("keys")
    authority = make_ca()
    made = {
        "good": make_certificate([NAME], authority),
        "domain": make_certificate([DOMAIN], authority),
        "wrong name": make_certificate(["mx.other.test"], authority),
        "expired": make_certificate([NAME], authority, days=-2),
        "self-signed": make_certificate([NAME]),
    }
    path = folder / "ca.pem"
    path.write_bytes(authority.pem())
    contexts = {}
    for name, certified in made.items():
        chain, key = certified.write(folder, name.replace(" ", "-"))
        contexts[name] = server_context([chain], [key], "1.2")
    return Keys(str(path), made["good"], contexts)


def tlsa(certified: Certified, spoil: bool = False) -> str:
    """A DANE-EE record of the key of ``certified``."""
    octets = certified.certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashlib.sha256(octets + b"x" * spoil).hexdigest()
    return f"3 1 1 {digest}"


def zones(port: int, records: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    zone: dict[str, Any] = {DOMAIN: {"MX": [f"10 {NAME}."]}, NAME: {"A": [HERE]}, **more}
    if records:
        zone[f"_{port}._tcp.{NAME}"] = {"TLSA": records}
    return zone


SECURE = (DOMAIN,)
LEVELS = ("off", "may", "require", "verify")

# certificate → the codes of one message at each level; None is a server without STARTTLS
TABLE: dict[str | None, tuple[int, ...]] = {
    None: (250, 250, 421, 421),
    "good": (250, 250, 250, 250),
    "domain": (250, 250, 250, 250),
    "wrong name": (250, 250, 250, 421),
    "expired": (250, 250, 250, 421),
    "self-signed": (250, 250, 250, 421),
}
RESULTS = {
    None: "starttls-not-supported",
    "wrong name": "certificate-host-mismatch",
    "expired": "certificate-expired",
    "self-signed": "certificate-not-trusted",
}


@pytest.mark.parametrize("kind", TABLE, ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_levels(keys: Keys, kind: str | None, level: str) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        if kind is None:
            await hosts.start()
        else:
            await hosts.start(kind=TlsSink, context=keys.contexts[kind])
        async with names(zones(hosts.port)) as resolver:
            post = Post(hosts.port, resolver, tls=level, ca=keys.ca)
            await post.send(host=DOMAIN)
            expected = TABLE[kind][LEVELS.index(level)]
            assert post.codes == [expected], post.outcomes
            said = [(fact.domain, fact.host, fact.policy, fact.result) for fact in post.tls]
            failed = RESULTS.get(kind, "") if kind is None or level == "verify" else ""
            unasked = level == "off" or (level == "may" and kind is None)
            wanted = [] if unasked else [(DOMAIN, NAME, level, failed)]
            assert said == wanted
            if expected == 421:
                outcome = post.outcomes[0]
                assert outcome.scope == HOST
                assert outcome.reply.status in ("4.7.5", "4.7.10")
                assert hosts.messages() == 0
            elif kind is not None:
                (sink,) = hosts.sinks[HERE]
                assert isinstance(sink, TlsSink)
                assert (sink.tls is not None) == (level != "off")

    run(talk())


def test_a_level_of_a_table_row_goes_before_the_channels(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["self-signed"])
        async with names(zones(hosts.port)) as resolver:
            post = Post(hosts.port, resolver, ca=keys.ca)
            post.offer(host=DOMAIN)
            post.offer(host=DOMAIN, next_hop="tls=verify")
            post.offer(host="x.test", next_hop=f"{HERE}:{hosts.port} tls=verify")
            post.offer(host="x.test", next_hop=f"{HERE}:{hosts.port} tls=off")
            await post.wait()
            assert post.codes == [250, 421, 421, 250]

    run(talk())


@pytest.mark.parametrize("spoilt", ["nonsense", "closed"])
def test_a_failed_handshake_goes_on_in_the_clear_and_is_remembered(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    monkeypatch.setattr(site, "MESSAGES_MAX", 1)

    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"], spoilt=spoilt)
        async with names(zones(hosts.port)) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(3, host=DOMAIN)
            assert post.codes == [250] * 3, (post.outcomes, post.tls)
            assert hosts.counts() == {HERE: 4}
            asked = [b"STARTTLS" in sink.commands for sink in hosts.sinks[HERE]]
            assert asked == [True, False, False, False]
            assert [fact.result for fact in post.tls] == ["validation-failure"]
            post.offer(host=DOMAIN, next_hop="tls=require")
            await post.wait()
            assert post.codes[3:] == [421]

    run(talk())


DANE = {
    # records, level → code, result, is it encrypted
    "fits": ("fits", "may", 250, "", True),
    "fits, and nothing else will do": ("fits", "dane-only", 250, "", True),
    "another key": ("spoilt", "may", 421, "certificate-not-trusted", False),
    "none": ("", "may", 250, "", True),
    "none, and nothing else will do": ("", "dane-only", 421, "dane-required", False),
    "not usable": ("0 0 1 " + "ab" * 32, "may", 250, "", True),
    "not usable, and nothing else": (
        "0 0 1 " + "ab" * 32,
        "dane-only",
        421,
        "dane-required",
        False,
    ),
    "one of two fits": ("both", "require", 250, "", True),
}


@pytest.mark.parametrize("case", DANE)
def test_dane(keys: Keys, case: str) -> None:
    said, level, code, result, encrypted = DANE[case]
    fits, spoilt = tlsa(keys.good), tlsa(keys.good, spoil=True)
    known = {"fits": [fits], "spoilt": [spoilt], "both": [spoilt, fits], "": []}

    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"])
        zone = zones(hosts.port, known.get(said, [said]))
        async with names(zone, SECURE) as resolver:
            post = Post(hosts.port, resolver, tls=level)
            await post.send(host=DOMAIN)
            assert post.codes == [code], post.outcomes
            assert [fact.result for fact in post.tls] == [result]
            policy = "dane" if said or level == "dane-only" else "may"
            assert [fact.policy for fact in post.tls] == [policy]
            if code == 250:
                (sink,) = hosts.sinks[HERE]
                assert isinstance(sink, TlsSink)
                assert (sink.tls is not None) == encrypted
            else:
                assert post.outcomes[0].scope == HOST
                assert post.outcomes[0].reply.status == "4.7.5"

    run(talk())


def test_dane_never_goes_on_in_the_clear(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start()  # STARTTLS stripped
        async with names(zones(hosts.port, [tlsa(keys.good)]), SECURE) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host=DOMAIN)
            assert post.codes == [421]
            assert post.outcomes[0].reply.status == "4.7.10"
            assert hosts.messages() == 0

    run(talk())


@pytest.mark.parametrize("secure", [True, False])
def test_trouble_with_tlsa_defers_only_where_it_is_secure(keys: Keys, secure: bool) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"])
        zone = zones(hosts.port)
        zone[f"_{hosts.port}._tcp.{NAME}"] = SERVFAIL
        async with names(zone, SECURE if secure else ()) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host=DOMAIN)
            assert post.codes == [421 if secure else 250]
            if secure:
                assert "SERVFAIL" in post.outcomes[0].reply.text
                assert [fact.result for fact in post.tls] == ["dnssec-invalid"]

    run(talk())


def test_trouble_with_tlsa_of_one_host_goes_to_the_next(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE, OTHER)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"])
        mx = [f"10 {NAME}.", "20 mx2.safe.test."]
        zone = zones(hosts.port, **{"mx2.safe.test": {"A": [OTHER]}})
        zone[DOMAIN] = {"MX": mx}
        zone[f"_{hosts.port}._tcp.{NAME}"] = SERVFAIL
        async with names(zone, SECURE) as resolver:
            post = Post(hosts.port, resolver)
            await post.send(host=DOMAIN)
            assert post.codes == [250]
            assert hosts.counts() == {HERE: 0, OTHER: 1}

    run(talk())


def test_a_smart_host_may_have_dane(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"])
        zone = zones(hosts.port, [tlsa(keys.good, spoil=True)])
        async with names(zone, SECURE) as resolver:
            post = Post(25, resolver)
            await post.send(next_hop=f"{NAME}:{hosts.port}")
            assert post.codes == [421], post.outcomes
            assert [(fact.domain, fact.policy) for fact in post.tls] == [(NAME, "dane")]

    run(talk())


def required(**more: Any) -> Transaction:
    return Transaction(A, (B,), len(BODY), requiretls=True, **more)


REQUIRED = {
    # secured zone, level, certificate, REQUIRETLS offered → code, status
    "DANE": (True, "may", "dane", True, 250, "2.0.0"),
    "secure MX, certificate proved": (True, "may", "good", True, 250, "2.0.0"),
    "secure MX, certificate not proved": (True, "may", "self-signed", True, 421, "4.7.5"),
    "nothing proves the MX": (False, "may", "good", True, 550, "5.7.10"),
    "a person said verify": (False, "verify", "good", True, 250, "2.0.0"),
    "not offered": (True, "may", "good", False, 550, "5.7.30"),
    "no TLS": (True, "may", None, True, 550, "5.7.10"),
    "TLS is off": (True, "off", "good", True, 550, "5.7.10"),
}


@pytest.mark.parametrize("case", REQUIRED)
def test_requiretls(keys: Keys, case: str) -> None:
    secure, level, kind, offered, code, status = REQUIRED[case]

    async def talk() -> None:
        hosts = Hosts(HERE)
        context = keys.contexts["self-signed" if kind == "dane" else kind or "good"]
        if kind is None:
            await hosts.start()
        elif kind == "dane":
            context = keys.contexts["good"]
        if kind is not None:
            secured = (b"REQUIRETLS",) if offered else ()
            await hosts.start(kind=TlsSink, context=context, secured=secured)
        zone = zones(hosts.port, [tlsa(keys.good)] if kind == "dane" else [])
        ca = "" if kind == "dane" else keys.ca
        async with names(zone, SECURE if secure else ()) as resolver:
            post = Post(hosts.port, resolver, tls=level, ca=ca)
            await post.send(host=DOMAIN, transaction=required())
            outcome = post.outcomes[0]
            assert (outcome.reply.code, outcome.reply.status) == (code, status), outcome
            assert outcome.scope == (HOST if code == 421 else MESSAGE)
            if code == 250:
                mail = [c for c in hosts.sinks[HERE][0].commands if c.startswith(b"MAIL")]
                assert mail[0].endswith(b" REQUIRETLS")
            else:
                assert hosts.messages() == 0

    run(talk())


def test_a_message_that_requires_tls_does_not_go_by_a_connection_that_does_not(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        context, secured = keys.contexts["good"], (b"REQUIRETLS",)
        await hosts.start(kind=TlsSink, context=context, secured=secured)
        async with names(zones(hosts.port), SECURE) as resolver:
            post = Post(hosts.port, resolver, ca=keys.ca)
            await post.send(host=DOMAIN)
            await post.send(host=DOMAIN, transaction=required())
            await post.send(host=DOMAIN)
            assert post.codes == [250] * 3
            assert hosts.counts() == {HERE: 2}

    run(talk())


class Policies:
    """MTA-STS policies as a test has them."""

    def __init__(self, mode: str, *mx: str, failure: str = "") -> None:
        self.asked: list[str] = []
        self._policy = StsPolicy("1", mode, mx, 1e12) if mode else None
        self._failure = failure

    async def policy(self, domain: str, now: float) -> StsPolicy | None:
        self.asked.append(domain)
        return self._policy

    def failure(self, domain: str) -> str:
        return self._failure


MTA_STS = {
    # mode, what the policy allows, certificate → code, policy and result of each connection
    "enforced": ("enforce", NAME, "good", 250, [("sts", "")]),
    "enforced, by a pattern": ("enforce", "*.safe.test", "good", 250, [("sts", "")]),
    "enforced, another host": (
        "enforce",
        "mx.other.test",
        "good",
        421,
        [("sts", "validation-failure")],
    ),
    "enforced, wrong name": (
        "enforce",
        NAME,
        "wrong name",
        421,
        [("sts", "certificate-host-mismatch")],
    ),
    "enforced, the domain's name": (
        "enforce",
        NAME,
        "domain",
        421,
        [("sts", "certificate-host-mismatch")],
    ),
    "enforced, no TLS": ("enforce", NAME, None, 421, [("sts", "starttls-not-supported")]),
    "tested": ("testing", NAME, "good", 250, [("sts", "")]),
    "tested, self-signed": (
        "testing",
        NAME,
        "self-signed",
        250,
        [("sts", "certificate-not-trusted"), ("may", "")],
    ),
    "tested, another host": (
        "testing",
        "mx.other.test",
        "good",
        250,
        [("sts", "validation-failure"), ("may", "")],
    ),
    "tested, no TLS": (
        "testing",
        NAME,
        None,
        250,
        [("sts", "starttls-not-supported")],
    ),
    "none": ("none", NAME, "self-signed", 250, [("may", "")]),
    "no policy": ("", NAME, "self-signed", 250, [("may", "")]),
}


@pytest.mark.parametrize("case", MTA_STS)
def test_mta_sts(keys: Keys, case: str) -> None:
    mode, allowed, kind, code, told = MTA_STS[case]

    async def talk() -> None:
        hosts = Hosts(HERE)
        if kind is None:
            await hosts.start()
        else:
            await hosts.start(kind=TlsSink, context=keys.contexts[kind])
        async with names(zones(hosts.port)) as resolver:
            post = Post(hosts.port, resolver, Policies(mode, allowed), ca=keys.ca)
            await post.send(host=DOMAIN)
            assert post.codes == [code], post.outcomes
            assert [(fact.policy, fact.result) for fact in post.tls] == told
            assert hosts.messages() == (code == 250)

    run(talk())


def test_a_policy_on_trial_costs_one_connection_more_and_not_each_time(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "MESSAGES_MAX", 1)

    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["self-signed"])
        async with names(zones(hosts.port)) as resolver:
            post = Post(hosts.port, resolver, Policies("testing", NAME), ca=keys.ca)
            await post.send(3, host=DOMAIN)
            assert post.codes == [250] * 3
            assert hosts.counts() == {HERE: 4}

    run(talk())


def test_dane_goes_before_mta_sts(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"])
        async with names(zones(hosts.port, [tlsa(keys.good)]), SECURE) as resolver:
            post = Post(hosts.port, resolver, Policies("enforce", "mx.other.test"))
            await post.send(host=DOMAIN)
            assert [(fact.policy, fact.result) for fact in post.tls] == [("dane", "")]
            assert post.codes == [250]

    run(talk())


@pytest.mark.parametrize("level", ["off", "verify", "dane-only"])
def test_mta_sts_is_not_asked_where_a_person_has_said_more(keys: Keys, level: str) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        async with names(zones(hosts.port)) as resolver:
            policies = Policies("enforce", NAME)
            post = Post(hosts.port, resolver, policies, tls=level)
            await post.send(host=DOMAIN)
            assert policies.asked == []

    run(talk())


def test_a_policy_that_cannot_be_had_is_told_and_stops_nothing(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["self-signed"])
        async with names(zones(hosts.port)) as resolver:
            policies = Policies("", failure="sts-policy-fetch-error")
            post = Post(hosts.port, resolver, policies)
            await post.send(host=DOMAIN)
            assert post.codes == [250]
            told = [(fact.domain, fact.policy, fact.result) for fact in post.tls]
            assert told == [(DOMAIN, "sts", "sts-policy-fetch-error"), (DOMAIN, "may", "")]

    run(talk())


def test_an_enforced_policy_and_dane_authenticate_what_requires_tls(keys: Keys) -> None:
    async def talk() -> None:
        hosts = Hosts(HERE)
        context, secured = keys.contexts["good"], (b"REQUIRETLS",)
        await hosts.start(kind=TlsSink, context=context, secured=secured)
        async with names(zones(hosts.port)) as resolver:
            for mode, code in (("enforce", 250), ("testing", 550)):
                post = Post(hosts.port, resolver, Policies(mode, NAME), ca=keys.ca)
                await post.send(host=DOMAIN, transaction=required())
                assert post.codes == [code]

    run(talk())


def test_domains_share_a_site_only_under_the_same_rules(keys: Keys) -> None:
    class Some(Policies):
        async def policy(self, domain: str, now: float) -> StsPolicy | None:
            return self._policy if domain.startswith("strict") else None

    async def talk() -> None:
        hosts = Hosts(HERE)
        await hosts.start(kind=TlsSink, context=keys.contexts["good"])
        mx = {"MX": [f"10 {NAME}."]}
        domains = ["strict1.test", "strict2.test", "lax1.test", "lax2.test"]
        zone = zones(hosts.port, **dict.fromkeys(domains, mx))
        async with names(zone) as resolver:
            post = Post(hosts.port, resolver, Some("enforce", NAME), ca=keys.ca)
            for domain in domains:
                await post.send(host=domain)
            assert post.codes == [250] * 4
            assert hosts.counts() == {HERE: 2}

    run(talk())
