"""mta reroute and mta bounce by hand, under mta up and with mail in flight: each line they say."""

from __future__ import annotations

import json
import time
from email import message_from_bytes

import pytest

from tests.e2e.house import LOCAL, House, Sink, refused_port, wait

pytestmark = pytest.mark.e2e

DOWN = "{name: down, program: smtp, domains: [.down.test, down.test], relay: ['127.0.0.1:%d']}"
SMTP = "{name: smtp, program: smtp, domains: '*', relay: ['127.0.0.1:%d']}"
MESSAGE = b"From: alice@example.test\nSubject: a letter\n\nhello\n"
BOB, CAROL = "bob@down.test", "carol@x.down.test"


class Site:
    """mta up, a relay that nobody answers for, another that takes mail, two messages that wait."""

    def __init__(self, new_house, new_sink) -> None:
        self.sink: Sink = new_sink()
        channels = (LOCAL, DOWN % refused_port(), SMTP % self.sink.port)
        self.house: House = new_house(
            channels, ("deliver -b -clocal", "deliver -b -cdown,smtp -T600")
        )
        self.house.start("mta", "up")
        path = ("-f", "alice@example.test")
        self.ids = [self.house.submit(MESSAGE, *path, BOB, CAROL) for _ in range(2)]
        wait(lambda: all(len(self.house.attempts(i, "deferred")) == 2 for i in self.ids))

    def mta(self, *words: str, status: int = 0) -> list[str]:
        ran = self.house.run("mta", *words)
        assert (ran.returncode, ran.stderr) == (status, ""), (words, ran)
        return ran.stdout.splitlines()

    def arrived(self) -> list[str]:
        return sorted(to for _, recipients, _ in self.sink.messages for to in recipients)

    def new_id(self, old: str) -> str:
        (moved,) = [e for e in self.house.events("rerouted") if f"{e['id']}.{e['number']}" == old]
        return str(moved["new"])


@pytest.fixture
def site(new_house, new_sink) -> Site:
    return Site(new_house, new_sink)


def test_reroute_by_hand(site: Site) -> None:
    one, other = site.ids
    there = f"127.0.0.1:{site.sink.port}"
    assert site.mta("reroute", one) == ["0 jobs rerouted; 2 on that way already"]
    dry = site.mta("reroute", f"{one}.0", "--next-hop", there, "--dry-run")
    assert dry[0].startswith(f"{one}.0 down down.test ")
    assert dry[1:] == ["1 job would be rerouted, for 1 host(s)"]
    # Both hosts are dead to the channel; their mail goes where it is sent all the same.
    assert site.mta("reroute", one, "--next-hop", there) == ["2 jobs rerouted"]
    wait(lambda: site.arrived() == [BOB, CAROL])
    new = site.new_id(f"{one}.0")
    traced = "\n".join(site.mta("trace", one))
    assert f"job 0 goes another way, as {new} by " in traced and "waits" not in traced
    traced = "\n".join(site.mta("trace", new))
    assert f"rerouted={one}.0" in traced and f"delivered {BOB} on down by " in traced
    assert site.mta("hold", f"{other}.1", "--text", "ask Ann") == ["1 job held"]
    assert site.mta("reroute", other, "--to", "smtp", status=75) == [
        "1 job rerouted; 1 left as it is",
        "  1 job: it is held: release it first",
    ]
    wait(lambda: site.arrived() == [BOB, BOB, CAROL])
    assert site.mta("release", other) == ["1 job released"]
    said = site.mta("reroute", "--recipient", CAROL, "--to", "smtp", "--text", "the relay is gone")
    assert said == ["1 job rerouted"]
    wait(lambda: site.arrived() == [BOB, BOB, CAROL, CAROL])
    assert site.house.events("rerouted")[-1]["text"] == "the relay is gone"
    wait(lambda: not site.house.jobs())
    assert site.mta("reroute", one, status=1) == ["no such job waits"]
    assert site.mta("queue") == [] and not site.house.maildir()


def test_bounce_by_hand(site: Site) -> None:
    one, other = site.ids
    dry = site.mta("bounce", "--host", "down.test", "--dry-run")
    assert [line.split()[:3] for line in dry[:2]] == [
        [f"{one}.0", "down", "down.test"],
        [f"{other}.0", "down", "down.test"],
    ]
    assert dry[2:] == ["2 jobs would be returned, for 1 host(s)"]
    assert site.mta("bounce", "--host", "nobody.test", status=1) == ["no such job waits"]
    assert site.mta("bounce", one, "--text", "write to dan@new.example") == ["2 jobs returned"]
    wait(lambda: site.house.gone([one]))
    wait(site.house.maildir)
    text = "".join(path.read_text() for path in site.house.maildir())
    dsn = message_from_bytes(site.house.maildir()[0].read_bytes())
    assert (dsn["Return-Path"], dsn["To"]) == ("<>", "<alice@example.test>")
    assert BOB in text and CAROL in text and "554 5.0.0 write to dan@new.example" in text
    (reported,) = [event for event in site.house.events("notified") if event["id"] == one]
    wait(lambda: site.house.gone([reported["dsn"]]))
    assert len(site.house.maildir()) == 1, "one DSN tells of both jobs"
    assert {path.name[:16] for path in site.house.jobs()} == {other}
    (said,) = site.mta("return", "--all", "--json")
    counts = {"done": 2, "same": 0, "busy": 0, "failed": 0, "untaken": 0}
    assert json.loads(said) == {"verb": "return", **counts, "reasons": {}}
    wait(lambda: not site.house.jobs())


def test_what_is_in_flight_is_busy_and_then_delivered(new_house, new_sink) -> None:
    slow = new_sink(delay=12.0)
    house: House = new_house((LOCAL, SMTP % slow.port), ("deliver -b",))
    house.start("mta", "up")
    ident = house.submit(MESSAGE, "-f", "alice@example.test", "bob@far.test")
    wait(lambda: slow.connections)
    began = time.monotonic()
    ran = house.run("mta", "bounce", ident)
    assert ran.returncode == 75
    assert ran.stdout == "0 jobs returned; 1 busy: in flight, or in another's hands\n"
    assert time.monotonic() - began > 4.0, "it is tried for some seconds"
    wait(lambda: house.gone([ident]), within=40)
    assert [recipients for _, recipients, _ in slow.messages] == [("bob@far.test",)]
    assert not house.maildir()
