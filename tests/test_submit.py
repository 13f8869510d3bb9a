from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta import submit
from mta.accept import Door, RefusedError
from mta.errors import SpoolError, UsageError
from mta.headers import MAX_HEADER_OCTETS
from mta.policy.modes import MODES, rings
from mta.submission import Caller, Submission, Terms, caller
from mta.types import NULL_PATH, Mailbox, Outcome, Reply
from tests.inlet import email_data, make_door, one, queued, recipients, write_site

WHO = Caller(1234, "alice")
ALICE = Mailbox("alice", "example.test")
WHOLE = b"From: a@b\nDate: d\nMessage-ID: <m>\n"


class Said:
    """What a run printed, and how it ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTA_CONFIG", str(write_site(tmp_path)))
    return tmp_path


def run(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: bytes = b"Subject: x\n\nhello\n",
) -> Said:
    monkeypatch.setattr(submit, "read_input", lambda fd: iter([message] if message else []))
    status = submit.guarded("submit", lambda: submit.run(arguments))
    return Said(status, *capfd.readouterr())


@pytest.fixture
def call(capfd, monkeypatch, site):
    return lambda arguments, *message: run(capfd, monkeypatch, arguments, *message)


def test_silent_on_success(call, site: Path) -> None:
    said = call(["alice@example.test"])
    assert (said.status, said.out, said.err) == (0, "", "")
    entry, body = one(site)
    login = pwd.getpwuid(os.getuid()).pw_name
    assert recipients(entry) == ["alice@example.test"]
    assert str(entry.envelope.reverse_path) == f"{login}@example.test"
    assert entry.envelope.origin == f"uid={os.getuid()}"
    ident = entry.envelope.id
    lines = body.decode().split("\r\n")
    assert lines[0] == f"Received: by mx.example.test (Posthouse) with local id {ident}"
    assert lines[1].startswith(f"\t(from userid {os.getuid()}); ")
    date = lines[1].partition("; ")[2]
    assert lines[2:] == [
        "Subject: x",
        f"Message-ID: <{ident}@mx.example.test>",
        f"Date: {date}",
        f"From: {login}@example.test",
        "",
        "hello",
        "",
    ]


def test_bad_addresses_are_named_and_the_good_ones_go(call, site: Path) -> None:
    said = call(["alice", "nobody", "b b@x", "bob@example.test", "c@unheard.test"])
    assert said.status == 67
    named = said.err.split("\n")
    assert named[0].startswith("submit: <nobody>: 550 5.1.1 ")
    assert named[1].startswith("submit: <b b@x>: 501 5.1.3 ")
    assert named[2].startswith("submit: <c@unheard.test>: 550 5.1.2 ")
    assert named[3:] == [""]
    assert recipients(one(site)[0]) == ["alice@example.test", "bob@example.test"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 64),
        (["-Z", "alice"], 64),
        (["--nonsense", "alice"], 64),
        (["-f"], 64),
        (["-f", "a b@c", "alice"], 64),
        (["-F", "a\nBcc: b", "alice"], 64),
        (["-N", "never,delay", "alice"], 64),
        (["-R", "some", "alice"], 64),
        (["-V", "\x1b", "alice"], 64),
        (["--protocol", "alice"], 64),
        (["nobody"], 67),
        (["a@unheard.test"], 68),
        (["a b@example.test"], 65),
        (["--config", "/nonexistent/mta.yaml", "alice"], 78),
    ],
)
def test_exit_statuses_when_nothing_is_queued(
    call, site: Path, arguments: list[str], status: int
) -> None:
    said = call(arguments)
    assert said.status == status
    assert said.err.startswith("submit: ")
    assert said.out == ""
    assert "Traceback" not in said.err
    if (site / "spool").exists():
        assert queued(site) == []


def test_members_that_an_alias_names_in_vain_are_named(call, site: Path) -> None:
    (site / "aliases").write_text("staff: alice, gone@nowhere.test\n")
    said = call(["staff"])
    assert said.status == 0 and said.out == ""
    assert said.err == (
        "submit: <staff@example.test>: left out: member gone@nowhere.test: "
        "no channel knows this host\n"
    )
    entry, _ = one(site)
    assert recipients(entry) == ["alice@example.test"]


def test_what_is_asked_of_reports_is_kept(call, site: Path) -> None:
    asked = ["-N", "delay,success", "-R", "full", "-V", "QQ 314", "--requiretls"]
    said = call([*asked, "alice", "x@remote.test"])
    assert (said.status, said.err) == (0, "")
    for entry, _ in queued(site):
        assert (entry.envelope.ret, entry.envelope.envid) == ("FULL", "QQ 314")
        assert entry.envelope.requiretls
        assert [r.notify for r in entry.job.recipients] == ["SUCCESS,DELAY"]


def test_a_message_may_be_given_up_before_the_channel_would(call, site: Path) -> None:
    now = time.time()
    assert call(["--expire", "90m", "alice"]).status == 0
    entry, _ = one(site)
    assert 0 <= entry.envelope.expires - now - 5400 < 60


@pytest.mark.parametrize("kind", ["urgent", "normal", "bulk"])
def test_the_class_is_what_is_said_then_the_author_s_then_the_header_s(
    call, site: Path, kind: str
) -> None:
    rules = "senders: [{match: '@list.test', class: bulk}, {match: '<>', class: urgent}]\n"
    (site / "mta.yaml").write_text(rules + (site / "mta.yaml").read_text())
    text = b"Precedence: list\r\nPriority: urgent\r\n\r\nhi\r\n"
    for arguments, expected in (
        (["--class", kind, "-f", "a@list.test"], kind),
        (["-f", "a@list.test"], "bulk"),
        (["-f", "<>"], "urgent"),
        ([], "urgent"),
    ):
        assert call([*arguments, "alice"], text).status == 0
        entry, _ = queued(site)[-1]
        assert entry.envelope.kind == expected
        known = {"urgent": 100, "normal": 0, "bulk": -60}[expected]
        assert entry.envelope.precedence == (known if arguments else -30)


def test_what_is_no_class_is_refused(call, site: Path) -> None:
    said = call(["--class", "first", "alice"])
    assert (said.status, queued(site)) == (64, [])
    assert said.err == "submit: --class is one of urgent, normal, bulk\n"


@pytest.mark.parametrize("text", ["90", "m", "1.5h", "-5m", "5y", "9999999999s", "\u0663m"])
def test_what_is_no_time_is_no_expiry(call, site: Path, text: str) -> None:
    said = call(["--expire=" + text, "alice"])
    assert (said.status, queued(site)) == (64, [])
    assert "is not a time" in said.err


@pytest.mark.parametrize("asked", ["", *MODES])
@pytest.mark.parametrize("local", MODES)
def test_whoever_submits_tries_what_is_interactive_and_intake_is_told(
    call, site: Path, monkeypatch: pytest.MonkeyPatch, local: str, asked: str
) -> None:
    path = site / "mta.yaml"
    text = path.read_text()
    path.write_text(text.replace("program: local,", f"program: local, mode: {local},"))
    tried: list[str] = []

    def note(config, ident, channels, *, aloud) -> None:
        tried.extend(channels)

    monkeypatch.setattr("mta.interactive.attempt", note)
    options = ["--mode", asked] if asked else []
    assert call([*options, "alice", "x@remote.test"]).status == 0
    told = {entry.envelope.mode for entry, _ in queued(site)}
    modes = {"local": local, "smtp": "background"}
    if asked == "interactive":
        assert tried == ["local", "smtp"] and told == {"queue"}
    elif asked:
        assert tried == [] and told == {asked}
    else:
        assert tried == (["local"] if local == "interactive" else [])
        assert told == {"interactive" if tried else ""}
    (mode,) = told
    rung = {queue for queue in modes if rings(modes[queue], mode)}
    quiet = {queue for queue in modes if modes[queue] in ("queue", "defer")}
    if not asked:  # each queue is rung, tried here, or quiet: exactly one of these
        assert sorted([*rung, *tried, *quiet]) == ["local", "smtp"]


def test_no_such_mode(call, site: Path) -> None:
    said = call(["--mode", "now", "alice"])
    assert (said.status, queued(site)) == (64, []) and "--mode is one of" in said.err


def test_nothing_is_asked_of_reports_where_no_option_says_so(call, site: Path) -> None:
    call(["alice"])
    entry, _ = one(site)
    assert (entry.envelope.ret, entry.envelope.envid) == ("", "")
    assert not entry.envelope.requiretls
    assert entry.job.recipients[0].notify == ""


def test_addresses_on_the_terminal_hold_no_control_characters(call) -> None:
    said = call(["evil\x1b[2J@example.test"])
    assert said.status == 65
    assert said.err.rstrip("\n").isprintable()


def test_options_end_at_the_first_recipient(call, site: Path) -> None:
    assert call(["alice", "-v"]).status != 0
    assert call(["--", "-v@example.test"]).err.startswith("submit: <-v@example.test>: 550 5.1.1")


def test_reverse_path_name_and_verbose(call, site: Path) -> None:
    said = call(["-v", "-f", "<>", "-FAlice A.", "alice"])
    entry, body = one(site)
    assert said.out == f"Submitted & queued ({entry.envelope.id})\n"
    assert entry.envelope.reverse_path == NULL_PATH
    login = pwd.getpwuid(os.getuid()).pw_name
    assert f'\r\nFrom: "Alice A." <{login}@example.test>\r\n'.encode() in body


def test_recipients_from_the_header(call, site: Path) -> None:
    message = (
        b"To: Alice <alice@example.test>, nobody\n"
        b"Bcc: bob@example.test,\n carol\nCc: (none)\n\nhi\n"
    )
    said = call(["-t"], message)
    assert said.status == 67
    assert said.err.startswith("submit: <nobody>: 550 5.1.1")
    entry, body = one(site)
    assert recipients(entry) == ["alice@example.test", "bob@example.test", "carol@example.test"]
    assert b"bcc" not in body.lower()
    assert b"carol" not in body
    assert b"To: Alice <alice@example.test>, nobody\r\nCc: (none)\r\n" in body


def test_recipients_of_both_kinds_are_one_list(call, site: Path) -> None:
    assert call(["-t", "bob"], b"To: alice, bob\n\n").status == 0
    assert recipients(one(site)[0]) == ["bob@example.test", "alice@example.test"]


def test_a_header_without_recipients(call, site: Path) -> None:
    said = call(["-t"], b"Subject: x\n\n")
    assert (said.status, said.err) == (64, "submit: 554 5.5.1 no valid recipients\n")


def test_bcc_stays_without_t(call, site: Path) -> None:
    call(["alice"], b"Bcc: bob\n\n")
    assert b"Bcc: bob\r\n" in one(site)[1]


def test_json(call, site: Path) -> None:
    said = call(["--json", "alice", "nobody"])
    answer = json.loads(said.out)
    assert (said.status, said.err, answer["error"]) == (67, "", None)
    assert answer["id"] == one(site)[0].envelope.id
    (refused,) = answer["refused"]
    assert (refused["address"], refused["code"], refused["status"]) == ("nobody", 550, "5.1.1")
    refused = json.loads(call(["--json", "nobody"]).out)
    assert refused["id"] is None


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_need_no_configuration(call, monkeypatch, arguments: list[str]) -> None:
    monkeypatch.setenv("MTA_CONFIG", "/nonexistent")
    said = call(arguments)
    assert said.status == 0
    assert "submit" in said.out


REFUSED = {
    "size": (b"A: b\n\n" + b"x" * 200_000, 65, "552 5.3.4"),
    "header size": (b"A: b\n" + b" x" * MAX_HEADER_OCTETS, 65, "552 5.3.4"),
    "fields": (b"A:\n" * 10_001 + b"\n", 65, "554 5.6.0"),
    "loop": (b"Received: x\n" * 101 + b"\n", 65, "554 5.4.6"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_messages_that_are_refused(call, site: Path, kind: str) -> None:
    message, status, text = REFUSED[kind]
    write_site(site, size="100KiB" if kind == "size" else "10MiB")
    said = call(["alice"], message)
    assert said.status == status
    assert said.err.startswith(f"submit: {text} ")
    assert queued(site) == []


def test_too_many_recipients(call, site: Path) -> None:
    write_site(site, recipients=2)
    assert call(["alice", "bob", "carol"]).status == 75
    said = call(["-t"], b"To: a, b, c\n\n")
    assert (said.status, said.err) == (75, "submit: 452 4.5.3 more than 2 recipients\n")
    assert queued(site) == []


def test_a_spool_that_cannot_be_used(call, site: Path) -> None:
    (site / "spool").write_text("a file in the way")
    said = call(["alice"])
    assert said.status == 75
    assert said.err.startswith("submit: ")
    assert said.err.count("\n") == 1


def _refusal(code: int, status: str) -> tuple[str, Outcome]:
    return "x", Outcome(Reply(code, status, ""))


@pytest.mark.parametrize(
    ("ident", "refusals", "status"),
    [
        ("1", [(451, "4.3.0")], 69),  # 75 would have the good ones sent twice
        ("", [(451, "4.3.0")], 75),
        ("", [(550, "5.1.1"), (451, "4.3.0")], 75),
        ("1", [(451, "4.3.0"), (550, "5.1.2")], 68),
        ("1", [(501, "5.1.3"), (550, "5.1.1")], 65),
        ("", [(550, "5.7.1")], 69),
        ("1", [], 0),
    ],
)
def test_the_exit_status_of_refused_addresses(
    ident: str, refusals: list[tuple[int, str]], status: int
) -> None:
    assert submit._status(ident, [_refusal(*r) for r in refusals], None) == status


def test_reverse_paths() -> None:
    assert submit.reverse_path(None, ALICE) == ALICE
    assert submit.reverse_path("", ALICE) == NULL_PATH
    assert submit.reverse_path("<bob@X.test>", ALICE) == Mailbox("bob", "x.test")
    assert submit.reverse_path("bob", ALICE) == Mailbox("bob", "example.test")
    with pytest.raises(UsageError, match="reverse-path"):
        submit.reverse_path("bob@", ALICE)


def test_the_caller_is_not_who_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "NAME", "HOME"):
        monkeypatch.setenv(name, "mallory")
    assert caller() == Caller(os.getuid(), pwd.getpwuid(os.getuid()).pw_name)


def submission(door: Door, submitted: bool = True, path: object = ALICE) -> Submission:
    terms = Terms(path, WHO, submitted=submitted)
    return Submission(door, terms, [door.verify("alice")])


def feed(message: Submission, parts: Iterator[bytes] | list[bytes]) -> str:
    for part in parts:
        message.feed(part)
    return message.finish()


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    lines=st.lists(
        st.sampled_from([b"", b"a", b".", b"To: x", b"\xff\x00", b"x" * 300]), max_size=9
    ),
    cuts=st.lists(st.integers(0, 900), max_size=6),
    crlf=st.booleans(),
)
def test_m1_any_split_gives_what_came(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int], crlf: bool
) -> None:
    folder = tmp_path_factory.mktemp("m1")
    body = b"".join(line + b"\n" for line in lines)
    text = WHOLE + b"\n" + body
    octets = text.replace(b"\n", b"\r\n") if crlf else text
    places = [0, *sorted(min(n, len(octets)) for n in cuts), len(octets)]
    feed(submission(make_door(folder), submitted=False), [octets[a:b] for a, b in pairwise(places)])
    _, stored = one(folder)
    trace, field, rest = stored.replace(b"\r\n", b"\n").partition(b"\nFrom: ")
    assert field + rest == b"\n" + text
    assert trace.startswith(b"Received: by ")
    assert trace.count(b"\n") == 1


def test_submitted_messages_get_nothing_but_the_trace(tmp_path: Path) -> None:
    feed(submission(make_door(tmp_path)), [b"Subject: x\n\n"])
    _, body = one(tmp_path)
    assert body.split(b"\r\n")[2:] == [b"Subject: x", b"", b""]


@pytest.mark.parametrize(
    ("octets", "rest"),
    [(b"", b"\r\n\r\n"), (b"\n", b"\r\n\r\n"), (b"just text", b"\r\n\r\njust text\r\n")],
)
def test_messages_without_a_header(tmp_path: Path, octets: bytes, rest: bytes) -> None:
    feed(submission(make_door(tmp_path), submitted=False), [octets])
    _, body = one(tmp_path)
    assert body.endswith(b"\r\nFrom: alice@example.test" + rest)


def test_a_lone_carriage_return_at_the_very_end(tmp_path: Path) -> None:
    feed(submission(make_door(tmp_path)), [b"A: b\n\nx\n\r"])
    assert one(tmp_path)[1].endswith(b"A: b\r\n\r\nx\r\n\r\n")


def test_the_author_of_a_message_with_the_null_path(tmp_path: Path) -> None:
    feed(submission(make_door(tmp_path), submitted=False, path=NULL_PATH), [b""])
    assert b"\r\nFrom: alice@example.test\r\n" in one(tmp_path)[1]


def test_m2_a_message_over_the_limit_is_given_up_at_once(tmp_path: Path) -> None:
    door = make_door(tmp_path, size="300KiB")
    message = submission(door)
    with pytest.raises(RefusedError):
        for _ in range(6):
            message.feed(b"x" * 65536)
    assert list((tmp_path / "spool" / "journal").iterdir()) == []


def test_m2_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = make_door(tmp_path)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(door.spool.fs, "sync", fail)
    with pytest.raises(SpoolError, match="sync"):
        feed(submission(door), [b"\n"])
    monkeypatch.undo()
    assert queued(tmp_path) == []


def test_a_large_message_streams(tmp_path: Path) -> None:
    piece = b"0123456789abcde\n" * 4096
    door = make_door(tmp_path, size="20MiB")
    feed(submission(door), iter([b"Subject: large\n\n", *[piece] * 100]))
    entry, body = one(tmp_path)
    assert body.endswith(b"Subject: large\r\n\r\n" + piece.replace(b"\n", b"\r\n") * 100)
    assert entry.envelope.size == len(body)


@pytest.mark.skipif(not email_data(), reason="this interpreter has no test_email/data")
def test_every_message_of_the_email_package(tmp_path: Path) -> None:
    """The spool holds the fields and the body byte for byte, and the documented additions."""
    door = make_door(tmp_path)
    sent = {}
    for path in email_data():
        if path.suffix == ".txt":
            octets = path.read_bytes()
            message = submission(door, submitted=False)
            sent[feed(message, [octets[:100], octets[100:]])] = (path.name, octets)
    found = {entry.envelope.id: body for entry, body in queued(tmp_path)}
    assert set(found) == set(sent)
    for ident, (name, octets) in sent.items():
        text = octets.replace(b"\r\n", b"\n")
        lines = text.split(b"\n")
        kept = found[ident].replace(b"\r\n", b"\n").split(b"\n", 2)[2]  # without the trace
        for start in (b"Message-ID: <%s@" % ident.encode(), b"Date: ", b"From: alice@example.test"):
            for line in kept.split(b"\n"):
                if line.startswith(start) and line not in lines:
                    kept = kept.replace(line + b"\n", b"", 1)
        if text.startswith(b"From "):
            text = text.split(b"\n", 1)[1]
        if not text.endswith(b"\n"):
            text += b"\n"
        if name in WITHOUT_EMPTY_LINE:
            at = text.index(WITHOUT_EMPTY_LINE[name])
            text = text[:at] + b"\n" + text[at:]
        assert kept == text, name


# Where our empty line comes: before these words.
WITHOUT_EMPTY_LINE = {"msg_19.txt": b"Send Ppp", "msg_35.txt": b"counter to"}
