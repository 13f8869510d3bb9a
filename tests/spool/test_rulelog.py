"""The rules of a spool: written whole, read by all, there after any power cut."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.errors import SpoolError
from mta.policy.suspensions import WHATS, Suspension
from mta.spool import rulelog
from mta.spool.rulelog import RuleLog, _word, decode, encode, encode_end
from mta.values import replace
from tests.spool.disk import Disk, Killed, Process

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40)
NOW = 1_700_000_000.0


@st.composite
def rules(draw) -> Suspension:
    what, whom = draw(st.sampled_from(WHATS)), draw(st.sampled_from(["a.test", ".b.test", "<>"]))
    until = draw(st.sampled_from([0.0, NOW + 1.5]))
    why = " ".join(draw(TEXT).split())
    why = "".join(c if c.isprintable() else "" for c in why)
    return Suspension(what, whom, draw(TEXT), NOW, until, " ".join(why.split()), _word(what, whom))


@given(rules())
def test_b1_b2_a_line_comes_back_whole_or_not_at_all(rule: Suspension) -> None:
    line = encode(rule)
    assert decode(line) == rule and b"\n" not in line
    end = encode_end(rule.what, rule.whom, NOW, rule.by)
    assert decode(end) == (rule.what, rule.whom)
    for whole in (line, end):
        for cut in range(len(whole)):
            assert decode(whole[:cut]) is None


@given(st.binary(max_size=200))
def test_b2_whatever_a_line_holds(line: bytes) -> None:
    decode(line)
    decode(b"on host " + line + b" .")


def new(disk: Disk, fuse: int | None = None) -> tuple[Process, RuleLog]:
    process = Process(disk)
    process.fuse = fuse
    return process, RuleLog(process, lambda seconds: None)


def standing(disk: Disk) -> set[str]:
    known = new(disk)[1].read()
    return {rule.name for rule in known.rules.values()} if known is not None else set()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 25)), max_size=12),
    st.integers(0, 9999),
    st.booleans(),
)
def test_b3_what_was_said_stands_after_any_power_cut(steps, seed: int, small: bool) -> None:
    shrink_at, rulelog.SHRINK_AT = rulelog.SHRINK_AT, 100 if small else rulelog.SHRINK_AT
    disk, sure, doubtful = Disk(), dict[str, bool](), set[str]()
    try:
        for number, on, fuse in steps:
            process, log = new(disk, fuse)
            rule = Suspension("host", f"h{number}", "root", NOW)
            try:
                log.shrink(NOW)
                if on:
                    log.suspend(rule)
                else:
                    log.resume("host", rule.whom, NOW, "root")
                sure[rule.name] = on
                doubtful.discard(rule.name)
            except Killed:
                doubtful.add(rule.name)
            finally:
                process.kill()
            if seed % 3 == 0:
                disk.cut_power(Random(seed))
        disk.cut_power(Random(seed))
        found = standing(disk)
        for name, on in sure.items():
            assert name in doubtful or (name in found) == on
    finally:
        rulelog.SHRINK_AT = shrink_at


def test_b3_all_hear_of_it_once() -> None:
    disk = Disk()
    one, other = new(disk)[1], new(disk)[1]
    assert other.read() is None
    rule = Suspension(
        "sender", "ann@a.test", "root", NOW, NOW + 5, "too much", _word("sender", "ann@a.test")
    )
    one.suspend(rule)
    known = other.read()
    assert known is not None and list(known.rules.values()) == [rule] and other.read() is None
    one.suspend(replace(rule, why="much too much"))
    known = other.read()
    assert known is not None and [r.why for r in known.rules.values()] == ["much too much"]
    assert other.resume("sender", "ann@a.test", NOW, "root") and not standing(disk)
    assert not other.resume("sender", "ann@a.test", NOW, "root")


def test_b4_the_log_stays_small() -> None:
    disk = Disk()
    log = new(disk)[1]
    for number in range(2000):
        log.read()
        log.shrink(NOW)
        log.suspend(Suspension("host", f"h{number % 7}.example", "root", NOW, NOW - 1, "x" * 40))
    size = sum(len(data) for p, data in disk.paths().items() if p.startswith("rules/"))
    assert size < 2 * rulelog.SHRINK_AT


def test_a_lock_that_is_never_free_is_an_error() -> None:
    disk = Disk()
    process, log = new(disk)
    log.suspend(Suspension("host", "a", "root", NOW))
    path = next(p for p in disk.paths() if p.startswith("rules/"))
    assert process.lock(process.open(path, append=True))
    with pytest.raises(SpoolError, match="locked"):
        new(disk)[1].suspend(Suspension("host", "b", "root", NOW))


def test_b3_what_is_gone_already_is_gone_for_good() -> None:
    """Who took it back may have been killed before his sync."""
    disk = Disk()
    rule = Suspension("host", "h0", "root", NOW)
    process, log = new(disk)
    log.suspend(rule)
    process.sync = lambda fd: (_ for _ in ()).throw(Killed())  # type: ignore[method-assign]
    with pytest.raises(Killed):
        log.resume("host", "h0", NOW, "root")
    process.kill()
    assert not new(disk)[1].resume("host", "h0", NOW, "root")
    for seed in range(20):
        disk.cut_power(Random(seed))
        assert standing(disk) == set()
