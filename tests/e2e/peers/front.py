"""Our own listener as the peers meet it: a house with every service on a port of loopback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import argon2

from tests.certificates import Certified, make_certificate
from tests.e2e.house import LOCAL, House, answers, refused_port, wait

__all__ = ["PASSWORD", "SERVICES", "Front"]

SERVICES = ("mx", "submission", "submissions", "lmtp")
PROXIED = {"proxy": "mx", "proxies": "submissions"}  # listeners behind a proxy
PASSWORD = "pass wörd%"

MORE = """\
smtpd: {{workers: 2, proxy_from: [127.0.0.1/32], xclient_from: [127.0.0.1/32], reverse_dns: no}}
tls: {{certificate: server.pem, key: server.key}}
auth: {{{auth}}}
relay_from: [{relay_from}]
listen:
{listen}
"""
BIG = "limits: {recipients: 20000}\n"


class Front:
    """A house that runs smtpd and the local channel; ``ports`` by service and PROXIED.

    ``files`` lie beside mta.yaml, readable by nobody else.  ``channels`` come after the local
    one, ``daemons`` before its deliver.
    """

    def __init__(
        self,
        new_house: Callable[..., House],
        authority: Certified,
        channels: Sequence[str] = (),
        daemons: Sequence[str] = (),
        auth: str = "passwords: passwords, mechanisms: [PLAIN, LOGIN]",
        limits: str = "recipients: 20000",
        relay_from: str = "",
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.ports = {name: refused_port() for name in (*SERVICES, *PROXIED)}
        rows = [f'  - {{address: "127.0.0.1:{self.ports[s]}", service: {s}}}' for s in SERVICES]
        for name, service in PROXIED.items():
            address = f"127.0.0.1:{self.ports[name]}"
            rows.append(f'  - {{address: "{address}", service: {service}, proxy: yes}}')
        rows.append('  - {address: "unix:lmtp.socket", service: lmtp}')
        more = MORE.format(listen="\n".join(rows), auth=auth, relay_from=relay_from)
        own = ["smtpd", *daemons, "deliver -b -clocal"]
        self.house = new_house([LOCAL, *channels], own, more=more)
        self.root: Path = self.house.root
        config = self.house.config
        config.write_text(config.read_text().replace(BIG, f"limits: {{{limits}}}\n"))
        certificate = make_certificate(["mx.example.test", "localhost", "127.0.0.1"], authority)
        certificate.write(self.root, "server")
        self.ca = self.root / "ca.pem"
        self.ca.write_bytes(authority.pem())
        for name, octets in (files or {}).items():
            (self.root / name).write_bytes(octets)
            (self.root / name).chmod(0o600)
        hashed = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
        passwords = self.root / "passwords"
        passwords.write_text(f"alice:{hashed}\n")
        passwords.chmod(0o600)
        running = self.house.start("mta", "up")
        wait(lambda: running.poll() is not None or all(map(answers, self.ports.values())))
        assert running.poll() is None, self.house.output()

    def arrived(self, mark: str, count: int = 1, user: str = "alice") -> list[bytes]:
        """Wait until ``count`` messages with ``mark`` in them are in the user's Maildir."""

        def found() -> list[bytes] | None:
            got = self.holding(mark, user)
            return got if len(got) >= count else None

        return wait(found)  # type: ignore[no-any-return]

    def holding(self, mark: str, user: str = "alice") -> list[bytes]:
        texts = [path.read_bytes() for path in self.house.maildir(user)]
        return [text for text in texts if mark.encode() in text]
