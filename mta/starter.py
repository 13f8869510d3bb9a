"""The first configuration: what ``mta up`` writes for a user who has none.

It can do no harm: mail for this machine's own names goes to a Maildir below
the state directory, everything else is refused at submission with the reason.
SMTP is served on loopback only, at the first free port from 2525 on.
No developer's machine mails the world by accident.

Source   XDG base directories: $XDG_CONFIG_HOME, $XDG_STATE_HOME.
"""

from __future__ import annotations

import json
import os
import pwd
import re

from mta.machine.ports import first_free
from mta.values import frozen

__all__ = ["Starter", "find_starter", "write"]

PORT = 2525
_ROOTS = "postmaster"  # who reads root's mail: a mailbox here, no account of the system

_YAML = """\
# Written by `mta up`, because there was no configuration yet.  It is yours to edit;
# `mta check` reads it and says what it thinks.  All keys: man mta.yaml.

hostname: {hostname}
spool: "{state}/spool/"
runtime: "{state}/run/"
log: {{dir: "{state}/log/", formats: [postfix, json]}}
local:
  domains: [{hostname}, localhost]
  users: ["{user}"]
  mailbox: "maildir:{state}/mail/{{user}}/"
  aliases: aliases
listen:
  - {{address: "127.0.0.1:{port}", service: mx}}
channels:
  - {{name: local, program: local, domains: $local}}
# Mail for any other host is refused when it is submitted.  To send it on:
#  - {{name: smtp, program: smtp, domains: "*", relay: ["smtp.example.net:25"]}}
# and below it a deliver:  - deliver -b -csmtp
daemons:
  - smtpd
  - deliver -b -clocal
"""

_ALIASES = """\
# name: target, target …   Where mail for a name really goes; see mta.yaml(5).
{alias}
mailer-daemon: postmaster
"""


@frozen
class Starter:
    """What the first configuration depends on: two directories, a user and this host's name.

    ``user`` is the login name; postmaster for root, as whom nothing is ever
    delivered, and for a login that is no plain name.
    """

    config: str
    state: str
    user: str
    hostname: str


def find_starter(path: str = "") -> Starter:
    """Return the starter of the user who runs us, at ``path`` or in its usual place."""
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    try:
        login = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without an account
        login = ""
    return Starter(
        path or os.path.join(config, "mta", "mta.yaml"),
        os.path.join(state, "mta"),
        login if os.geteuid() and re.fullmatch("[a-z0-9_-]{1,64}", login) else _ROOTS,
        host_name(os.uname().nodename),
    )


def host_name(nodename: str) -> str:
    """Return a full, legal host name made of what this machine calls itself."""
    legal = [re.sub(r"[^a-z0-9-]", "", label).strip("-") for label in nodename.lower().split(".")]
    labels = [label[:63] for label in legal if label] or ["localhost"]
    return ".".join(labels if len(labels) > 1 else [*labels, "localdomain"])


def write(starter: Starter) -> str:
    """Write mta.yaml and aliases, neither over an existing file; return the path of mta.yaml."""
    directory = os.path.dirname(starter.config)
    os.makedirs(directory, exist_ok=True)
    state, user = (json.dumps(word)[1:-1] for word in (starter.state, starter.user))
    text = _YAML.format(state=state, user=user, hostname=starter.hostname, port=first_free(PORT))
    alias = "root: postmaster" if starter.user == _ROOTS else f"postmaster: {starter.user}"
    _create(os.path.join(directory, "aliases"), _ALIASES.format(alias=alias))
    _create(starter.config, text)
    return starter.config


def _create(path: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        pass
