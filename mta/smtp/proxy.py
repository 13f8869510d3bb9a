"""The PROXY header: whom a proxy speaks for, before the first octet of SMTP.

Only connections of named proxies begin with one.  A header that is not wholly
understood ends the connection: guessing would give the proxy's rights to a stranger.

Source   The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt, s2.1 and
         s2.2).  Extensions (TLVs) are passed over; UDP and Unix sockets are refused.
Units    Lengths are octets.

Invariants, each a property in tests/smtp/test_proxy.py
    P1   However the octets are split, the same header comes out, and the same rest.
    P2   Whatever the octets: None, a header or ValueError, and never None from MAX on.
    P3   A header made for two endpoints is read as these two.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from mta.values import frozen

__all__ = ["LOCAL", "MAX", "ProxyHeader", "parse"]

_V1_MAX = 107  # s2.1: CRLF included
_V2_MAX = 2048  # of what follows the fixed part: addresses, then TLVs
_V2_FIXED = 16
MAX = _V2_FIXED + _V2_MAX

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"


@frozen
class ProxyHeader:
    """The client's address and port, and those it connected to; for LOCAL all are empty."""

    source: str
    source_port: int
    destination: str
    port: int


LOCAL = ProxyHeader("", 0, "", 0)  # the proxy speaks for itself, or knows nothing


def parse(octets: bytes) -> tuple[ProxyHeader, int] | None:
    """Return the header that ``octets`` begin with, and its length; None if it is not whole.

    Raises ValueError if they begin with none.
    """
    if octets.startswith(_V1):
        return _version_1(octets)
    if octets.startswith(_V2):
        return _version_2(octets)
    if _V1.startswith(octets) or _V2.startswith(octets):
        return None
    raise ValueError("the connection does not begin with a PROXY header")


def _version_1(octets: bytes) -> tuple[ProxyHeader, int] | None:
    end = octets.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(octets) >= _V1_MAX:
            raise ValueError("a PROXY header of more than 107 octets")
        return None
    try:
        words = octets[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ValueError("a PROXY header that is not ASCII") from None
    if words[1] == "UNKNOWN":
        return LOCAL, end + 2
    kinds = {"TCP4": IPv4Address, "TCP6": IPv6Address}
    if words[1] not in kinds or len(words) != 6:
        raise ValueError("a PROXY header that is neither TCP4, TCP6 nor UNKNOWN")
    kind = kinds[words[1]]
    try:
        source, destination = str(kind(words[2])), str(kind(words[3]))
    except ValueError:
        raise ValueError("a PROXY header with an address that is none") from None
    if "%" in source + destination:
        raise ValueError("a PROXY header with an address of one link only")
    return ProxyHeader(source, _port(words[4]), destination, _port(words[5])), end + 2


def _port(word: str) -> int:
    if not (word.isdigit() and len(word) <= 5 and int(word) < 65536):
        raise ValueError("a PROXY header with a port that is none")
    return int(word)


def _version_2(octets: bytes) -> tuple[ProxyHeader, int] | None:
    if len(octets) < _V2_FIXED:
        return None
    command, family = octets[12], octets[13]
    length = int.from_bytes(octets[14:16], "big")
    if command not in (0x20, 0x21):
        raise ValueError("a PROXY header of an unknown version or command")
    if length > _V2_MAX:
        raise ValueError(f"a PROXY header of more than {MAX} octets")
    whole = _V2_FIXED + length
    if len(octets) < whole:
        return None
    if command == 0x20 or family == 0x00:
        return LOCAL, whole
    sizes = {0x11: (4, IPv4Address), 0x21: (16, IPv6Address)}
    if family not in sizes:
        raise ValueError("a PROXY header for something else than TCP")
    size, kind = sizes[family]
    if length < 2 * size + 4:
        raise ValueError("a PROXY header that is too short for its addresses")
    body = octets[_V2_FIXED:whole]
    ports = body[2 * size :]
    header = ProxyHeader(
        str(kind(body[:size])),
        int.from_bytes(ports[:2], "big"),
        str(kind(body[size : 2 * size])),
        int.from_bytes(ports[2:4], "big"),
    )
    return header, whole
