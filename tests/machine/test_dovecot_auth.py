from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.machine import dovecot_auth
from mta.machine.dovecot_auth import (
    LINE_MAX,
    Accepted,
    Answer,
    Dovecot,
    DovecotError,
    Refused,
    TooLong,
)
from mta.smtp.steps import Challenge
from tests.machine.dovecot import GREETING, FakeDovecot, dovecot

WORDS = ("service=smtp", "nologin", "rip=192.0.2.1", "secured")
GOOD = b"\0alice\0secret"

Test = Callable[[FakeDovecot, Dovecot], Awaitable[None]]


def play(path: Path, test: Test, limit: float = 30.0) -> FakeDovecot:
    """Run ``test`` against a fake Dovecot below ``path``; return it for what it saw."""

    async def run() -> FakeDovecot:
        async with dovecot(path) as fake:
            ours = Dovecot(fake.path, limit)
            await test(fake, ours)
            ours.close()
            return fake

    return asyncio.run(run())


async def ask(ours: Dovecot, initial: bytes | None, mechanism: str = "PLAIN") -> Answer:
    return await ours.question().begin(mechanism, initial, WORDS)


def test_a_login(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        assert await ask(ours, GOOD) == Accepted("alice")
        assert await ask(ours, b"\0alice\0wrong") == Refused(False, "no way", "alice")
        assert await ask(ours, b"\0broken\0x") == Refused(True, "refused by Dovecot", "broken")
        assert ours.mechanisms == ("PLAIN", "LOGIN", "XOAUTH2")

    fake = play(tmp_path, test)
    assert fake.lines[:2] == ["VERSION\t1\t2", f"CPID\t{os.getpid()}"]
    words = "service=smtp\tnologin\trip=192.0.2.1\tsecured\tresp=AGFsaWNlAHNlY3JldA=="
    assert fake.lines[2] == f"AUTH\t1\tPLAIN\t{words}"
    assert fake.connections == 1


def test_a_login_in_steps(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        question = ours.question()
        assert await question.begin("LOGIN", None, WORDS) == Challenge(b"Username:")
        other = ours.question()
        assert await other.begin("PLAIN", None, WORDS) == Challenge(b"")
        assert await question.proceed(b"alice") == Challenge(b"Password:")
        assert await other.proceed(GOOD) == Accepted("alice")
        assert await question.proceed(b"secret") == Accepted("alice")
        question.cancel()
        # an empty response is one, and no response is none
        assert isinstance(await ask(ours, b""), Refused)

    fake = play(tmp_path, test)
    assert fake.lines[-1].endswith("\tresp=")
    assert not any(line.startswith("CANCEL") for line in fake.lines)


def test_a_question_is_cancelled(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        question = ours.question()
        question.cancel()
        await question.begin("LOGIN", None, WORDS)
        question.cancel()
        question.cancel()
        with pytest.raises(DovecotError):
            await question.proceed(b"alice")
        assert await ask(ours, GOOD) == Accepted("alice")

    fake = play(tmp_path, test)
    assert [line for line in fake.lines if line.startswith("CANCEL")] == ["CANCEL\t1"]


def test_k1_many_at_once(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        answers = await asyncio.gather(*[ask(ours, b"\0alice\0secret") for _ in range(200)])
        assert set(answers) == {Accepted("alice")}

    assert play(tmp_path, test).connections == 1


def test_k1_silence_has_an_end(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        with pytest.raises(DovecotError, match="did not answer in time"):
            await ask(ours, b"\0slow\0x")
        assert await ask(ours, GOOD) == Accepted("alice")

    fake = play(tmp_path, test, 0.1)
    assert "CANCEL\t1" in fake.lines


@pytest.mark.parametrize("greeting", ["", "VERSION\t1\t2\n", "VERSION\t1\t2\nDONE"])
def test_k1_a_greeting_that_does_not_come(greeting: str, tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        fake.greeting = greeting
        with pytest.raises(DovecotError, match="in time"):
            await ours.connect()
        with pytest.raises(DovecotError, match="in time"):
            await ask(ours, GOOD)
        fake.greeting = GREETING
        assert await ask(ours, GOOD) == Accepted("alice")

    play(tmp_path, test, 0.1)


def test_k1_not_too_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dovecot_auth, "DUE_MAX", 3)

    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        await ours.connect()
        slow = [asyncio.create_task(ask(ours, b"\0slow\0x")) for _ in range(3)]
        while len([line for line in fake.lines if line.startswith("AUTH")]) < 3:
            await asyncio.sleep(0)
        with pytest.raises(DovecotError, match="too many"):
            await ask(ours, GOOD)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert await ask(ours, GOOD) == Accepted("alice")

    fake = play(tmp_path, test)
    assert {"CANCEL\t1", "CANCEL\t2", "CANCEL\t3"} <= set(fake.lines)


def test_k2_the_connection_is_made_again(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        with pytest.raises(DovecotError, match="No such file"):
            await Dovecot(fake.path + "x").connect()
        question = ours.question()
        await question.begin("LOGIN", None, WORDS)
        waits = asyncio.create_task(ask(ours, b"\0slow\0x"))
        while len(fake.lines) < 4:
            await asyncio.sleep(0)
        await fake.stop()
        with pytest.raises(DovecotError, match="lost"):
            await waits
        with pytest.raises(DovecotError, match="lost"):
            await question.proceed(b"alice")
        question.cancel()
        with pytest.raises(DovecotError):
            await ask(ours, GOOD)
        assert ours.mechanisms  # as it last said
        os.unlink(fake.path)
        fake.greeting = GREETING.replace("XOAUTH2", "SCRAM-SHA-256")
        await fake.start()
        assert await ask(ours, GOOD) == Accepted("alice")
        assert "SCRAM-SHA-256" in ours.mechanisms

    assert play(tmp_path, test).connections == 2


@pytest.mark.parametrize("greeting", ["VERSION\t2\t0\n", "DONE\n", "VERSION\n", "VERSION\tx\t1\n"])
def test_k2_a_greeting_of_something_else(greeting: str, tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        fake.greeting = greeting
        with pytest.raises(DovecotError, match="version"):
            await ours.connect()

    play(tmp_path, test)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("OK\t1\tuser=bob\n", Accepted("bob")),
        ("OK\t1\tuser=\n", None),
        ("OK\t1\n", None),
        ("OK\t1\tuser=a\x01nb\n", None),
        ("OK\t1\tuser=" + "x" * 300 + "\n", None),
        ("FAIL\t1\ttemp\n", Refused(True, "refused by Dovecot", "")),
        ("FAIL\t1\treason=a\x01nb \x010c\n", Refused(False, "a b c", "")),
        ("FAIL\t1\tuser=a\x01rb\tuser=c\n", Refused(False, "refused by Dovecot", "a b")),
        ("OK\t9\tuser=x\nFAIL\t1\n", Refused(False, "refused by Dovecot", "")),
        ("CONT\t1\tAAAA\n", Challenge(b"\0\0\0")),
        ("CONT\t1\n", Challenge(b"")),
    ],
)
def test_k2_answers(answer: str, expected: Answer | None, tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        fake.odd = lambda line: answer if line.startswith("AUTH") else None
        got = await ask(ours, GOOD)
        if expected is None:
            assert isinstance(got, Refused)
            assert got.temporary
            assert got.reason.isprintable()
        else:
            assert got == expected

    play(tmp_path, test)


@pytest.mark.parametrize(
    "answer",
    [
        *("CONT\t1\t?\n", "CONT\t1\tAAA\n", "CONT\t\u0661\n", "CONT\t1\tÄAAA\n", "x" * 70_000),
        *("OK\n", "OK\tx\n", "OK\t-1\tuser=alice\n", "FAIL\t\n"),
    ],
)
def test_k2_answers_that_make_no_sense(answer: str, tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        fake.odd = lambda line: answer if line.startswith("AUTH") else None
        with pytest.raises(DovecotError):
            await ask(ours, GOOD)
        fake.odd = lambda line: None
        assert await ask(ours, GOOD) == Accepted("alice")

    assert play(tmp_path, test).connections == 2


PIECE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["OK", "FAIL", "CONT", "VERSION", "MECH", "DONE", "\t", "\n", "1", "user=a"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECE, max_size=12).map("".join), st.booleans())
def test_k2_fuzz(tmp_path: Path, said: str, greeting: bool) -> None:
    async def run() -> None:
        made = asyncio.get_running_loop().create_future()
        wire = dovecot_auth._Wire(made)
        ours = Dovecot("")
        if not greeting:
            wire.data_received(GREETING.encode())
            assert made.done()
        ours._wire = wire
        asked = asyncio.create_task(ask(ours, GOOD))
        await asyncio.sleep(0)
        octets = said.encode()
        for at in range(0, len(octets), 3):
            wire.data_received(octets[at : at + 3])
        wire.connection_lost(None)
        assert made.done()
        made.exception()
        try:
            answer = await asked
        except DovecotError:
            return
        assert isinstance(answer, Challenge | Accepted | Refused)

    asyncio.run(run())


def test_k3_a_line_too_long_is_not_sent(tmp_path: Path) -> None:
    async def test(fake: FakeDovecot, ours: Dovecot) -> None:
        question = ours.question()
        await question.begin("LOGIN", None, WORDS)
        with pytest.raises(TooLong):
            await question.proceed(b"x" * 6000)
        with pytest.raises(TooLong):
            await ask(ours, b"x" * 6000)
        await ask(ours, b"x" * 5800)
        question.cancel()
        while "CANCEL\t1" not in fake.lines:
            await asyncio.sleep(0)

    fake = play(tmp_path, test)
    assert max(len(line) for line in fake.lines) < LINE_MAX


@given(st.lists(st.text(max_size=10), min_size=1))
def test_k3_no_line_end_is_foreign(words: list[str]) -> None:
    words = [word.encode("utf-8", "replace").decode() for word in words]
    line = dovecot_auth._spell(*words)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert b"\r" not in line
    assert b"\0" not in line
    back = line[:-1].decode().split("\t")
    assert [dovecot_auth._unescape(word) for word in back] == words
