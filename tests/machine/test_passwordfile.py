from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import ConfigError
from mta.machine import passwordfile
from mta.machine.passwordfile import OFTEN, PasswordFile, parse, read, split_line

KEYS = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==," + ",".join(["A" * 43 + "="] * 2)
SHA = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Kit:
    """A file, its clock, and what was said of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.said = path, Clock(), list[str]()
        self.file = PasswordFile(str(path), self.said.append, self.clock)

    def names(self) -> list[str]:
        self.clock.now += OFTEN
        self.file.refresh()
        return [user.name for user in self.file.users._all]


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    write(tmp_path / "passwords", f"alice:{SHA}\n")
    kit = Kit(tmp_path / "passwords")
    kit.file.load()
    return kit


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666])
def test_e1_open_to_everybody(mode: int, kit: Kit) -> None:
    kit.path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"passwords: .*closed to others \(mode {mode:04o}\)"):
        read(str(kit.path))
    kit.names()
    assert "closed to others" in kit.file.trouble
    kit.path.chmod(0o640)
    assert kit.names() == ["alice"]
    assert kit.file.trouble == ""


@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([b"", b"# a", b"bob:" + SHA.encode()]))
    )
)
def test_e2_any_file(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    users = parse(b"\n".join([*lines, f"alice:{SHA}".encode()]), "file")
    assert users.find("alice") is not None
    assert (users.find("bob") is not None) == (b"bob:" + SHA.encode() in lines)
    for fault in users.faults:
        path, number, reason = fault.split(":", 2)
        assert path == "file"
        assert lines[int(number) - 1]
        assert reason.isprintable()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"secret", "not user:hash"),
        (b"bob:secret", "not a hash"),
        (b":" + SHA.encode(), "empty user name"),
        (b" bob:" + SHA.encode(), "blank"),
        (b"\xff:" + SHA.encode(), "UTF-8"),
        (b"b\x07:" + SHA.encode(), "control character"),
        (b"ALICE:" + SHA.encode(), "named before"),
        (b"bob:{PLAIN}", "empty"),
    ],
)
def test_e2_a_line_of_no_use(line: bytes, reason: str) -> None:
    users = parse(f"alice:{SHA}\n".encode() + line + f"\ncarol:{KEYS}".encode(), "/p")
    assert len(users) == 2
    (fault,) = users.faults
    assert fault.startswith("/p:2: ")
    assert reason in fault
    assert "secret" not in fault


def test_e2_faults_are_not_endless() -> None:
    assert len(parse(b"x\n" * 1000, "p").faults) == passwordfile.FAULTS_MAX


def test_e3_looked_at_now_and_then(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    looks: list[str] = []

    def counted(path: str) -> passwordfile.Users:
        reads.append(path)
        return read(path)

    def stat(path: str) -> os.stat_result:
        looks.append(path)
        return os.lstat(path)

    monkeypatch.setattr(passwordfile, "read", counted)
    monkeypatch.setattr(passwordfile.os, "stat", stat)
    for _ in range(100):
        kit.clock.now += OFTEN / 10
        kit.file.refresh()
    assert 9 <= len(looks) <= 10
    assert reads == []
    write(kit.path, f"bob:{SHA}\ncarol:{SHA}\n")
    assert kit.names() == ["bob", "carol"]
    assert len(reads) == 1


def test_another_file_of_the_same_size(kit: Kit) -> None:
    old = kit.path.stat()
    write(kit.path.with_name("new"), f"bobby:{SHA}\n")
    os.utime(kit.path.with_name("new"), ns=(old.st_atime_ns, old.st_mtime_ns))
    kit.path.with_name("new").replace(kit.path)
    assert kit.names() == ["bobby"]


def test_a_file_that_goes_lets_nobody_in_until_it_is_back(kit: Kit) -> None:
    kit.path.unlink()
    assert kit.names() == ["alice"]  # what is offered stays, so that clients try again
    assert kit.file.trouble.endswith("passwords: No such file or directory")
    kit.names()
    assert len(kit.said) == 1
    write(kit.path, f"alice:{KEYS}\nwrong\n")
    assert kit.names() == ["alice"]
    assert kit.file.trouble == ""
    assert kit.said[1].endswith("passwords:2: not user:hash")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_not_a_file(make: object, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / "x")
    with pytest.raises(ConfigError, match=r"x: (not a regular file|Is a directory)"):
        PasswordFile(str(tmp_path / "x"), print, Clock()).load()


def test_a_file_too_long(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwordfile, "FILE_MAX", 10)
    with pytest.raises(ConfigError, match="longer than 10 octets"):
        read(str(kit.path))


def test_what_a_file_may_hold() -> None:
    text = f"# a\n\n \nalice:{SHA}  \r\nBob:{KEYS}:1000:1000::/home/bob\ncarol:{{plain}}a:b \n"
    users = parse(text.encode(), "p")
    assert users.faults == ()
    assert len(users) == 3
    alice, bob, carol = users.find("ALICE"), users.find("bob"), users.find("carol")
    assert alice is not None and not alice.scram
    assert bob is not None and bob.name == "Bob" and bob.scram
    assert carol is not None and carol.hashed.text == "a:b " and carol.scram
    assert users.scram
    assert users.find("dave") is None


def test_stand_ins() -> None:
    users = parse(f"alice:{SHA}\nbob:{KEYS}\ncarol:{SHA}\n".encode(), "p")
    among = [users.stand_in(n, scram=False) for n in range(6)]
    assert [user.name for user in among if user] == ["alice", "bob", "carol"] * 2
    assert {users.stand_in(n, scram=True) for n in range(6)} == {users.find("bob")}
    assert parse(b"", "p").stand_in(3, scram=False) is None
    assert parse(f"alice:{SHA}".encode(), "p").stand_in(3, scram=True) is None


def test_a_line_taken_apart() -> None:
    assert split_line("a:b:c:d") == ("a", "b", ":c:d")
    assert split_line("a:b") == ("a", "b", "")
    assert split_line("a:{PLAIN}b:c") == ("a", "{PLAIN}b:c", "")
