"""What deliver has to write to a channel program: lines, descriptors, bodies as octets.

Many jobs go in one call, their descriptors beside them.

Source   unix(7), SCM_RIGHTS: descriptors go with the first octet of a call.

Invariants, each a property in tests/deliver/test_outbox.py
    O1   However little the socket takes at a time, the octets arrive whole and in
         order, and the descriptors in order, none after the end of its line.
    O2   Every descriptor given here is closed here, sent or not.
"""

from __future__ import annotations

import os
import socket
from collections import deque

__all__ = ["Outbox"]

PIECE = 65536
DESCRIPTORS = 200  # in one call; the kernel takes 253


class _Out:
    """Octets, with a descriptor to send along or -1; or ``left`` octets of ``fd`` to copy."""

    __slots__ = ("data", "fd", "left")

    def __init__(self, data: bytes, fd: int, left: int) -> None:
        self.data = data
        self.fd = fd
        self.left = left


class Outbox:
    """The writing half of deliver's socket to one program; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._out: deque[_Out] = deque()

    def add(self, lines: bytes, fd: int = -1) -> None:
        """Gather ``lines``, and a descriptor that goes with them."""
        self._out.append(_Out(lines, fd, 0))

    def add_body(self, fd: int, size: int) -> None:
        """Gather ``size`` octets of ``fd``."""
        if size:
            self._out.append(_Out(b"", fd, size))
        else:
            os.close(fd)

    def flush(self) -> bool:
        """Write what the socket takes; return whether all is written.  OSError if it is broken."""
        try:
            while self._out:
                if self._out[0].left:
                    self._send_piece()
                else:
                    self._send_batch()
        except BlockingIOError:
            return False
        return True

    def _send_batch(self) -> None:
        """Send the lines that wait, up to the next body, with their descriptors."""
        batch: list[_Out] = []
        for out in self._out:
            if out.left or len(batch) == DESCRIPTORS:
                break
            batch.append(out)
        data = b"".join([out.data for out in batch])
        fds = [out.fd for out in batch if out.fd >= 0]
        sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
        for out in batch:
            self._out.popleft()
            if out.fd >= 0:
                os.close(out.fd)
        if sent < len(data):
            self._out.appendleft(_Out(data[sent:], -1, 0))

    def _send_piece(self) -> None:
        """Send some octets of a body."""
        out = self._out[0]
        if not out.data:
            out.data = os.read(out.fd, min(PIECE, out.left))
            if not out.data:
                raise OSError(f"the body ends {out.left} octets early")
        sent = self._sock.send(out.data)
        out.data = out.data[sent:]
        out.left -= sent
        if not out.left:
            self._out.popleft()
            os.close(out.fd)

    def close(self) -> None:
        """Forget what was not sent."""
        for out in self._out:
            if out.fd >= 0:
                os.close(out.fd)
        self._out.clear()
