from __future__ import annotations

import errno
import io
import mailbox
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.machine import mbox
from mta.machine.mbox import BusyError, append, from_line, quoted
from mta.types import NULL_PATH, Mailbox

FROM = b"From a@b Sat Jul 25 17:20:00 2026\n"
HEADER = b"Return-Path: <a@b>\n"


def put(path: Path, body: bytes = b"S: x\r\n\r\nhi\r\n") -> int:
    return append(str(path), FROM, HEADER, io.BytesIO(body))


TEXT = st.lists(
    st.sampled_from([b"From ", b"From", b"\n", b">", b" ", b"x", b"F", b"\nFrom "]), max_size=20
).map(b"".join)


@given(TEXT, st.lists(st.integers(0, 100), max_size=6))
def test_quoting_does_not_depend_on_the_pieces(text: bytes, places: list[int]) -> None:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    pieces = [*[text[a:b] for a, b in pairwise(ends)], b""]
    lines = [b">" + line if line.startswith(b"From ") else line for line in text.split(b"\n")]
    expected = b"\n".join(lines)
    if expected and not expected.endswith(b"\n"):
        expected += b"\n"
    assert b"".join(quoted(iter(pieces))) == expected


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_o3_each_message_is_found_again_whole(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("mbox") / "alice"
    for body in bodies:
        put(path, b"S: x\r\n\r\n" + body.replace(b"\n", b"\r\n"))
    texts = path.read_bytes().split(b"\n\n" + FROM)
    assert path.read_bytes().startswith(FROM)
    assert len(mailbox.mbox(path)) == len(bodies)
    assert path.read_bytes().count(b"\n" + FROM) == len(bodies) - 1
    texts[0] = texts[0].removeprefix(FROM)
    for text, body in zip(texts, bodies, strict=True):
        quoted_body = b"".join(quoted(iter([body])))
        assert text.rstrip(b"\n") == (HEADER + b"S: x\n\n" + quoted_body).rstrip(b"\n")


def test_o1_what_was_there_stays_and_a_torn_end_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.write_bytes(b"From x\n\ntorn")
    assert put(path) == 12
    assert path.read_bytes() == b"From x\n\ntorn\n\n" + FROM + HEADER + b"S: x\n\nhi\n\n"


def test_o2_when_it_fails_the_file_has_its_old_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alice"
    put(path)
    before = path.read_bytes()

    def fail(_: object) -> None:
        assert path.stat().st_size >= len(before)
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(mbox, "as_lf", fail)
    with pytest.raises(OSError, match="quota"):
        put(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert not (tmp_path / "alice.lock").exists()
    put(path)


def test_o2_a_sync_that_fails_takes_the_message_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alice"
    put(path)
    before, calls = path.read_bytes(), []

    def fail_once(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(mbox.os, "fsync", fail_once)
    with pytest.raises(OSError, match="input/output"):
        put(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["link", "symlink", "fifo", "directory"])
def test_o4_only_a_regular_file_with_one_name_is_written(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "alice", tmp_path / "other"
    other.write_bytes(b"")
    make = {
        "link": lambda: os.link(other, path),
        "symlink": lambda: path.symlink_to(other),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }
    make[kind]()
    with pytest.raises(OSError):
        put(path)
    assert other.read_bytes() == b""


def test_a_dot_lock_is_never_broken(tmp_path: Path) -> None:
    path, lock = tmp_path / "alice", tmp_path / "alice.lock"
    lock.write_text("1\n")
    os.utime(lock, (0, 0))
    with pytest.raises(BusyError, match="locked"):
        put(path)
    assert lock.read_text() == "1\n"
    assert path.read_bytes() == b""
    lock.unlink()
    put(path)


def test_an_fcntl_lock_of_another_process_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    put(path)
    before = path.read_bytes()
    code = (
        "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError):
            put(path)
        assert path.read_bytes() == before
        assert not (tmp_path / "alice.lock").exists()
        holder.communicate()
    put(path)


def test_the_from_line_is_of_the_reverse_path() -> None:
    assert from_line(NULL_PATH, 0.0) == b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"
    assert from_line(Mailbox("a b", "c"), 0.0).startswith(b'From "a_b"@c Thu')
