"""A spool, a configuration and a door in a temporary folder, and what came in through it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mta.accept import Door, open_door
from mta.config.load import load_config
from mta.spool.entry import Entry
from mta.spool.intake import take_in
from mta.spool.spool import Spool

CONFIG = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {{dir: log/, formats: [postfix]}}
local:
  domains: [example.test]
  users: [alice, bob, carol]
  mailbox: maildir:mail/{{user}}/
  aliases: aliases
limits: {{message_size: {size}, recipients: {recipients}}}
channels:
  - {{name: local, program: local, domains: $local}}
  - {{name: smtp, program: smtp, domains: [remote.test, .remote.test]}}
"""


def write_site(folder: Path, size: str = "10MiB", recipients: int = 1000) -> Path:
    (folder / "aliases").write_text("everyone: alice, bob\n")
    path = folder / "mta.yaml"
    path.write_text(CONFIG.format(size=size, recipients=recipients))
    return path


def make_door(folder: Path, size: str = "10MiB", recipients: int = 1000) -> Door:
    return open_door(load_config(str(write_site(folder, size, recipients))))


def queued(folder: Path) -> list[tuple[Entry, bytes]]:
    """Take in what was accepted; return each job with the body it will be sent with."""
    spool = Spool.open(str(folder / "spool"))
    take_in(spool)
    found = []
    for queue in sorted(spool.queues()):
        for names in spool.names(queue):
            for name in names:
                claim = spool.claim(name)
                assert claim is not None
                fd = claim.open_body()
                with os.fdopen(fd, "rb") as body:
                    found.append((claim.entry, body.read()))
                claim.release()
    return found


def one(folder: Path) -> tuple[Entry, bytes]:
    (found,) = queued(folder)
    return found


def recipients(entry: Entry) -> list[str]:
    return [str(r.mailbox) for r in entry.job.recipients]


def email_data() -> list[Path]:
    """The messages of CPython's own test suite, where this interpreter has them."""
    here = Path(os.__file__).parent / "test" / "test_email" / "data"
    return sorted(here.glob("*")) if here.is_dir() else []


PYTHON = sys.executable
