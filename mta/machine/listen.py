"""Listening sockets: made, taken over from a supervisor, and given to worker processes.

A TCP address gets one socket for each worker, all bound with SO_REUSEPORT: the
kernel spreads connections over them, no worker wakes another's sleep, and as
whoever made them keeps them open, what waits in the queue of a worker that died
is served by the next one.  A Unix socket, and one that a supervisor made, is
one socket that all workers accept from.

Source   Socket activation: sd_listen_fds(3).  IPv6 sockets take IPv6 only
         (RFC 3493 s5.3): "[::]:25" and "0.0.0.0:25" are two addresses.
Units    BACKLOG connections may wait to be accepted; the kernel may hold fewer.

Invariants, each a test in tests/smtpd/test_listen.py
    LS1  A socket file whose owner is gone is replaced; one that answers is not.
    LS2  What a supervisor passed is known by its address; what it passed to another
         process is left alone.
"""

from __future__ import annotations

import os
import resource
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress

from mta.errors import ConfigError

__all__ = ["activated", "adopt", "listen", "raise_descriptors", "split_address"]

BACKLOG = 4096
FIRST = 3  # the first descriptor that a supervisor passes


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "192.0.2.1:25" or "[2001:db8::1]:25"; a "unix:" path has port 0."""
    if address.startswith("unix:"):
        return address[5:], 0
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def listen(address: str, count: int = 1, *, more: bool = False) -> list[socket.socket]:
    """Return ``count`` sockets that listen at ``address`` (one for a Unix path).

    ConfigError, naming the address, if that cannot be; also if another process has
    it, unless these are ``more`` sockets for an address that is ours.
    """
    made: list[socket.socket] = []
    try:
        if address.startswith("unix:"):
            return [_unix(address[5:])]
        host, port = split_address(address)
        if port and not more:
            _claim(host, port)
        for _ in range(count):
            made.append(_tcp(host, port))
            port = made[0].getsockname()[1]  # port 0 is any, but the same for all
    except OSError as error:
        for sock in made:
            sock.close()
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}") from None
    return made


def _claim(host: str, port: int) -> None:
    """Raise OSError if anybody listens there: SO_REUSEPORT would let us in beside him."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str) -> socket.socket:
    """Listen at ``path``; everybody may connect: who may relay is decided by policy."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o111)  # not chmod: the name may be another's by then
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"cannot listen on unix:{path}: there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except FileNotFoundError:
            return
    raise ConfigError(f"cannot listen on unix:{path}: another process does")


def activated(environ: Mapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Return what a supervisor passed, by address as mta.yaml would spell it; {} for nothing."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal() or len(count) > 4:
        return {}
    found: dict[str, list[socket.socket]] = {}
    for fd in range(FIRST, FIRST + int(count)):
        try:
            os.set_inheritable(fd, False)
            sock = adopt(fd)
            found.setdefault(_address(sock), []).append(sock)
        except OSError as error:
            raise ConfigError(f"descriptor {fd} was passed but is {error.strerror}") from None
    return found


def _address(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


def adopt(fd: int) -> socket.socket:
    """Return the socket behind the descriptor ``fd``, which is its own from now on."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def raise_descriptors(most: int = 0) -> int:
    """Let this process have as many descriptors as the system permits; return how many.

    With ``most``, no more than that: what it starts inherits them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if not most or 0 <= hard < most else most
    if soft != wanted and (not most or 0 <= soft < wanted):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
