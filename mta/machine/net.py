"""Sockets: where to connect, in the spellings people use, and the attempt itself.

Source   Host and port as mta.yaml(5) has them: ``host``, ``host:port``,
         ``[2001:db8::1]:port``; address literals ``[192.0.2.1]`` and
         ``[IPv6:2001:db8::1]`` of RFC 5321 s4.1.3.
Units    Limits are seconds.

TLS will live here too: contexts and certificates; the engine does the rest.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable

from mta.values import frozen

__all__ = ["Endpoint", "attempt", "numeric", "parse_endpoint", "reason"]


@frozen
class Endpoint:
    """Where to connect: ``host`` is a name or an address without brackets."""

    host: str
    port: int

    def relay(self, address: str) -> str:
        """Return the word that the log shows for a connection to ``address``."""
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
    """Return ``host``, ``host:port`` or an address with or without port as an Endpoint.

    ``port`` is for a text that names none.  Raises ValueError with the reason.
    """
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


async def attempt(
    protocol: Callable[[], asyncio.BaseProtocol], address: str, port: int, limit: float
) -> None:
    """Connect ``protocol()`` to a numeric ``address``, within ``limit`` seconds.

    Raises OSError, of which TimeoutError is one; reason() says it in words.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limit):
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
