"""DSNs with real processes: one for a message, whoever failed; and whom they end with."""

from __future__ import annotations

import shutil
import tempfile
import time
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.e2e.house import refused_port, wait

pytestmark = pytest.mark.e2e

LOCAL = "{name: local, program: local, domains: $local}"
PIPE = "{name: pipe, program: pipe, domains: [pipe.test], command: [/bin/sh, -c, %r]}"
MESSAGE = b"From: alice@example.test\nSubject: of great weight\n\nhello\n"


def add(house: object, text: str) -> None:
    path = house.root / "mta.yaml"  # type: ignore[attr-defined]
    path.write_text(path.read_text() + text)


def groups(path: Path) -> list[Message]:
    """Return the recipients' groups of a DSN."""
    status = message_from_bytes(path.read_bytes()).get_payload()[1]
    return status.get_payload()[1:]  # type: ignore[union-attr,return-value,index]


def test_a_hundred_dead_hosts_in_one_pass_are_one_dsn(new_house):
    row = (
        f"{{name: smtp, program: smtp, domains: '*', relay: '127.0.0.1:{refused_port()}',"
        " concurrency: 10, fail_after: 1s}"
    )
    house = new_house(channels=(LOCAL, row))
    people = [f"u@h{n}.test" for n in range(100)]
    ident = house.submit(MESSAGE, "-f", "alice@example.test", *people)
    accepted = time.time()
    wait(lambda: time.time() > accepted + 1.1)  # now each attempt is a job's last
    ran = house.run("deliver")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert house.jobs() == []
    (dsn,) = house.maildir("alice")
    assert sorted(group["Final-Recipient"] for group in groups(dsn)) == sorted(
        f"rfc822; {who}" for who in people
    )
    (notified,) = house.events("notified")
    assert notified["id"] == ident
    assert {e["class"] for e in house.events("attempt") if e["state"] == "failed"} == {"expired"}


def test_a_null_path_ends_with_the_postmaster_and_his_notice_with_a_dead_letter(new_house):
    house = new_house(channels=(LOCAL, PIPE % "exit 67"))
    house.submit(MESSAGE, "-f", "<>", "one@pipe.test")
    assert house.run("deliver").returncode == 0
    (notice,) = house.maildir("alice")  # the first user is postmaster
    message = message_from_bytes(notice.read_bytes())
    assert message["Subject"] == "Undelivered mail whose author cannot be told"
    assert message["To"] == "<postmaster@example.test>"
    assert "of great weight" in message.get_payload()[2].as_string()
    assert house.jobs() == [] and not list((house.root / "spool" / "bad").iterdir())

    (house.root / "aliases").write_text("postmaster: gone@pipe.test\n")
    add(house, "dsn: {gather: 0}\n")
    config = house.root / "mta.yaml"
    config.write_text(config.read_text().replace("local:\n", "local:\n  aliases: aliases\n"))
    ident = house.submit(MESSAGE, "-f", "<>", "two@pipe.test")
    assert house.run("deliver").returncode == 0
    (kept,) = (house.root / "spool" / "bad").iterdir()
    assert not kept.name.startswith(ident)  # it is the notice
    octets = kept.read_bytes()
    assert octets.startswith(b"X-Posthouse-Kept: it is a notice to the postmaster itself\r\n")
    assert b"X-Posthouse-Recipient: <gone@pipe.test>: 5" in octets
    assert b"of great weight" in octets
    assert house.jobs() == [] and len(house.maildir("alice")) == 1
    assert [e["about"] for e in house.events("notified")] == ["orphan", "orphan"]


def test_campaign_failures_are_counted_and_sites_have_words_of_their_own(new_house):
    house = new_house(channels=(LOCAL, PIPE % "exit 67"))
    (house.root / "words.txt").write_text("[subject failed]\nZurück\n[failed]\nLeider nicht:\n")
    add(
        house,
        "dsn: {template: words.txt}\nsenders: [{match: 'news-*@example.test', bounce: discard}]\n",
    )
    house.submit(MESSAGE, "-f", "news-7@example.test", "a@pipe.test", "b@pipe.test")
    house.submit(MESSAGE, "-f", "alice@example.test", "c@pipe.test")
    assert house.run("deliver").returncode == 0
    (dsn,) = house.maildir("alice")
    assert b"Subject: =?utf-8?b?" in dsn.read_bytes()
    assert b"Leider nicht:" in dsn.read_bytes()
    (discarded,) = house.events("discarded")
    assert (discarded["from"], discarded["recipients"]) == ("news-7@example.test", 2)
    assert len([e for e in house.events("attempt") if e["state"] == "failed"]) == 3


def test_who_asks_for_the_success_of_an_alias_of_several_hears_that_it_was_expanded(new_house):
    house = new_house(channels=(LOCAL, PIPE % "cat > /dev/null"))
    (house.root / "aliases").write_text("staff: bob, one@pipe.test\n")
    config = house.root / "mta.yaml"
    config.write_text(config.read_text().replace("local:\n", "local:\n  aliases: aliases\n"))
    house.submit(MESSAGE, "-f", "alice@example.test", "-N", "success", "staff@example.test")
    assert house.run("deliver").returncode == 0
    (dsn,) = house.maildir("alice")
    assert [(g["Action"], g["Final-Recipient"]) for g in groups(dsn)] == [
        ("expanded", "rfc822; staff@example.test")
    ]
    assert len(house.maildir("bob")) == 1
    assert house.jobs() == []


def delayed(house) -> list[Path]:  # type: ignore[no-untyped-def]
    return [p for p in house.maildir("alice") if b"Action: delayed" in p.read_bytes()]


def test_a_daemon_warns_of_mail_that_no_program_serves_and_gives_it_up(new_house):
    smtp = (
        f"{{name: smtp, program: smtp, domains: '*', relay: '127.0.0.1:{refused_port()}',"
        " dead_ttl: 1h, warn_after: 2s, fail_after: 12s}"
    )
    house = new_house(channels=(LOCAL, smtp))
    house.start("deliver", "-b", "-clocal,smtp")
    house.await_sweeps("local", "smtp")
    people = ["a@one.test", "b@two.test", "c@three.test"]
    ident = house.submit(MESSAGE, "-f", "alice@example.test", *people)
    wait(lambda: delayed(house))
    (warning,) = house.maildir("alice")
    message = message_from_bytes(warning.read_bytes())
    assert message["Subject"] == "Your message has not been delivered yet"
    assert len(groups(warning)) == 3
    assert all("Will-Retry-Until" in group for group in groups(warning))
    assert all("refused" in str(group["Diagnostic-Code"]) for group in groups(warning))
    wait(lambda: house.gone([ident]), within=120.0)
    wait(lambda: len(house.maildir("alice")) == 2)
    assert len(delayed(house)) == 1
    (failure,) = [p for p in house.maildir("alice") if p != warning]
    assert [group["Action"] for group in groups(failure)] == ["failed"] * 3
    told = [(e["id"], e["about"]) for e in house.events("notified")]
    assert told == [(ident, "delay"), (ident, "failure")]


def test_who_is_killed_while_it_gathers_has_lost_nothing(new_house):
    slow = "{name: slow, program: pipe, domains: [slow.test], command: [/bin/sh, -c, %r]}"
    shared = Path(tempfile.mkdtemp())  # commands may run as another user than we
    shared.chmod(0o777)
    ran, go = shared / "ran", shared / "go"
    until_go = f"while [ ! -e {go} ]; do sleep 0.1; done; exit 67"
    house = new_house(channels=(LOCAL, PIPE % f"touch {ran}; exit 67", slow % until_go))
    ident = house.submit(MESSAGE, "-f", "alice@example.test", "a@pipe.test", "b@slow.test")
    deliver = house.start("deliver", "-b", "-clocal,pipe,slow")
    wait(ran.exists)
    time.sleep(1.0)  # the first has failed by now, and waits for the other
    assert not house.events("notified") and len(house.jobs()) == 2
    deliver.kill()
    deliver.wait()
    go.write_text("")
    assert house.run("deliver").returncode == 0
    (dsn,) = house.maildir("alice")
    assert len(groups(dsn)) == 2
    assert [e["id"] for e in house.events("notified")] == [ident]
    assert house.jobs() == []
    shutil.rmtree(shared)
