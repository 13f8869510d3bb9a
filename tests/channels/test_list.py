from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mta.channels import list as list_channel
from mta.channels.list import MemberError, read_members

from mta.errors import ConfigError
from mta.types import Mailbox, Recipient
from tests.channels.local_harness import Harness

STAFF = Mailbox("Staff", "lists.test")
BODY = b"Subject: x\r\n\r\nhello\r\n"

# Stands for submit: --protocol answers each address by its name, one-shot notes and accepts.
SUBMIT = r"""
if [ "$1" = --protocol ]; then
  echo run >> DIR/verified
  while read -r word rest; do
    case "$word $rest" in
      from*) echo "250 2.1.0 ok";;
      to\ bad*) echo "550 5.1.1 no such user";;
      to\ slow*) echo "451 4.4.3 ask again";;
      to*) echo "250 2.1.5 ok";;
      *) echo "250 2.0.0 ok";;
    esac
  done
  exit 0
fi
[ -e DIR/full ] && { echo "submit: the spool is full" >&2; exit 75; }
for word; do printf '%s ' "$word"; done >> DIR/arguments
echo >> DIR/arguments
cat > DIR/input
echo "Submitted & queued (1ab)"
"""


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "submit").write_text(SUBMIT.replace("DIR", str(tmp_path)))
    (tmp_path / "lists").mkdir()
    return tmp_path


def harness(lists: Path, **options: str) -> Harness:
    return Harness(
        list_channel.open_program,
        members=f"{lists}/lists/{{list}}",
        submit=("/bin/sh", f"{lists}/submit"),
        **options,
    )


def members(lists: Path, text: str) -> None:
    (lists / "lists" / "staff").write_text(text)


def submissions(lists: Path) -> list[str]:
    path = lists / "arguments"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_the_message_goes_to_the_members_from_the_owner(lists: Path) -> None:
    members(lists, "# staff\nann@x.test\n\nben@y.test  # the second\nann@x.test\n")
    outcome = harness(lists).one(BODY, STAFF)
    assert (outcome.reply.code, outcome.reply.text) == (250, "sent to 2 members")
    assert submissions(lists) == [
        "--submitted -v -f owner-staff@lists.test -- ann@x.test ben@y.test "
    ]
    assert (lists / "input").read_bytes() == (
        b"Delivered-To: Staff@lists.test\nList-Id: <staff.lists.test>\nSubject: x\n\nhello\n"
    )


def test_members_are_written_to_without_the_authors_dsn_parameters(lists: Path) -> None:
    members(lists, "ann@x.test\n")
    person = Recipient(0, STAFF, "", None, "SUCCESS,FAILURE", "rfc822;staff@lists.test")
    assert harness(lists).one(BODY, person, ret="FULL", envid="E1").reply.code == 250
    assert submissions(lists) == ["--submitted -v -f owner-staff@lists.test -- ann@x.test "]


def test_what_needs_tls_needs_it_for_the_members(lists: Path) -> None:
    members(lists, "ann@x.test\n")
    harness(lists).one(BODY, STAFF, requiretls=True)
    (line,) = submissions(lists)
    assert line == "--submitted -v --requiretls -f owner-staff@lists.test -- ann@x.test "


def test_a_binary_body_is_nothing_for_a_list(lists: Path) -> None:
    members(lists, "ann@x.test\n")
    outcome = harness(lists).one(BODY, STAFF, binary=True)
    assert (outcome.reply.code, outcome.reply.status) == (554, "5.6.3")
    assert submissions(lists) == []


def test_owner_and_batches_are_options_and_a_list_id_is_kept(lists: Path) -> None:
    members(lists, "".join([f"m{n}@x.test\n" for n in range(5)]))
    local = harness(lists, owner="{list}-admin@x.test", batch="2")
    assert local.one(b"List-ID: <other>\r\n" + BODY, STAFF).reply.code == 250
    assert [line.split()[3] for line in submissions(lists)] == ["staff-admin@x.test"] * 3
    assert [len(line.split(" -- ")[1].split()) for line in submissions(lists)] == [2, 2, 1]
    assert b"List-Id: <staff" not in (lists / "input").read_bytes()


def test_i1_one_member_that_must_wait_makes_all_wait(lists: Path) -> None:
    members(lists, "ann@x.test\nslow@x.test\n")
    outcome = harness(lists, batch="1").one(BODY, STAFF)
    assert outcome.reply.transient
    assert "slow@x.test: 451 4.4.3" in outcome.reply.text
    assert submissions(lists) == []


def test_i2_a_submit_that_fails_is_a_deferral(lists: Path) -> None:
    members(lists, "ann@x.test\n")
    (lists / "full").touch()
    outcome = harness(lists).one(BODY, STAFF)
    assert outcome.reply.transient
    assert "the spool is full" in outcome.reply.text


def test_i2_no_submit_at_all_is_a_deferral(lists: Path) -> None:
    members(lists, "ann@x.test\n")
    (lists / "submit").write_text("echo sorry; exit 1\n")
    assert harness(lists).one(BODY, STAFF).reply.transient


def test_members_refused_for_good_are_named_and_the_others_get_it(lists: Path) -> None:
    members(lists, "bad@x.test\nann@x.test\n")
    outcome = harness(lists).one(BODY, STAFF)
    assert outcome.reply.text == "sent to 1 members; refused for good: bad@x.test"
    members(lists, "bad@x.test\n")
    assert harness(lists).one(BODY, STAFF).reply.permanent
    assert len(submissions(lists)) == 1


def test_i3_a_message_that_went_through_is_refused(lists: Path) -> None:
    members(lists, "ann@x.test\n")
    outcome = harness(lists).one(b"Delivered-To: staff@lists.test\r\n" + BODY, STAFF)
    assert (outcome.reply.code, outcome.reply.status) == (554, "5.4.6")
    assert submissions(lists) == []


def test_a_list_that_is_not_there_or_empty(lists: Path) -> None:
    outcome = harness(lists).one(BODY, STAFF)
    assert (outcome.reply.code, outcome.reply.status) == (550, "5.1.1")
    members(lists, "# nobody yet\n")
    empty = harness(lists).one(BODY, STAFF)
    assert (empty.reply.code, "no members" in empty.reply.text) == (250, True)
    (lists / "lists" / "staff").unlink()
    (lists / "lists").rmdir()
    assert harness(lists).one(BODY, STAFF).reply.transient


@pytest.mark.parametrize("name", ["../submit", "a/b", "", ".hidden", "a..b", "-x"])
def test_a_name_that_leaves_the_directory_is_no_list(lists: Path, name: str) -> None:
    outcome = harness(lists).one(BODY, Mailbox(name, "lists.test"))
    assert (outcome.reply.code, outcome.reply.status) == (550, "5.1.1")


@pytest.mark.parametrize(
    "line",
    ["two words@x", "-option@x", "nobody", "<a@b>", "a@b, c@d", "a@b@c", "\x07a@b", "|/bin/x"],
)
def test_a_line_that_is_no_address_is_named(lists: Path, line: str) -> None:
    members(lists, f"ann@x.test\n{line}\n")
    outcome = harness(lists).one(BODY, STAFF)
    assert outcome.reply.transient
    assert "staff:2: not an address" in outcome.reply.text


@given(st.binary(max_size=80))
def test_any_member_file_gives_addresses_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "members"
    path.write_bytes(octets)
    try:
        for member in read_members(str(path)):
            assert "@" in member
            assert member[0] != "-"
            assert not set(member) & set("\r\n\t ,<>\0")
    except MemberError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"members": "/x/{list}"},
        {"members": "relative", "submit": "/bin/submit"},
        {"members": "/x", "submit": "/bin/submit", "batch": "many"},
    ],
)
def test_wrong_options_are_named(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="channel channel"):
        Harness(list_channel.open_program, **options)
