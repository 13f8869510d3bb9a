from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import ConfigError
from mta.machine.tls import (
    Certificates,
    Tls,
    TlsError,
    client_context,
    name_matches,
    server_context,
)
from tests.certificates import make_ca, make_certificate

NAME = "mx.example.test"


class Pki:
    """One authority and its server, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = make_ca()
        self.leaf = make_certificate([NAME, "*.pool.example.test"], self.ca)
        self.anchor, _ = self.ca.write(folder, "ca")
        self.chain, self.key = self.leaf.write(folder, "mx")
        self.server = server_context([self.chain], [self.key], "1.2")
        self.trusting = client_context(True, self.anchor)
        self.lax = client_context(False, "")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def whole(octets: bytes) -> list[bytes]:
    return [octets]


def single(octets: bytes) -> list[bytes]:
    return [octets[i : i + 1] for i in range(len(octets))]


class TlsPipe:
    """Two ends of one session, and what each said in clear."""

    def __init__(
        self,
        client: ssl.SSLContext,
        server: ssl.SSLContext,
        hostname: str = NAME,
        session: ssl.SSLSession | None = None,
        split: Callable[[bytes], list[bytes]] = whole,
    ) -> None:
        self.client = Tls(client, server_side=False, hostname=hostname, session=session)
        self.server = Tls(server, server_side=True)
        self.heard = {self.client: b"", self.server: b""}
        self.up: dict[Tls, bool] = {self.client: False, self.server: False}
        self._split = split

    def move(self) -> None:
        """Carry octets both ways until nothing is left to carry."""
        moved = True
        while moved:
            moved = False
            for here, there in ((self.client, self.server), (self.server, self.client)):
                if not self.up[here]:
                    self.up[here] = here.handshake()
                for piece in self._split(here.take()):
                    moved = True
                    there.feed(piece)
                    if not self.up[there]:
                        self.up[there] = there.handshake()
                    if self.up[there]:
                        self.heard[there] += there.read()
            moved = moved and any((self.client._out.pending, self.server._out.pending))

    def connect(self) -> TlsPipe:
        self.move()
        assert all(self.up.values())
        return self


def test_a_session_and_its_facts(pki: Pki) -> None:
    pipe = TlsPipe(pki.trusting, pki.server).connect()
    pipe.client.write(b"EHLO c\r\n")
    pipe.server.write(b"250 mx\r\n")
    pipe.move()
    assert pipe.heard == {pipe.client: b"250 mx\r\n", pipe.server: b"EHLO c\r\n"}
    ours, theirs = pipe.client.facts(), pipe.server.facts()
    assert ours.protocol == theirs.protocol == "TLSv1.3"
    assert ours.cipher == theirs.cipher != ""
    assert ours.bits >= 128
    assert ours.peer == (pki.leaf.der(),)
    assert theirs.peer == ()
    assert ours.server_name == theirs.server_name == NAME
    assert not ours.resumed
    assert pipe.client.names() == (NAME, "*.pool.example.test")


def test_the_whole_chain_is_shown(pki: Pki, tmp_path: Path) -> None:
    middle = make_ca("Middle", pki.ca)
    leaf = make_certificate([NAME], middle)
    chain, key = leaf.write(tmp_path, "mx")
    pipe = TlsPipe(pki.trusting, server_context([chain], [key], "1.2")).connect()
    assert pipe.client.facts().peer == (leaf.der(), middle.der())


def test_no_name_is_asked_for_when_none_is_given(pki: Pki) -> None:
    pipe = TlsPipe(pki.lax, pki.server, "").connect()
    assert pipe.server.facts().server_name == ""
    assert pipe.client.names() == ()  # nobody verified them


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=6), st.binary(max_size=300))
def test_k1_splits_do_not_matter(pki: Pki, cuts: list[int], clear: bytes) -> None:
    def split(octets: bytes) -> list[bytes]:
        places = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
        return [octets[a:b] for a, b in pairwise(places) if a < b]

    pipe = TlsPipe(pki.lax, pki.server, split=split).connect()
    pipe.client.write(clear)
    pipe.client.write(clear)
    pipe.server.write(clear)
    pipe.move()
    assert pipe.heard == {pipe.client: clear, pipe.server: clear * 2}


def test_k1_octet_by_octet(pki: Pki) -> None:
    pipe = TlsPipe(pki.lax, pki.server, split=single).connect()
    pipe.client.write(b"x" * 40000)
    pipe.move()
    assert pipe.heard[pipe.server] == b"x" * 40000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=6), st.booleans())
def test_k2_fuzz_of_the_handshake(pki: Pki, pieces: list[bytes], server_side: bool) -> None:
    context = pki.server if server_side else pki.lax
    tls = Tls(context, server_side=server_side)
    up = False
    try:
        for piece in pieces:
            tls.feed(piece)
            up = up or tls.handshake()
    except TlsError as error:
        assert str(error).isprintable()
    assert not up


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=80))
def test_k2_fuzz_after_the_handshake(pki: Pki, junk: bytes) -> None:
    pipe = TlsPipe(pki.lax, pki.server).connect()
    pipe.server.feed(junk)
    try:
        assert pipe.server.read() == b""
    except TlsError as error:
        assert str(error)


def test_k2_use_before_the_handshake_is_an_error_of_tls(pki: Pki) -> None:
    tls = Tls(pki.lax, server_side=False, hostname=NAME)
    with pytest.raises(TlsError):
        tls.feed(b"220 no TLS here\r\n")
        tls.handshake()
    tls.close()
    with pytest.raises(TlsError):
        tls.write(b"x")
    with pytest.raises(TlsError, match="no name"):
        Tls(pki.lax, server_side=False, hostname="x" * 70 + ".example")


def test_k3_close_notify_ends_it(pki: Pki) -> None:
    pipe = TlsPipe(pki.lax, pki.server).connect()
    pipe.client.write(b"last\r\n")
    pipe.client.close()
    wire = pipe.client.take()
    pipe.server.feed(wire)
    assert pipe.server.read() == b"last\r\n"
    assert pipe.server.ended
    pipe.server.feed(b"QUIT\r\n")
    assert pipe.server.read() == b""
    assert not pipe.client.ended


def test_addresses_are_names_in_their_one_form(pki: Pki, tmp_path: Path) -> None:
    leaf = make_certificate(["2001:db8::1", "192.0.2.1", NAME], pki.ca)
    chain, key = leaf.write(tmp_path, "mx")
    pipe = TlsPipe(pki.trusting, server_context([chain], [key], "1.2"), "192.0.2.1").connect()
    assert set(pipe.client.names()) == {"2001:db8::1", "192.0.2.1", NAME}


def test_a_session_is_resumed_and_shows_no_chain_then(pki: Pki) -> None:
    first = TlsPipe(pki.trusting, pki.server).connect()
    first.server.write(b"250 ok\r\n")  # the tickets come with it
    first.move()
    again = TlsPipe(pki.trusting, pki.server, session=first.client.session).connect()
    facts = again.client.facts()
    assert facts.resumed
    assert facts.peer == ()
    assert NAME in again.client.names()


def test_a_session_of_another_context_is_refused(pki: Pki) -> None:
    first = TlsPipe(pki.lax, pki.server).connect()
    with pytest.raises(TlsError):
        Tls(pki.trusting, server_side=False, hostname=NAME, session=first.client.session)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("expired", "expired"), ("self", "self-signed"), ("stranger", "issuer")],
)
def test_a_verifying_client_refuses(pki: Pki, tmp_path: Path, kind: str, text: str) -> None:
    leaf = {
        "expired": lambda: make_certificate([NAME], pki.ca, days=-1),
        "self": lambda: make_certificate([NAME]),
        "stranger": lambda: make_certificate([NAME], make_ca("Other")),
    }[kind]()
    chain, key = leaf.write(tmp_path, "mx")
    server = server_context([chain], [key], "1.2")
    with pytest.raises(TlsError, match=text) as caught:
        TlsPipe(pki.trusting, server).connect()
    assert caught.value.verify
    TlsPipe(pki.lax, server).connect()


def test_the_versions_are_limited(pki: Pki) -> None:
    old = client_context(False, "")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert TlsPipe(old, pki.server).connect().client.facts().protocol == "TLSv1.2"
    strict = server_context([pki.chain], [pki.key], "1.3")
    with pytest.raises(TlsError):
        TlsPipe(old, strict).connect()
    for context in (pki.server, pki.lax, pki.trusting):
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("wanted", "presented", "good"),
    [
        ("mx.example.net", "mx.example.net", True),
        ("MX.example.net.", "mx.EXAMPLE.net", True),
        ("mx.example.net", "*.example.net", True),
        ("*.example.net", "mx.example.net", True),
        ("*.example.net", "*.example.net", True),
        ("a.mx.example.net", "*.example.net", False),
        ("example.net", "*.example.net", False),
        ("example.net", "*.net", False),
        ("mx.example.net", "m*.example.net", False),
        ("mx.example.net", "mx.*.net", False),
        ("mx.example.net", "my.example.net", False),
        ("mx.example.net", "*", False),
        ("", "", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "*.0.2.1", False),
        ("2001:db8::1", "2001:db8::1", True),
    ],
)
def test_names(wanted: str, presented: str, good: bool) -> None:
    assert name_matches(wanted, presented) is good


def broken_pairs(pki: Pki, folder: Path) -> list[tuple[str, str, str]]:
    other = make_certificate(["other.test"])
    _, other_key = other.write(folder, "other")
    locked, empty = folder / "locked.key", folder / "empty.pem"
    locked.write_bytes(pki.leaf.key_pem(b"secret"))
    empty.write_bytes(b"")
    return [
        (str(folder / "absent.pem"), pki.key, "absent.pem: No such file"),
        (pki.chain, str(folder / "absent.key"), "absent.key: No such file"),
        (pki.chain, other_key, "mx.pem: not usable"),
        (str(empty), pki.key, "empty.pem: not usable"),
        (pki.chain, str(locked), "encrypted"),
    ]


def test_files_that_cannot_be_used_are_named(pki: Pki, tmp_path: Path) -> None:
    for chain, key, text in broken_pairs(pki, tmp_path):
        with pytest.raises(ConfigError, match=text):
            server_context([chain], [key], "1.2")
        with pytest.raises(ConfigError, match=text):
            Certificates([chain], [key], "1.2", print)
    for text in ("absent", "junk"):
        (tmp_path / "junk").write_text("junk")
        with pytest.raises(ConfigError, match=text):
            client_context(True, str(tmp_path / text))


def test_k4_a_broken_pair_keeps_the_old_one(pki: Pki, tmp_path: Path) -> None:
    now = 0.0
    said: list[str] = []
    chain, key = make_certificate([NAME], pki.ca).write(tmp_path, "mx")
    kept = Certificates([chain], [key], "1.2", said.append, lambda: now)
    first = kept.context()
    Path(key).write_bytes(b"junk")
    assert kept.context() is first  # not looked at yet
    for second in (1.0, 2.0, 3.0):
        now = second
        assert kept.context() is first
        assert len(said) == 1
    os.unlink(key)
    now = 4.0
    assert kept.context() is first
    assert len(said) == 2
    new = make_certificate([NAME], pki.ca)
    new.write(tmp_path, "mx")
    now = 5.0
    assert kept.context() is not first
    assert TlsPipe(pki.trusting, kept.context()).connect().client.facts().peer == (new.der(),)
    assert len(said) == 2
