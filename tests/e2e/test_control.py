"""Waiting mail in an operator's hands, with a deliver that runs all the while."""

from __future__ import annotations

import json
import os
import signal
from email import message_from_bytes

import pytest

from tests.e2e.house import Sink, wait

pytestmark = pytest.mark.e2e

LOCAL = "{name: local, program: local, domains: $local}"
SMTP = (
    "{name: smtp, program: smtp, domains: [.test], relay: ['127.0.0.1:%d'], "
    "retry: {first: 1h}, dead_ttl: 1s}"
)
TURKEY = "{name: turkey, program: smtp, domains: [slow.test], relay: ['127.0.0.1:%d']}"
MESSAGE = b"From: alice@example.test\nSubject: a letter\n\nhello\n"


class Desk:
    """A house whose relay takes no mail, with mail that was tried once and waits for an hour."""

    def __init__(self, new_house, new_sink) -> None:
        self.sink: Sink = new_sink("defer")
        self.house = new_house(channels=(LOCAL, SMTP % self.sink.port))
        self.deliver = self.house.start("deliver", "-b", "-clocal,smtp", "-T", "600")

    def queue(self, *hosts: str) -> list[str]:
        """Submit a message for each host, and wait until all have been tried."""
        path = ("-f", "alice@example.test")
        idents = [self.house.submit(MESSAGE, *path, f"bob@{host}") for host in hosts]
        wait(lambda: all(self.house.attempts(i, "deferred") for i in idents))
        return idents

    def open(self) -> None:
        """Let the relay take mail."""
        self.sink.behaviour = "accept"

    def mta(self, *words: str, status: int = 0) -> str:
        ran = self.house.run("mta", *words)
        assert ran.returncode == status, (words, ran.returncode, ran.stdout, ran.stderr)
        return ran.stdout

    def suspended(self, ident: str) -> bool:
        """Whether the deliver knows that a message is: it reads the rules within a second."""
        (why,) = map(json.loads, self.mta("why", "--json", ident).splitlines())
        return bool(why["by"]) and "suspended" in [gate["gate"] for gate in why["gates"]]

    def arrived(self) -> list[str]:
        return [recipients[0] for _, recipients, _ in self.sink.messages]


@pytest.fixture
def desk(new_house, new_sink) -> Desk:
    return Desk(new_house, new_sink)


def test_hold_release_requeue_delete_and_return(desk: Desk) -> None:
    held, again, gone, back = desk.queue("a.test", "b.test", "e.test", "f.test")
    assert "1 job held" in desk.mta("hold", held, "--text", "ask Ann")
    assert f"{held}!" in desk.house.run("mailq").stdout
    assert "1 job deleted" in desk.mta("delete", "--recipient", "bob@e.test", "--text", "spam")
    assert "1 job returned" in desk.mta("bounce", "--id", back, "--text", "this host is no more")
    wait(desk.house.maildir)
    (path,) = desk.house.maildir()
    dsn = message_from_bytes(path.read_bytes())
    assert dsn["Return-Path"] == "<>" and "this host is no more" in str(dsn)
    assert "bob@f.test" in str(dsn) and "bob@e.test" not in str(dsn)
    assert [event["id"] for event in desk.house.events("deleted")] == [gone]
    desk.open()
    assert "1 job would be requeued" in desk.mta("requeue", "--host", "b.test", "--dry-run")
    desk.mta("requeue", "--all")
    wait(lambda: desk.house.gone([again, gone, back]))
    assert desk.arrived() == ["bob@b.test"] and len(desk.house.jobs()) == 1
    desk.mta("release", "--state", "held")
    wait(lambda: "bob@a.test" in desk.arrived())
    wait(lambda: not desk.house.jobs())
    desk.mta("hold", "--all", status=1)


def test_suspensions_hold_for_queued_mail_and_end_at_once(desk: Desk) -> None:
    idents = desk.queue("a.test", "b.test")
    desk.mta("suspend", "--host", "a.test", "--reason", "they move")
    desk.mta("suspend", "--sender", "alice@example.test", "--for", "1h")
    wait(lambda: all(map(desk.suspended, idents)))
    desk.open()
    desk.mta("requeue", "--all")
    late = desk.house.submit(MESSAGE, "-f", "carol@example.test", "bob@b.test")
    wait(lambda: desk.house.gone([late]))
    assert desk.arrived() == ["bob@b.test"] and len(desk.house.jobs()) == 2
    assert "they move" in desk.mta("suspended")
    desk.mta("resume", "--sender", "alice@example.test")
    wait(lambda: len(desk.arrived()) == 2)
    assert set(desk.arrived()) == {"bob@b.test"}
    wait(lambda: len(desk.house.jobs()) == 1)
    os.kill(desk.deliver.pid, signal.SIGKILL)
    desk.deliver.wait()
    desk.house.start("deliver", "-b", "-clocal,smtp")
    after = desk.house.submit(MESSAGE, "-f", "carol@example.test", "bob@c.test")
    wait(lambda: desk.house.gone([after]))
    assert "bob@a.test" not in desk.arrived(), "a new deliver knows the rules, too"
    desk.mta("resume", "--all")
    wait(lambda: "bob@a.test" in desk.arrived())
    assert desk.mta("suspended") == ""


def test_a_new_table_takes_mail_that_waits_and_a_bad_one_changes_nothing(
    desk: Desk, new_sink
) -> None:
    slow, other, pinned = desk.queue("slow.test", "b.test", "slow.test")
    sink = new_sink()
    desk.mta("reroute", pinned, "--next-hop", f"127.0.0.1:{desk.sink.port}")
    was = desk.house.config.read_text()
    desk.house.config.write_text(was + "channels: [\n")
    os.kill(desk.deliver.pid, signal.SIGHUP)
    wait(lambda: any("stays as it was" in e["text"] for e in desk.house.events("warning")))
    turkey = f"channels:\n  - {TURKEY % sink.port}\n"
    desk.house.config.write_text(was.replace("channels:\n", turkey, 1))
    desk.mta("reload")
    wait(lambda: desk.house.gone([slow]))
    (moved,) = [e for e in desk.house.events("rerouted") if e["by"] == "deliver"]
    assert moved["id"] == slow and moved["text"] == "channel table"
    desk.house.start("deliver", "-b", "-cturkey")
    wait(lambda: [r for _, r, _ in sink.messages] == [("bob@slow.test",)])
    assert other in {path.name[:16] for path in desk.house.jobs()}
    wait(lambda: len(desk.house.jobs()) == 2)  # what goes elsewhere by hand stays there
    desk.open()
    desk.mta("requeue", "--all")
    wait(lambda: not desk.house.jobs())
    assert sorted(desk.arrived()) == ["bob@b.test", "bob@slow.test"]


def test_what_is_in_flight_lands_while_the_next_configuration_works(new_house, new_sink) -> None:
    slow, fast = new_sink(delay=6.0), new_sink()
    house = new_house(channels=(LOCAL, SMTP % slow.port))
    deliver = house.start("deliver", "-b", "-clocal,smtp")
    path = ("-f", "alice@example.test")
    first = house.submit(MESSAGE, *path, "bob@a.test")
    wait(lambda: slow.connections)
    house.config.write_text(house.config.read_text().replace(str(slow.port), str(fast.port)))
    before = house.sweeps("smtp")
    os.kill(deliver.pid, signal.SIGHUP)
    house.await_reload("smtp", before)
    second = house.submit(MESSAGE, *path, "bob@b.test")
    wait(lambda: house.gone([second]))
    assert [r for _, r, _ in fast.messages] == [("bob@b.test",)]
    wait(lambda: house.gone([first]))
    assert len(slow.messages) == 1 and len(fast.messages) == 1 and house.jobs() == []
    third = house.submit(MESSAGE, *path, "bob@c.test")
    wait(lambda: house.gone([third]))
    deliver.terminate()
    assert deliver.wait(40) == 0
    assert not [e for e in house.events("warning") if "Traceback" in e["text"]]
