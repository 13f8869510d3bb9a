from __future__ import annotations

import os
import string
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import sendmail, submit
from mta.arguments import ATTACHED, FLAG, VALUE, read_options
from mta.errors import UsageError
from mta.sendmail import IGNORED, MODES, SHORT
from mta.spool.spool import Spool
from tests.inlet import one, queued, recipients, write_site

MESSAGE = b"To: alice\nSubject: x\n\nbefore\n.\nafter\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("MTA_CONFIG", str(write_site(tmp_path / "site")))
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "site"


@pytest.fixture
def call(capfd, monkeypatch, site):
    def run(*arguments: str, message: bytes = MESSAGE) -> tuple[int, str, str]:
        monkeypatch.setattr(sendmail, "read_input", lambda fd: iter([message]))
        status = submit.guarded("sendmail", lambda: sendmail.run(arguments))
        return status, *capfd.readouterr()

    return run


def test_a_lone_dot_ends_the_message(call, site: Path) -> None:
    assert call("alice") == (0, "", "")
    assert one(site)[1].endswith(b"\r\n\r\nbefore\r\n")


@pytest.mark.parametrize("option", ["-i", "-oi", "-ti", "-bm -i", "-i --"])
def test_unless_told_otherwise(call, site: Path, option: str) -> None:
    assert call(*option.split(" "), "alice")[0] == 0
    assert one(site)[1].endswith(b"\r\n\r\nbefore\r\n.\r\nafter\r\n")


def test_the_command_line_of_git_send_email(call, site: Path) -> None:
    assert call("-i", "alice", "bob", message=b"From: c\nTo: x\n\n.\n") == (0, "", "")
    assert recipients(one(site)[0]) == ["alice@example.test", "bob@example.test"]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The channels of each attempt that would have been made before sendmail returned."""
    found: list[tuple[str, ...]] = []

    def note(config, ident, channels, *, aloud) -> None:
        found.append(tuple(channels))

    monkeypatch.setattr("mta.interactive.attempt", note)
    return found


def test_the_command_line_of_cron_and_php(call, site: Path, tried: list) -> None:
    assert call("-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "bob") == (0, "", "")
    entry, body = one(site)
    assert str(entry.envelope.reverse_path) == "bob@example.test"
    assert b"From: CronDaemon <bob@example.test>\r\n" in body
    assert tried == [("local",)], "cron asks for an attempt before it goes on"


@pytest.mark.parametrize(
    ("options", "mode", "attempts"),
    [
        (["-odb"], "background", []),
        (["-odi"], "queue", [("local",)]),
        (["-odq"], "queue", []),
        (["-odd"], "defer", []),
        (["-ODeliveryMode=q"], "queue", []),
        (["-odi", "-O", "deliverymode=background"], "background", []),
        (["-oi"], "", []),
    ],
)
def test_the_delivery_mode(
    call, site: Path, tried: list, options: list[str], mode: str, attempts: list
) -> None:
    assert call("-i", *options, "alice") == (0, "", "")
    assert one(site)[0].envelope.mode == mode and tried == attempts


@pytest.mark.parametrize("option", ["-odx", "-od", "-ODeliveryMode=", "-ODeliveryMode=x"])
def test_no_delivery_mode(call, site: Path, option: str) -> None:
    status, _, said = call(option, "alice")
    assert status == 64 and "-od is followed by" in said


@pytest.mark.parametrize("option", ["-f", "-r"])
@pytest.mark.parametrize("path", ["", "<>"])
def test_the_null_path(call, site: Path, option: str, path: str) -> None:
    assert call(option, path, "alice")[0] == 0
    assert str(one(site)[0].envelope.reverse_path) == ""


def test_gateway_and_verbose(call, site: Path) -> None:
    _, out, _ = call("-G", "-v", "alice")
    assert out.startswith("Submitted & queued (")
    assert b"Message-ID" not in one(site)[1]


# What an option may cost at worst, for every letter: sendmail's own, and all others.
VALUES = {"b": "m", "B": "8BITMIME", "N": "never", "R": "full", "f": "bob", "r": "bob"}


@pytest.mark.parametrize("letter", string.ascii_letters + string.digits)
def test_every_option_letter_injected(call, site: Path, letter: str) -> None:
    """No letter makes, changes or reads a file that its value names; unknown ones are refused."""
    target = Path("named").absolute()
    for arguments in (
        [f"-{letter}{target}"],
        [f"-{letter}", str(target)],
        [f"-{letter}QueueDirectory={target}"],
        ["-t", f"-{letter}{target}", "-i"],
        ["-fattacker@evil.test", f"-O{letter}={target}", f"-X{target}", "-oQ/tmp"],
    ):
        call(*arguments, "--", "alice")
        assert os.listdir(".") == []
        assert not target.exists()
    if letter not in SHORT:
        assert call(f"-{letter}", "alice")[0] == 64
    elif SHORT[letter] != FLAG and letter in IGNORED and letter != "C":
        assert call(f"-{letter}{target}", "alice") == (0, "", "")


@pytest.mark.parametrize("letter", sorted(set(SHORT) - set("CIbqv")))
def test_every_harmless_letter_submits(call, site: Path, letter: str) -> None:
    value = [VALUES.get(letter, "x")] if SHORT[letter] == VALUE else []
    assert call(f"-{letter}", *value, "alice") == (0, "", "")
    assert recipients(one(site)[0]) == ["alice@example.test"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "-C", "evil.yaml", "alice"],
        ["-t", "-Cevil.yaml", "alice"],
        ["-Cevil.yaml", "alice"],
        ["-i", "--config", "evil.yaml", "alice"],
        ["--config=evil.yaml", "alice"],
        ["-C"],
        ["--config"],
    ],
)
def test_the_configuration_is_named_first_or_not_at_all(
    call, site: Path, arguments: list[str]
) -> None:
    Path("evil.yaml").write_text("secret: [")
    status, _, err = call(*arguments)
    assert status == 64
    assert "secret" not in err
    assert queued(site) == []


@pytest.mark.parametrize("option", ["-C", "--config"])
def test_the_configuration_named_first(
    call, site: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("MTA_CONFIG", "/nonexistent")
    assert call(option, str(site / "mta.yaml"), "-i", "alice")[0] == 0
    assert len(queued(site)) == 1


@pytest.mark.parametrize("recipient", ["-X/tmp/x", "-bd", "-C/etc/passwd", "--help", "-oQ/tmp"])
def test_recipients_that_look_like_options(call, site: Path, recipient: str) -> None:
    for arguments in (["--", recipient], ["alice", recipient]):
        status, out, err = call(*arguments)
        assert (status, out) == (67, "") or status == 65
        assert err.startswith(f"sendmail: <{recipient}>: 5")


@pytest.mark.parametrize(
    "recipient", ["|/bin/sh", "/tmp/x", ":include:/etc/passwd", '"|sh"@example.test']
)
def test_programs_and_files_are_never_addresses(call, site: Path, recipient: str) -> None:
    assert call("--", recipient)[0] in (65, 67)
    assert queued(site) == []


@pytest.mark.parametrize("mode", [*(m for m in MODES if MODES[m]), "a", "z", "h", "H", "", "pp"])
def test_modes_that_are_refused(call, site: Path, mode: str) -> None:
    status, _, err = call(f"-b{mode}") if mode else call("-b", "alice")
    assert status == 64
    assert err.startswith("sendmail: -b")
    assert MODES.get(mode, "no such mode") in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["-i"], ["-BEBCDIC", "alice"], ["-Nnever,delay", "alice"], ["-Nsometimes", "alice"],
     ["-Rsome", "alice"], ["-Vä", "alice"], ["-q15m"], ["-q!Gsmtp"], ["-qGno"], ["-qR"], ["-bv"]],
)  # fmt: skip
def test_wrong_command_lines(call, site: Path, arguments: list[str]) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (64, "")
    assert err.startswith("sendmail: ")


def test_what_is_asked_of_reports_is_kept(call, site: Path) -> None:
    status, _, _ = call("-Nsuccess,failure", "-R", "hdrs", "-V", "QQ 314", "alice")
    assert status == 0
    entry, _ = one(site)
    assert (entry.envelope.ret, entry.envelope.envid) == ("HDRS", "QQ 314")
    assert entry.job.recipients[0].notify == "SUCCESS,FAILURE"


def test_bv_tells_the_way(call, site: Path) -> None:
    status, out, _ = call("-bv", "everyone", "x@remote.test")
    assert status == 0
    assert out.split("\n") == [
        "<everyone> deliverable: channel local, alice@example.test",
        "<everyone> deliverable: channel local, bob@example.test",
        "<x@remote.test> deliverable: channel smtp, x@remote.test",
        "",
    ]
    status, out, _ = call("-bv", "nobody")
    assert status == 67
    assert out.startswith("<nobody> 550 5.1.1 ")
    assert queued(site) == []


@pytest.mark.parametrize("option", ["-bi", "-I"])
def test_newaliases(call, site: Path, option: str) -> None:
    status, out, _ = call(option)
    assert status == 0
    assert out == f"{site}/aliases: 1 aliases, longest 8 bytes, 8 bytes total\n"
    (site / "aliases").write_text("broken\n")
    status, _, err = call(option)
    assert status == 78
    assert err.startswith(f"sendmail: {site}/aliases:1:")


def test_what_other_programs_do_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setitem(sys.modules, "mta.deliver.program", SimpleNamespace(main=None))
    monkeypatch.setattr(
        sendmail, "_status_of", lambda program, name, words: seen.append((name, words)) or 0
    )
    for arguments in (
        ["-bp"],
        ["-C", "f", "-bp"],
        ["-q"],
        ["--config", "f", "-qI25XDZNSF6PM001VK"],
        ["-q", "-v"],
    ):
        assert sendmail.run(arguments) == 0
    assert seen == [
        ("mailq", []),
        ("mailq", ["--config", "f"]),
        ("deliver", []),
        ("deliver", ["--config", "f", "25XDZNSF6PM001VK"]),
        ("deliver", []),
    ]


@pytest.mark.parametrize("name", ["mailq", "newaliases", "runq"])
def test_the_name_it_is_called_by(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ended = []
    monkeypatch.setattr(sendmail, "leave", ended.append)
    monkeypatch.setitem(sendmail._PROGRAMS, name, lambda arguments: (name, arguments))
    monkeypatch.setattr(sys, "argv", [f"/usr/sbin/{name}", "-v"])
    sendmail.main()
    assert ended == [(name, ["-v"])]
    for rule in ("_mailq", "_newaliases", "_runq"):
        monkeypatch.setattr(sendmail, rule, lambda arguments, rule=rule: (rule, arguments))
    getattr(sendmail, name)()
    assert ended[1] == (f"_{name}", ["-v"])


@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b".", b"a", b"\r"])).map(b"".join),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_the_dot_is_found_however_the_input_is_split(octets: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(n, len(octets)) for n in cuts), len(octets)]
    parts = [octets[a:b] for a, b in pairwise(places)]
    whole = b"".join(sendmail.until_dot(iter([octets])))
    assert b"".join(sendmail.until_dot(iter(parts))) == whole
    assert b"\n.\n" not in b"\n" + whole


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b".\nx", b""),
        (b"a\n.\nx", b"a\n"),
        (b"a\n.", b"a\n"),
        (b"a\n..\n.x\nb", b"a\n..\n.x\nb"),
        (b"a\r\n.\r\nx", b"a\n"),
        (b"", b""),
        (b"a.\n", b"a.\n"),
    ],
)
def test_what_a_dot_ends(octets: bytes, text: bytes) -> None:
    assert b"".join(sendmail.until_dot(iter([octets]))) == text


def test_nothing_is_read_after_the_dot() -> None:
    chunks = iter([b"a\n.", b"\n", b"after\n"])
    assert b"".join(sendmail.until_dot(chunks)) == b"a\n"
    assert next(chunks) == b"after\n"


KINDS = {"a": FLAG, "b": FLAG, "v": VALUE, "q": ATTACHED}


@pytest.mark.parametrize(
    ("arguments", "options", "operands"),
    [
        (["-ab", "x", "-a"], [("a", ""), ("b", "")], ["x", "-a"]),
        (["-avx", "y"], [("a", ""), ("v", "x")], ["y"]),
        (["-v", "x", "y"], [("v", "x")], ["y"]),
        (["-v", "--", "y"], [("v", "--")], ["y"]),
        (["-v", "", "y"], [("v", "")], ["y"]),
        (["-q", "x"], [("q", "")], ["x"]),
        (["-q15", "x"], [("q", "15")], ["x"]),
        (["-a", "--", "-b"], [("a", "")], ["-b"]),
        (["-", "-a"], [], ["-", "-a"]),
        (
            ["--long", "--value", "1", "--value=2", ""],
            [("long", ""), ("value", "1"), ("value", "2")],
            [""],
        ),
        ([], [], []),
    ],
)
def test_command_lines(
    arguments: list[str], options: list[tuple[str, str]], operands: list[str]
) -> None:
    long = {"long": FLAG, "value": VALUE}
    assert read_options(arguments, KINDS, long) == (options, operands)


@pytest.mark.parametrize("arguments", [["-z"], ["-az"], ["-v"], ["--x"], ["--long=1"], ["--value"]])
def test_command_lines_that_are_wrong(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="option"):
        read_options(arguments, KINDS, {"long": FLAG, "value": VALUE})


@pytest.mark.parametrize(
    ("words", "tried"),
    [
        (["-qRremote"], {"x@remote.test"}),
        (["-q!Rremote"], {"alice@example.test"}),
        (["-qSann"], {"alice@example.test"}),
        (["-q!Sann", "-qR@"], {"x@remote.test"}),
        (["-qGlocal"], {"alice@example.test"}),
        (["-qRnobody"], set()),
        (["-q!I!"], {"alice@example.test", "x@remote.test"}),
    ],
)
def test_a_queue_run_tries_what_it_selects(
    call, site: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], tried: set[str]
) -> None:
    assert call("-f", "ann@a.test", "alice")[0] == 0
    assert call("-f", "bob@b.test", "x@remote.test")[0] == 0
    given_: list[str] = []
    monkeypatch.setattr(sendmail, "_deliver", lambda words: given_.extend(words[2:]) or 0)
    assert call(*words)[0] == 0
    spool = Spool.open(str(site / "spool"))
    entries = [spool.peek(name) for key in given_ for name in spool.find(key)]
    assert {str(e.job.recipients[0].mailbox) for e in entries if e is not None} == tried
    assert all(e is not None and e.note("due") is not None for e in entries)
