"""Sockets: where to connect, in the spellings people use, and the attempt itself.

Source   Host and port as mta.yaml(5) has them: ``host``, ``host:port``,
         ``[2001:db8::1]:port``; address literals ``[192.0.2.1]`` and
         ``[IPv6:2001:db8::1]`` of RFC 5321 s4.1.3.  ``unix:/path`` is a socket in
         the file system.
Units    Limits are seconds.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable

from mta.values import frozen

__all__ = ["UNIX", "Endpoint", "attempt", "numeric", "parse_endpoint", "reason"]


UNIX = "unix:"
_PATH_MAX = 107  # octets: sun_path of unix(7), less its NUL


@frozen
class Endpoint:
    """Where to connect: ``host`` is a name or an address without brackets, or "unix:/path"."""

    host: str
    port: int

    def relay(self, address: str) -> str:
        """Return the word that the log shows for a connection to ``address``."""
        if self.host.startswith(UNIX):
            return f"localhost[{self.host.removeprefix(UNIX)}]"
        return f"{self.host}[{address}]:{self.port}"


def numeric(host: str) -> str:
    """Return the address that ``host`` spells, in its one canonical form; "" for a name."""
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
        host = host[5:] if host[:5].lower() == "ipv6:" else host
    if not host[:1].isdigit() and ":" not in host:
        return ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def parse_endpoint(text: str, port: int) -> Endpoint:
    """Return ``host``, ``host:port``, an address with or without port, or ``unix:/path``.

    ``port`` is for a text that names none.  Raises ValueError with the reason.
    """
    if text.startswith(UNIX):
        return _parse_path(text)
    if numeric(text):
        return Endpoint(numeric(text), port)
    host, colon, number = text.rpartition(":")
    if not colon:
        host = text
    elif not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536):
        raise ValueError(f"{text!r}: the port is not a number from 1 to 65535")
    else:
        port = int(number)
    host = numeric(host) or host
    if not host or not host.isprintable() or (set(host) & set(" []:/,") and not numeric(host)):
        raise ValueError(f"{text!r} is not host, host:port or [address]:port")
    return Endpoint(host.lower(), port)


def _parse_path(text: str) -> Endpoint:
    path = text.removeprefix(UNIX)
    if path[:1] != "/" or not path.isprintable() or " " in path:
        raise ValueError(f"{text!r}: after unix: stands a path that begins with /, without spaces")
    if len(os.fsencode(path)) > _PATH_MAX:
        raise ValueError(f"{text!r}: the path of a socket has at most {_PATH_MAX} octets")
    return Endpoint(text, 0)


async def attempt(
    protocol: Callable[[], asyncio.BaseProtocol],
    address: str,
    port: int,
    limit: float,
    source: str = "",
) -> None:
    """Connect ``protocol()`` to a numeric ``address`` or "unix:/path", within ``limit`` seconds.

    ``source`` is the address to connect from, "" for any.  Raises OSError, of
    which TimeoutError is one; reason() says it in words.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limit):
        if address.startswith(UNIX):
            await loop.create_unix_connection(protocol, address.removeprefix(UNIX))
        elif source:
            await loop.create_connection(protocol, address, port, local_addr=(source, 0))
        else:
            await loop.create_connection(protocol, address, port)


def reason(error: BaseException | None) -> str:
    """Return in a few words why a connection failed or ended."""
    if error is None:
        return "closed by the other end"
    if isinstance(error, TimeoutError) and not error.errno:
        return "timed out"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return str(error) or type(error).__name__
