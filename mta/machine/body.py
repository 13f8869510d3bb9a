"""The body of a message as local delivery needs it: with LF line ends, in a file, looked into.

The spool holds bodies as SMTP carries them, with CRLF and nothing bare; a
mailbox and a Unix program want LF.  A BINARYMIME body (RFC 3030) has no lines
to speak of: it is kept as it is, or refused where that cannot be.

Units    Octets.  No line of a message is ever held whole: a line may be as long
         as the message.

Invariants, each a property in tests/machine/test_body.py
    B1   The pieces of as_lf, joined, are the body with each CRLF made LF and nothing else changed.
    B2   fields() gives the values of a field of the header block only.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from mta.types import RECIPIENT, Outcome, Reply

__all__ = [
    "HEADER_LIMIT",
    "UNCONVERTIBLE",
    "as_is",
    "as_lf",
    "deliver_header",
    "fields",
    "loop_of",
    "prepared",
    "trouble",
]

PIECE = 1 << 16
HEADER_LIMIT = 1 << 20
# RFC 3463 X.6.3: conversion is required, and not supported.
UNCONVERTIBLE = Outcome(Reply(554, "5.6.3", "a BINARYMIME body cannot be delivered here"))


def as_lf(body: BinaryIO, piece: int = PIECE) -> Iterator[bytes]:
    """Yield ``body`` from its beginning, CRLF made LF."""
    body.seek(0)
    held = b""
    while octets := body.read(piece):
        octets = held + octets
        held = b"\r" if octets[-1:] == b"\r" else b""
        yield octets[: len(octets) - len(held)].replace(b"\r\n", b"\n")
    if held:
        yield held


def as_is(body: BinaryIO) -> Iterator[bytes]:
    """Yield ``body`` from its beginning, octet for octet."""
    body.seek(0)
    while octets := body.read(PIECE):
        yield octets


def prepared(header: bytes, body: BinaryIO, *, crlf: bool = False) -> BinaryIO:
    """Return an unnamed file at its beginning: ``header`` (LF line ends) and the body.

    OSError if the disk for temporary files is full.
    """
    file: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    try:
        _write_all(file.fileno(), header.replace(b"\n", b"\r\n") if crlf else header)
        if crlf:
            for octets in as_is(body):
                _write_all(file.fileno(), octets)
        else:
            for octets in as_lf(body):
                _write_all(file.fileno(), octets)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _write_all(fd: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(fd, octets) :]


def deliver_header(reverse_path: object, mailbox: object) -> bytes:
    """Return what final delivery puts before a message: who to return it to, whose it is."""
    return f"Return-Path: <{reverse_path}>\nDelivered-To: {mailbox}\n".encode()


def fields(body: BinaryIO, name: bytes) -> list[bytes]:
    """Return the values of all header fields ``name`` (lower case), unfolded lines only."""
    body.seek(0)
    values: list[bytes] = []
    left = HEADER_LIMIT
    at_start = True
    while left > 0:
        line = body.readline(min(left, PIECE))
        left -= len(line)
        if at_start and line in (b"\r\n", b"\n", b""):
            return values
        if at_start:
            start, colon, value = line.partition(b":")
            if colon and start.rstrip(b" \t").lower() == name:
                values.append(value.strip(b" \t\r\n"))
        at_start = line[-1:] == b"\n"
        if not line:
            return values
    return values


def loop_of(body: BinaryIO, mailbox: object) -> Outcome | None:
    """Return the failure of a message that was delivered to ``mailbox`` once already, else None."""
    own = str(mailbox).lower().encode()
    if own not in [value.lower() for value in fields(body, b"delivered-to")]:
        return None
    return Outcome(Reply(554, "5.4.6", f"mail forwarding loop for {mailbox}"), RECIPIENT)


_TROUBLES: dict[int, tuple[int, str]] = {
    errno.ENOSPC: (452, "4.3.1"),
    errno.EDQUOT: (452, "4.2.2"),
    errno.EFBIG: (452, "4.2.2"),
    errno.EACCES: (451, "4.2.0"),
    errno.EPERM: (451, "4.2.0"),
    errno.ELOOP: (451, "4.2.0"),
    errno.EROFS: (451, "4.2.0"),
}


def trouble(error: OSError, what: str) -> Outcome:
    """Return the deferral that ``error`` means for a mailbox: no error of a disk fails mail."""
    code, status = _TROUBLES.get(error.errno or 0, (451, "4.3.0"))
    return Outcome(Reply(code, status, Reply.clean(f"{what}: {error.strerror or error}")))
