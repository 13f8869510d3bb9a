"""The shared tokens, with several files' worth of lanes in one process, and real ones that die."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import SpoolError
from mta.machine import tokens as module
from mta.machine.tokens import LOOK, SLOW, Tokens

HOLDER = """
import sys, time
from mta.machine.tokens import Tokens
purse = Tokens(sys.argv[1], 10, {}).purse("smtp")
purse.ask(0, 10, time.monotonic())
print(purse.may, flush=True)
time.sleep(600)
"""

RUNNER = """
import random, sys, time
from mta.machine.tokens import Tokens
tokens = Tokens(sys.argv[1], 5, {"smtp": 3})
purse, busy, log = tokens.purse(sys.argv[2]), 0, open(sys.argv[3], "ab", buffering=0)
end = time.monotonic() + float(sys.argv[4])
while time.monotonic() < end:
    purse.ask(busy, random.randrange(busy, 9), time.monotonic())
    while busy < purse.may:
        busy += 1
        log.write(b"+")
    time.sleep(random.random() / 500)
    if busy:
        busy -= 1
        log.write(b"-")
"""

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 8), st.sampled_from([0, 1, 3])),
    max_size=60,
)


@settings(deadline=None, max_examples=40)
@given(steps=STEPS)
def test_tk1_never_more_than_a_pool_has(tmp_path_factory, steps):
    runtime = str(tmp_path_factory.mktemp("tokens"))
    all_of = [Tokens(runtime, 6, {"smtp": 4}) for _ in range(4)]
    purses = [t.purse("smtp" if n % 2 else "lmtp") for n, t in enumerate(all_of)]
    busy, mono = [0] * 4, 100.0
    for who, lands, wants, wait in steps:
        busy[who] = max(0, busy[who] - lands)
        mono += wait * SLOW
        purses[who].ask(busy[who], busy[who] + wants, mono)
        busy[who] = max(busy[who], min(purses[who].may, busy[who] + wants))
        assert sum(busy) <= 6
        assert busy[1] + busy[3] <= 4
        assert all(p._have >= b for p, b in zip(purses, busy, strict=True))
    for tokens in all_of:
        tokens.close()


def test_tk1_several_processes_never_have_more_in_flight(tmp_path):
    log = tmp_path / "log"
    children = [
        subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path), channel, str(log), "2"])
        for channel in ("smtp", "smtp", "local", "list")
    ]
    assert [child.wait(60) for child in children] == [0] * 4
    signs = log.read_bytes()
    depth, deepest = 0, 0
    for sign in signs:
        depth += 1 if sign == ord("+") else -1
        deepest = max(deepest, depth)
    # What ends is noted before it is given back, what begins after it was had.
    assert deepest == 5
    assert signs.count(b"+") > 100


def test_tk2_what_a_killed_process_held_is_free_again(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "10\n"
        tokens = Tokens(str(tmp_path), 10, {})
        purse = tokens.purse("smtp")
        purse.ask(0, 10, 1000.0)
        assert purse.may == 0
        child.send_signal(signal.SIGKILL)
        child.wait()
        purse.ask(0, 10, 1000.0 + LOOK)
        assert purse.may == 10
        tokens.close()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_tk3_a_locked_file_is_waited_for_by_nobody(tmp_path):
    first, second = Tokens(str(tmp_path), 4, {}), Tokens(str(tmp_path), 4, {})
    purse = second.purse("smtp")
    assert first._lock(0)
    began = time.monotonic()
    purse.ask(0, 3, 10.0)
    assert time.monotonic() - began < 5
    assert purse.may == 0 and purse.due(10.0) == 10.0 + SLOW
    first._lock(0, module.fcntl.F_UNLCK)
    purse.ask(0, 3, 10.0 + SLOW)
    assert purse.may == 3


def test_what_is_not_used_goes_to_those_who_want_it(tmp_path):
    one, other = Tokens(str(tmp_path), 4, {}), Tokens(str(tmp_path), 4, {})
    rich, poor = one.purse("smtp"), other.purse("smtp")
    rich.ask(0, 4, 10.0)
    poor.ask(0, 4, 10.0)
    assert (rich.may, poor.may) == (4, 0)
    rich.ask(3, 8, 10.1)
    assert rich.may == 2  # starts nothing more until two of its three have landed
    poor.ask(0, 4, 10.1)
    assert poor.may == 1
    rich.ask(2, 8, 10.2)
    poor.ask(1, 4, 10.2)
    assert (rich.may, poor.may) == (2, 2)


def test_tokens_are_kept_for_a_moment_and_then_given_back(tmp_path):
    tokens, calls = Tokens(str(tmp_path), 4, {}), []
    exchange = tokens.exchange
    tokens.exchange = lambda *a: calls.append(a) or exchange(*a)
    purse = tokens.purse("smtp")
    purse.ask(0, 2, 10.0)
    purse.ask(0, 0, 10.03)
    assert purse.may == 2 and len(calls) == 1
    assert purse.due(10.03) == pytest.approx(10.05)
    purse.ask(0, 0, 10.06)
    assert purse.may == 0 and purse.due(10.06) is None


def test_a_steady_stream_of_jobs_costs_few_exchanges(tmp_path):
    tokens, calls = Tokens(str(tmp_path), 4, {}), []
    exchange = tokens.exchange
    tokens.exchange = lambda *a: calls.append(a) or exchange(*a)
    purse = tokens.purse("smtp")
    for job in range(10_000):
        purse.ask(job % 3, 3 + job % 2, 10.0 + job / 1e4)
    assert len(calls) < 60


def test_a_row_that_was_left_is_used_again(tmp_path):
    tokens = Tokens(str(tmp_path), 4, {})
    for _ in range(3):
        purse = tokens.purse("smtp")
        purse.ask(0, 4, 10.0)
        assert purse.may == 4
        purse.close()
    assert tokens._used() == 1
    tokens.close()


def test_more_lanes_than_rows_get_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 2)
    tokens = Tokens(str(tmp_path), 4, {})
    purses = [tokens.purse("smtp") for _ in range(3)]
    for purse in purses:
        purse.ask(0, 1, 10.0)
    assert [p.may for p in purses] == [1, 1, 0]
    purses[0].close()
    purses[2].ask(0, 1, 11.0)
    assert purses[2].may == 1


def test_a_file_of_garbage_is_begun_anew(tmp_path):
    (tmp_path / "tokens").write_bytes(os.urandom(500))
    purse = Tokens(str(tmp_path), 4, {}).purse("smtp")
    purse.ask(0, 9, 10.0)
    assert purse.may == 4


def test_a_file_that_cannot_be_had_is_an_error(tmp_path):
    (tmp_path / "tokens").mkdir()
    with pytest.raises(SpoolError, match="cannot use"):
        Tokens(str(tmp_path), 4, {})


def test_a_link_is_not_followed(tmp_path):
    """The directory may be another user's, and we root."""
    (tmp_path / "passwd").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tokens").symlink_to(tmp_path / "passwd")
    with pytest.raises(SpoolError):
        Tokens(str(tmp_path / "run"), 5, {})
    assert (tmp_path / "passwd").read_text() == "precious"


def test_a_full_disk_gives_no_tokens_and_ends_nobody(tmp_path, monkeypatch):
    tokens = Tokens(str(tmp_path), 5, {})

    def full(fd, data, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        purse = tokens.purse("smtp")
        purse.ask(0, 2, 0.0)
        assert purse.may == 0
    purse.ask(0, 2, 1.0)
    purse.ask(0, 2, 2.0)
    assert purse.may == 2
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        purse.close()
        tokens.close()
