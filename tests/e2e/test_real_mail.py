"""Real mail arrives byte for byte: CPython's own test messages and a patch series, four ways.

The documented additions, and nothing else: Received (Return-Path and
Delivered-To where a mailbox is written) above the header, Message-ID, Date and
From below it where they were missing.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.house import (
    LOCAL,
    House,
    Sink,
    answers,
    refused_port,
    tool,
    tool_environment,
    wait,
)

CORPUS = Path(sysconfig.get_path("stdlib"), "test", "test_email", "data")
ABOVE = {b"received", b"return-path", b"delivered-to"}
BELOW = {b"message-id", b"date", b"from"}
FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


def corpus() -> list[Path]:
    return sorted(CORPUS.glob("msg_*.txt"))


def crlf(octets: bytes) -> bytes:
    """Return ``octets`` with the line ends of the wire, and one at the end."""
    text = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    return text if text.endswith(b"\r\n") or not text else text + b"\r\n"


def split(octets: bytes) -> tuple[list[bytes], bytes]:
    """Return the header's fields, each with its folded lines, and what follows them."""
    fields: list[bytes] = []
    at = 0
    while at < len(octets):
        end = octets.find(b"\r\n", at) + 2 or len(octets)
        line = octets[at:end]
        if fields and line[:1] in (b" ", b"\t") and line != b"\r\n":
            fields[-1] += line
        elif FIELD.match(line):
            fields.append(line)
        else:
            break
        at = end
    rest = octets[at:]
    return fields, rest.removeprefix(b"\r\n")


def unmarked(octets: bytes) -> bytes:
    """Return ``octets`` without the mark of an mbox file in front: submit(8) drops it."""
    return octets.partition(b"\r\n")[2] if octets.startswith(b"From ") else octets


def name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()


def check_same(sent: bytes, got: bytes) -> None:
    """Fail unless ``got`` is ``sent`` with the documented additions."""
    given, body = split(unmarked(crlf(sent)))
    fields, arrived = split(got)
    assert arrived == body
    first = next((n for n in range(len(fields)) if fields[n:][: len(given)] == given), None)
    assert first is not None, (given, fields)
    above, below = fields[:first], fields[first + len(given) :]
    if not given:
        above, below = fields[:3], fields[3:]
        below = [field for field in fields if name(field) not in ABOVE]
        above = [field for field in fields if name(field) in ABOVE]
    assert {name(field) for field in above} <= ABOVE, above
    assert b"received" in {name(field) for field in above}
    assert {name(field) for field in below} <= BELOW, below
    had = {name(field) for field in given}
    assert not {name(field) for field in below} & had, "added though it was there"


# Each way: a house, and what arrived in it as octets with CRLF, in any order.
Way = tuple[House, str, Callable[[], list[bytes]]]


def maildir_way(new_house: Callable[..., House], new_sink: Callable[..., Sink]) -> Way:
    house = new_house()
    return house, "alice@example.test", lambda: [crlf(p.read_bytes()) for p in house.maildir()]


def mbox_way(new_house: Callable[..., House], new_sink: Callable[..., Sink]) -> Way:
    house = new_house(mailbox="mbox:mail/{user}")

    def read() -> list[bytes]:
        path = house.root / "mail" / "alice"
        text = path.read_bytes() if path.exists() else b""
        parts = re.split(rb"(?:^|(?<=\n\n))From [^\n]*\n", text)[1:]
        # each message is followed by an empty line of the mailbox's own
        return [re.sub(rb"(?m)^>(>*From )", rb"\1", part)[:-1] for part in parts]

    return house, "alice@example.test", lambda: [crlf(part) for part in read()]


def pipe_way(new_house: Callable[..., House], new_sink: Callable[..., Sink]) -> Way:
    command = "[/bin/dd, status=none, 'of=../out/{id}']"
    # a pipe of root's runs as nobody, who may not write below our temporary directory
    options = f"options: {{user: {pwd.getpwuid(os.geteuid()).pw_name}}}"
    row = f"{{name: pipe, program: pipe, domains: [pipe.test], command: {command}, {options}}}"
    house = new_house(channels=[LOCAL, row], daemons=["deliver -b -cpipe"])
    out = house.root / "out"
    out.mkdir()
    house.config.write_text(house.config.read_text().replace("../out", str(out)))
    return house, "x@pipe.test", lambda: [crlf(p.read_bytes()) for p in sorted(out.iterdir())]


def smtp_way(new_house: Callable[..., House], new_sink: Callable[..., Sink]) -> Way:
    sink = new_sink()
    row = f"{{name: smtp, program: smtp, domains: '*', relay: ['127.0.0.1:{sink.port}']}}"
    house = new_house(channels=[LOCAL, row], daemons=["deliver -b -csmtp"])
    return house, "x@far.test", lambda: [octets for _, _, octets in sink.messages]


def smtp_sink_way(new_house: Callable[..., House], new_sink: Callable[..., Sink]) -> Way:
    """Through Postfix's own sink, which writes each message to a file below a header of its own."""
    program = tool("usr/sbin/smtp-sink")
    if program is None:
        pytest.skip("smtp-sink is not installed (Debian: postfix)")
    port = refused_port()
    row = f"{{name: smtp, program: smtp, domains: '*', relay: ['127.0.0.1:{port}']}}"
    house = new_house(channels=[LOCAL, row], daemons=["deliver -b -csmtp"])
    out = house.root / "out"
    out.mkdir()
    user = ["-u", pwd.getpwuid(os.geteuid()).pw_name] if os.geteuid() == 0 else []
    command = [program, *user, "-R", str(out), "-d", "%M%S.", f"127.0.0.1:{port}", "100"]
    house.running.append(subprocess.Popen(command, env=tool_environment()))
    wait(lambda: answers(port))

    def read() -> list[bytes]:
        texts = [path.read_bytes() for path in sorted(out.iterdir())]
        whole = [text.partition(b" (UTC)\n")[2] for text in texts if text.endswith(b"\n\n")]
        return [crlf(text[:-1]) for text in whole]

    return house, "x@far.test", read


WAYS = [maildir_way, mbox_way, pipe_way, smtp_way, smtp_sink_way]


@pytest.mark.skipif(not corpus(), reason=f"this Python ships no {CORPUS}")
@pytest.mark.parametrize("make_way", WAYS)
def test_cpythons_messages_arrive_byte_for_byte(make_way, new_house, new_sink) -> None:
    sent = {path.name.encode(): path.read_bytes() for path in corpus()}
    sent = {key: octets for key, octets in sent.items() if b"\0" not in octets}
    house, address, read = make_way(new_house, new_sink)
    house.start("mta", "up")
    idents = {
        key: house.submit(octets, "-falice@example.test", address) for key, octets in sent.items()
    }
    wait(lambda: house.gone(list(idents.values())), within=60)
    arrived = {}
    for octets in read():
        found = [key for key, ident in idents.items() if b"id " + ident.encode() in octets]
        assert len(found) == 1, octets[:400]
        arrived[found[0]] = octets
    assert set(arrived) == set(sent)
    wrong = []
    for key, octets in sent.items():
        try:
            check_same(octets, arrived[key])
        except AssertionError as error:
            wrong.append(f"{key.decode()}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("make_way", WAYS)
def test_a_patch_series_sent_by_git_arrives_byte_for_byte(
    make_way, new_house, new_sink, tmp_path: Path
) -> None:
    send_email = tool("usr/lib/git-core/git-send-email")
    if send_email is None or tool("git") is None:
        pytest.skip("git send-email is not installed (Debian: git-email)")
    patches = tmp_path / "patches"
    person = {
        "GIT_AUTHOR_NAME": "A U Thor", "GIT_AUTHOR_EMAIL": "author@example.test",
        "GIT_COMMITTER_NAME": "A U Thor", "GIT_COMMITTER_EMAIL": "author@example.test",
        "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(tmp_path),
    }  # fmt: skip
    environment = {**tool_environment(), **person}
    repository = _repository(tmp_path / "repository", environment)
    made = ["git", "format-patch", "--quiet", "-o", str(patches), "--root", "HEAD"]
    subprocess.run(made, cwd=repository, env=environment, check=True)
    files = sorted(patches.iterdir())
    assert len(files) == 3
    house, address, read = make_way(new_house, new_sink)
    house.start("mta", "up")
    command = f"{house.command('sendmail')[0]} -i"
    options = [
        "--from=A U Thor <author@example.test>",
        f"--to={address}",
        "--confirm=never",
        "--quiet",
    ]
    options += ["--suppress-cc=all", "--no-thread", "--8bit-encoding=UTF-8", "--no-validate"]
    sent = subprocess.run(
        ["perl", send_email, *options, f"--sendmail-cmd={command}", *map(str, files)],
        cwd=repository,
        env={**environment, "MTA_CONFIG": str(house.config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stdout + sent.stderr
    got = wait(lambda: read() if len(read()) == len(files) else None)
    for file in files:
        fields, patch = split(unmarked(crlf(file.read_bytes())))
        subject = next(field for field in fields if name(field) == b"subject")
        (match,) = [octets for octets in got if subject in split(octets)[0]]
        assert split(match)[1] == patch
        names = [name(field) for field in split(match)[0]]
        assert len(names) == len(set(names)), names
        assert {b"from", b"to", b"subject", b"date", b"message-id", b"x-mailer"} <= set(names)


def _repository(path: Path, environment: dict[str, str]) -> Path:
    """Make a repository of three commits, one with a line of only a dot and one in UTF-8."""
    path.mkdir()
    for number, text in enumerate(("one\n", ".\n..\nFrom here\n", "grüße\n")):
        (path / "file").write_text(text)
        for command in (
            ["init", "-q"],
            ["add", "file"],
            ["commit", "-q", "-m", f"change {number}"],
        ):
            subprocess.run(["git", *command], cwd=path, env=environment, check=True)
    return path
