"""Telling whoever started us that we serve: systemd, or ``mta daemons --start``.

Source   sd_notify(3): a datagram to the socket that $NOTIFY_SOCKET names; "@" begins an
         abstract address.

Nobody there, or nobody who listens, is no error: a daemon serves without that.
"""

from __future__ import annotations

import _socket
import os
from contextlib import suppress

__all__ = ["READY", "STOPPING", "tell"]

VARIABLE = "NOTIFY_SOCKET"
READY = "READY=1"
STOPPING = "STOPPING=1"


def tell(state: str) -> bool:
    """Tell ``state`` to who wants to know; return whether anybody was told.

    Workers and channel programs inherit the variable; only a daemon's own process tells.
    """
    path = os.environ.get(VARIABLE, "")
    if not path.startswith(("/", "@")):
        return False
    directory = -1
    kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    with suppress(OSError):
        sock = _socket.socket(_socket.AF_UNIX, kind, 0)
        try:
            if len(os.fsencode(path)) > 107:  # what an address holds: go through the directory
                above, _, name = path.rpartition("/")
                directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                path = f"/proc/self/fd/{directory}/{name}"
            sock.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)
            return True
        finally:
            sock.close()
            if directory >= 0:
                os.close(directory)
    return False
