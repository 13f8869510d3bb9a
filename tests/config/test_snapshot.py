import marshal
import os
import shutil
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.config import snapshot
from mta.config.build import build
from mta.config.load import load_config

ETC = Path(__file__).parents[2] / "etc"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample configuration, as if nobody had edited it (or the code) for an hour."""
    folder = tmp_path_factory.mktemp("sample")
    shutil.copytree(ETC, folder, dirs_exist_ok=True)
    (folder / ".mta.yaml.snapshot").unlink(missing_ok=True)
    return str(folder / "mta.yaml")


@pytest.fixture
def stored(sample):
    """A snapshot of the sample that is old enough to count."""
    write(sample)
    return Path(snapshot.snapshot_path(sample))


def write(path: str, later: float = 3600) -> None:
    """Write the snapshot, and make it ``later`` seconds younger than everything."""
    config, signed = build(path)
    snapshot.write(config, signed)
    target = snapshot.snapshot_path(path)
    when = os.stat(target).st_mtime + later
    os.utime(target, (when, when))


def test_n1_a_current_snapshot_is_the_configuration(sample, stored):
    assert snapshot.read(sample) == build(sample)[0]


@pytest.mark.parametrize("name", ["mta.yaml", "aliases", "tables/brlnet"])
def test_n1_an_edit_of_any_file_outdates_it(sample, stored, name):
    file = Path(sample).parent / name
    file.write_text(file.read_text() + "# edited\n")
    assert snapshot.read(sample) is None
    write(sample)
    assert snapshot.read(sample) is not None


def test_n1_an_edit_that_keeps_size_and_mtime_outdates_it(sample, stored):
    before = os.stat(sample)
    text = Path(sample).read_text()
    Path(sample).write_text(text.replace("mx.example.test", "my.example.test"))
    os.utime(sample, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert snapshot.read(sample) is None
    assert load_config(sample).hostname == "my.example.test"
    Path(sample).write_text(text)


def test_n1_a_file_just_edited_does_not_count_as_at_rest(sample):
    write(sample, later=0.5)
    os.utime(sample)
    write(sample, later=0.5)
    assert snapshot.read(sample) is None
    write(sample, later=1.5)
    assert snapshot.read(sample) is not None


def test_n1_another_path_host_or_version_outdates_it(sample, stored, monkeypatch, tmp_path):
    body = marshal.loads(stored.read_bytes()[len(snapshot.MAGIC) + 4 :])
    for at in (0, 1, 2):
        changed = tuple([("other" if n == at else part) for n, part in enumerate(body)])
        seal(stored, changed)
        assert snapshot.read(sample) is None
    seal(stored, body)
    assert snapshot.read(sample) is not None


def seal(path: Path, value: object) -> None:
    """Store ``value`` as a well-formed snapshot."""
    body = marshal.dumps(value)
    put(path, snapshot.MAGIC + zlib.crc32(body).to_bytes(4, "big") + body)


def put(path: Path, octets: bytes) -> None:
    """Store ``octets`` as a snapshot that is old enough to count."""
    path.write_bytes(octets)
    when = os.stat(path).st_mtime + 3600
    os.utime(path, (when, when))


def test_n1_the_users_file_is_signed(tmp_path):
    (tmp_path / "mta.yaml").write_text(
        "local: {users: people}\nchannels: [{name: l, program: local}]\n"
    )
    (tmp_path / "people").write_text("alice\n")
    path = str(tmp_path / "mta.yaml")
    write(path)
    assert snapshot.read(path).local.users == ("alice",)
    (tmp_path / "people").write_text("eve\n")
    assert load_config(path).local.users == ("eve",)


@pytest.mark.parametrize(
    "what", ["link", "directory", "fifo", "group", "others", "missing", "other owner"]
)
def test_n2_what_is_not_ours_is_not_read(sample, stored, what, tmp_path):
    if what == "link":
        shutil.move(stored, tmp_path / "elsewhere")
        stored.symlink_to(tmp_path / "elsewhere")
    elif what in ("directory", "fifo"):
        stored.unlink()
        stored.mkdir() if what == "directory" else os.mkfifo(stored)
    elif what in ("group", "others"):
        stored.chmod(0o664 if what == "group" else 0o646)
    elif what == "missing":
        stored.unlink()
    elif os.geteuid() == 0:
        os.chown(stored, 12345, -1)
    else:
        pytest.skip("only root can give files away")
    try:
        assert snapshot.read(sample) is None
        assert load_config(sample).hostname == "mx.example.test"
    finally:
        stored.rmdir() if what == "directory" else stored.unlink(missing_ok=True)


# Marshal believes the length of a container or string: with a right checksum four octets
# ask for gigabytes.  Only whom we trust can write those, and a test need not.
SIZED = bytes({b | flag for b in b"([<>{ulsatAyxf" for flag in (0, 0x80)})


@given(st.binary(max_size=200).map(lambda octets: octets.translate(None, SIZED)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_n2_no_contents_are_an_error(sample, stored, octets):
    put(stored, octets)
    assert snapshot.read(sample) is None
    put(stored, snapshot.MAGIC + zlib.crc32(octets).to_bytes(4, "big") + octets)
    assert snapshot.read(sample) is None


PLAIN = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=6).map(tuple) | st.lists(inner, max_size=3),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_n2_well_formed_nonsense_is_ignored(sample, stored, value, at):
    body = marshal.loads(stored.read_bytes()[len(snapshot.MAGIC) + 4 :])
    try:
        seal(stored, tuple([(value if n == at else part) for n, part in enumerate(body)]))
        got = snapshot.read(sample)
        assert got is None or (at == 3 and value in ((), [], "", b""))
    finally:
        seal(stored, body)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
def test_n3_one_octet_changed_anywhere_is_seen(sample, stored, data):
    good = stored.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    try:
        put(stored, good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
        assert snapshot.read(sample) is None
        put(stored, good)
        assert snapshot.read(sample) is not None
    finally:
        put(stored, good)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_n3_a_truncated_snapshot_is_seen(sample, stored, data):
    good = stored.read_bytes()
    try:
        put(stored, good[: data.draw(st.integers(0, len(good) - 1))])
        assert snapshot.read(sample) is None
    finally:
        put(stored, good)


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ((0o644, 0o644), 0o644),
        ((0o600, 0o644), 0o600),
        ((0o644, 0o640), 0o640),
        ((0o666, 0o666), 0o644),
    ],
)
def test_nobody_reads_a_snapshot_who_may_not_read_the_files(tmp_path, modes, expected):
    (tmp_path / "mta.yaml").write_text(
        "local: {aliases: a}\nchannels: [{name: l, program: local}]\n"
    )
    (tmp_path / "a").write_text("root: alice\n")
    for name, mode in zip(("mta.yaml", "a"), modes, strict=True):
        (tmp_path / name).chmod(mode)
    load_config(str(tmp_path / "mta.yaml"))
    assert (tmp_path / ".mta.yaml.snapshot").stat().st_mode & 0o7777 == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mta.yaml.snapshot", "a", "mta.yaml"]


def test_a_snapshot_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "mta.yaml").write_text("channels: [{name: l, program: local}]\n")

    def refuse(*_):
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "rename", refuse)
    assert load_config(str(tmp_path / "mta.yaml")).channels[0].name == "l"
    assert [p.name for p in tmp_path.iterdir()] == ["mta.yaml"]


def test_a_left_over_draft_stops_nobody(tmp_path):
    (tmp_path / "mta.yaml").write_text("channels: [{name: l, program: local}]\n")
    (tmp_path / f".mta.yaml.snapshot.{os.getpid()}").write_text("junk")
    assert load_config(str(tmp_path / "mta.yaml")).channels[0].name == "l"
