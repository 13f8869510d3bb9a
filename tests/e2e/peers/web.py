"""A web server for MTA-STS policies, over TLS on port 443 of a loopback address."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

__all__ = ["PolicySite"]

PATH = "/.well-known/mta-sts.txt"


class PolicySite:
    """Answers with ``policies[host]``, by the Host field; anything else is 404."""

    def __init__(self, address: str, chain: str, key: str, policies: dict[str, str]) -> None:
        self.asked: list[str] = []
        site = self

        class Page(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host = self.headers.get("Host", "").partition(":")[0]
                site.asked.append(host)
                text = policies.get(host) if self.path == PATH else None
                octets = (text or "not here\n").encode()
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(octets)))
                self.end_headers()
                self.wfile.write(octets)

            def log_message(self, *_: object) -> None:
                pass

        try:
            self._server = ThreadingHTTPServer((address, 443), Page)
        except OSError as error:
            pytest.skip(f"port 443 of {address} cannot be had: {error.strerror}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
