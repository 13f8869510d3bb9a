"""Where a job goes when it goes another way, and what goes with it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mta.config.load import load_config
from mta.config.routing import router
from mta.control import program
from mta.control.program import Task
from mta.detour import Detour, Forced, StaysError
from mta.errors import ConfigError, SpoolError, UsageError
from mta.listing import jobs
from mta.machine.logread import read_events
from mta.policy.filters import EVERYTHING, Filter
from mta.spool.intake import take_in
from mta.spool.journal import Writer
from mta.spool.layout import arrived
from mta.spool.spool import Spool
from mta.types import NULL_PATH, Job, Mailbox, Recipient, Wishes
from tests.queued import ALICE, accept

YAML = """\
hostname: mx.example.test
spool: spool/
runtime: run/
log: {dir: log/, formats: [postfix, json]}
local: {domains: [example.test], users: [alice], aliases: aliases}
channels:
  - {name: local, program: local, domains: $local}
  - {name: turkey, program: smtp, queue: turkey, table: slow, relay: ["127.0.0.1:9"]}
  - {name: smtp, program: smtp, domains: [.example], relay: ["127.0.0.1:9"]}
"""
FAR = "bob@far.example"


class House:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "aliases").write_text("everybody: alice, carol@far.example\n")
        self.tables("")
        self.spool = Spool.open(self.config.spool)
        self.said: list[str] = []

    def tables(self, slow: str, more: str = "") -> None:
        (self.root / "slow").write_text(slow)
        (self.root / "mta.yaml").write_text(YAML + more)
        self.config = load_config(str(self.root / "mta.yaml"))

    def reroute(self, asked: Filter = EVERYTHING, **how) -> int:
        self.said = []
        status = program.run(self.config, Task("reroute", asked, **how), self.said.append)
        take_in(self.spool)
        return status

    def waiting(self) -> list[tuple[str, str, str, str]]:
        found = [(e.job.queue, e.job.channel, e.job.host, e.job.next_hop) for e in jobs(self.spool)]
        return sorted(found)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def add(house: House, job: Job, wishes: Wishes, body: bytes) -> str:
    writer = house.spool.writer()
    draft = writer.begin()
    draft.write(body)
    ident = writer.commit(draft, [job], Mailbox("first", "a.example"), wishes)
    writer.close()
    assert take_in(house.spool)
    return ident


@pytest.mark.parametrize("size", [10, 300_000])
def test_dt1_what_arrives_again_is_what_arrived(house: House, size: int) -> None:
    to = (
        Recipient(3, Mailbox("bob", "far.example"), "", ALICE, "SUCCESS,FAILURE", "rfc822;b@x"),
        Recipient(4, Mailbox("ann", "far.example"), "", None, "NEVER", ""),
    )
    wishes = Wishes("uid=7", True, "HDRS", "env", True, True, "bulk", -60, 9e9, "queue")
    job = Job(1, "smtp", "smtp", "far.example", "", Mailbox("owner", "a.example"), to)
    old = add(house, job, wishes, b"Subject: x\r\n\r\n" + b"x" * size)
    (before,) = jobs(house.spool)
    house.tables("far.example mx.slow.example:26\n")
    assert house.reroute(text="too slow") == 0
    assert house.said == ["1 job rerouted"]
    (after,) = jobs(house.spool)
    assert (after.job.queue, after.job.channel) == ("turkey", "turkey")
    assert after.job.next_hop == "mx.slow.example:26"
    assert after.job.reverse_path == job.reverse_path
    asked = [(r.mailbox, r.original, r.notify, r.orcpt) for r in after.job.recipients]
    assert asked == [(r.mailbox, r.original, r.notify, r.orcpt) for r in to]
    was, now = before.envelope, after.envelope
    for field in ("reverse_path", "size", "eight_bit", "smtputf8", "ret", "envid", "requiretls"):
        assert getattr(was, field) == getattr(now, field), field
    for field in ("binary", "kind", "precedence", "expires", "mode"):
        assert getattr(was, field) == getattr(now, field), field
    assert now.origin == f"rerouted={old}.1" and not now.pinned
    assert 0 <= arrived(now.id) - arrived(old) < 0.001
    moved = [e for e in read_events(house.config.log.dir) if e["event"] == "rerouted"]
    assert [(e["id"], e["new"], e["text"]) for e in moved] == [(old, now.id, "too slow")]


def test_dt3_aliases_are_not_expanded_twice(house: House) -> None:
    way = Detour(house.config, house.spool, router(house.config)).way
    leaf = Recipient(0, Mailbox("everybody", "example.test"))
    here = Job(0, "old", "old", "", "", ALICE, (leaf,))
    add(house, here, Wishes(), b"\r\n")
    (entry,) = jobs(house.spool)
    (job,) = way(entry)
    assert job.channel == "local" and job.recipients[0].mailbox == leaf.mailbox
    house.tables("")
    add(house, Job(0, "smtp", "smtp", "example.test", "", ALICE, (leaf,)), Wishes(), b"\r\n")
    remote = next(e for e in jobs(house.spool) if e.job.host)
    found = {(j.channel, str(r.mailbox)) for j in way(remote) for r in j.recipients}
    assert found == {("local", "alice@example.test"), ("smtp", "carol@far.example")}


def test_dt3_a_command_stays_on_this_machine(house: House) -> None:
    to = (Recipient(0, Mailbox("alice", "example.test"), "|vacation"),)
    add(house, Job(0, "local", "local", "", "", ALICE, to), Wishes(), b"\r\n")
    assert house.reroute(channel="smtp") == 75
    assert "done on this machine only" in house.said[1]
    assert house.reroute() == 0 and house.said == ["0 jobs rerouted; 1 on that way already"]


def test_dt4_what_has_no_way_or_is_there_stays(house: House) -> None:
    accept(house.spool, FAR)
    before = list(jobs(house.spool))
    assert house.reroute() == 0 and list(jobs(house.spool)) == before
    to = (Recipient(0, Mailbox("x", "no.where")), Recipient(1, Mailbox("y", "far.example")))
    add(house, Job(0, "smtp", "smtp", "far.example", "", ALICE, to), Wishes(), b"\r\n")
    assert house.reroute() == 75 and "no channel knows this host" in house.said[1]
    assert len(list(jobs(house.spool))) == 2
    program.run(house.config, Task("hold", EVERYTHING), house.said.append)
    assert house.reroute(channel="turkey") == 75 and "release it first" in house.said[1]


def test_an_operators_way_is_pinned_until_he_asks_the_table(house: House) -> None:
    accept(house.spool, FAR)
    assert house.reroute(channel="turkey", next_hop="192.0.2.1:2525") == 0
    (entry,) = jobs(house.spool)
    assert entry.envelope.pinned and entry.job.next_hop == "192.0.2.1:2525"
    assert house.waiting() == [("turkey", "turkey", "192.0.2.1", "192.0.2.1:2525")]
    assert house.reroute(next_hop="relay.example") == 0
    assert house.waiting() == [("turkey", "turkey", "relay.example", "relay.example")]
    assert house.reroute(channel="smtp") == 0
    assert house.waiting() == [("smtp", "smtp", "far.example", "")]
    assert house.reroute() == 0
    (entry,) = jobs(house.spool)
    assert not entry.envelope.pinned
    assert house.waiting() == [("smtp", "smtp", "far.example", "")]
    with pytest.raises(ConfigError, match="no channel"):
        house.reroute(channel="nowhere")
    with pytest.raises(UsageError, match="--next-hop"):
        house.reroute(next_hop="a b")


def test_dt2_one_failed_append_takes_back_all_since_the_last_sync(
    house: House, monkeypatch
) -> None:
    for _ in range(3):
        accept(house.spool, FAR)
    real, calls = Writer.append, []

    def append(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            self.fail([])
            raise SpoolError("the disk is full")
        real(self, *arguments)

    monkeypatch.setattr(Writer, "append", append)
    status = house.reroute(channel="turkey", as_json=True)
    said = json.loads(house.said[-1])
    assert status == 75 and said["done"] == 0 and said["failed"] == 3
    assert len(list(jobs(house.spool))) == 3


def test_many_are_moved_in_batches(house: House) -> None:
    for _ in range(230):
        accept(house.spool, FAR)
    began = time.monotonic()
    assert house.reroute(channel="turkey") == 0 and house.said == ["230 jobs rerouted"]
    assert {queue for queue, *_ in house.waiting()} == {"turkey"}
    assert len(house.waiting()) == 230 and time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("hop", "host"),
    [
        ("relay.example:26", "relay.example"),
        ("relay.example", "relay.example"),
        ("192.0.2.1:26", "192.0.2.1"),
        ("[2001:db8::1]:26", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("unix:/run/other", "far.example"),
        ("", "far.example"),
    ],
)
def test_dt5_a_job_is_for_the_host_that_it_is_sent_to(house: House, hop: str, host: str) -> None:
    accept(house.spool, FAR)
    (entry,) = jobs(house.spool)
    detour = Detour(house.config, house.spool, router(house.config))
    (job,) = detour.way(entry, Forced("turkey", hop))
    assert (job.channel, job.host, job.next_hop) == ("turkey", host, hop)


def test_a_body_that_is_not_whole_stays(house: House) -> None:
    accept(house.spool, FAR)
    (entry,) = jobs(house.spool)
    detour = Detour(house.config, house.spool, router(house.config))
    (job,) = detour.way(entry, Forced(next_hop="relay.example:26"))
    with pytest.raises(StaysError):
        detour.take(entry, os.memfd_create("short"), (job,), True)


@pytest.mark.parametrize("origin", ["dsn", "dsn postmaster"])
def test_a_dsn_that_goes_another_way_stays_one(house: House, origin: str) -> None:
    """Else of a notice to the postmaster that fails there would be another."""
    job = Job(0, "smtp", "smtp", "far.example", "", NULL_PATH, (Recipient(0, Mailbox("a", "b.c")),))
    add(house, job, Wishes(origin), b"Subject: x\r\n\r\nx\r\n")
    assert house.reroute(channel="turkey") == 0
    assert [entry.envelope.origin for entry in jobs(house.spool)] == [origin]
