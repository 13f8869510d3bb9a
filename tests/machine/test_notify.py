"""sd_notify: told where somebody listens, silently nothing elsewhere."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mta.machine.notify import READY, tell


@pytest.mark.parametrize("depth", [0, 4], ids=["short", "long"])
def test_who_listens_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    folder = tmp_path.joinpath(*["d" * 60] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("s")
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "s"))
        assert tell(READY)
        assert sock.recv(100) == b"READY=1"


def test_an_abstract_address_begins_with_an_at_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"posthouse-test-{tmp_path}"[-80:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert tell(READY)
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "path", ["", "relative", "/nowhere/s", "/etc/passwd", "@nobody-there-4711"]
)
def test_nobody_there_is_no_error(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not tell(READY)
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not tell(READY)
