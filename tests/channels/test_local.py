from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Generator
from pathlib import Path

import pytest

from mta.machine.run import Account
from mta.types import Mailbox, Recipient
from tests.channels import local_harness as harness
from tests.channels.driver import ALICE, NULL_PATH, Program

BODY = b"Subject: x\r\n\r\nhello\r\nFrom here\r\n"
TEXT = b"Subject: x\n\nhello\nFrom here\n"
HEAD = b"Return-Path: <writer@away.test>\nDelivered-To: alice@example.test\n"
ROOT = os.geteuid() == 0


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "mail"
    path.mkdir()
    return path


@pytest.fixture
def local(mail: Path) -> harness.Harness:
    return harness.Harness(mailbox=f"{mail}/{{user}}/", users=("alice", "bob"))


def messages(root: Path) -> list[bytes]:
    return [p.read_bytes() for p in sorted(root.rglob("new/*"))]


def test_a_message_reaches_the_maildir_with_the_two_fields(
    local: harness.Harness, mail: Path
) -> None:
    outcome = local.one(BODY, ALICE)
    assert (outcome.reply.code, outcome.scope) == (250, "recipient")
    assert messages(mail / "alice") == [HEAD + TEXT]


BINARY = b"A: b\r\n\r\n\x00\n\r.\r\n\xff"


def test_a_binary_body_is_kept_octet_for_octet(local: harness.Harness, mail: Path) -> None:
    assert local.one(BINARY, ALICE, binary=True).reply.code == 250
    assert messages(mail / "alice") == [HEAD.replace(b"\n", b"\r\n") + BINARY]


def test_a_binary_body_is_nothing_for_an_mbox(mail: Path) -> None:
    local = harness.Harness(
        mailbox=f"{mail}/{{user}}.mbox", mailbox_kind="mbox", users=("alice", "bob")
    )
    for person in (ALICE, Recipient(0, ALICE, f"/{mail}/file")):
        outcome = local.one(BINARY, person, binary=True)
        assert (outcome.reply.code, outcome.reply.status) == (554, "5.6.3")
    assert list(mail.iterdir()) == []


def test_the_null_path_and_a_sub_address_are_kept(local: harness.Harness, mail: Path) -> None:
    assert local.one(BODY, Mailbox("Alice+x", "example.test"), NULL_PATH).reply.code == 250
    head = b"Return-Path: <>\nDelivered-To: Alice+x@example.test\n"
    assert messages(mail / "alice") == [head + TEXT]


def test_each_recipient_has_its_own_outcome(local: harness.Harness, mail: Path) -> None:
    people = [ALICE, Mailbox("carol", "example.test"), Mailbox("bob", "example.test")]
    outcomes = local.deliver(BODY, *people)
    assert [outcomes[n].reply.code for n in range(3)] == [250, 550, 250]
    assert outcomes[1].reply.status == "5.1.1"
    assert len(messages(mail)) == 2


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../alice", "a/b", ".hidden", "-rf", "a\tb", "a b", "x" * 65, "a..b"]
)
def test_k1_a_name_that_is_no_user_touches_nothing(mail: Path, name: str) -> None:
    local = harness.Harness(mailbox=f"{mail}/{{user}}/", users=(name, "alice"))
    outcome = local.one(BODY, Mailbox(name, "example.test"))
    assert (outcome.reply.code, outcome.reply.status) == (550, "5.1.1")
    assert list(mail.iterdir()) == []


def test_a_missing_mail_root_is_made(tmp_path: Path) -> None:
    local = harness.Harness(mailbox=f"{tmp_path}/mail/{{user}}/", users=("alice",))
    assert local.one(BODY, ALICE).reply.code == 250
    assert len(list((tmp_path / "mail" / "alice" / "new").iterdir())) == 1


def test_k2_a_mail_root_whose_disk_is_missing_is_a_deferral(tmp_path: Path) -> None:
    local = harness.Harness(mailbox=f"{tmp_path}/gone/mail/{{user}}/", users=("alice",))
    outcome = local.one(BODY, ALICE)
    assert outcome.reply.transient
    assert "gone" in outcome.reply.text


def test_k2_a_file_where_the_maildir_should_be_is_a_deferral(
    local: harness.Harness, mail: Path
) -> None:
    (mail / "alice").write_bytes(b"")
    assert local.one(BODY, ALICE).reply.transient


def test_an_mbox_gets_the_message_quoted(mail: Path) -> None:
    local = harness.Harness(mailbox_kind="mbox", mailbox=f"{mail}/{{user}}", users=("alice",))
    assert local.one(BODY, ALICE).reply.code == 250
    first, rest = (mail / "alice").read_bytes().split(b"\n", 1)
    assert first.startswith(b"From writer@away.test ")
    assert rest == HEAD + TEXT.replace(b"\nFrom here", b"\n>From here") + b"\n"


def test_an_mbox_that_stays_locked_is_a_deferral(
    mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mta.machine.actions.PATIENCE", 0.2)
    local = harness.Harness(mailbox_kind="mbox", mailbox=f"{mail}/{{user}}", users=("alice",))
    (mail / "alice.lock").write_bytes(b"")
    outcome = local.one(BODY, ALICE)
    assert (outcome.reply.code, outcome.reply.status) == (451, "4.2.0")
    assert "locked" in outcome.reply.text


def action(text: str) -> Recipient:
    return Recipient(0, Mailbox("staff", "example.test"), text)


@pytest.fixture
def open_to_all() -> Generator[Path, None, None]:
    """A directory that nobody can write into too, as actions of root's are nobody's."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_a_program_of_an_alias_gets_words_environment_and_body(
    local: harness.Harness, open_to_all: Path
) -> None:
    out = open_to_all / "out"
    command = f"|/bin/sh -c 'cat > {out}; env >> {out}; pwd >> {out}' \"two words\" $HOME"
    assert local.one(BODY, action(command)).reply.code == 250
    text = out.read_bytes()
    head = b"Return-Path: <writer@away.test>\nDelivered-To: staff@example.test\n"
    assert text.startswith(head + TEXT)
    lines = text.removeprefix(head + TEXT).decode().split("\n")
    assert "SENDER=writer@away.test" in lines
    assert "RECIPIENT=staff@example.test" in lines
    assert "MESSAGE_ID=1ab" in lines
    assert "/" in lines
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names <= {
        "PATH", "LANG", "HOME", "USER", "LOGNAME", "SHELL", "SENDER", "RECIPIENT", "PWD", "_",
        "ORIGINAL_RECIPIENT", "EXTENSION", "LOCAL", "DOMAIN", "MESSAGE_ID", "HOSTNAME",
        "OLDPWD", "SHLVL",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("|/bin/sh -c 'exit 67'", 550),
        ("|/bin/sh -c 'exit 75'", 451),
        ("|/bin/sh -c 'exit 99'", 451),
        ("|relative words", 451),
        ("|/bin/sh 'open quote", 451),
        ("|/no/such/program", 451),
        ("/no/such/directory/file", 451),
        ("/dev/null", 250),
        ("/dev/zero", 451),
    ],
)
def test_what_becomes_of_an_action(local: harness.Harness, command: str, code: int) -> None:
    assert local.one(BODY, action(command)).reply.code == code


def test_a_file_of_an_alias_is_an_mbox(local: harness.Harness, open_to_all: Path) -> None:
    for _ in range(2):
        assert local.one(BODY, action(f"{open_to_all}/archive")).reply.code == 250
    assert (open_to_all / "archive").read_bytes().count(b"From writer@away.test ") == 2


def test_a_directory_of_an_alias_is_a_maildir(local: harness.Harness, open_to_all: Path) -> None:
    assert local.one(BODY, action(f"{open_to_all}/box/")).reply.code == 250
    assert len(messages(open_to_all / "box")) == 1


def test_an_action_that_comes_around_again_is_a_loop(local: harness.Harness) -> None:
    body = b"Delivered-To: staff@example.test\r\n" + BODY
    outcome = local.one(body, action("|/bin/cat"))
    assert (outcome.reply.code, outcome.reply.status) == (554, "5.4.6")


class TestForward:
    """With an account of the system that is this test's: its home is a directory here."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        home = tmp_path / "home"
        home.mkdir(mode=0o755)
        return home

    @pytest.fixture
    def local(self, mail: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> harness.Harness:
        monkeypatch.setattr("os.geteuid", os.getuid)
        who = Account("alice", 4242, 4242, (), str(home), "/bin/sh")
        monkeypatch.setattr(
            "mta.channels.local.account", lambda name: who if name == "alice" else None
        )
        monkeypatch.setattr("os.geteuid", lambda: 4242)  # we are this user, not root
        script = harness.submit_script(home.parent)
        return harness.Harness(
            mailbox=f"{mail}/{{user}}/", users=(), submit=("/bin/sh", str(script))
        )

    def write(self, home: Path, text: str) -> None:
        (home / ".forward").write_text(text)
        if ROOT:
            os.chown(home / ".forward", 4242, 4242)
            os.chown(home, 4242, 4242)

    def test_no_file_is_the_own_mailbox(self, local: harness.Harness, mail: Path) -> None:
        assert local.one(BODY, ALICE).reply.code == 250
        assert messages(mail / "alice") == [HEAD + TEXT]

    def test_all_targets_are_done(self, local: harness.Harness, home: Path, mail: Path) -> None:
        self.write(
            home, f"\\alice, bob@x.test, carol\n\"|/bin/sh -c 'cat > {home}/piped'\"\n{home}/file"
        )
        assert local.one(BODY, ALICE).reply.code == 250
        assert messages(mail / "alice") == [HEAD + TEXT]
        assert (home / "piped").read_bytes() == HEAD + TEXT
        assert b">From here" in (home / "file").read_bytes()
        arguments, text = harness.submitted(home.parent)
        assert arguments == [
            "--submitted", "-v", "-f", "writer@away.test", "--", "bob@x.test", "carol@example.test",
        ]  # fmt: skip
        assert text == b"Delivered-To: alice@example.test\n" + TEXT

    @pytest.mark.parametrize(
        ("notify", "handed_on"),
        [("SUCCESS,DELAY", "DELAY"), ("SUCCESS", "never"), ("NEVER", "NEVER"), ("", "")],
    )
    def test_what_was_asked_of_reports_goes_on(
        self, local: harness.Harness, home: Path, notify: str, handed_on: str
    ) -> None:
        self.write(home, "bob@x.test")
        alice = Recipient(0, ALICE, "", None, notify)
        assert local.one(BODY, alice, ret="HDRS", envid="E 1").reply.code == 250
        asked = ["-N", handed_on] if notify else []
        arguments, _ = harness.submitted(home.parent)
        assert arguments[4:] == [*asked, "-R", "HDRS", "-V", "E 1", "--", "bob@x.test"]
        local.one(BODY, alice, envid="\xfc", requiretls=True)
        assert "-V" not in harness.submitted(home.parent)[0]
        assert "--requiretls" in harness.submitted(home.parent)[0]

    def test_a_binary_body_is_not_forwarded(
        self, local: harness.Harness, home: Path, mail: Path
    ) -> None:
        self.write(home, f"\\alice, bob@x.test\n\"|/bin/sh -c 'cat > {home}/piped'\"\n")
        outcome = local.one(BINARY, ALICE, binary=True)
        assert outcome.reply.status == "5.6.3"
        assert not (home.parent / "arguments").exists()
        assert (home / "piped").read_bytes() == HEAD.replace(b"\n", b"\r\n") + BINARY

    def test_a_bad_file_is_a_deferral(self, local: harness.Harness, home: Path, mail: Path) -> None:
        self.write(home, ":include:/etc/passwd")
        outcome = local.one(BODY, ALICE)
        assert outcome.reply.transient
        assert ".forward" in outcome.reply.text
        assert messages(mail) == []

    def test_mail_that_comes_around_again_is_a_loop(
        self, local: harness.Harness, home: Path
    ) -> None:
        self.write(home, "bob@x.test")
        outcome = local.one(b"Delivered-To: alice@example.test\r\n" + BODY, ALICE)
        assert (outcome.reply.code, outcome.reply.status) == (554, "5.4.6")

    @pytest.mark.parametrize(
        ("said", "status", "code"),
        [
            ("submit: <bob@x.test>: 550 5.1.1 no", 67, 554),
            ("submit: <bob@x.test>: 451 4.3.0 later\\nSubmitted & queued (1ab)", 0, 451),
            ("submit: the spool is full", 75, 451),
            ("", 0, 451),
        ],
    )
    def test_what_submit_says_of_an_address(
        self, local: harness.Harness, home: Path, said: str, status: int, code: int
    ) -> None:
        self.write(home, "bob@x.test")
        harness.submit_script(home.parent, said, status)
        assert local.one(BODY, ALICE).reply.code == code

    def test_a_deferral_counts_more_than_a_failure(
        self, local: harness.Harness, home: Path
    ) -> None:
        self.write(home, "\"|/bin/sh -c 'exit 67'\"\n\"|/bin/sh -c 'exit 75'\"\n\\alice")
        assert local.one(BODY, ALICE).reply.code == 451


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can deliver as another")
class TestAsRoot:
    def test_k3_a_directory_of_another_is_written_by_its_owner(self, mail: Path) -> None:
        mail.chmod(0o755)
        for parent in mail.parents[:4]:
            parent.chmod(parent.stat().st_mode | 0o111)
        (mail / "alice").mkdir()
        os.chown(mail / "alice", 12345, 54321)
        local = harness.Harness(mailbox=f"{mail}/{{user}}/", users=("alice",))
        outcome = local.one(BODY, ALICE)
        assert outcome.reply.code == 250, outcome
        (message,) = (mail / "alice" / "new").iterdir()
        found = message.stat()
        assert (found.st_uid, found.st_gid) == (12345, 54321)
        assert stat.S_IMODE(found.st_mode) == 0o600

    def test_k3_actions_are_nobodys(self, local: harness.Harness, open_to_all: Path) -> None:
        nobody = pwd.getpwnam("nobody").pw_uid
        command = f"|/bin/sh -c 'id -u > {open_to_all}/id; ls /proc/self/fd > {open_to_all}/fds'"
        assert local.one(BODY, action(command)).reply.code == 250
        assert (open_to_all / "id").read_text() == f"{nobody}\n"
        assert (open_to_all / "fds").read_text().split() == ["0", "1", "2", "3"]
        assert local.one(BODY, action(f"{open_to_all}/file")).reply.code == 250
        assert (open_to_all / "file").stat().st_uid == nobody

    def test_k3_nothing_is_delivered_as_root(self, mail: Path) -> None:
        local = harness.Harness(mailbox=f"{mail}/{{user}}/", users=())
        outcome = local.one(BODY, Mailbox("root", "example.test"))
        assert outcome.reply.transient
        assert "as root" in outcome.reply.text
        assert list(mail.iterdir()) == []


def test_the_real_program_serves_many_jobs(mail: Path) -> None:
    options = [("mailbox", f"{mail}/{{user}}/"), ("users", "alice"), ("users", "bob")]
    program = Program("local", options, jobs=4)
    assert program.answer.settles == "each"
    for _ in range(3):
        for _ in range(program.answer.jobs):
            program.send(BODY, [Recipient(0, ALICE)])
        program.finish()
    assert program.close() == 0
    assert messages(mail / "alice") == [HEAD + TEXT] * 12
