"""What a person may type: no word, however strange, in any option or argument is a defect of ours.

Each command is run in this process with every option and argument that takes a value, and
each of those is given words that are too long, empty, no text, or that name a path.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from mta import checkque, cleanque, cli, hoststat, sendmail, submit
from mta.deliver import program as deliver
from mta.errors import EX_SOFTWARE, EX_TEMPFAIL, LINE_LIMIT
from mta.listing import jobs
from mta.smtpd import program as smtpd
from mta.spool.spool import Spool
from tests.queued import accept, new_config

LONG = "x" * 300
STRANGE = (
    "", ".", "/", "../../x", "-", "@", "new\nline", "\x01\x7f", "\udcff\udcfe", "9" * 5000,
    "nan", "1e400", LONG, "y" * 10_000, f"{LONG}@far.example", "b\udcff@far.example",
    "0000000000000000." + "9" * 5000,
)  # fmt: skip

# What else each command needs; "{}" is where the strange word goes.
FILTER = tuple(
    f"--{name} {{}}"
    for name in (
        "id", "recipient", "sender", "host", "channel", "queue", "older", "newer", "larger",
        "smaller", "reason", "class", "state",
    )
)  # fmt: skip
CONTROL = ("{}", "--queue {}", "--all --text {}", "--all --limit {}")
LINES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("release", "requeue", "delete", "return", "bounce"), CONTROL),
    "hold": (*CONTROL, *FILTER),
    "reroute": (*CONTROL, "--all --to {}", "--all --next-hop {}", "--all --to smtp --next-hop {}"),
    **dict.fromkeys(("check", "reload", "status", "suspended"), ()),
    "daemons": ("{}", "--wait {}", "--start {}", "--stop {}", "--run {}"),
    "failures": ("--hours {}",),
    "host": (
        "{}", "list {}", "revive {}", "bury {}", "bury --for {} far.example",
        "list --channel {}", "revive --channel {} far.example", "bury --channel {} far.example",
    ),
    "password": ("--file {} ann", "--scheme {} ann", "{}"),
    "queue": ("--queue {}", "--host {}"),
    "resume": ("--host {}", "--domain {}", "--channel {}", "--queue {}", "--sender {}"),
    "suspend": (
        "--host {}", "--domain {}", "--channel {}", "--queue {}", "--sender {}",
        "--host far.example --until {}", "--host far.example --for {}",
        "--host far.example --reason {}",
    ),
    "route": ("{}",),
    "tail": ("--once -n {}",),
    "trace": ("{}",),
    "why": ("{}", "--all {}"),
}  # fmt: skip

ALONE: dict[str, tuple[Callable[[], object], str]] = {
    "submit": (submit.main, "{}|-f{} a|-F{} a|-N{} a|-R{} a|-V{} a|--class {} a|--mode {} a"),
    "sendmail": (
        sendmail.main,
        "{}|" + "|".join(f"-{letter}{{}} a" for letter in "BFNORVbefhopqr"),
    ),
    "mailq": (sendmail.mailq, "{}|-C{}"),
    "newaliases": (sendmail.newaliases, "{}|-C{}"),
    "runq": (sendmail.runq, "{}|-C{}"),
    "hoststat": (hoststat.hoststat, "{}|-C{}"),
    "purgestat": (hoststat.purgestat, "{}|-C{}"),
    "checkque": (checkque.main, "{}|-t{}|-c{}"),
    "cleanque": (cleanque.main, "{}"),
    "smtpd": (smtpd.main, "x{}|-V{}|--workers {} x"),
    "deliver": (deliver.main, "{}|-c{}|-l{}|-m{}|-o{}|-t{}|-T{}|-V{}|-w {}"),
}
GOOD = {0, 1, 64, 65, 67, 68, 78}
ALSO = {"daemons": 3, "password": EX_TEMPFAIL}  # none runs; a file that cannot be written


class House:
    """An installation with two jobs, and what a command did in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
        self.config = new_config(root)
        self.spool = Spool.open(self.config.spool)
        accept(self.spool, "bob@far.example", "ann@near.example")
        self._patch, self._capfd = monkeypatch, capfd
        monkeypatch.setenv("MTA_CONFIG", self.config.path)
        monkeypatch.setattr("os._exit", sys.exit)
        (root / "here" / "a").mkdir(parents=True)
        monkeypatch.chdir(root / "here" / "a")

    def run(self, call: Callable[[], object], words: list[str]) -> tuple[object, str]:
        """Return the status of a command, and all that it wrote, as UTF-8 locales have it."""
        self._capfd.readouterr()
        with self._patch.context() as patch:
            patch.setattr("sys.argv", words)
            patch.setattr("sys.stdin", io.StringIO("secret\n"))
            out = io.TextIOWrapper(io.BytesIO(), "utf-8")
            err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            try:
                status = call()
            except SystemExit as ended:
                status = ended.code
        said = ""
        for stream in (out, err):
            stream.seek(0)
            said += stream.read()
        return status, said + "".join(self._capfd.readouterr())


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> House:
    return House(tmp_path, monkeypatch, capfd)


def check(house: House, call: Callable[[], object], head: list[str], line: str) -> None:
    for word in STRANGE:
        words = [*head, *[part.replace("{}", word) for part in line.split(" ")]]
        status, said = house.run(call, words)
        about = f"{line!r} with {word[:40]!a}: {status}, {said[:300]!a}"
        assert status in GOOD or status == ALSO.get(head[-1]), about
        assert all(c.isprintable() or c in "\n\t" for c in said), about
        assert max(map(len, said.split("\n"))) <= 2 * LINE_LIMIT, about
        if status == 64:
            assert said, about


@pytest.mark.parametrize("name", sorted(LINES))
def test_no_word_is_too_strange_for_a_command_of_mta(name: str, house: House) -> None:
    once = "--once " if name == "tail" else ""
    for line in (*LINES[name], f"{once}--config {{}}"):
        check(house, cli.main, ["mta", name], line)
    left = len(list(jobs(house.spool)))
    assert left == 2 or name in ("delete", "return", "bounce", "reroute")


@pytest.mark.parametrize("name", sorted(ALONE))
def test_no_word_is_too_strange_for_a_program(name: str, house: House) -> None:
    main, lines = ALONE[name]
    for line in (*lines.split("|"), "--config {}"):
        check(house, main, [name], line)


def test_each_option_and_argument_of_mta_is_tried() -> None:
    assert set(cli.mta.commands) - set(LINES) == {"up", "demo"}  # which know --config alone
    for name, lines in LINES.items():
        tried = (*lines, *FILTER) if lines[:1] == CONTROL[:1] else lines
        for parameter in cli.mta.commands[name].params:
            if isinstance(parameter, click.Argument):
                ends = [line.partition("{}")[0].split(" ")[-2:-1] for line in tried if "{}" in line]
                assert any(not end or end[0][:1] != "-" for end in ends), name
            elif not parameter.is_flag and "--config" not in parameter.opts:
                assert any(f"{parameter.opts[0]} {{}}" in line for line in tried), parameter.opts


def test_a_queue_that_is_not_there_is_said_to_be_none(house: House) -> None:
    for name in ("hold", "queue", "suspend", "resume"):
        for word in (LONG, "local2", ""):
            status, said = house.run(cli.main, ["mta", name, "--queue", word])
            assert (status, said) == (64, f"mta: no queue is called {word[:60]!r}\n")
    assert house.run(cli.main, ["mta", "queue", "--queue", "local"])[0] == 0
    os.mkdir(f"{house.config.spool}/q.old")  # of a channel that is no more
    assert house.run(cli.main, ["mta", "hold", "--queue", "old"])[0] == 1


@pytest.mark.parametrize("words", ["mta up", "mta demo", "mta status", *ALONE])
def test_a_config_without_a_name_is_none_and_not_the_next_one(words: str, house: House) -> None:
    name, *rest = words.split()
    main = cli.main if name == "mta" else ALONE[name][0]
    to = ["bob@far.example"] if name in ("submit", "sendmail") else []
    status, said = house.run(main, [name, *rest, "--config", "", *to])
    assert status == 64 and said.endswith(": --config needs a file\n") and said.count("\n") == 1


@pytest.mark.parametrize("call", [checkque.main, cli.main, deliver.main, smtpd.main])
def test_what_the_system_refuses_is_a_line_and_75(
    call, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/there")

    for module in (checkque, deliver, smtpd, cli):
        monkeypatch.setattr(module, "load_config", refuse)
    words = ["mta", "status"] if call is cli.main else ["x"]
    status, said = house.run(call, words)
    assert status == EX_TEMPFAIL != EX_SOFTWARE
    assert said.endswith(": [Errno 13] Permission denied: '/there'\n") and said.count("\n") == 1
