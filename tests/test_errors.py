"""The exceptions: each has its sysexits status, and none is forgotten in the table."""

from __future__ import annotations

import os

import pytest

from mta import errors
from mta.errors import EXIT_CODES, LINE_LIMIT, PosthouseError, exit_code, spelt

OURS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, PosthouseError)
]


def test_every_exception_is_in_the_table() -> None:
    assert set(EXIT_CODES) == set(OURS) - {PosthouseError}


@pytest.mark.parametrize("kind", OURS)
def test_exit_codes_are_of_sysexits(kind: type[PosthouseError]) -> None:
    assert 64 <= exit_code(kind("message")) <= 78
    assert str(kind("message")) == "message"


def test_the_statuses_that_scripts_rely_on() -> None:
    shown = {kind.__name__: code for kind, code in EXIT_CODES.items()}
    assert shown["ConfigError"] == 78
    assert shown["SpoolError"] == 75
    assert shown["UsageError"] == 64
    assert shown["LocalProtocolError"] == 70
    assert exit_code(PosthouseError("x")) == 70


def test_what_a_program_says_is_printable_and_no_line_is_endless() -> None:
    assert spelt("mta", PosthouseError("a.yaml:3: no")) == "mta: a.yaml:3: no"
    assert spelt("mta", "one\ntwo\x1b[31m\udcff") == "mta: one\nmta: two?[31m?"
    assert spelt("mta", "x" * 10_000) == f"mta: {'x' * LINE_LIMIT}..."
    assert spelt("", "as it is") == "as it is"


def test_the_numbers_are_the_systems() -> None:
    ours = {name: value for name, value in vars(errors).items() if name.startswith("EX_")}
    assert len(ours) >= 8
    for name, value in ours.items():
        assert getattr(os, name) == value


def test_everything_public_is_listed() -> None:
    public = {k.__name__ for k in OURS} | {n for n in vars(errors) if n.startswith("EX_")}
    assert set(errors.__all__) == public | {"EXIT_CODES", "exit_code", "spelt"}
