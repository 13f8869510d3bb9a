from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mta.channels import pipe as pipe_channel

from mta.channel.records import Told
from mta.errors import ConfigError
from mta.types import Mailbox
from tests.channels.driver import ALICE, Program, recipients
from tests.channels.local_harness import Harness

BODY = b"Subject: x\r\n\r\n.\r\nFrom here\r\nlast"


@pytest.fixture
def out() -> Generator[Path, None, None]:
    """A file that whoever the command runs as can write."""
    fd, name = tempfile.mkstemp()
    os.fchmod(fd, 0o666)
    os.close(fd)
    yield Path(name)
    os.unlink(name)


def pipe(*command: str, **options: str) -> Harness:
    return Harness(pipe_channel.open_program, command=command, **options)


def sh(code: str, **options: str) -> Harness:
    return pipe("/bin/sh", "-c", code, "sh", "{recipient}", **options)


@pytest.mark.parametrize(
    ("crlf", "expected"), [("no", BODY.replace(b"\r\n", b"\n")), ("yes", BODY)]
)
def test_p1_the_program_gets_exactly_the_body(out: Path, crlf: str, expected: bytes) -> None:
    assert sh(f"cat > {out}", crlf=crlf).one(BODY, ALICE).reply.code == 250
    assert out.read_bytes() == expected


def test_p1_a_binary_body_is_passed_as_it_is(out: Path) -> None:
    binary = b"A: b\r\n\r\n\x00\n\r.\r\n\xff"
    assert sh(f"cat > {out}").one(binary, ALICE, binary=True).reply.code == 250
    assert out.read_bytes() == binary


def test_p2_each_recipient_is_a_run_of_its_own(out: Path) -> None:
    people = [ALICE, Mailbox("bob", "x.test"), Mailbox("carol", "x.test")]
    code = f'cat >> {out}; echo "$1" >> {out}; case "$1" in bob*) exit 67; esac'
    outcomes = sh(code).deliver(b"hi\r\n", *people)
    assert [outcomes[n].reply.code for n in range(3)] == [250, 550, 250]
    assert out.read_text() == "hi\nalice@example.test\nhi\nbob@x.test\nhi\ncarol@x.test\n"


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_p3_no_address_becomes_an_option(local: str) -> None:
    names = {"recipient": f"{local}@x", "sender": local, "user": local}
    command = ("/bin/prog", "{recipient}", "to={sender}", "-f{sender}", "{user}")
    try:
        argv = pipe_channel.arguments(command, names)
    except ValueError:
        assert local.startswith("-") or "\0" in local
        return
    assert [word[:1] == "-" for word in argv] == [False, False, False, True, False]
    assert argv[2] == "to=" + local


def test_p3_a_placeholder_in_an_address_is_not_filled_again() -> None:
    names = {"recipient": "{id}@x", "id": "secret"}
    assert pipe_channel.arguments(("/p", "{recipient}"), names) == ["/p", "{id}@x"]
    outcome = pipe("/bin/echo", "{recipient}").one(BODY, Mailbox("-rf", "x.test"))
    assert (outcome.reply.code, outcome.reply.status) == (550, "5.1.3")


def test_no_shell_looks_at_anything(out: Path) -> None:
    evil = Mailbox(f"$(id)`id`;id>{out} ", "x.test")
    outcome = pipe("/bin/echo", "to {recipient} of {sender}", "*").one(BODY, evil)
    assert outcome.reply.code == 250
    assert "$(id)`id`" in outcome.reply.text
    assert outcome.reply.text.endswith("of writer@away.test *")
    assert out.read_bytes() == b""


@pytest.mark.parametrize("status", [0, 1, 64, 65, 67, 69, 75, 77, 78, 126, 127])
def test_the_exit_status_decides(status: int) -> None:
    from mta.machine.sysexits import SYSEXITS

    reply = sh(f"echo first; echo why >&2; exit {status}").one(BODY, ALICE).reply
    assert reply.code == SYSEXITS.get(status, (451,))[0]
    assert reply.text.endswith(": why")


def test_a_signal_and_a_time_limit_are_deferrals() -> None:
    assert "signal 9" in sh("kill -9 $$").one(BODY, ALICE).reply.text
    late = sh("sleep 1000", timeout="0.3").one(BODY, ALICE)
    assert (late.reply.code, "time limit" in late.reply.text) == (451, True)


def test_a_program_that_reads_nothing_is_not_a_trouble() -> None:
    assert pipe("/bin/true").one(b"x" * 1_000_000, ALICE).reply.code == 250


def test_a_program_that_is_not_there_is_the_channels_trouble() -> None:
    outcome = pipe("/no/such/program").one(BODY, ALICE)
    assert (outcome.reply.code, outcome.scope) == (451, "channel")


def test_environment_and_descriptors_are_clean(out: Path) -> None:
    os.environ["SECRET_OF_OURS"] = "x"
    try:
        assert sh(f"(env; pwd; ls /proc/self/fd) > {out}").one(BODY, ALICE).reply.code == 250
    finally:
        del os.environ["SECRET_OF_OURS"]
    lines = out.read_text().split("\n")
    assert lines[-6:] == ["/", "0", "1", "2", "3", ""]  # 3 is what ls reads
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "LANG", "SENDER", "RECIPIENT", "USER", "EXTENSION", "DOMAIN", "MESSAGE_ID",
        "HOSTNAME",
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"command": ("relative",)},
        {"command": ("{recipient}",)},
        {"command": ("/bin/cat",), "timeout": "soon"},
    ],
)
def test_wrong_options_are_named(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="channel channel"):
        Harness(pipe_channel.open_program, **options)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_as_root_a_command_is_nobodys_or_whose_the_option_says() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    assert sh("id -u").one(BODY, ALICE).reply.text.endswith(f": {nobody}")
    assert sh("id -u", user="root").one(BODY, ALICE).reply.text.endswith(": 0")
    with pytest.raises(ConfigError, match="no account"):
        sh("id -u", user="no such user")


def test_the_real_program_runs_many_commands_at_once(tmp_path: Path, out: Path) -> None:
    # Each command waits until all four have begun: one after another would never end.
    gate = f"echo >> {out}; until [ $(wc -l < {out}) -ge 4 ]; do sleep 0.02; done"
    command = [("command", word) for word in ("/bin/sh", "-c", gate)]
    program = Program("pipe", [*command, ("timeout", "30")], jobs=4)
    assert program.answer.jobs == 4
    for _ in range(4):
        program.send(BODY, recipients(ALICE))
    events = program.finish()
    told = [event for event in events if isinstance(event, Told)]
    assert [event.outcome.reply.code for event in told] == [250] * 4
    assert program.close() == 0
