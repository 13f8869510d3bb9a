"""mta hold and its kin on a spool of files: what is touched, counted and shown."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta import mailq
from mta.accept import open_door
from mta.control import program, returning, wanted
from mta.control.program import Task
from mta.control.walk import find, shown
from mta.deliver.returns import Post
from mta.errors import SpoolError, UsageError
from mta.listing import jobs
from mta.machine.logread import read_events
from mta.policy.filters import EVERYTHING, Filter
from mta.spool.intake import try_lock
from mta.spool.layout import host_word
from mta.spool.spool import Claim, Spool
from mta.types import FAILED, NULL_PATH
from mta.values import replace
from tests.queued import ALICE, accept, defer, new_config
from tests.spool.kit import checkpoint

FAR, NEAR = "bob@far.example", "ann@near.example"


class House:
    def __init__(self, root: Path) -> None:
        self.config = new_config(root)
        self.spool = Spool.open(self.config.spool)
        self.said: list[str] = []

    def do(self, verb: str, asked: Filter = EVERYTHING, **how) -> int:
        self.said = []
        return program.run(self.config, Task(verb, asked, **how), self.said.append)

    def json(self, verb: str, asked: Filter = EVERYTHING, **how):
        status = self.do(verb, asked, as_json=True, **how)
        return status, [json.loads(line) for line in self.said]

    def events(self, kind: str) -> list[dict]:
        return [e for e in read_events(self.config.log.dir) if e["event"] == kind]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def host(name: str) -> Filter:
    return Filter(host=name, host_word=host_word(name))


def test_ac1_a_held_job_says_so_until_it_is_released(house: House) -> None:
    far, near = accept(house.spool, FAR), accept(house.spool, NEAR)
    assert house.do("hold", host("far.example"), text="ask Ann") == 0
    assert house.said == ["1 job held"]
    held = {e.envelope.id: e.held for e in jobs(house.spool)}
    assert held[near] is None and held[far] is not None and held[far].text == "ask Ann"
    assert [e["note"] for e in house.events("noted")] == ["hold"]
    listed = list(mailq.text_lines(jobs(house.spool), 0.0))
    assert any(line.startswith(far + "!") for line in listed)
    assert not any(line.startswith(near + "!") for line in listed)
    names = [json.loads(x)["queue_name"] for x in mailq.json_lines(jobs(house.spool), 9e9)]
    assert names == ["hold", "active"]
    assert house.do("hold", host("far.example")) == 0
    assert house.said == ["0 jobs held; 1 held already"]
    assert house.do("release", Filter(state="held")) == 0
    assert all(e.held is None for e in jobs(house.spool))
    assert house.do("release", Filter(state="held")) == 1
    assert house.said == ["no such job waits"]


def test_a_requeued_job_is_due(house: House) -> None:
    far = accept(house.spool, FAR)
    defer(house.spool, far, 100.0, 9e9)
    assert house.do("requeue", Filter(reason="TIMED OUT")) == 0
    (entry,) = jobs(house.spool)
    due = entry.note("due")
    assert due is not None and due.at > 100.0


def test_ac2_a_deleted_job_is_gone_for_ever_and_only_the_log_knows(house: House) -> None:
    far = accept(house.spool, FAR, NEAR)
    assert house.do("delete", host("far.example"), text="spam") == 0
    assert [e.job.host for e in jobs(house.spool)] == ["near.example"]
    assert [e["to"] for e in house.events("deleted")] == [[FAR]]
    assert house.events("removed") == []
    assert house.do("delete", Filter(ids=(far,))) == 0
    assert house.events("removed") and not list(jobs(house.spool))
    again = Spool.open(house.config.spool)
    again._ready = False  # as after a crash: what the journal still has is looked at anew
    house.do("hold")
    assert not list(jobs(again)) and house.do("hold") == 1


def test_ac3_a_returned_job_is_told_to_its_author_first(house: House) -> None:
    far = accept(house.spool, FAR, path=ALICE)
    assert house.do("return", Filter(ids=(far,)), text="this host is no more") == 0
    house.do("hold", host("nobody.example"))  # has the DSN taken in
    (dsn,) = jobs(house.spool)
    assert dsn.job.reverse_path == NULL_PATH and str(dsn.job.recipients[0].mailbox) == str(ALICE)
    (attempt,) = house.events("attempt")
    assert attempt["state"] == FAILED and attempt["text"] == "this host is no more"
    assert [e["dsn"] for e in house.events("notified")] == [dsn.envelope.id]
    assert house.do("return", Filter(ids=(dsn.envelope.id,))) == 0
    house.do("hold", host("nobody.example"))
    (notice,) = jobs(house.spool)  # a DSN that fails is told to the postmaster, and that ends it
    assert notice.envelope.origin == "dsn postmaster"
    assert house.do("return", Filter(ids=(notice.envelope.id,))) == 0
    assert not list(jobs(house.spool))
    assert len(list((Path(house.config.spool) / "bad").iterdir())) == 1


def test_ac4_jobs_of_a_message_that_are_returned_together_are_one_dsn(house: House) -> None:
    hosts = [f"bob@h{number}.example" for number in range(12)]
    idents = [accept(house.spool, *hosts, path=ALICE) for _ in range(3)]
    assert house.do("return", Filter(ids=tuple(idents))) == 0 and house.said == ["36 jobs returned"]
    assert [e["id"] for e in house.events("notified")] == idents
    house.do("hold", host("nobody.example"))  # has the DSNs taken in
    assert len(list(jobs(house.spool))) == 3 and len(house.events("attempt")) == 36
    assert {event["id"] for event in house.events("removed")} == set(idents)


def test_what_nobody_could_be_told_of_waits_and_why_is_said(house: House, monkeypatch) -> None:
    monkeypatch.setattr(Post, "commit", lambda self, notice: ("", "the disk is full"))
    accept(house.spool, FAR, path=ALICE)
    assert house.do("return") == 75
    why = "  1 job: its DSN could not be accepted: see the log"
    assert house.said == ["0 jobs returned; 1 left as it is", why]
    (entry,) = jobs(house.spool)
    assert "the disk is full" in str(entry.pending[0][1].outcome)
    monkeypatch.undo()
    assert house.do("return") == 0 and house.said == ["1 job returned"]


def test_what_the_disk_would_not_settle_is_given_back(house: House, monkeypatch) -> None:
    for name, value in (("PATIENCE", 0.3), ("IMPATIENCE", 0.1), ("BATCH", 2), ("LEFT_MOST", 4)):
        monkeypatch.setattr(returning, name, value)
    idents = tuple([accept(house.spool, FAR, path=ALICE) for _ in range(7)])
    before = list(jobs(house.spool))

    def refuse(*_: object) -> bool:
        raise SpoolError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Claim, "settle", refuse)
        assert house.do("return", Filter(ids=idents)) == 75
    why = "  7 jobs: the disk would not take what became of it: see the log"
    assert house.said == ["0 jobs returned; 7 left as they are", why]
    assert [e for e in jobs(house.spool) if e.envelope.id in idents] == before
    assert any("the disk is full" in event["text"] for event in house.events("warning"))
    assert house.do("return", Filter(ids=idents)) == 0 and house.said == ["7 jobs returned"]


def test_cp1_a_job_in_anothers_hands_is_busy(house: House, monkeypatch) -> None:
    monkeypatch.setattr(program, "PATIENCE", 0.2)
    accept(house.spool, FAR, NEAR)
    (name, _) = [n for names in house.spool.names("smtp") for n in names]
    claim = house.spool.claim(name)
    assert claim is not None
    status, said = house.json("delete")
    assert status == 75 and (said[-1]["done"], said[-1]["busy"]) == (1, 1)
    monkeypatch.setattr(program.time, "sleep", lambda seconds: claim.release())
    status, said = house.json("delete")
    assert status == 0 and (said[-1]["done"], said[-1]["busy"]) == (1, 0)


def test_cp2_a_dry_run_shows_and_changes_nothing(house: House) -> None:
    ids = [accept(house.spool, FAR), accept(house.spool, NEAR)]
    before = list(jobs(house.spool))
    for verb in program.PAST:
        status, said = house.json(verb, dry=True)
        assert status == 0 and [line["id"] for line in said[:-1]] == ids
        assert said[-1] == {"verb": verb, "dry_run": True, "jobs": 2, "hosts": 2}
        assert house.do(verb, Filter(ids=("0" * 16,)), dry=True) == 1
    assert list(jobs(house.spool)) == before
    assert house.do("delete", limit=1) == 0 and len(list(jobs(house.spool))) == 1


def test_w3_what_a_running_intake_has_not_come_to_is_counted(house: House, monkeypatch) -> None:
    monkeypatch.setattr(program, "INTAKE_PAUSES", (0.0, 0.0))
    accept(house.spool, FAR)
    monkeypatch.setattr("tests.queued.take_in", lambda spool: True)
    accept(house.spool, FAR, NEAR)
    lock = try_lock(house.spool)  # an intake that is behind
    assert house.do("hold", host("far.example")) == 75
    assert house.said == [
        "1 job held",
        "  1 job in the journal: intake is behind; do it again, or suspend",
    ]
    assert house.do("delete", host("near.example"), sure=True) == 75
    assert house.said[0] == "0 jobs deleted"
    status, (told,) = house.json("delete", host("near.example"), sure=True)
    assert status == 75 and told["untaken"] == 1 and told["done"] == 0
    assert house.do("hold", host("elsewhere.example")) == 1
    house.spool.fs.close(lock)
    assert house.do("hold", host("far.example")) == 0
    assert house.said == ["1 job held; 1 held already"]


def test_what_can_be_read_is_seen_to_and_told_of_before_what_cannot(house: House) -> None:
    accept(house.spool, FAR)
    Path(house.config.spool, "q.smtp", "2026010100").write_text("")
    with pytest.raises(SpoolError, match=r"cannot be read: .*q.smtp/2026010100: Not a directory"):
        house.do("hold", host("far.example"))
    assert house.said == ["1 job held"]


def test_many_are_lost_only_on_purpose(house: House, monkeypatch) -> None:
    for _ in range(program.FEW + 1):
        accept(house.spool, FAR)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for verb in program.DRASTIC:
        with pytest.raises(UsageError, match="--yes"):
            house.do(verb)
    assert house.do("hold") == 0
    assert house.do("delete", limit=3) == 0
    assert house.do("delete", sure=True) == 0
    assert not list(jobs(house.spool))


ASKED = [
    *(EVERYTHING, host("far.example"), Filter(host=".far.example"), Filter(newer=60.0)),
    *(Filter(older=60.0), Filter(recipient="@near.example"), Filter(queues=("smtp",))),
    Filter(kind="bulk"),
]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([FAR, NEAR, "x@sub.far.example"]), max_size=6), st.data())
def test_w1_w2_what_is_found_is_what_is_meant(tmp_path_factory, mail, data) -> None:
    spool = Spool.open(str(tmp_path_factory.mktemp("spool") / "s"))
    ids = [accept(spool, address) for address in mail]
    more = [Filter(ids=tuple(ids[:2])), Filter(author=str(ALICE))]
    asked = data.draw(st.sampled_from([*ASKED, *more]))
    now = 9e9 if asked.older else time.time()
    opened = []
    peek = spool.peek
    spool.peek = lambda name: opened.append(name) or peek(name)  # type: ignore[method-assign]
    found = list(find(spool, asked, now))
    if not (asked.recipient or asked.author):
        assert not opened
    everything = [n for queue in spool.queues() for names in spool.names(queue) for n in names]
    assert found == [n for n in everything if asked.holds(shown(n, peek(n)), now)]


def test_what_was_typed_becomes_a_filter() -> None:
    ident = "0" * 16
    given_ = {"id": (ident,), "older": "2h", "larger": "1KiB", "host": "MX.Example", "queue": ()}
    asked = wanted.read({**given_, "sender": "Ann@A.Example", "all": False})
    assert (asked.ids, asked.older, asked.larger) == ((ident,), 7200.0, 1024)
    assert asked.host == "mx.example" and asked.author == "ann@a.example" and asked.signs
    assert wanted.read({"sender": "<>"}).signs and not wanted.read({"sender": "@a.example"}).signs
    for bad in [{}, {"id": ("x",)}, {"older": "2"}, {"all": True, "host": "a"}]:
        with pytest.raises(UsageError):
            wanted.read(bad)
    for bad in [{"larger": "big"}, {"recipient": "a b@"}, {"id": (ident + ".x",)}]:
        with pytest.raises(UsageError, match=r"--|no id"):
            wanted.read(bad)


def test_cp1_a_job_that_cannot_be_opened_is_counted_and_stops_no_other(house: House) -> None:
    bad, good = accept(house.spool, FAR), accept(house.spool, NEAR)
    checkpoint(house.spool)  # or it is made again
    (name,) = house.spool.find(bad)
    path = Path(house.config.spool) / name.path
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")  # no link is opened
    assert house.do("hold") == 75
    assert house.said[0] == "1 job held; 1 left as it is" and "cannot open" in house.said[1]
    (name,) = house.spool.find(good)
    entry = house.spool.peek(name)
    assert entry is not None and entry.held is not None


def test_w1_no_more_of_a_crowded_hour_is_held_than_is_sorted(house: House, monkeypatch) -> None:
    monkeypatch.setattr("mta.control.walk.SORTED", 4)
    monkeypatch.setattr("mta.spool.names.LISTED", 2)
    ids = {accept(house.spool, FAR) for _ in range(20)}
    read: list[str] = []
    lists = house.spool.fs.lists

    def counted(path, size):
        for names in lists(path, size):
            read.extend(names)
            yield names

    monkeypatch.setattr(house.spool.fs, "lists", counted)
    found = set()
    for name in find(house.spool, EVERYTHING, time.time()):
        found.add(name.id)
        assert len(read) <= len(found) + 6
    assert found == ids


THEIRS = 65534


def give_away(root: Path) -> None:
    """Have a new installation belong to another user, throughout."""
    for path in (root, *root.rglob("*")):
        os.chown(path, THEIRS, THEIRS, follow_symlinks=False)


def owners(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.lstat().st_uid for path in root.rglob("*")}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in another user's spool")
def test_what_root_does_in_anothers_spool_leaves_all_of_it_to_him(tmp_path: Path) -> None:
    house = House(tmp_path)
    (tmp_path / "log").mkdir()
    give_away(tmp_path)
    door = open_door(house.config)
    for body in (b"Subject: x\r\n\r\n", b"x" * 300_000):  # of a large one there is a file
        draft = door.begin()
        draft.write(body)
        routed = [door.verify(address) for address in (FAR, NEAR, "alice@example.test")]
        door.commit(draft, routed, ALICE)
    door.close()
    assert house.do("hold", host("far.example")) == 0  # no intake runs: it takes mail in
    assert house.do("delete", host("near.example")) == 0
    assert house.do("return", Filter(host="")) == 0
    made = owners(tmp_path / "spool")
    assert [path for path in made if path.startswith("msg/")] and "q.local" in made
    assert {path: uid for path, uid in made.items() if uid != THEIRS} == {}
    assert set(owners(tmp_path / "log").values()) == {THEIRS}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in another user's spool")
def test_where_root_delivers_what_it_makes_stays_its_own(tmp_path: Path) -> None:
    house = House(tmp_path)
    give_away(tmp_path)
    smtpd = replace(house.config.smtpd, user="nobody")  # which has the spool, and no more of it
    house.config = replace(house.config, smtpd=smtpd)
    door = open_door(house.config)
    draft = door.begin()
    draft.write(b"x" * 300_000)
    door.commit(draft, [door.verify(FAR)], ALICE)
    door.close()
    assert house.do("hold", host("far.example")) == 0
    made = owners(tmp_path / "spool")
    assert {uid for path, uid in made.items() if path[:4] in ("q.sm", "msg/")} == {0}
