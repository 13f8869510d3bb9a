"""One small text by HTTPS: no redirects, no cookies, nothing but a GET.

The addresses are the caller's, who found them by the resolver that everything
else asks; the certificate is checked by OpenSSL.

Source   RFC 9110, RFC 9112 s6 (how long a body is), s7.1 (chunks).
Units    Octets; seconds.
State    None; a connection for each fetch.

Invariants, each a property in tests/machine/test_sts.py
    F1   Whatever a server sends, the end is a text of at most BODY_MAX octets, or FetchError.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from mta.machine.net import reason

__all__ = ["BODY_MAX", "FetchError", "get"]

BODY_MAX = 65536
ADDRESSES_MAX = 4
CONNECT_LIMIT = 8.0
_HEAD_END = b"\r\n\r\n"
_INTERIM_MAX = 3


class FetchError(Exception):
    """There is no text to be had; ``untrusted`` if the certificate was the reason."""

    def __init__(self, text: str, untrusted: bool = False) -> None:
        """Say why in a few words."""
        super().__init__(text)
        self.untrusted = untrusted


async def get(
    host: str, path: str, addresses: Sequence[str], port: int, context: ssl.SSLContext
) -> bytes:
    """Return the text at ``path`` of ``host``, from the first address that answers.

    The caller limits the time.
    """
    failure = FetchError("no address")
    for address in addresses[:ADDRESSES_MAX]:
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                reader, writer = await asyncio.open_connection(
                    address, port, ssl=context, server_hostname=host, limit=BODY_MAX
                )
        except ssl.SSLError as error:
            text = getattr(error, "verify_message", "") or error.reason or "TLS failed"
            raise FetchError(text, isinstance(error, ssl.SSLCertVerificationError)) from None
        except OSError as error:
            failure = FetchError(reason(error))
            continue
        try:
            return await _talk(reader, writer, host, path)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise FetchError(f"HTTP: {reason(error)}") from None
        finally:
            writer.transport.abort()
    raise failure


async def _talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str
) -> bytes:
    """Ask and read; ValueError for what is no HTTP, or not the text itself."""
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", "Accept: text/plain", "Connection: close")
    writer.write("\r\n".join((*lines, "", "")).encode("ascii"))
    for _ in range(_INTERIM_MAX):
        status, fields = _head(await reader.readuntil(_HEAD_END))
        if status >= 200:
            break
    if status != 200:
        raise ValueError(f"status {status}")
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/plain":
        raise ValueError("the content is not text/plain")
    if fields.get("content-encoding", "identity").lower() != "identity":
        raise ValueError("the content is encoded")
    return await _body(reader, fields)


def _head(octets: bytes) -> tuple[int, dict[str, str]]:
    """Return status and fields; of a repeated field, the first."""
    first, *lines = octets.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
        raise ValueError("no HTTP/1 response")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    return int(status), fields


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    coding = fields.get("transfer-encoding", "").lower()
    if coding:
        if coding != "chunked":
            raise ValueError("an unknown transfer coding")
        return await _chunks(reader)
    length = fields.get("content-length")
    if length is not None:
        return await reader.readexactly(_number(length, 10))
    body = bytearray()
    while octets := await reader.read(BODY_MAX):
        body += octets
        _number(str(len(body)), 10)
    return bytes(body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = (await reader.readuntil(b"\r\n")).decode("latin-1")
        size = _number(line.partition(";")[0].strip(), 16)
        if size == 0:
            return bytes(body)
        body += await reader.readexactly(size)
        _number(str(len(body)), 10)
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk of another length")


def _number(text: str, base: int) -> int:
    """Return the length that ``text`` says, if it is one that we take."""
    if not text.isascii() or not text.isalnum() or len(text) > 8:
        raise ValueError("no length")
    number = int(text, base)
    if number > BODY_MAX:
        raise ValueError(f"more than {BODY_MAX} octets")
    return number
