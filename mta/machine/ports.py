"""Which port is free: for a first configuration that must not collide with what runs here."""

from __future__ import annotations

import socket

__all__ = ["first_free"]


def first_free(port: int, tries: int = 100) -> int:
    """Return the first port from ``port`` on that nobody listens at on loopback.

    ``port`` itself if none of ``tries`` is free: who then binds it will say why not.
    """
    for candidate in range(port, min(port + tries, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    return port
