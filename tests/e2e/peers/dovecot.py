"""Dovecot: LMTP into Maildirs, and its auth socket; no network service but LMTP."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.peers.world import Peer

__all__ = ["PASSWORDS", "Dovecot"]

PASSWORDS = {"ann": "pencil of ann", "ben": 'ben "\\ß%'}

CONFIG = """\
base_dir = /run/dovecot
state_dir = /run/dovecot-state
protocols = lmtp
listen = 127.0.0.1
hostname = lmtp.dovecot.test
ssl = no
log_path = /srv/log/mail
auth_verbose = yes
auth_mechanisms = plain login scram-sha-256
disable_plaintext_auth = yes
auth_username_format = %Ln
mail_location = maildir:/srv/mail/%n
recipient_delimiter = +
lmtp_save_to_detail_mailbox = no
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%n /etc/dovecot/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n /etc/dovecot/users
  override_fields = uid={uid} gid={uid} home=/srv/mail/%n
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener /srv/lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener /srv/auth {{
    mode = 0666
  }}
}}
"""


class Dovecot(Peer):
    """A Dovecot of its own: LMTP on ``port`` and the Unix socket ``lmtp``, and ``auth``."""

    PACKAGE = "dovecot-lmtpd"
    PROGRAM = "usr/lib/dovecot/lmtp"
    ACCOUNTS = ("dovecot", "dovenull", "vmail")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lmtp = root / "lmtp"
        self.auth = root / "auth"
        self.put("dovecot/dovecot.conf", CONFIG.format(port=self.port, uid=self.ids["vmail"]))
        rows = [f"{user}:{{PLAIN}}{word}::::::\n" for user, word in PASSWORDS.items()]
        self.put("dovecot/users", "".join(rows))
        self.folder("log", "dovecot")
        self.folder("mail", "vmail")
        self.launch("/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/dovecot.conf")

    def ready(self) -> bool:
        return super().ready() and self.auth.exists()
