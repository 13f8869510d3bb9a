from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import password
from mta.errors import UsageError
from mta.machine import passwordfile, passwords
from mta.password import SCHEMES, _changed, replace, run

SHA = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(user: str, text: str, scheme: str = SCHEMES[0]) -> str:
    said: list[str] = []
    assert run(user, scheme, stdin=io.StringIO(text), say=said.append) == 0
    (line,) = said
    return line


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_line_is_printed(scheme: str) -> None:
    line = printed("alice", "secret\n", scheme)
    name, hashed, rest = passwordfile.split_line(line)
    assert (name, rest) == ("alice", "")
    assert passwords.verify(passwords.parse(hashed), "secret")


def test_standard_input_is_one_line() -> None:
    for text in ("secret", "secret\n", "secret\r\n", "secret\nmore\n"):
        hashed = printed("alice", text).partition(":")[2]
        assert passwords.verify(passwords.parse(hashed), "secret")


def test_a_terminal_is_asked_twice() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    said: list[str] = []
    assert run("alice", stdin=Terminal(), ask=ask, say=said.append) == 0
    assert len(asked) == 2
    assert said[0].startswith("alice:{SCRAM-SHA-256}")
    answers = iter(["one", "two"])
    with pytest.raises(UsageError, match="not the same"):
        run("alice", stdin=Terminal(), ask=lambda prompt: next(answers))


@pytest.mark.parametrize(
    ("user", "scheme", "text"),
    [
        ("", SCHEMES[0], "x"),
        ("a:b", SCHEMES[0], "x"),
        ("#a", SCHEMES[0], "x"),
        (" a", SCHEMES[0], "x"),
        ("a\n", SCHEMES[0], "x"),
        ("\udcff", SCHEMES[0], "x"),
        ("a", "md5", "x"),
        ("a", SCHEMES[0], ""),
        ("a", SCHEMES[0], "\n"),
        ("a", SCHEMES[0], "\x07"),
        ("a", "bcrypt", "x" * 73),
        ("a", SCHEMES[0], "x" * 3000),
    ],
)
def test_what_is_refused(user: str, scheme: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        run(user, scheme, str(tmp_path / "file"), stdin=io.StringIO(text))
    assert str(raised.value).isprintable()
    assert list(tmp_path.iterdir()) == []


LINE = st.one_of(
    st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")),
    st.sampled_from([b"# alice:x", b"bob:" + SHA.encode(), b"", b"alice", b"alicex:y:z"]),
)


@given(st.lists(LINE), st.lists(LINE), st.sampled_from([b"", b":1000:rest"]))
def test_z1_the_others_stay(before: list[bytes], after: list[bytes], rest: bytes) -> None:
    before = [line for line in before if line.lower() != b"alice" and line[:6].lower() != b"alice:"]
    own = b"Alice:old" + rest
    changed = list(_changed([*before, own, *after, b"end", b""], "alice", "HASH"))
    assert changed == [*before, b"Alice:HASH" + rest, *after, b"end", b""]
    changed = list(_changed([*before, b"end", b"", b""], "alice", "HASH"))
    assert changed == [*before, b"end", b"alice:HASH", b""]


def test_z1_a_file_is_made_and_changed(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    said: list[str] = []
    for user, secret in (("alice", "one"), ("bob", "two"), ("ALICE", "three")):
        run(user, file=str(path), stdin=io.StringIO(secret), say=said.append)
    users = passwordfile.read(str(path))
    assert len(users) == 2
    for user, secret in (("alice", "three"), ("bob", "two")):
        found = users.find(user)
        assert found is not None
        assert passwords.verify(found.hashed, secret)
    assert "secret" not in "".join(said)
    assert [file.name for file in tmp_path.iterdir()] == ["passwords"]


@pytest.mark.parametrize(("mode", "after"), [(0o600, 0o600), (0o644, 0o640), (0o666, 0o640)])
def test_z2_others_never_read_it(
    mode: int, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"bob:{SHA}\n", encoding="utf-8")
    path.chmod(mode)
    seen: list[int] = []
    sync = os.fsync

    def watch(fd: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        sync(fd)

    monkeypatch.setattr(password.os, "fsync", watch)
    old = os.umask(0)
    try:
        replace(str(path), "alice", SHA)
        replace(str(tmp_path / "new"), "alice", SHA)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == after
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert [seen[0], seen[2]] == [after, 0o600]


def test_z3_cut_off_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "passwords"
    before = f"bob:{SHA}\n"
    done: list[str] = []
    for name in ("open", "unlink", "fdopen", "fchmod", "fsync", "rename"):
        path.write_text(before, encoding="utf-8")
        path.chmod(0o600)

        def fail(*arguments: object, **more: object) -> None:
            raise OSError(5, "cut off")

        with monkeypatch.context() as patch:
            patch.setattr(password.os, name, fail)
            with pytest.raises(OSError):
                replace(str(path), "alice", SHA)
        assert path.read_text(encoding="utf-8") == before
        done.append(name)
    replace(str(path), "alice", SHA)
    assert path.read_text(encoding="utf-8") == f"{before}alice:{SHA}\n"
    assert len(done) == 6


def test_z3_what_a_killed_one_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "passwords.new").write_text("half", encoding="utf-8")
    replace(str(tmp_path / "passwords"), "alice", SHA)
    assert (tmp_path / "passwords").read_text(encoding="utf-8") == f"alice:{SHA}\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(f"bob:{SHA}", encoding="utf-8")
    (tmp_path / "link").symlink_to("real")
    replace(str(tmp_path / "link"), "alice", SHA)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text(encoding="utf-8") == f"bob:{SHA}\nalice:{SHA}\n"
