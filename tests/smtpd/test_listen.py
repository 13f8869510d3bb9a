"""LS1, LS2: sockets to listen on."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mta.errors import ConfigError
from mta.machine.listen import activated, adopt, listen, raise_descriptors, split_address


def test_an_address_is_split() -> None:
    assert split_address("192.0.2.1:25") == ("192.0.2.1", 25)
    assert split_address("[2001:db8::1]:25") == ("2001:db8::1", 25)
    assert split_address("unix:/run/x") == ("/run/x", 0)


def test_workers_get_a_socket_each_for_one_address() -> None:
    socks = listen("127.0.0.1:0", 3)
    try:
        assert len({sock.getsockname() for sock in socks}) == 1
        assert len({sock.fileno() for sock in socks}) == 3
        assert not any(sock.getblocking() for sock in socks)
    finally:
        for sock in socks:
            sock.close()


def test_an_address_that_is_taken_is_a_plain_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use"):
            listen(f"127.0.0.1:{port}", 2)


def test_ls1_a_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    (first,) = listen(f"unix:{path}", 4)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with pytest.raises(ConfigError, match="another process"):
        listen(f"unix:{path}")
    first.close()
    (second,) = listen(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    second.close()


def test_ls1_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(ConfigError, match="no socket"):
        listen(f"unix:{path}")
    assert path.read_text() == "x"


SCRIPT = """\
import os, sys
from mta.machine.listen import activated
os.dup2(int(sys.argv[1]), 3)
environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
print(*activated(environ, os.getpid()))
"""


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:"])
def test_ls2_a_passed_socket_is_known_by_its_address(address: str, tmp_path: Path) -> None:
    (sock,) = listen(address if address != "unix:" else f"unix:{tmp_path}/s")
    name = sock.getsockname()
    wanted = f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(sock.fileno())],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    sock.close()
    assert ran.stdout.strip() == wanted


def test_ls2_what_is_for_another_process_is_left_alone() -> None:
    assert activated({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, os.getpid()) == {}
    assert activated({}, os.getpid()) == {}
    assert activated({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}, os.getpid()) == {}


def test_descriptors_are_raised_and_adopted() -> None:
    assert raise_descriptors() > 0
    (sock,) = listen("127.0.0.1:0")
    other = adopt(os.dup(sock.fileno()))
    assert other.getsockname() == sock.getsockname()
    sock.close()
    other.close()
