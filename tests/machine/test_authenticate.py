from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.errors import ConfigError
from mta.machine import passwords
from mta.machine.auth_steps import TEMPORARY, TOO_LONG, UNKNOWN
from mta.machine.authenticate import (
    ACCEPTED,
    REPLIES,
    Authenticator,
    AuthFacts,
    Challenge,
    Denied,
    Granted,
    Step,
)
from mta.smtp import sasl, scram, steps
from tests.machine.dovecot import GREETING, FakeDovecot, dovecot

FACTS = AuthFacts("submission", "192.0.2.1", "2001:db8::25", True)
KEYS = scram.spell_keys(scram.derive("secret", b"salt", 4096))
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "LOGIN")
GOOD = b"\0alice\0secret"


def file(path: Path, text: str = f"alice:{KEYS}\n") -> str:
    (path / "passwords").write_text(text, encoding="utf-8")
    (path / "passwords").chmod(0o600)
    return str(path / "passwords")


def run(
    test: Callable[[Authenticator], Awaitable[None]],
    passwords: str = "",
    dovecot: str = "",
    mechanisms: tuple[str, ...] = MECHANISMS,
) -> list[str]:
    """Run ``test`` with an Authenticator that was started; return what it warned of."""
    said: list[str] = []

    async def go() -> None:
        auth = Authenticator(passwords, dovecot, mechanisms, warn=said.append)
        await auth.start()
        try:
            await test(auth)
        finally:
            auth.close()

    asyncio.run(go())
    return said


def run_dovecot(
    path: Path, test: Callable[[FakeDovecot, Authenticator], Awaitable[None]]
) -> list[str]:
    said: list[str] = []

    async def go() -> None:
        async with dovecot(path) as fake:
            auth = Authenticator("", fake.path, MECHANISMS, warn=said.append)
            await auth.start()
            await test(fake, auth)
            auth.close()

    asyncio.run(go())
    return said


async def login(auth: Authenticator, mechanism: str, user: str, password: str) -> Step:
    client = sasl.client((mechanism,), user, password, "nonce")
    assert client is not None
    exchange, step = await auth.begin(mechanism.lower(), client.initial(), FACTS)
    while isinstance(step, Challenge):
        step = await exchange.proceed(client.step(step.octets))
    exchange.close()
    return step


def test_the_replies() -> None:
    assert str(ACCEPTED) == "235 2.7.0 Authentication successful"
    assert {str(reply)[:9] for reply in REPLIES.values()} == {
        *("501 5.5.2", "501 5.7.0", "535 5.7.8", "454 4.7.0", "500 5.5.6", "504 5.5.4")
    }


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_by_the_file(mechanism: str, tmp_path: Path) -> None:
    async def test(auth: Authenticator) -> None:
        assert await login(auth, mechanism, "alice", "secret") == Granted("alice")
        for user, password in (("alice", "wrong"), ("bob", "secret")):
            step = await login(auth, mechanism, user, password)
            assert isinstance(step, Denied)
            assert step.reply == REPLIES[steps.WRONG]
            assert step.user == user

    assert run(test, file(tmp_path)) == []


def test_j9_what_is_offered_of_a_file(tmp_path: Path) -> None:
    async def all_three(auth: Authenticator) -> None:
        assert auth.mechanisms == MECHANISMS

    async def no_scram(auth: Authenticator) -> None:
        assert auth.mechanisms == ("PLAIN", "LOGIN")
        step = (await auth.begin("SCRAM-SHA-256", None, FACTS))[1]
        assert step == Denied(REPLIES[UNKNOWN], "a mechanism that is not offered")

    async def one(auth: Authenticator) -> None:
        assert auth.mechanisms == ("PLAIN",)
        assert isinstance((await auth.begin("LOGIN", None, FACTS))[1], Denied)

    async def none(auth: Authenticator) -> None:
        assert auth.mechanisms == ()
        exchange, step = await auth.begin("PLAIN", GOOD, FACTS)
        assert step == Denied(REPLIES[UNKNOWN], "a mechanism that is not offered")
        assert isinstance(await exchange.proceed(b""), Denied)
        exchange.close()

    run(all_three, file(tmp_path))
    run(all_three, file(tmp_path, "alice:{PLAIN}secret"))
    run(no_scram, file(tmp_path, "alice:" + passwords.make("sha512-crypt", "secret")))
    run(no_scram, file(tmp_path, ""))
    run(one, file(tmp_path), "", ("plain", "GSSAPI"))
    run(none, file(tmp_path), "", ())
    run(none)


def test_j9_what_is_offered_of_dovecot(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, auth: Authenticator) -> None:
        assert auth.mechanisms == ("PLAIN", "LOGIN")
        step = (await auth.begin("XOAUTH2", None, FACTS))[1]
        assert isinstance(step, Denied)
        assert step.reply == REPLIES[UNKNOWN]
        fake.drop()
        while await login(auth, "PLAIN", "alice", "secret") != Granted("alice"):
            await asyncio.sleep(0)
        fake.greeting = GREETING.replace("XOAUTH2", "SCRAM-SHA-256")
        assert auth.mechanisms == ("PLAIN", "LOGIN")
        await fake.stop()
        await asyncio.sleep(0)
        assert auth.mechanisms == ("PLAIN", "LOGIN")

    run_dovecot(tmp_path, test)


@pytest.mark.parametrize("mechanism", sasl.CLEAR)
def test_by_dovecot(mechanism: str, tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, auth: Authenticator) -> None:
        assert await login(auth, mechanism, "alice", "secret") == Granted("alice")
        step = await login(auth, mechanism, "alice", "wrong")
        assert step == Denied(REPLIES[steps.WRONG], "no way", "alice")
        step = await login(auth, mechanism, "broken", "secret")
        assert step == Denied(REPLIES[TEMPORARY], "refused by Dovecot", "broken")
        words = "service=smtp\tnologin\tlip=2001:db8::25\trip=192.0.2.1\tsecured"
        assert fake.lines[2].startswith(f"AUTH\t1\t{mechanism}\t{words}")
        local = AuthFacts("submission", "", "", False)
        exchange, _ = await auth.begin("PLAIN", None, local)
        assert await exchange.proceed(None) == Denied(
            REPLIES[steps.WITHDRAWN], "cancelled by the client"
        )
        assert await login(auth, "PLAIN", "alice", "secret") == Granted("alice")
        assert "AUTH\t4\tPLAIN\tservice=smtp\tnologin" in fake.lines
        assert "CANCEL\t4" in fake.lines

    assert run_dovecot(tmp_path, test) == []


def test_a_session_that_ends_is_forgotten_by_dovecot(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, auth: Authenticator) -> None:
        exchange, _ = await auth.begin("LOGIN", None, FACTS)
        exchange.close()
        exchange.close()
        assert await login(auth, "PLAIN", "alice", "secret") == Granted("alice")
        assert "CANCEL\t1" in fake.lines

    run_dovecot(tmp_path, test)


def test_j8_dovecot_is_away(tmp_path: Path) -> None:
    path = str(tmp_path / "auth")

    async def test(auth: Authenticator) -> None:
        assert auth.mechanisms == MECHANISMS  # so that clients try again
        for _ in range(2):
            step = await login(auth, "PLAIN", "alice", "secret")
            assert isinstance(step, Denied)
            assert step.reply == REPLIES[TEMPORARY]
        fake = FakeDovecot(Path(path))
        await fake.start()
        assert await login(auth, "PLAIN", "alice", "secret") == Granted("alice")
        assert auth.mechanisms == ("PLAIN", "LOGIN")
        await fake.stop()
        while isinstance(await login(auth, "PLAIN", "alice", "secret"), Granted):
            await asyncio.sleep(0)

    said = run(test, "", path)
    assert said[0] == f"auth: {path}: No such file or directory"
    assert 2 <= len(said) <= 3
    assert said[0] not in said[1:2] or "lost" in said[1]


def test_j8_more_than_dovecot_takes(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, auth: Authenticator) -> None:
        step = (await auth.begin("PLAIN", b"x" * 9000, FACTS))[1]
        assert step == Denied(REPLIES[TOO_LONG], "more than Dovecot can be asked in a line")
        exchange, _ = await auth.begin("LOGIN", None, FACTS)
        step = await exchange.proceed(b"x" * 9000)
        assert step == Denied(REPLIES[TOO_LONG], "more than Dovecot can be asked in a line")
        assert await login(auth, "PLAIN", "alice", "secret") == Granted("alice")
        assert "CANCEL\t2" in fake.lines
        assert fake.connections == 1

    run_dovecot(tmp_path, test)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.sampled_from(MECHANISMS), st.text(max_size=5)),
    st.lists(
        st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([GOOD, b"alice", b"secret"])),
        min_size=1,
        max_size=4,
    ),
)
def test_j8_fuzz(tmp_path: Path, mechanism: str, answers: list[bytes | None]) -> None:
    async def test(auth: Authenticator) -> None:
        exchange, step = await auth.begin(mechanism, answers[0], FACTS)
        for answer in answers[1:]:
            if not isinstance(step, Challenge):
                break
            step = await exchange.proceed(answer)
        if isinstance(step, Denied):
            assert step.reply in REPLIES.values()
            assert (step.reason + step.user).isprintable()
        exchange.close()

    run(test, file(tmp_path))


@pytest.mark.parametrize("text", [None, "alice"])
def test_a_file_that_cannot_be_used_at_the_start(text: str | None, tmp_path: Path) -> None:
    async def test(auth: Authenticator) -> None:
        pass

    if text is None:
        with pytest.raises(ConfigError, match="No such file"):
            run(test, str(tmp_path / "passwords"))
        with pytest.raises(ConfigError, match="either"):
            run(test, "a", "b")
    else:
        assert run(test, file(tmp_path, text)) == [f"{tmp_path}/passwords:1: not user:hash"]


def test_a_file_is_read_again(tmp_path: Path) -> None:
    path = file(tmp_path)
    now = [0.0]

    async def test() -> None:
        auth = Authenticator(path, "", MECHANISMS, warn=print, clock=lambda: now[0])
        await auth.start()
        assert await login(auth, "PLAIN", "alice", "secret") == Granted("alice")
        file(tmp_path, f"bob:{KEYS}\n# alice has gone\n")
        now[0] += 2
        assert isinstance(await login(auth, "PLAIN", "alice", "secret"), Denied)
        assert await login(auth, "SCRAM-SHA-256", "bob", "secret") == Granted("bob")
        auth.close()

    asyncio.run(test())
