from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.machine import password_auth, passwords
from mta.machine.auth_steps import REPLIES, TEMPORARY, Challenge, Denied, Granted, Step
from mta.machine.password_auth import THREADS, WAITING, PasswordAuth
from mta.machine.passwordfile import PasswordFile
from mta.machine.passwords import Hash
from mta.smtp import sasl, scram, steps
from mta.smtp.saslprep import prepare

SECRET = "correct horse"
KEYS = scram.spell_keys(scram.derive(SECRET, b"sixteen octets..", 4096))
SHA = "$5$rounds=1000$saltstring$"
USERS = {"keys": KEYS, "Clear": "{PLAIN}" + SECRET, "hashed": ""}
WRONG = REPLIES[steps.WRONG]


def users_text() -> str:
    from mta.machine.shacrypt import shacrypt

    USERS["hashed"] = shacrypt(SECRET.encode(), "$5$rounds=1000$saltstring")
    return "".join([f"{name}:{hashed}\n" for name, hashed in USERS.items()])


class Kit:
    """A password file, and a client to play against it."""

    def __init__(self, path: Path, text: str, secret: bytes = b"s" * 32) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        self.path = path
        self.said: list[str] = []
        self.now = 0.0
        file = PasswordFile(str(path), self.said.append, lambda: self.now)
        file.load()
        self.auth = PasswordAuth(file, self.said.append, secret)
        self.verified: list[Hash] = []

    async def play(self, mechanism: str, user: str, password: str) -> Step:
        client = sasl.client((mechanism,), user, password, "client")
        server = sasl.server(mechanism, "server")
        assert client is not None
        assert server is not None
        exchange = self.auth.exchange(server)
        step = await exchange.begin(client.initial())
        while isinstance(step, Challenge):
            step = await exchange.proceed(client.step(step.octets))
        exchange.close()
        return step

    def login(self, mechanism: str, user: str, password: str) -> Step:
        return asyncio.run(self.play(mechanism, user, password))


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    kit = Kit(tmp_path / "passwords", users_text())
    yield kit
    kit.auth.close()


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_j4_only_the_right_password(mechanism: str, kit: Kit) -> None:
    for user, hashed in USERS.items():
        good: Step = Granted(user)
        reason = "wrong password" if mechanism in sasl.CLEAR else "wrong SCRAM proof"
        if mechanism not in sasl.CLEAR and hashed.startswith("$"):
            reason = "unknown user, or one without SCRAM keys"
            good = Denied(WRONG, reason, user)
        assert kit.login(mechanism, user, SECRET) == good
        assert kit.login(mechanism, user, SECRET + "x") == Denied(WRONG, reason, user)
    unknown = kit.login(mechanism, "nobody", SECRET)
    assert isinstance(unknown, Denied)
    assert unknown.reply == WRONG
    assert unknown.user == "nobody"
    assert kit.said == []


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_j4_the_case_of_a_name_does_not_matter(mechanism: str, kit: Kit) -> None:
    assert kit.login(mechanism, "KEYS", SECRET) == Granted("keys")
    assert kit.login(mechanism, "clear", SECRET) == Granted("Clear")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sasl.MECHANISMS),
    st.one_of(st.sampled_from(list(USERS)), st.text(min_size=1, max_size=5)),
    st.one_of(st.just(SECRET), st.text(min_size=1, max_size=8)),
)
def test_j4_any_client(kit: Kit, mechanism: str, user: str, password: str) -> None:
    try:
        prepare(user), prepare(password, stored=True)
        step = kit.login(mechanism, user, password)
    except ValueError:  # the client's: such a user cannot be sent
        return
    known = prepare(user).lower() in {name.lower() for name in USERS}
    usable = mechanism in sasl.CLEAR or prepare(user) != "hashed"
    assert isinstance(step, Granted) == (known and usable and prepare(password) == SECRET)


@pytest.mark.parametrize(
    ("message", "granted"),
    [
        (b"keys\0keys\0", True),
        (b"KEYS\0keys\0", True),
        (b"clear\0keys\0", False),
        (b"nobody\0keys\0", False),
        (b"\xff\0keys\0", None),
    ],
)
def test_j4_nobody_is_somebody_else(message: bytes, granted: bool | None, kit: Kit) -> None:
    async def plain() -> Step:
        server = sasl.server("PLAIN", "")
        assert server is not None
        return await kit.auth.exchange(server).begin(message + SECRET.encode())

    step = asyncio.run(plain())
    assert isinstance(step, Granted) == bool(granted)
    if isinstance(step, Denied):
        assert step.reply == REPLIES[steps.MALFORMED if granted is None else steps.WRONG]


@pytest.mark.parametrize(("authzid", "first"), [("keys", True), ("Clear", False)])
def test_j4_nobody_is_somebody_else_by_scram(authzid: str, first: bool, kit: Kit) -> None:
    async def begin() -> Step:
        server = sasl.server("SCRAM-SHA-256", "ours")
        assert server is not None
        return await kit.auth.exchange(server).begin(f"n,a={authzid},n=keys,r=x".encode())

    assert isinstance(asyncio.run(begin()), Challenge) == first


ANSWER = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from([b"", b"n,,n=keys,r=x", b"n,,n=no,r=x", b"\0keys\0x", b"keys", b"c=biws,r=x"]),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sasl.MECHANISMS), st.lists(ANSWER, min_size=1, max_size=4))
def test_j5_fuzz(kit: Kit, mechanism: str, answers: list[bytes | None]) -> None:
    async def run() -> None:
        server = sasl.server(mechanism, "ours")
        assert server is not None
        exchange = kit.auth.exchange(server)
        step = await exchange.begin(answers[0])
        for answer in answers[1:]:
            if not isinstance(step, Challenge):
                break
            step = await exchange.proceed(answer)
        assert isinstance(step, Challenge) or step.reply in REPLIES.values()

    asyncio.run(run())


def test_j5_a_hash_that_cannot_be_verified(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(hashed: Hash, password: str) -> bool:
        raise MemoryError(password)

    monkeypatch.setattr(password_auth.passwords, "verify", broken)
    for _ in range(3):
        text = "a password could not be verified: MemoryError"
        assert kit.login("PLAIN", "keys", "s3cret") == Denied(REPLIES[TEMPORARY], text)
    assert kit.said == [f"auth: {text}"]


def test_j5_a_file_that_cannot_be_used(kit: Kit) -> None:
    kit.path.chmod(0o644)
    kit.now += 10
    assert kit.auth.mechanisms == sasl.MECHANISMS
    step = kit.login("PLAIN", "keys", SECRET)
    assert isinstance(step, Denied)
    assert step.reply == REPLIES[TEMPORARY]
    assert "closed to others" in step.reason


def first_challenge(kit: Kit, user: str) -> bytes:
    async def begin() -> Step:
        server = sasl.server("SCRAM-SHA-256", "ours")
        assert server is not None
        return await kit.auth.exchange(server).begin(f"n,,n={user},r=x".encode())

    step = asyncio.run(begin())
    assert isinstance(step, Challenge)
    return step.octets


def test_j6_made_up_salts(kit: Kit, tmp_path: Path) -> None:
    other = Kit(tmp_path / "other", users_text(), b"t" * 32)
    real = first_challenge(kit, "keys")
    assert first_challenge(other, "keys") == real
    seen = {real}
    for user in ("nobody", "somebody", "hashed"):
        fake = first_challenge(kit, user)
        assert len(fake) == len(real)
        assert fake.partition(b",s=")[2].endswith(b",i=4096")
        assert first_challenge(kit, user) == first_challenge(kit, user.upper()) == fake
        assert first_challenge(other, user) != fake
        seen.add(fake)
    assert len(seen) == 4
    other.auth.close()


def work_of(kit: Kit, monkeypatch: pytest.MonkeyPatch, mechanism: str, user: str) -> list[str]:
    """Return which kinds of hashes were worked on in a thread for a login of ``user``."""
    worked: list[str] = []
    verify, keys = passwords.verify, passwords.scram_keys

    def note(hashed: Hash) -> None:
        if threading.current_thread() is not threading.main_thread():
            worked.append(hashed.kind)

    def noted_verify(hashed: Hash, password: str) -> bool:
        note(hashed)
        return verify(hashed, password)

    def noted_keys(hashed: Hash, salt: bytes) -> scram.StoredKeys | None:
        note(hashed)
        return keys(hashed, salt)

    with monkeypatch.context() as patch:
        patch.setattr(password_auth.passwords, "verify", noted_verify)
        patch.setattr(password_auth.passwords, "scram_keys", noted_keys)
        kit.login(mechanism, user, "wrong")
    return worked


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_j6_the_same_work(
    user: str, mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users_text()
    kit = Kit(tmp_path / "passwords", f"{user}:{USERS[user]}\n")
    assert kit.auth.mechanisms == (sasl.CLEAR if user == "hashed" else sasl.MECHANISMS)
    known = work_of(kit, monkeypatch, mechanism, user)
    assert work_of(kit, monkeypatch, mechanism, "nobody") == known
    assert len(known) == (mechanism in sasl.CLEAR or user == "Clear")
    kit.auth.close()


def test_j6_a_stand_in_lets_nobody_in(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "passwords", f"only:{KEYS}\n")
    for mechanism in sasl.MECHANISMS:
        assert isinstance(kit.login(mechanism, "nobody", SECRET), Denied)
    kit.auth.close()


def test_j6_a_clear_password_that_scram_cannot_have(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "passwords", "only:{PLAIN}\U0001f600\n")
    for user in ("only", "nobody"):
        step = kit.login("SCRAM-SHA-256", user, "x")
        assert step == Denied(WRONG, "unknown user, or one without SCRAM keys", user)
    assert kit.login("PLAIN", "only", "\U0001f600") == Granted("only")
    kit.auth.close()


def test_nobody_at_all(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "passwords", "# nobody yet\n")
    for mechanism in sasl.MECHANISMS:
        step = kit.login(mechanism, "nobody", SECRET)
        assert isinstance(step, Denied)
        assert step.reply == WRONG
    kit.auth.close()


class Gate:
    """Verifying that waits until it is let go, and counts."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.now = self.most = self.all = 0

    def verify(self, hashed: Hash, password: str) -> bool:
        with self.lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)
        self.open.wait()
        with self.lock:
            self.now -= 1
        return True


def gated(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, test: Callable[[Gate], Awaitable[None]]
) -> None:
    gate = Gate()
    monkeypatch.setattr(password_auth.passwords, "verify", gate.verify)

    async def run() -> None:
        try:
            await test(gate)
        finally:
            gate.open.set()

    asyncio.run(run())


def test_j7_a_bounded_waiting_room(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(gate: Gate) -> None:
        logins = [kit.play("PLAIN", "keys", "any") for _ in range(THREADS + WAITING)]
        tasks = [asyncio.create_task(login) for login in logins]
        await asyncio.sleep(0)
        late = await kit.play("PLAIN", "keys", "any")
        assert late == Denied(REPLIES[TEMPORARY], "too many logins at once")
        gate.open.set()
        assert set(await asyncio.gather(*tasks)) == {Granted("keys")}
        assert gate.most <= THREADS
        assert await kit.play("PLAIN", "keys", "any") == Granted("keys")
        assert gate.all == THREADS + WAITING + 1

    gated(kit, monkeypatch, test)
    assert kit.said == []


def test_j7_who_gives_up_leaves_the_room(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(gate: Gate) -> None:
        for _ in range(3):
            logins = [kit.play("PLAIN", "keys", "any") for _ in range(THREADS + WAITING)]
            tasks = [asyncio.create_task(login) for login in logins]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        gate.open.set()
        assert await kit.play("PLAIN", "keys", "any") == Granted("keys")
        assert gate.all <= THREADS + 1  # what runs cannot be stopped, what waited never ran

    gated(kit, monkeypatch, test)
