"""OpenSMTPD: receives for its domain into a Maildir; relays nothing, or all to one port."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.peers.world import Peer

__all__ = ["OpenSmtpd"]

CONFIG = """\
{pki}
table catchall {{ "@" = "inbox" }}
table unknown {{ "unknown@opensmtpd.test" }}
listen on 127.0.0.1 port {port} {tls} hostname mx.opensmtpd.test
action "inbox" maildir "/srv/mail/inbox" virtual <catchall>
match from any for rcpt-to <unknown> reject
match from any for domain "opensmtpd.test" action "inbox"
{onward}
"""
ONWARD = 'action "out" relay host smtp://127.0.0.1:{port}\nmatch from any for any action "out"'
PKI = 'pki own cert "/etc/mail/server.pem"\npki own key "/etc/mail/server.key"'


class OpenSmtpd(Peer):
    """An OpenSMTPD of its own; with ``pem`` and ``key`` it offers STARTTLS.

    ``relay``: as Postfix has it.
    """

    DOMAIN = "opensmtpd.test"

    PACKAGE = "opensmtpd"
    PROGRAM = "usr/sbin/smtpd"
    ACCOUNTS = ("opensmtpd", "opensmtpq", "inbox")

    def __init__(self, root: Path, pem: bytes = b"", key: bytes = b"", relay: int = 0) -> None:
        super().__init__(root)
        with_tls = {"pki": PKI, "tls": "tls pki own"} if pem else {"pki": "", "tls": ""}
        onward = ONWARD.format(port=relay) if relay else ""
        self.put("smtpd.conf", CONFIG.format(port=self.port, onward=onward, **with_tls))
        self.put("mailname", "mx.opensmtpd.test\n")
        for name, octets in (("server.pem", pem), ("server.key", key)):
            path = self.put(f"mail/{name}", "")
            path.write_bytes(octets)
            path.chmod(0o600)
        self.folder("mail", "inbox")
        start = "mkdir -p /var/lib/opensmtpd/empty && exec /usr/sbin/smtpd -d"
        self.launch("/bin/sh", "-c", start)

    def inbox(self) -> list[bytes]:
        return self.mail("inbox")
