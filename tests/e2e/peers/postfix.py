"""Postfix: receives for its domains into Maildirs; relays nothing, or all to one port."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.house import answers
from tests.e2e.peers.world import Peer

__all__ = ["Postfix"]

MAIN = """\
compatibility_level = 3.7
myhostname = mx.postfix.test
mydestination =
inet_interfaces = all
inet_protocols = ipv4
mynetworks = {networks}
queue_directory = /srv/queue
data_directory = /srv/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
maillog_file = /srv/log/mail
maillog_file_prefixes = /srv
default_database_type = texthash
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = regexp:/etc/postfix/domains
virtual_mailbox_base = /srv/mail
virtual_mailbox_maps = static:inbox/
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {access} }}
smtpd_discard_ehlo_keywords =
smtpd_forbid_bare_newline = {strict}
smtpd_forbid_unauth_pipelining = {strict}
smtpd_tls_security_level = {tls}
smtpd_tls_chain_files = {chain}
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtputf8_enable = yes
message_size_limit = 1000000
default_transport = {out}
smtp_tls_security_level = may
{more}
"""
# service type private unpriv chroot wakeup maxproc command
MASTER = """\
{address}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""
# Folder of the queue, group, mode.
QUEUE = [
    ("active", "postfix", 0o700),
    ("bounce", "postfix", 0o700),
    ("corrupt", "postfix", 0o700),
    ("defer", "postfix", 0o700),
    ("deferred", "postfix", 0o700),
    ("flush", "postfix", 0o700),
    ("hold", "postfix", 0o700),
    ("incoming", "postfix", 0o700),
    ("private", "postfix", 0o700),
    ("saved", "postfix", 0o700),
    ("trace", "postfix", 0o700),
    ("maildrop", "postdrop", 0o1730),
    ("public", "postdrop", 0o710),
]
ACCESS = {
    "unknown@postfix.test": "550 5.1.1 no such user",
    "later@postfix.test": "450 4.2.1 come again",
}


class Postfix(Peer):
    """A Postfix of its own.

    ``tls`` is none, may or encrypt, ``more`` further lines of main.cf, ``domains`` those of
    regexp_table(5) with its domains, ``relay`` the port
    of 127.0.0.1 where all other mail goes; or else it goes where ``nameserver`` says, an
    address that answers on port 53.  Not ``strict``, it takes bare line feeds for
    line ends, and commands before their time, as it did for 25 years.
    """

    DOMAIN = "postfix.test"

    PACKAGE = "postfix"
    PROGRAM = "usr/lib/postfix/sbin/master"
    ACCOUNTS = ("postfix",)
    GROUPS = ("postdrop",)

    def __init__(
        self,
        root: Path,
        tls: str = "none",
        pem: bytes = b"",
        more: str = "",
        address: str = "127.0.0.1",
        port: int = 0,
        relay: int = 0,
        strict: bool = True,
        domains: str = "",
        nameserver: str = "",
    ) -> None:
        super().__init__(root)
        self.address = address
        self.port = port or self.port
        (self.etc / "postfix").mkdir()
        (self.etc / "postfix" / "server.pem").write_bytes(pem)
        access = ", ".join(f"{{ {name} = {text} }}" for name, text in ACCESS.items())
        out = f"smtp:[127.0.0.1]:{relay}" if relay else "error:no mail leaves this test"
        if nameserver:
            self.put("resolv.conf", f"nameserver {nameserver}\n")
            out = "smtp"
        settings = {
            "uid": self.ids["postfix"],
            "tls": tls,
            "chain": "/etc/postfix/server.pem" if pem else "",
            "access": access,
            "networks": "127.0.0.0/8" if relay or nameserver else "192.0.2.0/24",
            "out": out,
            "strict": "yes" if strict else "no",
            "more": more,
        }
        self.put("postfix/main.cf", MAIN.format(**settings))
        table = f"/^(.+\\.)?postfix\\.test$/ here\n{domains}\n"
        self.put("postfix/domains", table)
        self.put("postfix/master.cf", MASTER.format(address=address, port=self.port))
        self.folder("queue")
        self.folder("queue/pid")
        for name, group, mode in QUEUE:
            self.folder(f"queue/{name}", "postfix", mode, group)
        self.folder("data", "postfix", 0o700)
        self.folder("log")
        self.folder("mail", "postfix")
        self.launch("/usr/lib/postfix/sbin/master", "-c", "/etc/postfix")

    def ready(self) -> bool:
        return answers(self.port, self.address)

    def inbox(self) -> list[bytes]:
        return self.mail("inbox")
