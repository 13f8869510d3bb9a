"""The log: a golden line of each format for each event, rotation, a full disk."""

from __future__ import annotations

import errno
import inspect
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import ConfigError
from mta.machine import log as log_module
from mta.machine.log import Log
from mta.machine.logfile import LogFile
from mta.machine.logline import LEVELS, TEXT
from mta.types import NULL_PATH, Mailbox, Outcome, Recipient, Reply

NOON = 1_795_348_800.25  # 2026-11-22T12:00:00.25Z
ALICE = Mailbox("alice", "example.test")
BOB = Mailbox("bob", "example.org")
SENT = Outcome(Reply(250, "2.0.0", "Ok: queued as 4K"))
BUSY = Outcome(Reply(451, "4.4.1", "connect to mx.example.org: Connection refused"), "host")
GONE = Outcome(Reply(550, "5.1.1", "no such user"))
ID = "3XK7Q0ZJ1B"
PC = "pc.example[192.0.2.7]"
MX = "mx.example.org[192.0.2.1]:25"


def attempt(log: Log, state: str, outcome: Outcome, relay: str, **changes: object) -> None:
    fields: dict[str, object] = {
        "id": ID,
        "queue": "smtp",
        "channel": "smtp",
        "program": "smtp",
        "recipient": Recipient(0, BOB),
        "host": "example.org",
        "relay": relay,
        "arrived": NOON - 4.2,
        "started": NOON - 0.31,
        "now": NOON,
    }
    log.attempt(**{**fields, **changes}, state=state, outcome=outcome)


HEAD = '{"time":"2026-11-22T12:00:00.250Z","event":"EVENT","process":"deliver","pid":PID,'
ATTEMPT = f'"id":"{ID}","queue":"smtp","channel":"smtp","program":"smtp","recipient":0,'
QMGR = f"posthouse/qmgr[PID]: {ID}"

# event, how it comes about, lines of mail.log after "host ", line of events.jsonl after HEAD
GOLDEN = [
    (
        "queued",
        lambda log: log.queued(ID, ALICE, 1234, 2, "uid=1000"),
        [
            f"posthouse/pickup[PID]: {ID}: uid=1000 from=<alice@example.test>",
            f"{QMGR}: from=<alice@example.test>, size=1234, nrcpt=2 (queue active)",
        ],
        f'"id":"{ID}","from":"alice@example.test","size":1234,"recipients":2,"origin":"uid=1000"}}',
    ),
    (
        "queued",
        lambda log: log.queued(ID, NULL_PATH, 99, 1, "dsn"),
        [f"posthouse/qmgr[PID]: {ID}: from=<>, size=99, nrcpt=1 (queue active)"],
        f'"id":"{ID}","from":"","size":99,"recipients":1,"origin":"dsn"}}',
    ),
    (
        "queued",
        lambda log: log.queued(ID, ALICE, 99, 1, "client=mx.example.org[192.0.2.7]"),
        [
            f"posthouse/smtpd[PID]: {ID}: client=mx.example.org[192.0.2.7]",
            f"{QMGR}: from=<alice@example.test>, size=99, nrcpt=1 (queue active)",
        ],
        (
            f'"id":"{ID}","from":"alice@example.test","size":99,"recipients":1,'
            '"origin":"client=mx.example.org[192.0.2.7]"}'
        ),
    ),
    (
        "attempt",
        lambda log: attempt(log, "delivered", SENT, "mx.example.org[192.0.2.1]:25"),
        [
            (
                f"posthouse/smtp[PID]: {ID}: to=<bob@example.org>, "
                "relay=mx.example.org[192.0.2.1]:25, delay=4.2, delays=0/3.9/0/0.31, dsn=2.0.0, "
                "status=sent (250 2.0.0 Ok: queued as 4K)"
            )
        ],
        (
            f'{ATTEMPT}"to":"bob@example.org","host":"example.org",'
            '"relay":"mx.example.org[192.0.2.1]:25","delay":4.2,"delays":[0,3.89,0,0.31],'
            '"state":"delivered","code":250,"status":"2.0.0","text":"Ok: queued as 4K",'
            '"scope":"recipient"}'
        ),
    ),
    (
        "attempt",
        lambda log: attempt(log, "deferred", BUSY, "", kind="connection"),
        [
            (
                f"posthouse/smtp[PID]: {ID}: to=<bob@example.org>, relay=none, delay=4.2, "
                "delays=0/3.9/0/0.31, dsn=4.4.1, status=deferred "
                "(451 4.4.1 connect to mx.example.org: Connection refused)"
            )
        ],
        (
            f'{ATTEMPT}"to":"bob@example.org","host":"example.org","relay":"","delay":4.2,'
            '"delays":[0,3.89,0,0.31],"state":"deferred","code":451,"status":"4.4.1",'
            '"text":"connect to mx.example.org: Connection refused","scope":"host",'
            '"class":"connection"}'
        ),
    ),
    (
        "attempt",
        lambda log: attempt(
            log,
            "failed",
            GONE,
            "local",
            program="/usr/lib/mta/drop",
            kind="bad-address",
            recipient=Recipient(3, BOB, "|/bin/vacation", ALICE),
        ),
        [
            (
                f"posthouse/drop[PID]: {ID}: to=<bob@example.org>, orig_to=<alice@example.test>, "
                "relay=local, delay=4.2, delays=0/3.9/0/0.31, dsn=5.1.1, "
                "status=bounced (550 5.1.1 no such user)"
            )
        ],
        (
            f'"id":"{ID}","queue":"smtp","channel":"smtp","program":"/usr/lib/mta/drop",'
            '"recipient":3,'
            '"to":"bob@example.org","action":"|/bin/vacation","original":"alice@example.test",'
            '"host":"example.org","relay":"local","delay":4.2,"delays":[0,3.89,0,0.31],'
            '"state":"failed","code":550,"status":"5.1.1","text":"no such user",'
            '"scope":"recipient","class":"bad-address"}'
        ),
    ),
    (
        "queued",
        lambda log: log.queued(
            ID, ALICE, 9, 1, "client=pc.example[192.0.2.7], sasl_method=PLAIN, sasl_username=alice"
        ),
        [
            (
                f"posthouse/smtpd[PID]: {ID}: client=pc.example[192.0.2.7], "
                "sasl_method=PLAIN, sasl_username=alice"
            ),
            f"{QMGR}: from=<alice@example.test>, size=9, nrcpt=1 (queue active)",
        ],
        (
            f'"id":"{ID}","from":"alice@example.test","size":9,"recipients":1,'
            '"origin":"client=pc.example[192.0.2.7], sasl_method=PLAIN, sasl_username=alice"}'
        ),
    ),
    (
        "connected",
        lambda log: log.connected(PC),
        [f"posthouse/smtpd[PID]: connect from {PC}"],
        f'"client":"{PC}"}}',
    ),
    (
        "disconnected",
        lambda log: log.disconnected(
            PC, {"ehlo": (1, 1), "rcpt": (3, 1), "auth": (0, 0), "quit": (1, 1)}
        ),
        [(f"posthouse/smtpd[PID]: disconnect from {PC} ehlo=1 rcpt=1/3 quit=1 commands=3/5")],
        f'"client":"{PC}","commands":{{"ehlo":[1,1],"rcpt":[3,1],"auth":[0,0],"quit":[1,1]}}}}',
    ),
    (
        "rejected",
        lambda log: log.rejected(
            "RCPT",
            PC,
            GONE.reply,
            reverse_path=NULL_PATH,
            recipient="bob@example.org",
            protocol="ESMTP",
            helo="pc",
        ),
        [
            (
                f"posthouse/smtpd[PID]: NOQUEUE: reject: RCPT from {PC}: 550 5.1.1 "
                "<bob@example.org>: Recipient address rejected: User unknown in local recipient "
                "table; from=<> to=<bob@example.org> proto=ESMTP helo=<pc>"
            )
        ],
        (
            f'"stage":"RCPT","client":"{PC}","code":550,"status":"5.1.1","text":"no such user",'
            '"from":"","to":"bob@example.org","protocol":"ESMTP","helo":"pc"}'
        ),
    ),
    (
        "rejected",
        lambda log: log.rejected(
            "RCPT",
            PC,
            Reply(550, "5.7.1", "relaying denied"),
            reverse_path=ALICE,
            recipient="x@a.test",
            protocol="SMTP",
            helo="pc",
        ),
        [
            (
                f"posthouse/smtpd[PID]: NOQUEUE: reject: RCPT from {PC}: 550 5.7.1 <x@a.test>: "
                "Relay access denied; from=<alice@example.test> to=<x@a.test> proto=SMTP helo=<pc>"
            )
        ],
        (
            f'"stage":"RCPT","client":"{PC}","code":550,"status":"5.7.1",'
            '"text":"relaying denied","from":"alice@example.test","to":"x@a.test",'
            '"protocol":"SMTP","helo":"pc"}'
        ),
    ),
    (
        "rejected",
        lambda log: log.rejected(
            "CONNECT", PC, Reply(421, "4.7.0", "too many; go away"), protocol="SMTP"
        ),
        [
            (
                f"posthouse/smtpd[PID]: NOQUEUE: reject: CONNECT from {PC}: 421 4.7.0 <{PC}>: "
                "Client host rejected: too many, go away; proto=SMTP"
            )
        ],
        (
            f'"stage":"CONNECT","client":"{PC}","code":421,"status":"4.7.0",'
            '"text":"too many; go away","protocol":"SMTP","helo":""}'
        ),
    ),
    (
        "lost_connection",
        lambda log: log.lost_connection("RCPT", PC),
        [f"posthouse/smtpd[PID]: lost connection after RCPT from {PC}"],
        f'"after":"RCPT","client":"{PC}"}}',
    ),
    (
        "timeout",
        lambda log: log.timeout("DATA", PC),
        [f"posthouse/smtpd[PID]: timeout after DATA from {PC}"],
        f'"after":"DATA","client":"{PC}"}}',
    ),
    (
        "tls_accepted",
        lambda log: log.tls_accepted(PC, "TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
        [
            (
                f"posthouse/smtpd[PID]: Anonymous TLS connection established from {PC}: "
                "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
            )
        ],
        f'"client":"{PC}","protocol":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","bits":256}}',
    ),
    (
        "auth_failed",
        lambda log: log.auth_failed(PC, "PLAIN", "wrong password"),
        [f"posthouse/smtpd[PID]: warning: {PC}: SASL PLAIN authentication failed: wrong password"],
        f'"client":"{PC}","mechanism":"PLAIN","reason":"wrong password"}}',
    ),
    (
        "tls",
        lambda log: log.tls("example.org", MX, "dane", "", "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        [
            (
                f"posthouse/smtp[PID]: Verified TLS connection established to {MX}: "
                "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits)"
            )
        ],
        (
            f'"domain":"example.org","host":"{MX}","policy":"dane","result":"",'
            '"protocol":"TLSv1.3","cipher":"TLS_AES_128_GCM_SHA256","level":""}'
        ),
    ),
    (
        "tls",
        lambda log: log.tls(
            "example.org", MX, "may", "certificate-expired", "TLSv1.2", "AES256-SHA", "encrypted"
        ),
        [
            (
                f"posthouse/smtp[PID]: Untrusted TLS connection established to {MX}: "
                "TLSv1.2 with cipher AES256-SHA (256/256 bits) (certificate-expired)"
            )
        ],
        (
            f'"domain":"example.org","host":"{MX}","policy":"may","result":"certificate-expired",'
            '"protocol":"TLSv1.2","cipher":"AES256-SHA","level":"encrypted"}'
        ),
    ),
    (
        "tls",
        lambda log: log.tls("example.org", MX, "sts", "starttls-not-supported", "", ""),
        [f"posthouse/smtp[PID]: no TLS with {MX}: starttls-not-supported (policy sts)"],
        (
            f'"domain":"example.org","host":"{MX}","policy":"sts",'
            '"result":"starttls-not-supported","protocol":"","cipher":"","level":""}'
        ),
    ),
    (
        "tls_counters",
        lambda log: log.tls_counters("example.org", "sts", 12, {"certificate-expired": 2}),
        [
            (
                "posthouse/deliver[PID]: tls counters of example.org, policy sts: "
                "12 successful, 2 failed (2 certificate-expired)"
            )
        ],
        (
            '"domain":"example.org","policy":"sts","successful":12,'
            '"failures":{"certificate-expired":2}}'
        ),
    ),
    (
        "removed",
        lambda log: log.removed(ID),
        [f"posthouse/qmgr[PID]: {ID}: removed"],
        f'"id":"{ID}"}}',
    ),
    (
        "notified",
        lambda log: log.notified(ID, "3XK7Q0ZJ2C", ALICE),
        [f"posthouse/bounce[PID]: {ID}: sender non-delivery notification: 3XK7Q0ZJ2C"],
        f'"id":"{ID}","dsn":"3XK7Q0ZJ2C","to":"alice@example.test","about":"failure"}}',
    ),
    (
        "notified",
        lambda log: log.notified(ID, "3XK7Q0ZJ2C", ALICE, "success"),
        [f"posthouse/bounce[PID]: {ID}: sender delivery status notification: 3XK7Q0ZJ2C"],
        f'"id":"{ID}","dsn":"3XK7Q0ZJ2C","to":"alice@example.test","about":"success"}}',
    ),
    (
        "notified",
        lambda log: log.notified(ID, "3XK7Q0ZJ2C", ALICE, "delay"),
        [f"posthouse/bounce[PID]: {ID}: sender delay notification: 3XK7Q0ZJ2C"],
        f'"id":"{ID}","dsn":"3XK7Q0ZJ2C","to":"alice@example.test","about":"delay"}}',
    ),
    (
        "notified",
        lambda log: log.notified(ID, "3XK7Q0ZJ2C", NULL_PATH, "orphan"),
        [f"posthouse/bounce[PID]: {ID}: postmaster non-delivery notification: 3XK7Q0ZJ2C"],
        f'"id":"{ID}","dsn":"3XK7Q0ZJ2C","to":"","about":"orphan"}}',
    ),
    (
        "discarded",
        lambda log: log.discarded(ID, ALICE, 12),
        [f"posthouse/deliver[PID]: {ID}: 12 failures discarded: from=<alice@example.test>"],
        f'"id":"{ID}","from":"alice@example.test","recipients":12}}',
    ),
    (
        "unreported",
        lambda log: log.unreported(ID, Recipient(0, BOB)),
        [f"posthouse/deliver[PID]: {ID}: failure for <bob@example.org> not reported: NOTIFY"],
        f'"id":"{ID}","to":"bob@example.org"}}',
    ),
    (
        "noted",
        lambda log: log.noted(ID, 0, "smtp", "hold", "root", "ask Ann"),
        [f"posthouse/postsuper[PID]: {ID}: placed on hold by root: ask Ann"],
        f'"id":"{ID}","number":0,"queue":"smtp","note":"hold","by":"root","text":"ask Ann"}}',
    ),
    (
        "noted",
        lambda log: log.noted(ID, 1, "smtp", "due", "root", ""),
        [f"posthouse/postsuper[PID]: {ID}: requeued by root"],
        f'"id":"{ID}","number":1,"queue":"smtp","note":"due","by":"root","text":""}}',
    ),
    (
        "deleted",
        lambda log: log.deleted(ID, 0, "smtp", [Recipient(0, BOB)], "root", "spam"),
        [f"posthouse/postsuper[PID]: {ID}: deleted by root: spam: <bob@example.org>"],
        (
            f'"id":"{ID}","number":0,"queue":"smtp","to":["bob@example.org"],"by":"root",'
            '"text":"spam"}'
        ),
    ),
    (
        "rerouted",
        lambda log: log.rerouted(ID, 0, "smtp", "3XK7Q0ZJ2C", "deliver", "channel table"),
        [f"posthouse/postsuper[PID]: {ID}: rerouted as 3XK7Q0ZJ2C by deliver: channel table"],
        (
            f'"id":"{ID}","number":0,"queue":"smtp","new":"3XK7Q0ZJ2C","by":"deliver",'
            '"text":"channel table"}'
        ),
    ),
    (
        "suspended",
        lambda log: log.suspended("host mx.example.org", "root", NOON + 900, "they move"),
        [
            (
                "posthouse/deliver[PID]: host mx.example.org suspended until 2026-11-22T12:15:00Z "
                "by root: they move"
            )
        ],
        (
            '"what":"host mx.example.org","by":"root","until":"2026-11-22T12:15:00Z",'
            '"text":"they move"}'
        ),
    ),
    (
        "suspended",
        lambda log: log.suspended("queue smtp", "root", 0.0, ""),
        ["posthouse/deliver[PID]: queue smtp suspended until resumed by root"],
        '"what":"queue smtp","by":"root","until":"","text":""}',
    ),
    (
        "resumed",
        lambda log: log.resumed("queue smtp", "root"),
        ["posthouse/deliver[PID]: queue smtp resumed by root"],
        '"what":"queue smtp","by":"root"}',
    ),
    (
        "dead_host",
        lambda log: log.dead_host("smtp", "example.org", BUSY, NOON + 900),
        [
            (
                "posthouse/deliver[PID]: dead host example.org on channel smtp until "
                "2026-11-22T12:15:00Z (451 4.4.1 connect to mx.example.org: Connection refused)"
            )
        ],
        (
            '"channel":"smtp","host":"example.org","until":"2026-11-22T12:15:00Z","code":451,'
            '"status":"4.4.1","text":"connect to mx.example.org: Connection refused"}'
        ),
    ),
    (
        "revived",
        lambda log: log.revived("smtp", "example.org"),
        ["posthouse/deliver[PID]: host example.org on channel smtp answers again"],
        '"channel":"smtp","host":"example.org"}',
    ),
    (
        "demotion",
        lambda log: log.demotion("smtp", "example.org", "turkey", True),
        [
            (
                "posthouse/deliver[PID]: host example.org on channel smtp has failed for long: "
                "demoted to turkey"
            )
        ],
        '"channel":"smtp","host":"example.org","to":"turkey","begins":true}',
    ),
    (
        "demotion",
        lambda log: log.demotion("turkey", "example.org", "", False),
        [
            (
                "posthouse/deliver[PID]: host example.org on channel turkey answers again: "
                "demoted no more"
            )
        ],
        '"channel":"turkey","host":"example.org","to":"","begins":false}',
    ),
    (
        "load_level",
        lambda log: log.load_level("load", "queue_only", True, 8.0, 9.125),
        ["posthouse/deliver[PID]: queue_only begins: load 9.12, threshold 8"],
        '"gauge":"load","level":"queue_only","begins":true,"threshold":8.0,"value":9.12}',
    ),
    (
        "load_level",
        lambda log: log.load_level("pressure", "delay", False, 20.0, 15.5),
        ["posthouse/deliver[PID]: delay ends: pressure 15.5, threshold 20"],
        '"gauge":"pressure","level":"delay","begins":false,"threshold":20.0,"value":15.5}',
    ),
    (
        "program_started",
        lambda log: log.program_started("smtp", 4711),
        ["posthouse/deliver[PID]: channel program of smtp started: pid 4711"],
        '"channel":"smtp","child":4711}',
    ),
    (
        "program_ended",
        lambda log: log.program_ended("smtp", 4711, -9),
        ["posthouse/deliver[PID]: channel program of smtp ended: pid 4711, signal 9"],
        '"channel":"smtp","child":4711,"exit":-9}',
    ),
    (
        "started",
        lambda log: log.started("deliver", ["-b", "-csmtp"]),
        ["posthouse/deliver[PID]: started: deliver -b -csmtp"],
        '"command":"deliver","arguments":["-b","-csmtp"]}',
    ),
    (
        "stopped",
        lambda log: log.stopped("deliver"),
        ["posthouse/deliver[PID]: stopped: deliver"],
        '"command":"deliver"}',
    ),
    (
        "warning",
        lambda log: log.warning("spool is nearly full"),
        ["posthouse/deliver[PID]: warning: spool is nearly full"],
        '"text":"spool is nearly full"}',
    ),
]


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def new_log(directory: Path, **options: object) -> Log:
    settings = {"hostname": "host", "clock": lambda: NOON, **options}
    return Log(str(directory), ("postfix", "json"), "deliver", **settings)


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(("event", "act", "text", "record"), GOLDEN)
def test_golden_line(event, act, text, record, tmp_path: Path) -> None:
    log = new_log(tmp_path, level=LEVELS.index("FTR"))
    act(log)
    log.flush()
    pid = str(os.getpid())
    expected = [f"Nov 22 12:00:00 host {line.replace('PID', pid)}" for line in text]
    assert (tmp_path / "mail.log").read_text().splitlines() == expected
    head = HEAD.replace("EVENT", event).replace("PID", pid)
    assert (tmp_path / "events.jsonl").read_text() == head + record + "\n"


def test_every_event_has_a_golden_line() -> None:
    assert {event for event, *_ in GOLDEN} == set(TEXT) - {"lost"}  # lost: the full disk, below


def test_every_event_is_a_method_and_every_method_an_event() -> None:
    public = {n for n, _ in inspect.getmembers(Log, inspect.isfunction) if not n.startswith("_")}
    assert public - {"flush", "maybe_flush", "close", "trouble"} == set(TEXT) - {"lost"}


def test_a_day_below_ten_is_padded_with_a_space(tmp_path: Path, utc: None) -> None:
    log = new_log(tmp_path, clock=lambda: NOON - 20 * 86400)
    log.removed(ID)
    log.flush()
    assert (tmp_path / "mail.log").read_text().startswith("Nov  2 12:00:00 host ")


def test_level_bounds_the_text_log_only(tmp_path: Path) -> None:
    log = new_log(tmp_path, level=LEVELS.index("TMP"))
    log.removed(ID)
    log.warning("seen")
    log.flush()
    assert len((tmp_path / "mail.log").read_text().splitlines()) == 1
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2


def test_file_renames_the_text_log(tmp_path: Path) -> None:
    log = Log(str(tmp_path), ("json",), "deliver", file="ucl.log")
    log.removed(ID)
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.jsonl", "ucl.log"]


def test_an_unknown_format_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exim"):
        Log(str(tmp_path), ("postfix", "exim"), "deliver")


def test_nothing_is_written_before_a_flush_and_64_kib_flush_themselves(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    log.removed(ID)
    assert not (tmp_path / "mail.log").exists()
    for _ in range(70):
        log.warning("x" * 1000)
    assert (tmp_path / "events.jsonl").stat().st_size >= 64 * 1024


def test_maybe_flush_writes_once_a_second(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    log.removed(ID)
    log.maybe_flush(100.0)
    log.removed(ID)
    log.maybe_flush(100.9)
    assert len((tmp_path / "mail.log").read_text().splitlines()) == 1
    log.maybe_flush(101.0)
    assert len((tmp_path / "mail.log").read_text().splitlines()) == 2


def test_l2_a_renamed_file_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(log_module.time, "monotonic", lambda: now[0])
    log = new_log(tmp_path)
    log.removed("A")
    log.flush()
    (tmp_path / "mail.log").rename(tmp_path / "mail.log.1")
    now[0] += 1.0
    log.removed("B")
    log.flush()
    assert "A: removed" in (tmp_path / "mail.log.1").read_text()
    assert "B: removed" in (tmp_path / "mail.log").read_text()


class Disk:
    """A disk of ``room`` octets behind os.write."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, fd: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return os.write(fd, part)


@given(
    lines=st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=20),
    rooms=st.lists(st.integers(0, 40), max_size=10),
)
@settings(deadline=None)
def test_l3_a_cut_line_is_written_again_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], rooms: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "f"
    disk = Disk(0)
    file = LogFile(str(path), disk.write)
    rooms.append(10_000)  # at last there is room
    for number, line in enumerate(lines):
        file.add(f"{number}:{line};")
        disk.room = rooms[number % len(rooms)]
        file.flush()
    disk.room = 10_000
    assert file.flush()
    file.close()
    whole = [w for w in path.read_text().split("\n") if w.endswith(";")]
    # cut just before its newline, a line stands twice: better than joined to a neighbour's
    assert list(dict.fromkeys(whole)) == [f"{number}:{line};" for number, line in enumerate(lines)]


def test_l1_a_full_disk_loses_lines_counts_them_and_says_so(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    disks = [Disk(0) for _ in log._files]
    for file, disk in zip(log._files, disks, strict=True):
        file._write = disk.write
    for number in range(2000):
        log.warning(f"{number} " + "x" * 1000)
    log.flush()
    assert log._files[0].lost > 0
    for disk in disks:
        disk.room = 10**9
    log.flush()
    text = (tmp_path / "mail.log").read_text().splitlines()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    told = {e["file"]: e for e in events if e["event"] == "lost"}
    assert set(told) == {"mail.log", "events.jsonl"}
    for name, kept in (("events.jsonl", events), ("mail.log", text)):
        warnings = [line for line in kept if "x" * 1000 in str(line)]
        assert told[name]["lines"] > 0 and told[name]["reason"] == "No space left on device"
        assert len(warnings) + told[name]["lines"] == 2000
    assert any("lines of mail.log lost: No space left on device" in line for line in text)


def test_l1_a_directory_that_cannot_be_made_does_not_raise(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = new_log(tmp_path / "file" / "log")
    log.removed(ID)
    log.flush()
    log.close()
