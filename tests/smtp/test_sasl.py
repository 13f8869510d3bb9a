from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import RemoteProtocolError
from mta.smtp import sasl, scram, steps
from mta.smtp.saslprep import prepare
from mta.smtp.steps import CANCELLED, Challenge, Credentials, Event, Failed, Lookup, Proven


def preparable(text: str) -> bool:
    try:
        return bool(prepare(text, stored=True))
    except ValueError:
        return False


TEXT = st.text(min_size=1, max_size=20).filter(preparable)


def play(mechanism: str, user: str, password: str, initial: bool = True) -> Event:
    """Return the last event of a client against a server."""
    client = sasl.client((mechanism.lower(),), user, password, "client")
    server = sasl.server(mechanism.lower(), "server")
    assert client is not None
    assert client.mechanism == mechanism
    assert server is not None
    assert not client.complete
    event = server.begin(client.initial() if initial else None)
    while True:
        if isinstance(event, Lookup):
            assert event.user == prepare(user)
            event = server.keys(scram.derive(password, b"salt", 4096))  # type: ignore[union-attr]
        if not isinstance(event, Challenge):
            assert client.complete
            return event
        event = server.step(client.step(event.octets))


@settings(max_examples=25)
@given(TEXT, TEXT, st.booleans())
def test_a1_the_server_gets_what_the_client_gives(user: str, password: str, initial: bool) -> None:
    for mechanism in sasl.CLEAR:
        assert play(mechanism, user, password, initial) == Credentials(prepare(user), password, "")
    assert play("SCRAM-SHA-256", user, password, initial) == Proven(prepare(user), "")


STEP = st.one_of(st.none(), st.binary(max_size=30), st.sampled_from([b"", b"\0a\0b", b"a\0b\0c"]))


@given(st.sampled_from(sasl.MECHANISMS), st.lists(STEP, min_size=1, max_size=5))
def test_a2_fuzz_the_server(mechanism: str, answers: list[bytes | None]) -> None:
    server = sasl.server(mechanism, "nonce")
    assert server is not None
    event = server.begin(answers[0])
    for answer in answers[1:]:
        if not isinstance(event, Challenge):
            break
        event = server.step(answer)
    assert isinstance(event, Challenge | Credentials | Lookup | Failed)


@given(st.sampled_from(sasl.MECHANISMS), st.lists(st.binary(max_size=30), max_size=5))
def test_a2_fuzz_the_client(mechanism: str, challenges: list[bytes]) -> None:
    client = sasl.client((mechanism,), "user", "pencil", "nonce")
    assert client is not None
    try:
        for challenge in challenges:
            client.step(challenge)
    except RemoteProtocolError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("mechanism", sasl.CLEAR)
def test_a3_a_client_says_it_once(mechanism: str) -> None:
    client = sasl.client((mechanism,), "user", "secret", "nonce")
    assert client is not None
    said = [client.initial() or b""]
    while not client.complete:
        said.append(client.step(b"more"))
    assert b"".join(said).count(b"secret") == 1
    with pytest.raises(RemoteProtocolError):
        client.step(b"more")


@pytest.mark.parametrize(
    ("message", "event"),
    [  # RFC 4616 s4, then what is not as s2 has it
        (b"\0tim\0tanstaaftanstaaf", Credentials("tim", "tanstaaftanstaaf", "")),
        (b"Ursel\0Kurt\0xipj3plmq", Credentials("Kurt", "xipj3plmq", "Ursel")),
        ("\0jürg\0pass wörd".encode(), Credentials("jürg", "pass wörd", "")),
        (b"", None),
        (b"tim", None),
        (b"\0tim", None),
        (b"\0tim\0", None),
        (b"\0\0secret", None),
        (b"\0tim\0a\0b", None),
        (b"\0tim\0\xff", None),
        (b"\0\xfftim\0a", None),
        (b"\xff\0tim\0a", None),
        (b"\0ti\nm\0a", None),
        (b"\0" + b"t" * 256 + b"\0a", None),
        (b"\0tim\0" + b"a" * 1025, None),
    ],
)
def test_plain(message: bytes, event: Event | None) -> None:
    server = sasl.server("PLAIN", "")
    assert server is not None
    got = server.step(message)
    if event is None:
        assert isinstance(got, Failed)
        assert got.fault == steps.MALFORMED
        assert "tim" not in got.reason
    else:
        assert got == event


def test_login_asks_for_what_has_not_come() -> None:
    server = sasl.server("LOGIN", "")
    assert server is not None
    assert server.begin(None) == Challenge(b"Username:")
    assert server.step(b"tim") == Challenge(b"Password:")
    assert server.step(b"secret") == Credentials("tim", "secret", "")
    server = sasl.server("LOGIN", "")
    assert server is not None
    assert server.begin(b"tim") == Challenge(b"Password:")
    assert isinstance(server.step(b""), Failed)


@pytest.mark.parametrize("mechanism", sasl.CLEAR)
def test_a_client_may_cancel(mechanism: str) -> None:
    server = sasl.server(mechanism, "")
    assert server is not None
    assert isinstance(server.begin(None), Challenge)
    assert server.step(None) == CANCELLED


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Credentials("tim", "secret", ""))


def test_unknown_mechanisms() -> None:
    assert sasl.server("GSSAPI", "") is None
    assert sasl.client(("GSSAPI", "PLAIN-CLIENTTOKEN"), "user", "secret", "") is None
    assert sasl.client((), "user", "secret", "") is None


def test_the_strongest_is_chosen() -> None:
    offered: tuple[str, ...] = ("login", "plain", "scram-sha-256", "CRAM-MD5")
    for expected in ("SCRAM-SHA-256", "PLAIN", "LOGIN"):
        client = sasl.client(offered, "user", "secret", "nonce")
        assert client is not None
        assert client.mechanism == expected
        offered = tuple(name for name in offered if name != expected.lower())


def test_what_scram_cannot_carry_goes_as_plain() -> None:
    client = sasl.client(sasl.MECHANISMS, "user", "\U0001f600", "nonce")
    assert client is not None
    assert client.mechanism == "PLAIN"
    assert sasl.client(("SCRAM-SHA-256",), "user", "\U0001f600", "nonce") is None


@pytest.mark.parametrize(
    ("user", "password"),
    [("", "x"), ("x", ""), ("a\0", "x"), ("x", "a\0"), ("x", "\ud800"), ("\ud800", "x")],
)
def test_what_no_client_can_say(user: str, password: str) -> None:
    with pytest.raises(ValueError):
        sasl.client(sasl.MECHANISMS, user, password, "nonce")
