"""Names: NSD serves zones made for a test, some of them signed, and unbound resolves them.

unbound validates with the keys of the signed zones as its trust anchors, and knows no other
name server than NSD: whatever is asked for beside these zones is SERVFAIL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.house import answers, refused_port
from tests.e2e.peers.world import Peer, need

__all__ = ["Names"]

NSD = """\
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: nsd
  zonesdir: /srv/zones
  database: ""
  zonelistfile: /run/nsd.zones
  xfrdfile: /srv/xfr/state
  xfrdir: /srv/xfr
  pidfile: /run/nsd.pid
remote-control:
  control-enable: no
"""
ZONE = 'zone:\n  name: "{name}"\n  zonefile: "{name}"\n'
SOA = """\
$ORIGIN {name}.
$TTL 60
@ SOA ns.{name}. postmaster.{name}. 1 3600 600 86400 5
@ NS ns.{name}.
ns A 127.0.0.1
"""
UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  port: {port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: /srv
  pidfile: ""
  use-syslog: no
  logfile: /srv/log/unbound
  verbosity: 1
  num-threads: 1
  do-not-query-localhost: no
  local-zone: "test." nodefault
  val-log-level: 2
  module-config: "validator iterator"
  target-fetch-policy: "0 0 0 0 0"
  cache-max-negative-ttl: 5
{anchors}
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{authority}
"""
STUB = 'stub-zone:\n  name: "{name}"\n  stub-addr: 127.0.0.1@{port}\n'


class Names(Peer):
    """NSD with ``zones`` (name → records), and unbound before it on ``port``.

    ``signed`` names the zones that are signed; ``spoilt`` those of them whose data is
    changed after that.
    """

    PACKAGE = "unbound"
    PROGRAM = "usr/sbin/unbound"
    ACCOUNTS = ("nsd", "unbound")

    def __init__(
        self,
        root: Path,
        zones: Mapping[str, str],
        signed: Sequence[str] = (),
        spoilt: Sequence[str] = (),
    ) -> None:
        need("nsd", "usr/sbin/nsd")
        need("ldnsutils", "usr/bin/ldns-signzone")
        super().__init__(root)
        self.authority = authority = refused_port()
        folder = self.folder("zones")
        self.folder("log")
        self.folder("xfr", "nsd")
        for name, records in zones.items():
            (folder / name).write_text(SOA.format(name=name) + records, encoding="utf-8")
        for name in signed:
            self._sign(name)
        for name in spoilt:
            path = folder / name
            path.write_text(path.read_text().replace("127.0.0.", "127.0.1."))
        rows = "".join(ZONE.format(name=name) for name in zones)
        self.put("nsd/nsd.conf", NSD.format(port=authority) + rows)
        anchors = "\n".join(f"  trust-anchor-file: /srv/zones/{name}.ds" for name in signed)
        config = UNBOUND.format(port=self.port, authority=authority, anchors=anchors)
        config += "".join(STUB.format(name=name, port=authority) for name in zones)
        self.put("unbound/unbound.conf", config)
        start = "nsd -d -c /etc/nsd/nsd.conf & exec unbound -d -c /etc/unbound/unbound.conf"
        self.launch("/bin/sh", "-c", start)

    def _sign(self, name: str) -> None:
        script = (
            f"cd /srv/zones && key=$(ldns-keygen -k -a ECDSAP256SHA256 {name})"
            f" && ldns-signzone -o {name} -f {name}.new {name} $key && mv {name}.new {name}"
            f" && mv $key.ds {name}.ds"
        )
        self.run("/bin/sh", "-c", script)

    def ready(self) -> bool:
        return super().ready() and answers(self.authority)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"
