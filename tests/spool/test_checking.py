"""The spool check: a sound spool is left alone, and what is set aside is never mail."""

import errno
import os

import pytest

from mta.spool import layout
from mta.spool.checking import check, set_aside
from mta.spool.intake import take_in
from mta.spool.spool import Spool
from mta.types import DEFERRED, DELIVERED
from tests.spool.kit import OK, accept, all_names, checkpoint, job, settle


def found(spool, now=None, *, alone=True):
    (*_, latest) = all_names(spool) or [None]
    now = now or (layout.arrived(latest.id) if latest else 2e9)
    return [f for f in check(spool, now, alone=alone) if f is not None]


def test_ck1_a_sound_spool_has_nothing_wrong(spool):
    for _ in range(5):
        accept(spool, job(0, "a.test"), job(1, "b.test", queue="other"))
    take_in(spool)
    assert found(spool) == []  # bodies in the journal
    checkpoint(spool)
    names = all_names(spool)
    claim = spool.claim(names[0])
    claim.settle([settle(0, OK, DEFERRED)])
    claim.release()
    claim = spool.claim(names[1])
    claim.settle([settle(0, OK, DELIVERED)])
    claim.release()
    spool.sync_marks()
    assert found(spool) == []


@pytest.fixture
def queue(spool, tmp_path):
    for _ in range(3):
        accept(spool, job(0, "a.test"))
    checkpoint(spool)
    return tmp_path / "spool"


def test_ck2_a_foreign_file_is_needless_and_a_job_by_another_name_is_not(spool, queue):
    name = all_names(spool)[0]
    hour = queue / "q.smtp" / name.hour
    (hour / "core").write_bytes(b"\x7fELF")
    (hour / "core").chmod(0o600)
    os.link(queue / name.path, hour / "copy")
    texts = {os.path.basename(f.path): (f.text, f.needless) for f in found(spool)}
    assert texts == {
        "core": ("its name is no job's", True),
        "copy": ("its name is no job's, though it holds one", False),
    }
    (core,) = [f for f in found(spool) if f.needless]
    assert set_aside(spool, core) == f"bad/q.smtp.{name.hour}.core"
    assert len(all_names(spool)) == 3 and [f.needless for f in found(spool)] == [False]


def test_ck2_a_torn_job_is_needless_only_without_a_body(spool, queue):
    kept, lost, _ = all_names(spool)
    for name in (kept, lost):
        data = (queue / name.path).read_bytes()
        (queue / name.path).write_bytes(data[: len(data) // 2])
    (queue / layout.body_path(lost.id)).unlink()
    assert [(f.path, f.needless) for f in found(spool)] == [(kept.path, False), (lost.path, True)]
    assert found(spool, alone=False) == []  # it may be on its way


def test_what_has_no_body_or_lies_elsewhere_is_told(spool, queue):
    one, two, three = all_names(spool)
    (queue / layout.body_path(one.id)).unlink()
    other = queue / "q.smtp" / "2020010100"
    other.mkdir(mode=0o700)
    os.rename(queue / two.path, other / os.path.basename(two.path))
    swapped = three.path.replace(f"{three.id}.0", f"{three.id}.7")
    os.rename(queue / three.path, queue / swapped)
    (queue / "q.smtp" / "notes").mkdir(mode=0o700)
    (queue / "q.smtp" / "2999010100").mkdir(mode=0o700)
    told = {(f.path, f.text) for f in found(spool, layout.arrived(one.id))}
    assert told == {
        (one.path, "its message has no body"),
        (f"q.smtp/2020010100/{os.path.basename(two.path)}", "does not belong to this hour"),
        (swapped, "is the file of another job"),
        ("q.smtp/notes", "is no hour of a queue"),
        ("q.smtp/2999010100", "is an hour to come: was the clock wrong?"),
    }
    assert not any(f.needless for f in found(spool))


def test_what_others_may_read_or_own_is_told(spool, queue):
    name = all_names(spool)[0]
    (queue / name.path).chmod(0o644)
    (finding,) = found(spool)
    assert finding.text == "may be read by others: mode 0644" and not finding.needless
    if os.geteuid() == 0:
        os.chown(queue / name.path, 12345, -1)
        (finding,) = found(spool)
        assert finding.text.startswith("belongs to user 12345, the spool to user")


def test_ck2_what_lies_on_another_disk_is_set_aside_too(spool, queue, monkeypatch):
    hour = queue / "q.smtp" / all_names(spool)[0].hour
    (hour / "core").write_bytes(b"\x7fELF" * 50_000)
    (hour / "core").chmod(0o600)

    def elsewhere(path, other):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(spool.fs, "rename", elsewhere)
    (core,) = found(spool)
    put = set_aside(spool, core)
    assert (queue / put).read_bytes() == b"\x7fELF" * 50_000
    assert not (hour / "core").exists() and found(spool) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_ck1_what_root_made_in_another_s_spool_is_sound(spool, queue):
    os.chown(queue, 65534, 65534)  # the listener's; deliver, as root, makes the jobs
    assert found(spool) == []
    os.chown(queue / all_names(spool)[0].path, 65533, 65533)
    assert ["belongs to user 65533" in f.text for f in found(spool)] == [True]


def test_ck2_what_is_no_file_or_behind_a_link_is_left_alone(spool, queue, tmp_path):
    hour = queue / "q.smtp" / all_names(spool)[0].hour
    os.mkfifo(hour / "pipe", 0o600)
    (hour / "link").symlink_to("pipe")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("precious")
    (queue / "q.smtp" / "2026010100").symlink_to(tmp_path / "etc")
    told = {os.path.basename(f.path): (f.text, f.needless) for f in found(spool)}
    assert told.pop("2026010100") == ("is a link", False)
    assert told["pipe"] == ("is no file", False) and not told["link"][1] and len(told) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be in another's spool")
def test_ck2_root_moves_nothing_in_anothers_spool(spool, queue):
    hour = queue / "q.smtp" / all_names(spool)[0].hour
    (hour / "core").write_bytes(b"x")
    (hour / "core").chmod(0o600)
    os.chown(queue, 65534, 65534)
    there = Spool.open(str(queue))
    (core,) = found(there)
    with pytest.raises(PermissionError, match="another user"):
        set_aside(there, core)
    assert (hour / "core").exists() and os.listdir(queue / "bad") == []
