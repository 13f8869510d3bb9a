from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.machine.forward import ForwardError, parse_forward, read_forward


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "alice"
    home.mkdir(mode=0o755)
    return home


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", ()),
        ("# nobody\n\n", ()),
        ("bob@x.test", ("bob@x.test",)),
        ("\\alice, bob@x.test\n/var/mail/a", ("\\alice", "bob@x.test", "/var/mail/a")),
        ('"|/bin/prog a, b", c@d\r\n', ("|/bin/prog a, b", "c@d")),
        ('"|/bin/prog \\"a b\\""', ('|/bin/prog "a b"',)),
        ("|/bin/prog x", ("|/bin/prog x",)),
        ('"a b"@x.test', ('"a b"@x.test',)),
    ],
)
def test_what_a_forward_file_says(text: str, targets: tuple[str, ...]) -> None:
    assert parse_forward(text) == targets


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"|/bin/prog', "line 1: a quote"),
        ("a@b\n:include:/etc/passwd", "line 2: 'include'"),
        ("|", "nothing after"),
        ("a\x07b", "control character"),
        ("a@b,\n" * 201, "more than 200"),
    ],
)
def test_what_it_may_not_say(text: str, reason: str) -> None:
    with pytest.raises(ForwardError, match=reason):
        parse_forward(text)


@given(st.text() | st.text(alphabet='"\\,|/# \n:ab@'))
def test_f2_any_text_gives_targets_or_a_reason(text: str) -> None:
    try:
        assert all(parse_forward(text))
    except ForwardError as error:
        assert str(error)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_f1_a_file_that_others_could_write_is_not_obeyed(home: Path, mode: int) -> None:
    path = home / ".forward"
    path.write_text("a@b")
    path.chmod(mode)
    with pytest.raises(ForwardError, match="written by others"):
        read_forward(str(home), os.getuid())
    path.chmod(0o644)
    assert read_forward(str(home), os.getuid()) == ("a@b",)


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_f1_a_home_that_others_could_write_is_not_trusted(home: Path, mode: int) -> None:
    (home / ".forward").write_text("a@b")
    home.chmod(mode)
    with pytest.raises(ForwardError, match="written by others"):
        read_forward(str(home), os.getuid())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_f1_a_file_of_another_user_is_not_obeyed(home: Path) -> None:
    path = home / ".forward"
    path.write_text("a@b")
    os.chown(path, 12345, 12345)
    with pytest.raises(ForwardError, match="belongs to neither"):
        read_forward(str(home), 54321)


@pytest.mark.parametrize("kind", ["symlink", "link", "fifo", "directory"])
def test_f1_only_a_regular_file_is_obeyed(home: Path, kind: str) -> None:
    path, other = home / ".forward", home / "other"
    other.write_text("a@b")
    make = {
        "symlink": lambda: path.symlink_to(other),
        "link": lambda: os.link(other, path),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }
    make[kind]()
    with pytest.raises((ForwardError, OSError)):
        read_forward(str(home), os.getuid())


def test_no_file_forwards_nowhere_and_a_long_one_is_an_error(home: Path) -> None:
    assert read_forward(str(home), os.getuid()) == ()
    assert read_forward(str(home / "missing"), os.getuid()) == ()
    (home / ".forward").write_bytes(b"#" * 70000)
    with pytest.raises(ForwardError, match="longer than"):
        read_forward(str(home), os.getuid())
    (home / ".forward").write_bytes(b"\xff")
    with pytest.raises(ForwardError, match="UTF-8"):
        read_forward(str(home), os.getuid())
