"""A queue with something in it, for the tests of what looks at queues."""

from __future__ import annotations

from pathlib import Path

from mta.config.load import load_config
from mta.config.model import Config
from mta.spool.entry import Settlement
from mta.spool.intake import take_in
from mta.spool.spool import Spool
from mta.types import (
    DEFERRED,
    NULL_PATH,
    Job,
    Mailbox,
    Outcome,
    Recipient,
    Reply,
    ReversePath,
    Wishes,
)

ALICE = Mailbox("alice", "example.test")
BUSY = Outcome(Reply(451, "4.4.1", "connect to far.example[192.0.2.1]:25: timed out"), "host")

YAML = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {dir: log/, formats: [postfix, json]}
local: {domains: [example.test], users: [alice], mailbox: "maildir:mail/{user}/"}
channels:
  - {name: local, program: local, domains: $local}
  - {name: smtp, program: smtp, domains: [.example], relay: ["127.0.0.1:9"]}
daemons:
  - deliver -b -clocal,smtp
"""


def new_config(root: Path) -> Config:
    path = root / "mta.yaml"
    path.write_text(YAML)
    return load_config(str(path))


def accept(
    spool: Spool, *addresses: str, path: ReversePath = ALICE, body: bytes = b"Subject: x\r\n\r\n"
) -> str:
    """Accept one message, with a job for each host of ``addresses``; take it in; return its id."""
    hosts: dict[str, list[Recipient]] = {}
    for index, address in enumerate(addresses):
        local, _, domain = address.partition("@")
        hosts.setdefault(domain, []).append(Recipient(index, Mailbox(local, domain)))
    jobs = []
    for number, (host, recipients) in enumerate(hosts.items()):
        here = host == "example.test"
        channel = "local" if here else "smtp"
        word = "" if here else host
        jobs.append(Job(number, channel, channel, word, "", path, tuple(recipients)))
    writer = spool.writer()
    draft = writer.begin()
    draft.write(body)
    ident = writer.commit(draft, jobs, path, Wishes("uid=1000"))
    writer.close()
    assert take_in(spool)
    return ident


def defer(spool: Spool, ident: str, at: float, retry_at: float, outcome: Outcome = BUSY) -> None:
    """Settle every recipient of a message as deferred."""
    for name in spool.find(ident):
        claim = spool.claim(name)
        assert claim is not None
        recipients = claim.entry.job.recipients
        claim.settle([Settlement(r.index, DEFERRED, at, retry_at, outcome) for r in recipients])
        claim.release()


__all__ = ["ALICE", "BUSY", "NULL_PATH", "accept", "defer", "new_config"]
