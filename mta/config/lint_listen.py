"""The lints of what smtpd does: listeners, certificates, log-ins, relaying.

Each rule is one function in ``RULES``, as in lint.py.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Iterator

from mta.config.findings import Facts, Finding
from mta.config.model import Config

__all__ = ["RULES"]

WIDE = {4: 8, 6: 16}  # a network with a shorter prefix is no site's own


def _served(config: Config, *services: str) -> list[str]:
    """The addresses at which one of ``services`` is served."""
    return [listener.address for listener in config.listen if listener.service in services]


def _smtpd_line(config: Config) -> int | None:
    for daemon in config.daemons:
        try:
            words = shlex.split(daemon.command)
        except ValueError:
            continue
        if words and os.path.basename(words[0]) == "smtpd":
            return daemon.line
    return None


def _listeners(config: Config, facts: Facts) -> Iterator[Finding]:
    """Smtpd without an address, and an address without smtpd."""
    line = _smtpd_line(config)
    if line is not None and not config.listen:
        yield Finding(line, "error", "smtpd has no address to listen on: see listen")
    if line is None and config.listen and config.daemons:
        yield Finding(None, "warning", "listen names addresses, but no daemon is smtpd")


def _certificates(config: Config, facts: Facts) -> Iterator[Finding]:
    for path in (*config.tls.certificates, *config.tls.keys):
        if not facts.exists(path):
            yield Finding(None, "error", f"tls: there is no file {path}")
    if config.tls.certificates:
        return
    for address in _served(config, "submissions"):
        text = f"submissions at {address} needs TLS, and tls names no certificate"
        yield Finding(None, "error", text)


def _logins(config: Config, facts: Facts) -> Iterator[Finding]:
    """Submission that nobody can use."""
    auth = config.auth
    if auth.passwords and not facts.exists(auth.passwords):
        yield Finding(None, "error", f"auth: there is no file {auth.passwords}")
    places = _served(config, "submission", "submissions")
    if not places:
        return
    can_log_in = bool((auth.passwords or auth.dovecot) and config.tls.certificates)
    if not can_log_in and not config.relay_from:
        text = f"nobody can submit at {places[0]}: that needs auth and tls, or relay_from"
        yield Finding(None, "warning", text)
    elif (auth.passwords or auth.dovecot) and not config.tls.certificates:
        text = "auth: nobody can log in, since tls names no certificate"
        yield Finding(None, "warning", text)


def _proxies(config: Config, facts: Facts) -> Iterator[Finding]:
    proxied = [listener.address for listener in config.listen if listener.proxy]
    if proxied and not config.smtpd.proxy_from:
        text = f"{proxied[0]} wants a PROXY header, but smtpd.proxy_from allows nobody to send one"
        yield Finding(None, "error", text)


def _open_relay(config: Config, facts: Facts) -> Iterator[Finding]:
    for text in config.relay_from:
        network = ipaddress.ip_network(text)
        if network.prefixlen < WIDE[network.version]:
            said = f"relay_from: {text} lets a great part of the internet relay through here"
            yield Finding(None, "warning", said)


RULES = (_listeners, _certificates, _logins, _proxies, _open_relay)
