"""Lints of load: every rule finds what it is for, and leaves alone what makes sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.build import build
from mta.config.lint import Facts, lint

HERE = "- {name: local, program: local, domains: $local}\n"


def said(folder: Path, more: str, channels: str = HERE, pressure: bool = True) -> list[str]:
    text = f"hostname: a.test\nchannels:\n{channels}{more}\n"
    (folder / "mta.yaml").write_text(text)

    def nothing(path: str) -> str:
        raise OSError(path)

    facts = Facts("ext4", 1, 2, lambda name: name == "root", nothing, lambda _: False, pressure)
    return [f.text for f in lint(build(str(folder / "mta.yaml"))[0], facts)]


FOUND = [
    ("load: {refuse: 8, queue_only: 12, delay: 6}", ""),
    ("load: {delay: 6}", ""),
    ("load: {refuse: 12, queue_only: 8}", "refuse (12) is not below queue_only (8)"),
    ("load: {psi: {refuse: 50, queue_only: 40}}", "load.psi: refuse (50) is not below"),
    ("load: {delay: 8, refuse: 8}", "delay (8) is not below refuse (8)"),
    ("load: {delay: 9, queue_only: 8}", "delay (9) is not below queue_only (8)"),
    ("load: {psi: {delay: 9, refuse: 8}}", "load.psi: delay (9) is not below refuse (8)"),
    ("load: {queue_factor: 100000}", "queue_factor means nothing without queue_only"),
    ("load: {queue_factor: 100000, queue_only: 8}", ""),
    ("load: {queue_factor: 0, psi: {queue_only: 40}}", ""),
]


@pytest.mark.parametrize(("more", "text"), FOUND)
def test_thresholds_that_hide_each_other(more: str, text: str, tmp_path: Path) -> None:
    found = said(tmp_path, more)
    assert any(text in each for each in found) if text else found == []


def test_a_kernel_without_pressure_is_named_only_where_it_is_asked_for(tmp_path: Path) -> None:
    more = "load: {psi: {delay: 20}}"
    assert said(tmp_path, more) == []
    assert any("tells no pressure" in each for each in said(tmp_path, more, pressure=False))
    assert said(tmp_path, "load: {delay: 20}", pressure=False) == []


LISTENS = "listen:\n- {address: '127.0.0.1:2525', service: mx}\n"
SMTP = "- {name: %s, program: smtp, queue: smtp, domains: '*', target_age: %s}\n"


@pytest.mark.parametrize(
    ("ages", "more", "text"),
    [
        (["10m"], LISTENS, ""),
        (["0"], "", ""),
        (["10m"], "", "nothing listens"),
        (["2s"], LISTENS, "target_age is below 10 s"),
        (["5d"], LISTENS, "target_age is not below fail_after"),
        (["10m", "20m"], LISTENS, "disagree on target_age"),
        (["10m", "0"], LISTENS, ""),
    ],
)
def test_ages_that_have_no_meaning(ages: list[str], more: str, text: str, tmp_path: Path) -> None:
    rows = "".join(SMTP % (f"smtp{n}", age) for n, age in enumerate(ages))
    found = said(tmp_path, more, HERE + rows)
    assert any(text in each for each in found) if text else found == []
