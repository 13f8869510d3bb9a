"""Mail finds its way by real name servers: NSD's zones, some of them signed, behind unbound.

All hosts are loopback addresses, and answer on one port that the channel is told of.  A queue
run shows each case: what was delivered where, what the log says, what waits.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.certificates import Certified, make_ca, make_certificate
from tests.e2e.house import LOCAL, House, answers, wait
from tests.e2e.peers.names import Names
from tests.e2e.peers.postfix import Postfix
from tests.e2e.peers.recorder import Recorder, common_port
from tests.e2e.peers.web import PolicySite

NUMBERS = count(1)
FIRST, SECOND, THIRD, SIX = "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"
DEAD = "127.0.0.5"  # nobody listens
SECURE = "127.0.0.6"
WEB = f"127.1.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"  # port 443 is for one run alone
LISTENING = [FIRST, SECOND, THIRD]

PLAIN = f"""\
first A {FIRST}
second A {SECOND}
third A {THIRD}
six AAAA {SIX}
dead A {DEAD}
both A {DEAD}
both AAAA {SIX}
other A {FIRST}
other AAAA ::2
other MX 10 other
alias CNAME second
lonely A {THIRD}
prio MX 10 first
prio MX 20 second
equal MX 10 first
equal MX 10 second
null MX 0 .
ill MX 10 dead
ill MX 20 second
v6 MX 10 six
mixed MX 10 both
aliased MX 10 alias
gone MX 10 nowhere
gone MX 20 third
nobody MX 10 nowhere
loop MX 10 mx.example.test.
better MX 10 first
better MX 20 mx.example.test.
better MX 30 second
away CNAME prio
lame MX 10 mx.lame.test.
hearsay A {SECURE}
"""
BOGUS = f"@ MX 10 mx\nmx A {FIRST}\n"


@pytest.fixture
def mark() -> str:
    return f"mark-{next(NUMBERS):04}-z"


class Site:
    """The names, the hosts, and the port that all of them answer on."""

    def __init__(self, root: Path, authority: Certified) -> None:
        everyone = [*LISTENING, SIX, SECURE]
        try:
            self.port = common_port(everyone)
            self.hosts = Recorder([*LISTENING, SIX], self.port)
        except OSError as error:
            pytest.skip(f"loopback addresses cannot be had: {error}")
        self.own = make_certificate(["mx.secure.test", "mx.sts.test", "stray.sts.test"], authority)
        secure = self._secure()
        sts = self._sts()
        plain = PLAIN + f"_{self.port}._tcp.hearsay TLSA 3 1 1 {self._tlsa(b'another key')}\n"
        zones = {"plain.test": plain, "secure.test": secure, "bogus.test": BOGUS, "sts.test": sts}
        self.names = Names(
            root / "names", zones, signed=["secure.test", "bogus.test"], spoilt=["bogus.test"]
        )
        self.postfix = Postfix(
            root / "postfix",
            tls="may",
            pem=self.own.key_pem() + self.own.pem(),
            address=SECURE,
            port=self.port,
            domains=r"/(^hearsay\.plain|\.secure|\.sts)\.test$/ here",
        )
        self.web = self._web(root, authority)

    def _tlsa(self, octets: bytes) -> str:
        return hashlib.sha256(octets).hexdigest()

    def _secure(self) -> str:
        spki = self.own.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        right, wrong = self._tlsa(spki), self._tlsa(b"another key")
        rows = [f"mx A {SECURE}", f"wrong-mx A {SECURE}", f"plain-mx A {FIRST}"]
        rows += ["right MX 10 mx", "wrong MX 10 wrong-mx", "none MX 10 plain-mx"]
        rows += ["first-wrong MX 10 wrong-mx", "first-wrong MX 20 mx"]
        rows.append(f"_{self.port}._tcp.mx TLSA 3 1 1 {right}")
        rows.append(f"_{self.port}._tcp.wrong-mx TLSA 3 1 1 {wrong}")
        rows.append(f"naked-mx A {SECOND}\nnaked MX 10 naked-mx")
        rows.append(f"_{self.port}._tcp.naked-mx TLSA 3 1 1 {right}")
        return "\n".join(rows) + "\n"

    DOMAINS = ("enforced", "mistaken", "untrusted", "testing")

    def _sts(self) -> str:
        rows = [f"{name} A {SECURE}" for name in ("mx", "stray", "unnamed")]
        rows.append(f"stranger A {FIRST}")
        for name in self.DOMAINS:
            rows += [f'_mta-sts.{name} TXT "v=STSv1; id=1;"', f"mta-sts.{name} A {WEB}"]
        rows += ["enforced MX 10 mx", "mistaken MX 10 stray", "untrusted MX 10 unnamed"]
        rows.append("testing MX 10 stranger")
        return "\n".join(rows) + "\n"

    def _web(self, root: Path, authority: Certified) -> PolicySite:
        hosts = [f"mta-sts.{name}.sts.test" for name in self.DOMAINS]
        chain, key = make_certificate(hosts, authority).write(root, "web")
        modes = dict.fromkeys(hosts, "enforce") | {hosts[3]: "testing"}
        allowed = ["mx.sts.test", "mx.sts.test", "unnamed.sts.test", "mx.sts.test"]
        policies = {
            host: f"version: STSv1\r\nmode: {modes[host]}\r\nmx: {mx}\r\nmax_age: 86400\r\n"
            for host, mx in zip(hosts, allowed, strict=True)
        }
        return PolicySite(WEB, chain, key, policies)

    def stop(self) -> None:
        self.hosts.close()
        self.names.stop()
        self.postfix.stop()
        self.web.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory, authority: Certified) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), authority)
    yield made
    made.stop()


class Post:
    """A house that knows its way by the site's names; ``sweep`` is one run of its queue."""

    def __init__(self, new_house: Callable[..., House], site: Site, more: str = "") -> None:
        row = f"name: smtp, program: smtp, domains: '*', port: {site.port}"
        row += f", retry: {{first: 1h}}{', ' if more else ''}{more}"
        servers = f'dns: {{nameservers: ["{site.names.endpoint}"]}}\n'
        self.house = new_house([LOCAL, f"{{{row}}}"], more=servers)
        self._site = site

    def send(self, mark: str, *to: str) -> str:
        text = f"Subject: {mark}\n\nx\n".encode()
        ident = self.house.submit(text, "-falice@example.test", *to)
        self.sweep()
        return ident

    def sweep(self) -> None:
        ran = self.house.run("deliver", "-csmtp")
        assert ran.returncode == 0, (ran.stdout, ran.stderr)

    def said(self, kind: str, ident: str) -> dict[str, Any]:
        events = self.house.attempts(ident, kind)
        assert events, self.house.events()
        return events[0]

    def where(self, mark: str) -> list[str]:
        """Return the addresses that took the message, one for each copy."""
        return [host for host, text in self._site.hosts.got() if mark.encode() in text]


@pytest.fixture
def post(new_house, site: Site) -> Post:
    return Post(new_house, site)


@pytest.mark.parametrize(
    ("domain", "where"),
    [
        ("prio", FIRST),
        ("ill", SECOND),
        ("v6", SIX),
        ("mixed", SIX),
        ("other", FIRST),
        ("lonely", THIRD),
        ("aliased", SECOND),
        ("away", FIRST),
        ("gone", THIRD),
        ("better", FIRST),
    ],
)
def test_mail_goes_where_the_zone_says(post: Post, mark: str, domain: str, where: str) -> None:
    """RFC 5321 s5.1: preference, an MX that is dead or unknown, IPv6, the implicit MX, CNAMEs."""
    ident = post.send(mark, f"x@{domain}.plain.test")
    assert post.where(mark) == [where]
    assert post.house.gone([ident])


def test_equal_mail_exchangers_share_the_mail(post: Post, mark: str, site: Site) -> None:
    """RFC 5321 s5.1: equal preferences in random order; one run a message keeps no connection."""
    for tries in range(1, 21):
        post.send(mark, "x@equal.plain.test")
        assert len(post.where(mark)) == tries
        if set(post.where(mark)) == {FIRST, SECOND}:
            return
    raise AssertionError(post.where(mark))


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("null.plain.test", "5.1.10"),  # RFC 7505 s4.2
        ("loop.plain.test", "5.4.6"),
        ("nothere.plain.test", "5.1.2"),
        ("nobody.plain.test", "5."),
    ],
)
def test_mail_that_can_go_nowhere_comes_back(post: Post, mark: str, domain: str, status) -> None:
    ident = post.send(mark, f"x@{domain}")
    event = post.said("failed", ident)
    assert event["status"].startswith(status), event
    wait(lambda: _reports(post.house, "local"))
    assert not [job for job in post.house.jobs() if ident in job.name]


def _reports(house: House, channel: str) -> list[bytes]:
    house.run("deliver", f"-c{channel}")
    return [path.read_bytes() for path in house.maildir()]


@pytest.mark.parametrize(
    "domain",
    ["outside.test", "mx.bogus.test", "bogus.test", "lame.plain.test"],
)
def test_trouble_with_names_keeps_the_mail(post: Post, mark: str, domain: str) -> None:
    """SERVFAIL, whether nobody answers for a zone or its signatures are wrong, is not a no."""
    ident = post.send(mark, f"x@{domain}")
    event = post.said("deferred", ident)
    assert event["status"].startswith("4."), event
    assert re.search("SERVFAIL|DNS|name", event["text"]), event
    assert len([job for job in post.house.jobs() if ident in job.name]) == 1
    assert not post.house.attempts(ident, "failed")
    assert not post.where(mark)
    why = post.house.run("mta", "why", f"x@{domain}").stdout
    assert "deferred" in why and event["status"] in why, why


def test_a_name_server_that_is_silent_keeps_the_mail(post: Post, mark: str) -> None:
    config = post.house.config
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = str(silent.getsockname()[1])
        config.write_text(
            re.sub(r'("127\.0\.0\.1:)\d+("\])', rf"\g<1>{port}\2", config.read_text())
        )
        ident = post.send(mark, "x@prio.plain.test")
    event = post.said("deferred", ident)
    assert event["status"].startswith("4."), event
    assert not post.house.attempts(ident, "failed") and not post.where(mark)


def test_the_dead_exchanger_is_named(post: Post, mark: str) -> None:
    ident = post.send(mark, "x@dead.plain.test")
    event = post.said("deferred", ident)
    assert DEAD in event["text"] + event["relay"], event


def _arrived(site: Site, mark: str) -> list[bytes]:
    return [text for text in site.postfix.inbox() if mark.encode() in text]


def _deferred_for(post: Post, site: Site, mark: str, to: str) -> str:
    """Return the type of failure (RFC 8460 s4.3) for which the message waits, at nobody's."""
    ident = post.send(mark, to)
    event = post.said("deferred", ident)
    assert event["status"].startswith("4.7."), event
    assert not _arrived(site, mark) and not post.where(mark)
    said = [str(event["result"]) for event in post.house.events("tls")]
    counted = [event["failures"] for event in post.house.events("tls_counters")]
    assert sum(sum(row.values()) for row in counted) == len(said)
    return said[-1]


@pytest.mark.parametrize("more", ["", "tls: dane-only"])
def test_dane_matches(new_house, site: Site, mark: str, more: str) -> None:
    """RFC 7672: the certificate that the signed TLSA record names, by nobody's authority."""
    post = Post(new_house, site, more)
    ident = post.send(mark, "x@right.secure.test")
    assert post.house.gone([ident])
    (message,) = wait(lambda: _arrived(site, mark))
    assert b"with ESMTPS" in message
    (said,) = post.house.events("tls")
    assert said["policy"] == "dane" and said["result"] == "", said
    (counted,) = post.house.events("tls_counters")
    assert counted["successful"] == 1 and not counted["failures"], counted


def test_dane_does_not_match(post: Post, site: Site, mark: str) -> None:
    kind = _deferred_for(post, site, mark, "x@wrong.secure.test")
    assert kind == "certificate-not-trusted"


def test_the_next_exchanger_may_match(post: Post, site: Site, mark: str) -> None:
    ident = post.send(mark, "x@first-wrong.secure.test")
    assert post.house.gone([ident])
    assert wait(lambda: _arrived(site, mark))
    assert post.said("delivered", ident)["relay"].startswith("mx.secure.test[")


def test_tlsa_records_rule_out_plain_text(post: Post, site: Site, mark: str) -> None:
    """RFC 7672 s2.2: a host with usable TLSA records that offers no STARTTLS gets no mail."""
    kind = _deferred_for(post, site, mark, "x@naked.secure.test")
    assert kind == "starttls-not-supported"


@pytest.mark.parametrize(
    ("domain", "more"), [("hearsay.plain.test", ""), ("wrong.secure.test", "  trust_ad: no\n")]
)
def test_tlsa_records_count_only_by_dnssec(
    new_house, site: Site, mark: str, domain: str, more: str
) -> None:
    """Those of an unsigned zone, or by a resolver that is not trusted, say nothing."""
    post = Post(new_house, site)
    config = post.house.config
    servers = f'"{site.names.endpoint}"]'
    config.write_text(config.read_text().replace(f"{servers}}}", f"{servers}, {more.strip()}}}"))
    ident = post.send(mark, f"x@{domain}")
    assert post.house.gone([ident])
    assert wait(lambda: _arrived(site, mark))


def test_dane_only_needs_dane(new_house, site: Site, mark: str) -> None:
    post = Post(new_house, site, "tls: dane-only")
    for domain in ("none.secure.test", "prio.plain.test"):
        assert _deferred_for(post, site, mark, f"x@{domain}") == "dane-required"


@pytest.fixture
def strict_post(new_house, site: Site, authority: Certified) -> Post:
    """A house that heeds MTA-STS, and trusts the tests' authority."""
    post = Post(new_house, site, "mta_sts: yes, ca: ca.pem")
    (post.house.root / "ca.pem").write_bytes(authority.pem())
    return post


def test_an_enforced_policy_is_kept(strict_post: Post, site: Site, mark: str) -> None:
    """RFC 8461 s5.1"""
    ident = strict_post.send(mark, "x@enforced.sts.test")
    assert strict_post.house.gone([ident])
    (message,) = wait(lambda: _arrived(site, mark))
    assert b"with ESMTPS" in message
    assert "mta-sts.enforced.sts.test" in site.web.asked


@pytest.mark.parametrize(
    ("domain", "kind"),
    [("mistaken", "validation-failure"), ("untrusted", "certificate-host-mismatch")],
)
def test_an_enforced_policy_that_is_broken_keeps_the_mail(
    strict_post: Post, site: Site, mark: str, domain: str, kind: str
) -> None:
    """The MX that the policy does not name; the certificate that is not for the MX."""
    assert _deferred_for(strict_post, site, mark, f"x@{domain}.sts.test") == kind


def test_a_policy_on_trial_lets_mail_through(strict_post: Post, mark: str) -> None:
    ident = strict_post.send(mark, "x@testing.sts.test")
    assert strict_post.house.gone([ident])
    assert strict_post.where(mark) == [FIRST]


def test_a_policy_from_an_unknown_authority_is_none(new_house, site: Site, mark: str) -> None:
    """RFC 8461 s3.3: without a valid certificate there is no policy, and mail goes on."""
    post = Post(new_house, site, "mta_sts: yes, ca: ca.pem")
    (post.house.root / "ca.pem").write_bytes(make_ca("Another").pem())
    ident = post.send(mark, "x@mistaken.sts.test")
    assert post.house.gone([ident])
    assert wait(lambda: _arrived(site, mark))


def test_the_site_is_there(site: Site) -> None:
    assert answers(site.port, SECURE) and not answers(site.port, DEAD)
