from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.submission import Caller
from mta.submit_protocol import MAX_LINE, Conversation, serve
from tests.inlet import make_door, queued, recipients

WHO = Caller(1234, "alice")


@pytest.fixture
def talk(tmp_path: Path) -> Callable[[bytes], list[str]]:
    conversation = Conversation(make_door(tmp_path), WHO)
    return lambda octets: "".join(conversation.feed(octets)).split("\n")[:-1]


def test_a_message_for_many(talk: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    replies = talk(
        b"from owner@example.test\nTO <alice@example.test>\nto nobody\nto bob\n"
        b"data\nSubject: x\n\n..two\n...\n.\nquit\n"
    )
    assert replies[:2] == ["250 2.1.0 <owner@example.test> ok", "250 2.1.5 <alice@example.test> ok"]
    assert replies[2].startswith("550 5.1.1 ")
    assert replies[3] == "250 2.1.5 <bob@example.test> ok"
    ((entry, body),) = queued(tmp_path)
    assert replies[4:] == [f"250 2.0.0 Submitted & queued ({entry.envelope.id})", "221 2.0.0 bye"]
    assert recipients(entry) == ["alice@example.test", "bob@example.test"]
    assert str(entry.envelope.reverse_path) == "owner@example.test"
    assert body.endswith(b"\r\n\r\n.two\r\n..\r\n")


def test_many_messages_and_one_segment(talk: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    for _ in range(5):
        assert talk(b"to alice\ndata\n\n.\n")[1].startswith("250 2.0.0 Submitted")
    assert len(list((tmp_path / "spool" / "journal").iterdir())) == 1
    assert len(queued(tmp_path)) == 5


def test_each_message_begins_anew(talk: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    talk(b"options submitted\nfrom <>\nto alice\ndata\nSubject: 1\n\n.\n")
    assert talk(b"data\nx\n.\n") == ["554 5.5.1 no valid recipients"]
    talk(b"to bob\ndata\nSubject: 2\n\n.\n")
    (first, one), (second, two) = queued(tmp_path)
    assert str(first.envelope.reverse_path) == ""
    assert str(second.envelope.reverse_path) == "alice@example.test"
    assert b"Message-ID" not in one
    assert b"Message-ID" in two


def test_options_ask_for_reports(talk: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    talk(b"options notify=never ret=HDRS envid=E1 submitted\nto alice\ndata\nA: b\n\n.\n")
    talk(b"to bob\ndata\nA: b\n\n.\n")
    (first, text), (second, _) = queued(tmp_path)
    assert (first.envelope.ret, first.envelope.envid) == ("HDRS", "E1")
    assert first.job.recipients[0].notify == "NEVER"
    assert b"Message-ID" not in text
    assert (second.envelope.ret, second.envelope.envid) == ("", "")
    assert second.job.recipients[0].notify == ""


def test_a_message_error_swallows_the_text(tmp_path: Path) -> None:
    conversation = Conversation(make_door(tmp_path, size="100KiB"), WHO)
    text = b"to alice\ndata\n\n" + b"quit\n" * 40_000 + b".\nto bob\ndata\n\nok\n.\n"
    replies = "".join(conversation.feed(text)).split("\n")
    assert replies[1].startswith("552 5.3.4 ")
    assert replies[2].startswith("250 2.1.5 <bob")
    assert replies[3].startswith("250 2.0.0 ")
    ((entry, _),) = queued(tmp_path)
    assert recipients(entry) == ["bob@example.test"]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"", "500 5.5.2 "),
        (b"helo x", "500 5.5.2 "),
        (b"to", "501 5.1.3 "),
        (b"to a b@c", "501 5.1.3 "),
        (b"to a@\x1b[2J", "501 5.1.3 "),
        (b"from", "501 5.1.7 "),
        (b"from a b", "501 5.1.7 "),
        (b"from a@b\rc", "501 5.1.7 "),
        (b"options quickly", "504 5.5.4 "),
        (b"options submitted=yes", "504 5.5.4 "),
        (b"options notify", "504 5.5.4 "),
        (b"options notify=sometimes", "501 5.5.4 "),
        (b"options ret=", "501 5.5.4 "),
        (b"options envid=\xc3\xbc", "501 5.5.4 "),
        (b"abort", "250 2.0.0 "),
        (b"to \xff", "500 5.5.2 "),
        (b"to " + b"x" * MAX_LINE, "500 5.5.2 "),
    ],
)
def test_lines_that_are_refused_lose_nothing(
    talk: Callable[[bytes], list[str]], line: bytes, reply: str
) -> None:
    (said,) = talk(line + b"\n")
    assert said.startswith(reply)
    assert said.isprintable()
    assert talk(b"to alice\r\n") == ["250 2.1.5 <alice@example.test> ok"]


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    conversation = Conversation(make_door(tmp_path), WHO)
    for _ in range(100):
        assert list(conversation.feed(b"x" * 65536)) == []
    assert len(conversation._line) <= MAX_LINE
    assert next(iter(conversation.feed(b"\n"))).startswith("500 5.5.2 ")
    assert list(conversation.feed(b"x" * (MAX_LINE + 1))) == []
    (said,) = conversation.feed(b"to alice\nto bob\n")
    assert [line[:3] for line in said.split("\n")] == ["500", "250", ""]


def test_the_reverse_path_is_given_once_and_abort_forgets(
    talk: Callable[[bytes], list[str]],
) -> None:
    assert talk(b"from <>\nfrom <>\nabort\nfrom <>\n") == [
        "250 2.1.0 <> ok",
        "503 5.5.1 the reverse-path was given already",
        "250 2.0.0 forgotten",
        "250 2.1.0 <> ok",
    ]


def test_too_many_recipients(tmp_path: Path) -> None:
    conversation = Conversation(make_door(tmp_path, recipients=2), WHO)
    said = "".join(conversation.feed(b"to alice\nto nobody\nto bob\nto carol\ndata\n\n.\n")).split(
        "\n"
    )
    assert said[3].startswith("452 4.5.3 ")
    assert said[4].startswith("250 2.0.0 ")
    assert recipients(queued(tmp_path)[0][0]) == ["alice@example.test", "bob@example.test"]


SCRIPT = (
    b"from o@example.test\nto alice\nto x y\noptions submitted\n"
    b"data\nA: b\n\nx\r\r\n..dot\nend\n.\n"
    b"to nobody\ndata\nlost\n.\nbad\nto bob\r\ndata\r\n\r\n.\r\nquit\nto late\n"
)


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(cuts=st.lists(st.integers(0, len(SCRIPT)), max_size=12))
def test_p1_any_split_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("p1")
    conversation = Conversation(make_door(folder), WHO)
    said = ""
    for a, b in pairwise([0, *sorted(cuts), len(SCRIPT)]):
        said += "".join(conversation.feed(SCRIPT[a:b]))
    codes = [line.split(" ")[0] for line in said.split("\n")[:-1]]
    assert codes == ["250", "250", "501", "250", "250", "550", "554", "500", "250", "250", "221"]
    assert conversation.over
    bodies = [body for _, body in queued(folder)]
    assert bodies[0].endswith(b"A: b\r\n\r\nx\r\n.dot\r\nend\r\n")
    assert len(bodies) == 2


def test_p2_one_reply_for_each(talk: Callable[[bytes], list[str]]) -> None:
    lines = [b"to alice", b"to bob", b"nonsense", b"options", b"data"]
    assert len(talk(b"\n".join(lines) + b"\n")) == 4
    assert len(talk(b"text\n.\n")) == 1


def test_replies_are_written_in_batches(tmp_path: Path) -> None:
    written: list[str] = []
    chunks = [b"to alice\nto bob\n", b"data\n\nhalf", b" a line\n.\n"]
    assert serve(make_door(tmp_path), WHO, iter(chunks), written.append) == 0
    assert [text.count("\n") for text in written if text] == [2, 1]


def test_many_replies_are_not_kept(tmp_path: Path) -> None:
    conversation = Conversation(make_door(tmp_path), WHO)
    parts = list(conversation.feed(b"?\n" * 20_000))
    assert sum(part.count("\n") for part in parts) == 20_000
    assert max(map(len, parts)) < 100_000


def test_the_end_of_input_between_messages(tmp_path: Path) -> None:
    assert serve(make_door(tmp_path), WHO, iter([b"to alice\n"]), lambda text: None) == 0
    assert queued(tmp_path) == []


def test_the_end_of_input_inside_a_text_accepts_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    chunks = iter([b"to alice\ndata\n", b"x" * 300_000, b"\n."])
    assert serve(make_door(tmp_path), WHO, chunks, said.append) == 65
    assert said[-1].startswith("451 4.3.0 ")
    assert queued(tmp_path) == []
    assert list((tmp_path / "spool" / "journal").iterdir()) == []


def test_p3_messages_of_one_batch_share_a_sync_before_their_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = make_door(tmp_path)
    events: list[str] = []
    sync = door.spool.fs.sync
    monkeypatch.setattr(door.spool.fs, "sync", lambda fd: (events.append("sync"), sync(fd)))
    batch = b"to alice\ndata\n1\n.\nto bob\ndata\n2\n.\n"
    assert serve(door, WHO, iter([batch, b"abort\n", batch]), events.append) == 0
    kinds = [event if event == "sync" else event.count("Submitted") for event in events]
    assert kinds == ["sync", 2, 0, "sync", 2, 0]
    assert len(queued(tmp_path)) == 4


@pytest.mark.parametrize("call", ["sync", "write"])
def test_p3_a_failing_disk_breaks_every_promise_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    door = make_door(tmp_path)
    conversation = Conversation(door, WHO)
    calls = 0
    real = getattr(door.spool.fs, call)

    def fail(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == (1 if call == "sync" else 3):  # the segment's head and one message before
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(door.spool.fs, call, fail)
    said = "".join(conversation.feed(b"to alice\ndata\n\n.\nto nobody\nto bob\ndata\n\n.\nabort\n"))
    assert [line[:3] for line in said.split("\n")] == ["250", "451", "550", "250", "451", "250", ""]
    assert queued(tmp_path) == []


def test_a_disk_that_fails_costs_that_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = make_door(tmp_path)
    conversation = Conversation(door, WHO)

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    said = "".join(conversation.feed(b"to alice\nto alice\nto alice\ndata\n\n.\n"))
    assert said.count("250 2.0.0") == 1
    with monkeypatch.context() as broken:
        broken.setattr(door.spool.fs, "sync", fail)
        said = "".join(conversation.feed(b"to alice\ndata\n\n.\n"))
    assert "\n451 4.3.0 " in said
    assert "250 2.0.0" in "".join(conversation.feed(b"to bob\ndata\n\n.\n"))
    assert [recipients(entry) for entry, _ in queued(tmp_path)] == [
        ["alice@example.test"],
        ["bob@example.test"],
    ]
