"""Orphans go, and nothing that a job needs."""

import os

from mta.spool import layout
from mta.spool.cleaning import SHARDS, clean
from mta.spool.intake import take_in
from mta.types import DELIVERED
from tests.spool.kit import OK, accept, all_names, checkpoint, job, settle


def clean_all(spool, before):
    return sum(clean(spool, shard, before) for shard in range(SHARDS))


def test_only_orphans_of_the_past_are_removed(spool, tmp_path):
    for _ in range(20):
        accept(spool, job(0, "a.test"), job(1, "b.test", queue="other"))
    checkpoint(spool)
    names = all_names(spool)
    for name in names[:5]:  # killed between the job and the body
        spool.fs.unlink(name.path)
    for name in all_names(spool, "other")[3:8]:
        spool.fs.unlink(name.path)
    now = layout.arrived(names[-1].id)
    assert clean_all(spool, now - 3600) == 0, "what is young may be on its way"
    assert clean_all(spool, now + 1) == 2, "both jobs gone"
    bodies = {f for _, _, fs in os.walk(tmp_path / "spool/msg") for f in fs}
    assert bodies == {n.id for n in all_names(spool)} | {n.id for n in all_names(spool, "other")}


def test_empty_hours_are_removed_when_they_are_past(spool, tmp_path):
    accept(spool)
    take_in(spool)
    (name,) = all_names(spool)
    claim = spool.claim(name)
    claim.settle([settle(0, OK, DELIVERED)])
    claim.release()
    hour = tmp_path / "spool/q.smtp" / name.hour
    clean_all(spool, layout.arrived(name.id))
    assert hour.exists()
    clean_all(spool, layout.arrived(name.id) + 7200)
    assert not hour.exists()
    accept(spool)
    assert take_in(spool) and len(all_names(spool)) == 1, "it is made again when needed"
