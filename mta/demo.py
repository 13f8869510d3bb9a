"""One message the whole way: what ``mta up --try`` and ``mta demo`` send and wait for.

submit → journal → intake → queue → deliver → local → Maildir, as any message
goes; then its trace is printed, and what one may try next.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from mta import trace
from mta.config.load import SYSTEM_PATH
from mta.errors import ConfigError, PosthouseError
from mta.starter import find_starter, write
from mta.tail import Tail
from mta.up import Supervisor
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config

__all__ = ["local_address", "run"]

WITHIN = 30.0  # seconds that the message may take
_TICK = 0.2

_MESSAGE = """\
From: Posthouse <{address}>
To: <{address}>
Subject: It works

This message went the whole way: submit wrote it to the journal and synced it,
intake made a job of it, deliver claimed that and gave it to the channel program
"local", which put it here.
"""

_NEXT = """\
Try next (in another terminal; put {bin} in your PATH):
  echo hello | submit {address}     send another
  swaks --server {smtp} --to {address}     or by SMTP, with any client
  mta route someone@example.org     why that would be refused, rule by rule
  mta status                        who runs, what waits
  mailq                             the queue, as Postfix shows it
  mta trace {id}       this message again
The configuration is {path}"""


def local_address(config: Config) -> str:
    """Return an address that is delivered on this machine.  ConfigError if there is none."""
    users = config.local.users
    user = find_starter().user
    if users is not None and user not in users:
        if not users:
            raise ConfigError(f"{config.path}: no local user to send the message to")
        user = users[0]
    return f"{user}@{(config.local.domains or (config.hostname,))[0]}"


def configure(path: str | None, load: Callable[[str | None], Config]) -> tuple[Config, bool]:
    """Return the configuration and whether it had to be written first: the starter's."""
    if path is not None or os.environ.get("MTA_CONFIG"):
        return load(path), False
    starter = find_starter()
    system = os.geteuid() == 0 and os.path.exists(SYSTEM_PATH)
    if os.path.exists(starter.config) or system:
        return load(None), False
    return load(write(starter)), True


def submit(config: Config, address: str) -> str:
    """Submit the message as any program would; return its id.  PosthouseError if refused."""
    program = os.path.join(os.path.dirname(sys.executable), "submit")
    command = [program, "--json", "--config", config.path, address]
    message = _MESSAGE.format(address=address)
    ran = subprocess.run(command, input=message, capture_output=True, text=True, check=False)
    try:
        said = json.loads(ran.stdout)
    except ValueError:
        raise PosthouseError(f"submit: {ran.stderr.strip() or 'no answer'}") from None
    if said["id"] is None:
        raise PosthouseError(f"submit: {said['refused'] or said['error']}")
    return str(said["id"])


def run(config: Config, say: Callable[[str], None], *, send: bool, follow: bool) -> int:
    """Start the daemons; ``send`` a message the whole way; ``follow`` the log until a signal.

    Returns the exit status: without ``follow`` 0 only if the message arrived.
    """
    supervisor = Supervisor(config, say)
    try:
        arrived = not send or _try(supervisor, config, say)
        if follow:
            _follow(supervisor, config, say)
            return supervisor.status if supervisor.hopeless else 0
        return 0 if arrived else 75
    finally:
        say("stopping")
        supervisor.stop()


def _try(supervisor: Supervisor, config: Config, say: Callable[[str], None]) -> bool:
    """Send the message and wait for it; print its trace; tell whether it arrived."""
    address = local_address(config)
    supervisor.step(0.0)
    message_id = submit(config, address)
    say(f"submitted {message_id} to {address}")
    deadline = time.monotonic() + WITHIN
    done = False
    while not done and time.monotonic() < deadline and supervisor.step(_TICK):
        done = any(event["event"] == "removed" for event in trace.past(config, message_id))
    arrived = any(e.get("state") == "delivered" for e in trace.past(config, message_id))
    for line in trace.text(config, message_id):
        say(line)
    if arrived:
        mailbox = config.local.mailbox.replace("{user}", address.split("@")[0])
        say(f"It arrived: look into {mailbox}")
    else:
        say(f"It has not arrived within {WITHIN:.0f} s: mta why {message_id}")
    binaries = os.path.dirname(sys.executable)
    smtp = next((listener.address for listener in config.listen), "") or "(smtpd does not run)"
    named = {"address": address, "id": message_id, "path": config.path, "smtp": smtp}
    say(_NEXT.format(bin=binaries, **named))
    return arrived


def _follow(supervisor: Supervisor, config: Config, say: Callable[[str], None]) -> None:
    tail = Tail(config.log)
    say("The log follows; Ctrl-C stops everything.")
    while supervisor.step(_TICK) and not supervisor.hopeless:
        for line in tail.lines():
            say(line)
