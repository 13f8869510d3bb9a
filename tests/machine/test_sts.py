from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.machine import fetch, sts
from mta.machine.answers import Addresses, TextAnswer
from mta.machine.fetch import BODY_MAX, FetchError
from mta.machine.resolve import Resolver
from mta.machine.sts import StsCache, StsPolicy, matches, parse, tag
from mta.types import HOST, Outcome, Reply
from tests.certificates import make_ca, make_certificate
from tests.nameserver import SERVFAIL, Entry, NameServer

RECORDS = [
    (("v=STSv1; id=20160831085700Z;",), "20160831085700Z"),
    (("v=STSv1;id=a",), "a"),
    (("v=STSv1 ; id = a ; other=b",), "a"),
    (("x", "v=spf1 -all", "v=STSv1; id=a"), "a"),
    (("v=STSv1; id=a; id=b",), "a"),
    (("v=STSv1; id=a", "v=STSv1; id=a"), ""),  # s3.1: one, or none
    ((), ""),
    (("v=STSv10; id=a",), ""),
    (("v=STSv1; id=",), ""),
    (("v=STSv1; id=a-b",), ""),
    (("v=STSv1; id=" + "a" * 33,), ""),
    (("v=STSv1; id=²",), ""),
    (("v=STSv1",), ""),
    (("id=a; v=STSv1",), ""),
]


@pytest.mark.parametrize(("texts", "number"), RECORDS)
def test_m4_records(texts: tuple[str, ...], number: str) -> None:
    assert tag(texts) == number


GOOD = b"version: STSv1\nmode: enforce\nmx: mx.example.test\nmx: *.example.test\nmax_age: 86400\n"
POLICIES = [
    (GOOD, ("enforce", ("mx.example.test", "*.example.test"), 86400)),
    (GOOD.replace(b"\n", b"\r\n"), ("enforce", ("mx.example.test", "*.example.test"), 86400)),
    (GOOD.rstrip(b"\n"), ("enforce", ("mx.example.test", "*.example.test"), 86400)),
    (b"max_age:600\nmode:none\nversion:STSv1\n", ("none", (), 600)),
    (b"version: STSv1\nmode: testing\nmx: A.TEST.\nmax_age: 1", ("testing", ("a.test",), 60)),
    (GOOD + b"new: thing\nmode: none\nmax_age: 1\n\n", ("enforce", ("mx.", "*."), 86400)),
    (GOOD.replace(b"86400", b"9999999999"), ("enforce", ("mx.", "*."), 31_557_600)),
]
BAD = [
    b"",
    b"\xff\xfe",
    b"<html>",
    GOOD.replace(b"STSv1", b"STSv2"),
    GOOD.replace(b"version: STSv1\n", b""),
    GOOD.replace(b"enforce", b"always"),
    GOOD.replace(b"mode: enforce\n", b""),
    GOOD.replace(b"86400", b"x"),
    GOOD.replace(b"86400", b"-1"),
    GOOD.replace(b"86400", b"12345678901"),
    GOOD.replace(b"max_age: 86400\n", b""),
    GOOD.replace(b"mx:", b"my:"),
    GOOD.replace(b"*.", b"a.*."),
    GOOD.replace(b"*.", b"*.*."),
    GOOD.replace(b"*.example.test", b"*"),
    GOOD.replace(b"*.example.test", b""),
    GOOD.replace(b"*.example.test", b"a..b"),
    GOOD + b"mx: x.test\n" * 101,
    GOOD + b"what\n",
]


@pytest.mark.parametrize(("text", "expected"), POLICIES)
def test_m4_policies(text: bytes, expected: tuple[str, tuple[str, ...], int]) -> None:
    found = parse(text, "1", 1000.0)
    mode, mx, age = expected
    assert (found.id, found.mode, found.until) == ("1", mode, 1000.0 + age)
    assert len(found.mx) == len(mx)
    assert all(a.startswith(b) for a, b in zip(found.mx, mx, strict=True))


@pytest.mark.parametrize("text", BAD)
def test_m4_what_is_no_policy(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse(text, "1", 0.0)


lines = st.sampled_from(
    [*GOOD.split(b"\n"), b"mode: none", b"mx:", b":", b"\r", b"mx: ..", b"\xc3"]
)


@given(st.one_of(st.binary(max_size=80), st.lists(lines, max_size=8).map(b"\n".join)))
@settings(max_examples=150)
def test_m4_any_octets(octets: bytes) -> None:
    tag((octets.decode("latin-1"),))
    try:
        found = parse(octets, "1", 0.0)
    except ValueError:
        return
    assert found.mode == "none" or found.mx
    assert 60 <= found.until <= 31_557_600


NAMES = [
    ("mx.example.test", True),
    ("MX.example.test.", True),
    ("a.wild.test", True),
    ("a.b.wild.test", False),  # s4.1: one label
    ("wild.test", False),
    (".wild.test", True),
    ("test", False),
    ("", False),
    ("mx.example.test.evil.test", False),
]


@pytest.mark.parametrize(("name", "allowed"), NAMES)
def test_names(name: str, allowed: bool) -> None:
    assert (
        matches(StsPolicy("1", "enforce", ("mx.example.test", "*.wild.test"), 0), name) == allowed
    )


class Site:
    """An HTTPS server, and what it answers."""

    def __init__(self, port: int, ca: str) -> None:
        self.port, self.ca = port, ca
        self.answer = b""
        self.times = 0
        self.paths: list[tuple[str, str]] = []

    def give(self, body: bytes, status: str = "200 OK", **fields: str) -> None:
        lines = {"Content-Type": "text/plain", "Content-Length": str(len(body))}
        lines |= {name.replace("_", "-"): value for name, value in fields.items()}
        head = "".join([f"{name}: {value}\r\n" for name, value in lines.items() if value])
        self.answer = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("https")
    authority = make_ca()
    (folder / "ca.pem").write_bytes(authority.pem())
    one = make_certificate(["mta-sts.example.test", "mta-sts.xn--bcher-kva.test"], authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*one.write(folder, "site"))

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.times += 1
            made.paths.append((self.headers["Host"], self.path))
            self.wfile.write(made.answer)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    web = Quiet(("127.0.0.1", 0), Page)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    made = Site(web.server_port, str(folder / "ca.pem"))
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.fixture
def site(server: Site) -> Site:
    server.times = 0
    server.paths.clear()
    server.give(GOOD)
    return server


ZONES: dict[str, Entry] = {
    "_mta-sts.example.test": {"TXT": ['"v=STSv1; id=1;"']},
    "mta-sts.example.test": {"A": ["127.0.0.1"]},
    "_mta-sts.other.test": {"TXT": ['"v=STSv1; id=1;"']},
    "mta-sts.other.test": {"A": ["127.0.0.1"]},  # the certificate is not for it
    "_mta-sts.nowhere.test": {"TXT": ['"v=STSv1; id=1;"']},
    "_mta-sts.sick.test": SERVFAIL,
    "_mta-sts.xn--bcher-kva.test": {"TXT": ['"v=STSv1; id=1;"']},
    "mta-sts.xn--bcher-kva.test": {"A": ["127.0.0.1"]},
}


def with_servers(site: Site, work: Callable[[StsCache], Coroutine[Any, Any, None]]) -> None:
    with NameServer(ZONES) as server:
        asyncio.run(work(StsCache(Resolver((server.endpoint,)), site.ca, site.port)))


def test_a_policy_from_a_real_server(site: Site) -> None:
    async def talk(cache: StsCache) -> None:
        found = await asyncio.gather(*[cache.policy("Example.test", 5.0) for _ in range(9)])
        policy = StsPolicy("1", "enforce", ("mx.example.test", "*.example.test"), 86405.0)
        assert set(found) == {policy}
        assert await cache.policy("example.test", 10.0) == policy
        assert site.paths == [("mta-sts.example.test", "/.well-known/mta-sts.txt")]
        assert await cache.policy("bücher.test", 10.0) is not None
        assert site.times == 2
        assert cache.failure("example.test") == ""
        for domain in ("plain.test", "sick.test", "a..b", ""):
            assert await cache.policy(domain, 10.0) is None
        assert site.times == 2

    with_servers(site, talk)


def test_a_certificate_for_another(site: Site) -> None:
    async def talk(cache: StsCache) -> None:
        assert await cache.policy("other.test", 0.0) is None
        assert cache.failure("other.test") == "sts-webpki-invalid"
        assert await cache.policy("nowhere.test", 0.0) is None
        assert cache.failure("nowhere.test") == "sts-policy-fetch-error"
        assert site.times == 0

    with_servers(site, talk)


def test_an_authority_that_is_not_trusted(site: Site) -> None:
    async def talk(cache: StsCache) -> None:
        cache._ca = ""  # the system's
        assert await cache.policy("example.test", 0.0) is None
        assert cache.failure("example.test") == "sts-webpki-invalid"
        absent = StsCache(cache._resolver, str(Path(site.ca).parent / "absent"), site.port)
        assert await absent.policy("example.test", 0.0) is None

    with_servers(site, talk)


CHUNKED = b"5\r\nversi\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (len(GOOD) - 5, GOOD[5:])
Give = Callable[[Site], None]
ACCEPTED: list[Give] = [
    lambda site: site.give(GOOD, Content_Type="Text/Plain; charset=utf-8"),
    lambda site: site.give(GOOD, Content_Length=""),
    lambda site: site.give(CHUNKED, Content_Length="", Transfer_Encoding="chunked"),
    lambda site: site.give(GOOD + b"#:" + b"x" * (BODY_MAX - len(GOOD) - 2)),
]
REFUSED: list[Give] = [
    lambda site: site.give(GOOD, "301 Moved", Location="https://mta-sts.example.test/x"),
    lambda site: site.give(GOOD, "404 Not Found"),
    lambda site: site.give(GOOD, "204 No Content"),
    lambda site: site.give(GOOD, Content_Type="text/html"),
    lambda site: site.give(GOOD, Content_Type=""),
    lambda site: site.give(GOOD, Content_Length=str(len(GOOD) + 1)),
    lambda site: site.give(GOOD, Content_Length="-1"),
    lambda site: site.give(GOOD, Content_Length="99999999999"),
    lambda site: site.give(GOOD, Content_Encoding="gzip"),
    lambda site: site.give(GOOD, Transfer_Encoding="gzip"),
    lambda site: site.give(GOOD + b"#:" + b"x" * BODY_MAX),
    lambda site: site.give(GOOD + b"#:" + b"x" * BODY_MAX, Content_Length=""),
    lambda site: site.give(CHUNKED[:-8], Content_Length="", Transfer_Encoding="chunked"),
    lambda site: site.give(b"g\r\nx", Content_Length="", Transfer_Encoding="chunked"),
    lambda site: site.give(b"20000\r\nx", Content_Length="", Transfer_Encoding="chunked"),
    lambda site: site.give(b"1\r\nxyz", Content_Length="", Transfer_Encoding="chunked"),
    lambda site: setattr(site, "answer", b"SSH-2.0\r\n\r\n"),
    lambda site: setattr(site, "answer", b""),
    lambda site: setattr(site, "answer", b"HTTP/1.1 100 Go on\r\n\r\n" * 9),
    lambda site: setattr(site, "answer", b"HTTP/1.1 200 OK\r\nX: " + b"x" * BODY_MAX),
]


def test_what_servers_say_well(site: Site) -> None:
    async def talk(cache: StsCache) -> None:
        for number, give in enumerate(ACCEPTED):
            give(site)
            cache._known.clear()
            assert await cache.policy("example.test", 0.0) is not None, number

    with_servers(site, talk)


def test_f1_what_is_not_taken(site: Site) -> None:
    async def talk(cache: StsCache) -> None:
        for number, give in enumerate(REFUSED):
            give(site)
            cache._known.clear()
            assert await cache.policy("example.test", 0.0) is None, number
            assert cache.failure("example.test") == "sts-policy-fetch-error"

    with_servers(site, talk)


@given(st.binary(max_size=60), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]), st.booleans())
@settings(max_examples=150)
def test_f1_any_octets(octets: bytes, first: bytes, chunked: bool) -> None:
    class Writer:
        def write(self, octets: bytes) -> None:
            pass

    async def talk() -> bytes:
        reader = asyncio.StreamReader(limit=BODY_MAX)
        how = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        head = first + b"Content-Type: text/plain\r\n" + how + b"\r\n" if first else b""
        reader.feed_data(head + octets)
        reader.feed_eof()
        writer: Any = Writer()
        return await fetch._talk(reader, writer, "a.test", "/")

    try:
        assert len(asyncio.run(talk())) <= BODY_MAX
    except (EOFError, ValueError, asyncio.LimitOverrunError):
        pass


class Web:
    """Records, and pages instead of fetches."""

    def __init__(self) -> None:
        self.number = "1"
        self.page = GOOD
        self.up = True
        self.fetched: list[float] = []

    async def text(self, name: str, now: float) -> TextAnswer:
        if self.number == "sick":
            return TextAnswer((), Outcome(Reply(421, "4.4.3", "x"), HOST))
        return TextAnswer((f"v=STSv1; id={self.number}",) if self.number else ())

    async def addresses(self, host: str, now: float) -> Addresses:
        self.fetched.append(now)
        return Addresses(("192.0.2.1",))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    made = Web()

    async def get(*_: object) -> bytes:
        await asyncio.sleep(0)
        if not made.up:
            raise FetchError("down")
        return made.page

    monkeypatch.setattr(sts, "get", get)
    return made


DAY = 86400.0


def ask(cache: StsCache, now: float, domain: str = "example.test") -> str:
    """The id and mode of the policy at ``now``."""
    found = asyncio.run(cache.policy(domain, now))
    return f"{found.id} {found.mode}" if found else ""


@pytest.mark.parametrize("number", ["1", "2", "", "sick"])
def test_m1_nothing_takes_a_policy_away(number: str, web: Web) -> None:
    cache = StsCache(web)
    assert ask(cache, 0.0) == "1 enforce"
    web.up, web.number = False, number
    for now in (10.0, DAY / 2, DAY / 2 + 1, DAY - 1):
        assert ask(cache, now) == "1 enforce"
    assert ask(cache, DAY) == ""


def test_m1_a_bad_policy_takes_none_away_either(web: Web) -> None:
    cache = StsCache(web)
    ask(cache, 0.0)
    web.number, web.page = "2", b"nonsense"
    assert ask(cache, 1.0) == "1 enforce"
    assert cache.failure("example.test") == "sts-policy-invalid"


def test_m2_a_new_id_is_a_new_policy(web: Web) -> None:
    cache = StsCache(web)
    ask(cache, 0.0)
    web.number, web.page = "2", GOOD.replace(b"enforce", b"none")
    assert ask(cache, 1.0) == "2 none"
    assert web.fetched == [0.0, 1.0]


def test_m2_it_is_fetched_once(web: Web) -> None:
    cache = StsCache(web)

    async def talk() -> None:
        await asyncio.gather(*[cache.policy("example.test", 0.0) for _ in range(9)])

    asyncio.run(talk())
    for now in (1.0, 100.0, DAY / 2 - 1):
        ask(cache, now)
    assert web.fetched == [0.0]
    ask(cache, DAY / 2)  # before it runs out
    assert web.fetched == [0.0, DAY / 2]
    assert ask(cache, DAY + 10) == "1 enforce"


def test_m2_a_failure_is_not_repeated_at_once(web: Web) -> None:
    cache = StsCache(web)
    web.up = False
    for now in (0.0, 1.0, 299.0):
        assert ask(cache, now) == ""
    assert web.fetched == [0.0]
    web.up = True
    assert ask(cache, 300.0) == "1 enforce"


def test_m3_the_cache_is_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sts.DOMAINS_MAX <= 10_000
    monkeypatch.setattr(sts, "DOMAINS_MAX", 5)
    cache = StsCache(web)
    for number in range(20):
        ask(cache, number, f"d{number}.test")
        ask(cache, number, "kept.test")
        assert len(cache) <= 5
    assert len(web.fetched) == 21


def test_time_limits(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sts, "FETCH_LIMIT", 0.01)
    monkeypatch.setattr(sts, "RECORD_LIMIT", 0.01)

    async def never(*_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(sts, "get", never)
    cache = StsCache(web)
    assert ask(cache, 0.0) == ""
    assert cache.failure("example.test") == "sts-policy-fetch-error"
    monkeypatch.setattr(web, "text", never)
    assert ask(cache, 1000.0) == ""
