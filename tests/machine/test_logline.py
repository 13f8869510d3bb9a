"""The text of a line: one line whatever the fields hold, Postfix's figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.machine.logline import LEVELS, TEXT, printable, seconds

ANY = st.text(max_size=30)


@given(ANY)
def test_g1_a_line_has_no_control_character(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert len(line) == len(text)
    assert all(a in (b, "?") for a, b in zip(line, text, strict=True))


BRACKETS = st.text("<>a@", max_size=8)


@given(sender=BRACKETS, to=BRACKETS, original=BRACKETS)
def test_g2_an_address_cannot_end_its_brackets(sender: str, to: str, original: str) -> None:
    queued = {"id": "X", "from": sender, "size": 1, "recipients": 1, "origin": "uid=0"}
    attempt = {
        "id": "X", "program": "smtp", "to": to, "original": original, "relay": "", "delay": 0,
        "delays": (0, 0, 0, 0), "state": "delivered", "code": 250, "status": "2.0.0", "text": "ok",
    }  # fmt: skip
    lines = [*TEXT["queued"][1](queued), *TEXT["attempt"][1](attempt)]
    assert [text.count("<") for _, text in lines] == [1, 1, 2]
    assert [text.count(">") for _, text in lines] == [1, 1, 2]


@given(path=BRACKETS, to=BRACKETS, helo=BRACKETS, stage=st.sampled_from(["RCPT", "MAIL", "DATA"]))
def test_g2_a_refused_client_cannot_end_them_either(
    path: str, to: str, helo: str, stage: str
) -> None:
    refused = {
        "stage": stage, "client": "x[192.0.2.1]", "code": 550, "status": "5.7.0", "text": "no",
        "from": path, "to": to, "protocol": "ESMTP", "helo": helo,
    }  # fmt: skip
    ((_, text),) = TEXT["rejected"][1](refused)
    assert text.count("<") == text.count(">") == (4 if helo else 3)


@pytest.mark.parametrize(
    ("delay", "text"),
    [
        (0, "0"),
        (0.004, "0"),
        (0.05, "0.05"),
        (0.314, "0.31"),
        (0.5, "0.5"),
        (1, "1"),
        (4.21, "4.2"),
        (10, "10"),
        (37.4, "37"),
        (600, "600"),
        (86400, "86400"),
    ],
)
def test_seconds_are_written_as_postfix_does(delay: float, text: str) -> None:
    assert seconds(delay) == text


def test_levels_of_events_are_levels() -> None:
    assert all(0 <= level < len(LEVELS) for level, _ in TEXT.values())
