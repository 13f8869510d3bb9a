"""Exim: receives for its domain into a Maildir; relays nothing, or all to one port."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.peers.world import Peer

__all__ = ["PASSWORD", "USER", "Exim"]

CONFIG = """\
primary_hostname = mx.exim.test
domainlist local_domains = exim.test : *.exim.test
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = /srv/spool
log_file_path = /srv/log/%slog
pid_file_path = /run/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
never_users =
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept_all
acl_smtp_mail = accept_all
log_selector = +all_parents +smtp_confirmation +tls_certificate_verified +received_recipients \
  +8bitmime
smtp_enforce_sync = {strict}
smtp_accept_max_per_connection = 1000
smtp_accept_queue_per_connection = 0
smtp_accept_max = 0
pipelining_advertise_hosts = *
dsn_advertise_hosts = *
chunking_advertise_hosts = *
accept_8bitmime = true
smtputf8_advertise_hosts = *
message_size_limit = 1000000
tls_advertise_hosts = {tls}
tls_certificate = /etc/exim4/server.pem
trusted_users = Debian-exim
keep_environment =
begin acl
accept_all:
  accept
check_rcpt:
  deny message = 5.1.1 no such user
       local_parts = unknown
  defer message = 4.2.1 come again
        local_parts = later
  accept authenticated = *
  deny message = 5.7.0 log in first
       local_parts = members
  accept domains = +local_domains
  accept condition = {relayed}
  deny message = 5.7.1 relay not permitted
begin routers
inbox:
  driver = accept
  domains = +local_domains
  transport = maildir
onward:
  driver = manualroute
  condition = {relayed}
  route_list = * 127.0.0.1
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  port = {relay}
maildir:
  driver = appendfile
  maildir_format
  directory = /srv/mail/inbox
  create_directory
  user = Debian-exim
  group = Debian-exim
  delivery_date_add
  envelope_to_add
  return_path_add
  mode = 0660
begin retry
* * F,1m,1m
begin rewrite
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and {{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""
USER, PASSWORD = "smarthost", "a long secret"


class Exim(Peer):
    """An Exim of its own; with ``pem`` it offers STARTTLS; ``relay``: see Postfix.

    Mail for members@ is taken from USER alone.  ``strict``: commands before their time are
    refused.
    """

    DOMAIN = "exim.test"

    PACKAGE = "exim4-daemon-light"
    PROGRAM = "usr/sbin/exim4"
    ACCOUNTS = ("Debian-exim",)

    def __init__(self, root: Path, pem: bytes = b"", relay: int = 0, strict: bool = True) -> None:
        super().__init__(root)
        onward = {"strict": "true" if strict else "false", "user": USER, "password": PASSWORD}
        onward |= {"relayed": "yes" if relay else "no", "relay": relay or 25}
        config = CONFIG.format(port=self.port, tls="*" if pem else "", **onward)
        self.put("exim4/exim4.conf", config)
        (self.etc / "exim4" / "server.pem").write_bytes(pem)
        for name in ("spool", "log", "mail"):
            self.folder(name, "Debian-exim", 0o750)
        self.launch("/usr/sbin/exim4", "-bdf", "-q1m")

    def inbox(self) -> list[bytes]:
        return self.mail("inbox")
