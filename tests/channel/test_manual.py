"""The manual of the protocol says what the protocol does: its example and its tables are run."""

from __future__ import annotations

import re
from pathlib import Path

from mta.channel.records import FD, INLINE, Answer, Dispatch, Done, Opening, Part, Quit, Told
from mta.channel.states import JOB, SESSION
from mta.channel.talk import DeliverEnd, ProgramEnd
from mta.types import Job, Mailbox, Recipient

MANUAL = (Path(__file__).parents[2] / "man" / "channel.7").read_text()


def said() -> tuple[bytes, bytes]:
    """Return what deliver and what the program say in the example; the body has CRLF."""
    sides = {"D": b"", "P": b""}
    body = 0
    for side, text in re.findall(r"^([DP]):(?: (.*))?$", MANUAL, re.M):
        line = text.encode() + (b"\r\n" if body > 0 else b"\n")
        body -= len(line)
        if text.startswith("body "):
            body = int(text.split(" ")[2])
        sides[side] += line
        assert body <= 0 or side == "D"
    return sides["D"], sides["P"]


def test_the_example_is_a_conversation_that_both_ends_take() -> None:
    deliver_says, program_says = said()
    program = ProgramEnd()
    greeting = deliver_says.index(b"go\n") + 3
    (opening,) = program.receive(deliver_says[:greeting])
    assert isinstance(opening, Opening)
    assert opening.option("folder") == "/srv/my archive"
    hello = program.answer(Answer("each", 4, INLINE))
    dispatch, part, last = program.receive(deliver_says[greeting:])
    assert isinstance(dispatch, Dispatch)
    assert part == Part(1, b"Subject: x\r\n\r\nhello\r\n"[: dispatch.size], True)
    assert last == Quit()
    assert program_says.startswith(hello)

    deliver = DeliverEnd(
        "archive", "archive", "mx.example.test", [("folder", "/srv/my archive")], 10
    )
    assert deliver_says.startswith(deliver.opening())
    deliver.receive(hello)
    people = (
        Recipient(0, Mailbox("staff", "archive.test")),
        Recipient(1, Mailbox("nobody", "archive.test")),
    )
    job = Job(0, "archive", "archive", "archive.test", "", Mailbox("ann", "example.test"), people)
    lines = deliver.send_job(job, "1hk3v9x2", dispatch.size, 1785000000.25, people)[1]
    assert lines in deliver_says
    told = deliver.receive(program_says[len(hello) :])
    assert [type(event) for event in told] == [Told, Told, Done]


def rows(first: str) -> set[tuple[str, str, str]]:
    """Return the printed table whose first row begins with ``first``."""
    block = MANUAL[MANUAL.index(f"\n{first} ") :].partition("\n.Ed")[0]
    table = set()
    for line in block.strip("\n").split("\n"):
        left, _, to = line.partition("->")
        text = left.replace("hello (program)", "answer").replace("hello (deliver)", "hello")
        state, *words = text.split()
        table |= {(state, word, to.strip()) for word in words}
    return table


def test_the_tables_are_those_that_are_walked() -> None:
    assert rows("silent") == {(at, word, to) for (at, word), to in SESSION.items()}
    assert rows("absent") == {(at, word, to) for (at, word), to in JOB[FD].items()}
    differing = set(JOB[INLINE].items()) ^ set(JOB[FD].items())
    assert differing == {
        (("addressed", "send"), "sent"),
        (("addressed", "send"), "promised"),
        (("promised", "body"), "sent"),
    }
