from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.accept import Door, RefusedError
from mta.machine import wake
from mta.route.expanded import EXPANDED
from mta.types import NULL_PATH, Mailbox, Wishes
from tests.inlet import make_door, one, queued, recipients

TEXT = b"Subject: x\r\n\r\nhello\r\n"
ALICE, BOB = Mailbox("alice", "example.test"), Mailbox("bob", "example.test")


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return make_door(tmp_path)


def send(door: Door, addresses: list[str], body: bytes = TEXT) -> str:
    draft = door.begin()
    draft.write(body)
    return door.commit(draft, [door.verify(a) for a in addresses], ALICE, Wishes("test"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=300))
def test_b1_every_text_gets_an_answer(door: Door, text: str) -> None:
    routed = door.verify(text)
    if routed.outcome is None:
        assert routed.targets
    else:
        assert not routed.outcome.reply.positive
        assert str(routed.outcome.reply).isprintable()


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("", 501, "5.1.3"),
        ("a b@example.test", 501, "5.1.3"),
        ("alice@exa mple.test", 501, "5.1.3"),
        ("alice@\r\nRCPT TO:<x@y>", 501, "5.1.3"),
        ("|/bin/sh", 501, "5.1.3"),
        ("nobody@example.test", 550, "5.1.1"),
        ("nobody", 550, "5.1.1"),
        ("alice@unheard.test", 550, "5.1.2"),
        ("alice@mx.example.test", 550, "5.1.2"),
    ],
)
def test_bad_addresses_are_refused_with_the_reason(
    door: Door, text: str, code: int, status: str
) -> None:
    outcome = door.verify(text).outcome
    if text == "|/bin/sh":
        assert outcome is not None  # never a program: an odd local part that nobody has
        return
    assert outcome is not None
    assert (outcome.reply.code, outcome.reply.status) == (code, status)


def test_an_address_without_domain_is_local(door: Door) -> None:
    assert door.verify("alice").mailbox == ALICE
    assert door.verify("<alice@EXAMPLE.test>").mailbox == ALICE


def test_a_message_is_queued_once_for_each_place(door: Door, tmp_path: Path) -> None:
    ident = send(door, ["alice", "everyone", "alice@example.test", "nobody", "x@a.remote.test"])
    found = queued(tmp_path)
    assert [recipients(entry) for entry, _ in found] == [
        ["alice@example.test", "bob@example.test"],
        ["x@a.remote.test"],
    ]
    for entry, body in found:
        assert (entry.envelope.id, entry.envelope.origin, body) == (ident, "test", TEXT)
        assert entry.envelope.reverse_path == ALICE
        assert not entry.envelope.smtputf8
    assert found[0][0].job.recipients[1].original == Mailbox("everyone", "example.test")


def test_b2_no_good_recipient_no_message(door: Door, tmp_path: Path) -> None:
    for addresses in ([], ["nobody"], ["a b@c", "x@unheard.test"]):
        with pytest.raises(RefusedError) as refused:
            send(door, addresses)
        assert refused.value.outcome.reply.code == 554
    assert queued(tmp_path) == []


def test_b2_limits(tmp_path: Path) -> None:
    door = make_door(tmp_path, size="1000", recipients=2)
    send(door, ["alice", "bob", "nobody", "alice"], b"x" * 998 + b"\r\n")
    with pytest.raises(RefusedError) as refused:
        send(door, ["alice"], b"x" * 999 + b"\r\n")
    assert (refused.value.outcome.reply.code, refused.value.outcome.reply.status) == (552, "5.3.4")
    with pytest.raises(RefusedError) as refused:
        send(door, ["alice", "bob", "carol"])
    assert (refused.value.outcome.reply.code, refused.value.outcome.reply.status) == (452, "4.5.3")
    assert len(queued(tmp_path)) == 1


def test_b2_a_large_draft_that_is_refused_leaves_no_segment(tmp_path: Path) -> None:
    door = make_door(tmp_path, size="1000")
    with pytest.raises(RefusedError):
        send(door, ["alice"], b"x" * 300_000 + b"\r\n")
    assert list((tmp_path / "spool" / "journal").iterdir()) == []


def test_addresses_beyond_ascii_ask_for_smtputf8(door: Door, tmp_path: Path) -> None:
    send(door, ["grüße@remote.test"], b"Subject: \xc3\xbc\r\n\r\n")
    entry, _ = one(tmp_path)
    assert entry.envelope.smtputf8
    assert entry.envelope.eight_bit


def test_a_header_beyond_ascii_does_not(door: Door, tmp_path: Path) -> None:
    send(door, ["alice"], b"Subject: \xc3\xbc\r\n\r\n")
    assert not one(tmp_path)[0].envelope.smtputf8


def test_the_null_path(door: Door, tmp_path: Path) -> None:
    draft = door.begin()
    draft.write(TEXT)
    door.commit(draft, [door.verify("alice")], NULL_PATH)
    assert one(tmp_path)[0].envelope.reverse_path == NULL_PATH


def test_what_was_asked_of_dsns_goes_with_what_an_alias_makes(door: Door, tmp_path: Path) -> None:
    draft = door.begin()
    draft.write(TEXT)
    everyone = Mailbox("everyone", "example.test")
    door.commit(
        draft,
        [door.verify("everyone"), door.verify("x@a.remote.test")],
        ALICE,
        Wishes(ret="FULL", envid="QQ 1", requiretls=True, binary=True),
        dsn={everyone: ("SUCCESS", "rfc822;everyone@example.test")},
    )
    here, mark, there = [entry for entry, _ in queued(tmp_path)]
    for entry in (here, there, mark):
        envelope = entry.envelope
        assert (envelope.ret, envelope.envid) == ("FULL", "QQ 1")
        assert envelope.requiretls
        assert envelope.binary
    asked = {(r.notify, r.orcpt) for r in here.job.recipients}
    assert asked == {("NEVER", "rfc822;everyone@example.test")}
    (told,) = mark.job.recipients
    assert (told.mailbox, told.action) == (everyone, EXPANDED)
    assert (told.notify, told.orcpt) == ("SUCCESS", "rfc822;everyone@example.test")
    assert mark.job.reverse_path == ALICE
    assert [(r.notify, r.orcpt) for r in there.job.recipients] == [("", "")]


def test_jobs_are_made_for_writers_of_other_kinds(door: Door) -> None:
    draft = door.begin()
    (job,) = door.jobs(draft, [door.verify("alice")], ALICE, {ALICE: ("NEVER", "")})
    assert job.recipients[0].notify == "NEVER"
    with pytest.raises(RefusedError, match="no valid recipients"):
        door.jobs(draft, [door.verify("nobody")], ALICE)


def test_intake_is_woken_after_the_message_is_durable(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    sync = door.spool.fs.sync
    monkeypatch.setattr(door.spool.fs, "sync", lambda fd: (seen.append("synced"), sync(fd)))

    def rung(runtime: str, segment: str, offset: int) -> None:
        size = (tmp_path / "spool/journal" / segment).stat().st_size
        seen.append((runtime, offset == size, len(queued(tmp_path))))

    monkeypatch.setattr(wake, "wake_intake", rung)
    send(door, ["alice"])
    assert seen == ["synced", (str(tmp_path / "run"), True, 1)]
