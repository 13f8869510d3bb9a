"""The shared log under several processes that are killed in the middle of any system call."""

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.spool.fs import Fs
from mta.spool.sharedlog import LINE_LIMIT, SharedLog
from tests.spool.disk import Disk, Killed, Process

STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["append", "read", "shrink", "read"]),
        st.none() | st.integers(0, 12),
    ),
    max_size=40,
)


class World:
    """Three processes, what each has read, and what the log may hold."""

    def __init__(self):
        self.disk = Disk()
        self.processes = [Process(self.disk) for _ in range(3)]
        self.logs = [SharedLog(p, "host") for p in self.processes]
        self.read = [[], [], []]
        self.appended, self.maybe, self.number = [], [], 0

    def step(self, who, what, fuse):
        process = self.processes[who]
        process.fuse = fuse
        try:
            self.do(who, what)
        except Killed:
            process.kill()
            self.logs[who] = SharedLog(process, "host")
            self.read[who] = []
        finally:
            process.fuse = None

    def do(self, who, what):
        log = self.logs[who]
        if what == "append":
            self.number += 1
            line = b"line %d ." % self.number
            self.maybe.append(line)
            if log.append(line + b"\n"):
                self.appended.append(line)
        elif what == "read":
            self.take(who)
        else:
            log.shrink(self.fold)

    def fold(self, lines):
        whole = [line for line in lines if line.endswith(b" .")]
        return whole[-2:]

    def take(self, who):
        lines, whole = self.logs[who].read()
        if whole:
            self.read[who] = []
        for line in lines:
            if line.endswith(b" ."):  # a torn line lacks it
                assert line in self.maybe
                self.read[who].append(line)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_g1_g2_g3_every_line_is_read_once_and_whole(steps):
    world = World()
    for step in steps:
        world.step(*step)
    world.step(0, "append", None)
    fresh = SharedLog(Process(world.disk), "host").read()[0]
    truth = [line for line in fresh if line.endswith(b" .")]
    assert truth[-1] == world.appended[-1] == world.maybe[-1]
    assert truth == [line for line in world.maybe if line in truth]
    for who in range(3):
        world.take(who)
        assert world.read[who][-len(truth) :] == truth
        assert len(set(world.read[who])) == len(world.read[who])


@given(st.binary(max_size=300), st.lists(st.sampled_from(["7", "x", "9.new", "08", "²"])))
def test_g3_whatever_lies_there(garbage, names):
    process = Process(Disk())
    process.mkdir("host")
    for name in set(names):
        process.write(process.create(f"host/{name}"), garbage)
    log = SharedLog(process, "host")
    log.read()
    assert log.append(b"hello .\n")
    assert log.read()[0][-1] == b"hello ."


def test_a_line_without_end_is_passed_over(tmp_path):
    fs = Fs(str(tmp_path))
    log = SharedLog(fs, "host")
    assert log.append(b"first .\n") and log.read() == ([b"first ."], True)
    with open(tmp_path / "host" / "1", "ab") as file:
        file.write(b"x" * (LINE_LIMIT + 10))
    log.read()
    assert log.append(b"second .\n")
    assert log.read() == ([b"second ."], False)


def test_a_log_that_is_taken_is_not_waited_for(tmp_path):
    fs = Fs(str(tmp_path))
    one, other = SharedLog(fs, "host"), SharedLog(Fs(str(tmp_path)), "host")
    assert one.append(b"a .\n")
    fd = fs.open("host/1", append=True)
    assert fs.lock(fd)
    assert not other.append(b"b .\n") and not other.shrink(lambda lines: lines)
    fs.close(fd)
    assert other.append(b"b .\n") and one.read() == ([b"a .", b"b ."], True)


def test_readers_follow_a_shrink_on_a_real_disk(tmp_path):
    one, other = (SharedLog(Fs(str(tmp_path)), "host") for _ in range(2))
    for number in range(10):
        one.append(b"%d .\n" % number)
    assert len(other.read()[0]) == 10
    one.append(b"10 .\n")
    assert one.shrink(lambda lines: [line for line in lines if line][-1:])
    assert one.append(b"11 .\n")
    assert os.listdir(tmp_path / "host") == ["2"]
    assert other.read() == ([b"10 .", b"11 ."], True)
    with pytest.raises(FileNotFoundError):
        os.stat(tmp_path / "host" / "1")


class Slow(Fs):
    """A file system where something happens just before a lock is taken."""

    def __init__(self, root, meanwhile):
        super().__init__(root)
        self.meanwhile = meanwhile

    def lock(self, fd):
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return super().lock(fd)


@pytest.mark.parametrize("killed", [False, True])
def test_g1_who_opened_a_generation_that_was_replaced_meanwhile_takes_the_new_one(tmp_path, killed):
    other = SharedLog(Fs(str(tmp_path)), "host")
    other.append(b"first .\n")

    def shrink():
        assert other.shrink(lambda lines: [line for line in lines if line])
        if killed:  # before the old generation was removed
            (tmp_path / "host" / "1").write_bytes(b"first .\n")

    slow = SharedLog(Slow(str(tmp_path), shrink), "host")
    assert slow.append(b"second .\n")
    assert SharedLog(Fs(str(tmp_path)), "host").read()[0] == [b"first .", b"second ."]
    assert os.listdir(tmp_path / "host") == ["2"]


class _Failing(Fs):
    """A disk that fails one kind of call while it is told so."""

    broken = "nothing"

    def _call(self, name):
        if name == self.broken:
            raise OSError(errno.EIO, "Input/output error")

    def list(self, path):
        self._call("list" if self.locked else "")
        return super().list(path)

    def read(self, fd, size, offset):
        self._call("read")
        return super().read(fd, size, offset)

    locked = False

    def lock(self, fd):
        self.locked = super().lock(fd)
        return self.locked


def test_g3_a_failing_disk_neither_keeps_the_lock_nor_hides_that_all_has_come(tmp_path):
    fs = _Failing(str(tmp_path))
    mine, other = SharedLog(fs, "log"), SharedLog(Fs(str(tmp_path)), "log")
    assert other.append(b"one\n")
    assert mine.read() == ([b"one"], True)
    fs.broken = "read"
    with pytest.raises(OSError, match="Input"):
        mine.read()
    fs.broken = "nothing"
    assert mine.read() == ([b"one"], True)
    fs.broken = "list"
    with pytest.raises(OSError, match="Input"):
        mine.append(b"lost\n")
    assert other.append(b"two\n"), "nobody holds the lock any more"
    fs.broken = "nothing"
    assert mine.read() == ([b"two"], False)
