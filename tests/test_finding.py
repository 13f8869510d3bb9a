"""Jobs are found by id and by address, within a time, and what was left out is told."""

from __future__ import annotations

import itertools
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mta import finding
from mta.errors import UsageError
from mta.finding import find
from mta.spool import names
from mta.spool.fs import Fs
from mta.spool.spool import Spool
from mta.types import Job, Mailbox, Recipient
from tests.queued import ALICE, accept, new_config

PEOPLE = ["bob@far.example", "carol@far.example", "dave@near.example", "alice@example.test"]
PEOPLE += ["eve@sub.far.example"]
SETTINGS = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FOLDERS = itertools.count()


def to(found):
    return [[str(r.mailbox) for r in job.entry.job.recipients] for job in found.jobs]


@SETTINGS
@given(st.lists(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True), max_size=5))
def test_fi1_every_job_of_an_address_is_found(tmp_path: Path, messages):
    folder = tmp_path / str(next(FOLDERS))
    folder.mkdir()
    config = new_config(folder)
    spool = Spool.open(config.spool)
    idents = [accept(spool, *people) for people in messages]
    for person in PEOPLE:
        mine = [i for i, people in zip(idents, messages, strict=True) if person in people]
        for everywhere in (False, True):
            found = find(config, person, everywhere=everywhere, clock=lambda: 0.0)
            assert [job.name.id for job in found.jobs] == mine
            assert all(any(found.about(r) for r, _ in job.entry.pending) for job in found.jobs)
            assert found.names_left == found.hours_left == 0
    for ident, people in zip(idents, messages, strict=True):
        said = [person for job in to(find(config, ident)) for person in job]
        assert sorted(said) == sorted(people)


def test_what_no_intake_has_taken_is_found_too(tmp_path):
    config = new_config(tmp_path)
    writer = Spool.open(config.spool).writer()
    draft = writer.begin()
    draft.write(b"x\r\n")
    people = (Recipient(0, Mailbox("bob", "far.example")),)
    ident = writer.commit(draft, [Job(0, "smtp", "smtp", "far.example", "", ALICE, people)], ALICE)
    writer.close()
    for subject in (ident, "bob@far.example"):
        (job,) = find(config, subject).jobs
        assert (job.name.id, job.untaken) == (ident, True)
    assert find(config, "carol@far.example").jobs == ()


def test_who_an_alias_stands_for_is_found_by_either_name(tmp_path):
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    writer = spool.writer()
    draft = writer.begin()
    people = (Recipient(0, ALICE, original=Mailbox("postmaster", "example.test")),)
    writer.commit(draft, [Job(0, "local", "local", "", "", ALICE, people)], ALICE)
    writer.close()
    for subject in ("postmaster@example.test", "alice@example.test"):
        assert len(find(config, subject).jobs) == 1


def test_fi2_when_time_is_up_it_stops_and_says_so(tmp_path):
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    for _ in range(20):
        accept(spool, "bob@far.example")
    ticks = itertools.count()
    found = find(config, "bob@far.example", clock=lambda: next(ticks) * finding.LOOKING / 8)
    assert 0 < len(found.jobs) < 20
    assert len(found.jobs) + found.names_left == 20
    late = itertools.chain([0.0], itertools.repeat(9.0))
    found = find(config, "bob@far.example", clock=lambda: next(late))
    assert (found.jobs, found.hours_left) == ((), 1)
    everything = find(config, "bob@far.example", everywhere=True, clock=lambda: 9e9)
    assert len(everything.jobs) == 20


def test_the_newest_hour_is_looked_into_before_time_is_up(tmp_path):
    config = new_config(tmp_path)
    ident = accept(Spool.open(config.spool), "bob@far.example")
    for hour in ("2020010100", "2020010101"):
        (Path(config.spool) / "q.smtp" / hour).mkdir()
    ticks = itertools.chain([0.0, 0.0, 0.0, 0.0], itertools.repeat(9.0))
    found = find(config, "bob@far.example", clock=lambda: next(ticks))
    assert [job.name.id for job in found.jobs] == [ident]
    assert found.hours_left == 2


def test_fi2_no_more_are_told_than_one_can_read(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "SHOWN", 3)
    monkeypatch.setattr(finding, "OPENED", 4)
    config = new_config(tmp_path)
    spool = Spool.open(config.spool)
    idents = [accept(spool, "bob@far.example") for _ in range(7)]
    found = find(config, "bob@far.example", clock=lambda: 0.0)
    assert [job.name.id for job in found.jobs] == idents[:3]
    assert found.names_left == 4
    many = accept(spool, *[f"x@h{n}.example" for n in range(5)])
    found = find(config, many)
    assert (len(found.jobs), found.names_left) == (3, 2)


@SETTINGS
@given(st.integers(0, 30), st.integers(1, 12), st.integers(1, 9))
@example(20, 1, 1)
def test_fi2_an_hour_may_hold_any_number_of_jobs(tmp_path: Path, count, listed, slow):
    folder = tmp_path / str(next(FOLDERS))
    folder.mkdir()
    config = new_config(folder)
    spool = Spool.open(config.spool)
    for _ in range(count):
        accept(spool, "bob@far.example")
    ticks = itertools.count()
    clock = lambda: next(ticks) * finding.LOOKING / (8 * slow)  # noqa: E731
    with patch.object(names, "LISTED", listed):
        found = find(config, "bob@far.example", clock=clock)
    assert next(ticks) <= 8 * slow + 6  # asked once for each list and job, until time is up
    assert found.took >= 0.0
    assert found.jobs or not count  # half of the time is for opening what was found
    if len(found.jobs) + found.names_left < count:
        assert found.hours_left == 1
    else:
        assert len(found.jobs) + found.names_left == count
        assert found.names_left or not found.hours_left


@SETTINGS
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.booleans())
def test_fi3_a_message_s_hour_is_read_up_to_its_last_job(tmp_path: Path, messages, local):
    folder = tmp_path / str(next(FOLDERS))
    folder.mkdir()
    config = new_config(folder)
    spool = Spool.open(config.spool)
    here = ["alice@example.test"] * local
    idents = [accept(spool, *here, *[f"x@h{n}.example" for n in range(m)]) for m in messages]
    lists, read = Fs.lists, []

    def recorded(fs, path, size):
        for files in lists(fs, path, size):
            read.extend(files)
            yield files

    with patch.object(names, "LISTED", 1), patch.object(Fs, "lists", recorded):
        for ident, many in zip(idents, messages, strict=True):
            read.clear()
            found = find(config, ident)
            assert [job.name.number for job in found.jobs] == list(range(many + local))
            assert read[-1].startswith(ident)


@pytest.mark.parametrize("subject", ["neither", "", "25XDYLQB9W600M2", "a@b@c d"])
def test_what_is_neither_id_nor_address_is_said(tmp_path, subject):
    with pytest.raises(UsageError):
        find(new_config(tmp_path), subject)
