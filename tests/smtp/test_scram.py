from __future__ import annotations

import base64
import hashlib
import hmac
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp import scram, steps
from mta.smtp.saslprep import prepare
from mta.smtp.scram import ScramClient, ScramServer, StoredKeys, derive, parse_keys, spell_keys
from mta.smtp.steps import CANCELLED, Challenge, Failed, Lookup, Proven

# RFC 7677 s3
NONCE, OURS = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
FIRST = b"n,,n=user,r=" + NONCE.encode()
SERVER_FIRST = f"r={NONCE}{OURS},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
FINAL = f"c=biws,r={NONCE}{OURS},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
KEYS = derive("pencil", SALT, 4096)

TEXT = st.text(string.ascii_letters + string.punctuation + " üß²", min_size=1, max_size=20)


def begun(keys: StoredKeys = KEYS, nonce: str = OURS) -> ScramServer:
    server = ScramServer(nonce)
    assert server.begin(FIRST) == Lookup("user", "")
    assert server.keys(keys) == Challenge(SERVER_FIRST.replace(OURS.encode(), nonce.encode()))
    return server


def test_the_example_of_rfc_7677_s3() -> None:
    client = ScramClient("user", "pencil", NONCE)
    assert client.initial() == FIRST
    assert client.step(SERVER_FIRST) == FINAL
    assert not client.complete
    assert client.step(SERVER_FINAL) == b""
    assert client.complete
    server = begun()
    assert server.step(FINAL) == Challenge(SERVER_FINAL)
    assert server.step(b"") == Proven("user", "")


@settings(max_examples=15)
@given(TEXT, TEXT, TEXT, st.booleans())
def test_m1_both_prove_themselves(user: str, password: str, other: str, at_once: bool) -> None:
    try:
        prepare(user)
    except ValueError:
        return
    keys = derive(password, b"salt", 4096)
    for said in (password, other):
        server, client = ScramServer("server"), ScramClient(user, said, "client")
        if at_once:
            event = server.begin(client.initial())
        else:
            assert server.begin(None) == Challenge(b"")
            event = server.step(client.step(b""))
        assert event == Lookup(prepare(user), "")
        challenge = server.keys(keys)
        event = server.step(client.step(challenge.octets))
        if prepare(said) != prepare(password):
            assert event == Failed(steps.WRONG, "wrong SCRAM proof", prepare(user))
            continue
        assert isinstance(event, Challenge)
        assert server.step(client.step(event.octets)) == Proven(prepare(user), "")
        assert client.complete


def test_m2_a_replayed_proof_is_wrong() -> None:
    for answer in (FINAL, FINAL.replace(OURS.encode(), b"another")):
        event = begun(nonce="another").step(answer)
        assert event == Failed(steps.WRONG, "wrong SCRAM proof", "user")


def test_m2_a_good_proof_of_another_nonce_is_wrong() -> None:
    client = ScramClient("user", "pencil", NONCE)
    client.initial()
    other = SERVER_FIRST.replace(OURS.encode(), b"another")
    without = client.step(other).rpartition(b",p=")[0]
    # the client signs this exchange, but names another in its answer
    said = b",".join((FIRST[3:], SERVER_FIRST, without))
    key = hmac.digest(hashlib.pbkdf2_hmac("sha256", b"pencil", SALT, 4096), b"Client Key", "sha256")
    signature = hmac.digest(KEYS.stored_key, said, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    event = begun().step(without + b",p=" + base64.b64encode(proof))
    assert event == Failed(steps.WRONG, "wrong SCRAM proof", "user")


def test_m2_a_server_that_replays_is_found() -> None:
    client = ScramClient("user", "pencil", "fresh")
    client.initial()
    with pytest.raises(RemoteProtocolError):
        client.step(SERVER_FIRST)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,n=user",
        b"n,,r=x,n=user",
        b"x,,n=user,r=x",
        b"p=tls-unique,,n=user,r=x",
        b"n,,m=must,n=user,r=x",  # RFC 5802 s5.1: an extension that must be understood
        b"n,,n=,r=x",
        b"n,,n=us=er,r=x",
        b"n,,n=us=2cer,r=x",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,n=us\0er,r=x",
        b"n,,n=us\ner,r=x",
        b"n,,n=\xff,r=x",
        b"n,a=\xff,n=user,r=x",
        b"n,,n=user,r=x,",
        b"n,,n=user,r=x\n",
        b"n,,n=user,r=" + b"x" * 600,
        b"n,,n=user,r=x,e=" + b"x" * 5000,
    ],
)
def test_a_malformed_first_message(first: bytes) -> None:
    event = ScramServer(OURS).begin(first)
    assert isinstance(event, Failed)
    assert event.fault == steps.MALFORMED


@pytest.mark.parametrize(
    ("first", "lookup"),
    [
        (b"y,,n=user,r=x", Lookup("user", "")),
        (b"n,a=admin,n=user,r=x", Lookup("user", "admin")),
        (b"n,,n=a=2Cb=3D2C,r=x", Lookup("a,b=2C", "")),
        (b"n,,n=user,r=x,z=more,y=", Lookup("user", "")),
        ("n,,n=j\u00fcrg,r=x".encode(), Lookup("jürg", "")),
        ("n,,n=ju\u0308rg,r=x".encode(), Lookup("jürg", "")),
    ],
)
def test_first_messages(first: bytes, lookup: Lookup) -> None:
    assert ScramServer(OURS).begin(first) == lookup


@pytest.mark.parametrize(
    "final",
    [
        b"",
        FINAL.replace(b"biws", b"eSws"),  # "y,,": not what the first message said
        FINAL.replace(b"biws", b"bi ws"),
        FINAL.replace(b"biws", b"biw"),
        FINAL[:-8],
        FINAL[:-4] + b"====",
        FINAL + b",x=y",
        b"c=biws,p=AAAA",
        FINAL + b"\n",
    ],
)
def test_a_malformed_final_message(final: bytes) -> None:
    event = begun().step(final)
    assert isinstance(event, Failed)
    assert event.fault == steps.MALFORMED


def test_a_changed_proof_is_wrong() -> None:
    for at in range(len(FINAL) - 10, len(FINAL) - 2):
        final = bytearray(FINAL)
        final[at] = ord("B") if final[at] == ord("A") else ord("A")
        event = begun().step(bytes(final))
        assert isinstance(event, Failed)
        assert event.fault == steps.WRONG


def test_an_extension_is_part_of_what_is_proved() -> None:
    event = begun().step(FINAL.replace(b",p=", b",x=1,p="))
    assert isinstance(event, Failed)
    assert event.fault == steps.WRONG


def test_the_client_may_cancel_at_any_time() -> None:
    assert ScramServer(OURS).step(None) == CANCELLED
    server = begun()
    assert server.step(None) == CANCELLED
    server = begun()
    server.step(FINAL)
    assert server.step(None) == CANCELLED


def test_the_signature_is_answered_with_nothing() -> None:
    server = begun()
    server.step(FINAL)
    event = server.step(b"x")
    assert isinstance(event, Failed)
    assert event.fault == steps.MALFORMED


def test_steps_out_of_order_are_defects_of_ours() -> None:
    server = ScramServer(OURS)
    with pytest.raises(LocalProtocolError):
        server.keys(KEYS)
    server.begin(FIRST)
    with pytest.raises(LocalProtocolError):
        server.step(FINAL)
    server.keys(KEYS)
    server.step(b"")
    with pytest.raises(LocalProtocolError):
        server.step(FINAL)


PIECE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([FIRST, FINAL, SERVER_FIRST, SERVER_FINAL, b"", b"r=", b",", b"s=", b"i=1"]),
)
MESSAGE = st.lists(PIECE, max_size=4).map(b"".join)


@settings(max_examples=200)
@given(st.lists(st.one_of(st.none(), MESSAGE), max_size=4))
def test_m3_fuzz_the_server(messages: list[bytes | None]) -> None:
    server = ScramServer(OURS)
    for number, message in enumerate(messages):
        event = server.step(message) if number else server.begin(message)
        if isinstance(event, Lookup):
            event = server.keys(KEYS)
        if not isinstance(event, Challenge):
            return


@settings(max_examples=200)
@given(st.lists(MESSAGE, max_size=4), st.booleans())
def test_m3_fuzz_the_client(messages: list[bytes], at_once: bool) -> None:
    client = ScramClient("user", "pencil", NONCE)
    if at_once:
        client.initial()
    for message in messages:
        try:
            client.step(message)
        except RemoteProtocolError as error:
            assert str(error).isprintable()
            return


@pytest.mark.parametrize(
    "first",
    [
        SERVER_FIRST.replace(b"i=4096", b"i=4095"),
        SERVER_FIRST.replace(b"i=4096", b"i=1000001"),
        SERVER_FIRST.replace(b"i=4096", b"i=99999999999"),
        SERVER_FIRST.replace(b"i=4096", b"i=0"),
        SERVER_FIRST.replace(OURS.encode(), b""),
        SERVER_FIRST.replace(NONCE.encode(), b"mine"),
        SERVER_FIRST.replace(b"W22", b"W2"),
        b"m=x," + SERVER_FIRST,
        b"e=unknown-user",
        b"",
        b"r=" + b"x" * 5000,
    ],
)
def test_a_server_first_message_that_is_no_good(first: bytes) -> None:
    client = ScramClient("user", "pencil", NONCE)
    client.initial()
    with pytest.raises(RemoteProtocolError):
        client.step(first)
    assert not client.complete


@pytest.mark.parametrize("final", [b"v=AAAA", b"v=", b"e=invalid-proof", b"", b"v=6rriTRBi"])
def test_a_server_that_does_not_prove_itself(final: bytes) -> None:
    client = ScramClient("user", "pencil", NONCE)
    client.initial()
    client.step(SERVER_FIRST)
    with pytest.raises(RemoteProtocolError):
        client.step(final)
    assert not client.complete


def test_a_client_says_it_once() -> None:
    client = ScramClient("user", "pencil", NONCE)
    for challenge in (b"", SERVER_FIRST, SERVER_FINAL):
        client.step(challenge)
    with pytest.raises(RemoteProtocolError):
        client.step(SERVER_FINAL)


@given(
    st.integers(1, scram.ITERATIONS_MAX),
    st.binary(min_size=1, max_size=64),
    st.binary(min_size=32, max_size=32),
)
def test_m4_keys_are_spelt(iterations: int, salt: bytes, key: bytes) -> None:
    keys = StoredKeys(iterations, salt, key, key[::-1])
    assert parse_keys(spell_keys(keys)) == keys


def test_the_keys_as_dovecot_spells_them() -> None:
    text = spell_keys(KEYS)
    assert text.startswith("{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,")
    assert scram.matches(parse_keys(text), "pencil")
    assert not scram.matches(parse_keys(text), "pencils")
    assert not scram.matches(parse_keys(text), "\x07")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{SCRAM", "{SCRUM"),
        ("4096", "0"),
        ("4096", "04096"),
        ("4096", "-1"),
        ("4096", "9999999"),
        ("4096", "10000000"),
        ("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        ("W22ZaJ0SNY7soEsUEjb6gQ==", "W22"),
        ("W22ZaJ0SNY7soEsUEjb6gQ==", "ü"),
        ("W22ZaJ0SNY7soEsUEjb6gQ==,", "W22Z,AAAA,"),
        ("W22ZaJ0SNY7soEsUEjb6gQ==,", "W22Z,AAAA,BBBB,"),
        ("W22ZaJ0SNY7soEsUEjb6gQ==,", ""),
    ],
)
def test_no_keys(old: str, new: str) -> None:
    with pytest.raises(ValueError):
        parse_keys(spell_keys(KEYS).replace(old, new))
