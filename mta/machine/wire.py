"""A channel program's end of its socket: octets and descriptors in, jobs with bodies out.

Source   channel(7).  Descriptors: unix(7), SCM_RIGHTS.
State    One socket, and the descriptors that came and are not yet asked for.

Invariants, each a property in tests/machine/test_serve.py
    C1   Each job's body is the descriptor that came with its ``send``, in order.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections import deque
from typing import BinaryIO

from mta.channel.records import Avoid, Dispatch, Opening
from mta.channel.talk import Part, ProgramEnd, Quit
from mta.errors import PosthouseError, RemoteProtocolError, UsageError
from mta.types import CHANNEL, Outcome, Reply

__all__ = ["Event", "Wire", "defect", "open_socket"]

_DESCRIPTORS = 253  # SCM_MAX_FD of Linux
_PIECE = 65536

Event = Opening | tuple[Dispatch, BinaryIO] | Avoid | Quit


def defect(error: BaseException) -> Outcome:
    """Return what a job is deferred with whose code raised ``error``."""
    text = str(error) if isinstance(error, PosthouseError) else f"{type(error).__name__}: {error}"
    return Outcome(Reply(451, "4.3.0", Reply.clean(text)), CHANNEL)


def open_socket() -> socket.socket:
    """Return the socket on fd 0, and turn fd 0 and 1 away so that no stray print reaches it.

    Raises UsageError if fd 0 is no socket: a person has started this program.
    """
    try:
        sock = socket.socket(fileno=os.dup(0))
        sock.getpeername()
    except OSError:
        raise UsageError("a channel program is started by deliver; see channel(7)") from None
    empty = os.open(os.devnull, os.O_RDWR)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    os.close(empty)
    return sock


class Wire:
    """The program's end of the conversation on its socket; reads never block."""

    def __init__(self, sock: socket.socket, *, buffered: bool) -> None:
        """``buffered``: bodies will be read by lines, not by their descriptors alone."""
        self._buffering = -1 if buffered else 0
        self.sock = sock
        self.end = ProgramEnd()
        self._bodies: deque[int] = deque()
        self._dry = False

    def drain(self) -> list[Event]:
        """Return all that deliver has sent until now: one read gives few of many descriptors."""
        events = self.receive()
        while not self._dry and Quit() not in events:
            events += self.receive()
        return events

    def receive(self) -> list[Event]:
        """Return what there is; a Quit at the end of file, nothing if nothing came."""
        space = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        self._dry = False
        try:
            data, ancillary, came, _ = self.sock.recvmsg(_PIECE, space, flags)
        except BlockingIOError:
            self._dry = True
            return []
        except ConnectionResetError:
            return [Quit()]
        for level, kind, octets in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(octets[: len(octets) - len(octets) % fds.itemsize])
                self._bodies.extend(fds)
        if came & socket.MSG_CTRUNC:
            raise RemoteProtocolError("descriptors of bodies were lost: too many are open")
        if not data:
            return [Quit()]
        return [self._with_body(event) for event in self.end.receive(data)]

    def _with_body(self, event: Opening | Dispatch | Part | Avoid | Quit) -> Event:
        if isinstance(event, Part):
            raise RemoteProtocolError("an inline body, where a descriptor was asked for")
        if not isinstance(event, Dispatch):
            return event
        if not self._bodies:
            raise RemoteProtocolError(f"no descriptor came with job {event.tag}")
        return event, os.fdopen(self._bodies.popleft(), "rb", self._buffering)

    def send(self, octets: bytes) -> None:
        """Send all of ``octets``, waiting; nothing happens if deliver is gone."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(octets)
