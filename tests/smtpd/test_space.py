"""SP1: the disk's reserve."""

from __future__ import annotations

import os

from mta.smtpd.space import RESERVE, RESERVE_INODES, Space


def disk(free: int, inodes: int = 10_000, files: int = 100_000) -> os.statvfs_result:
    return os.statvfs_result(
        (4096, 4096, 1 << 20, free, free // 4096, files, inodes, inodes, 0, 255)
    )


def test_sp1_a_message_must_leave_the_reserve() -> None:
    space = Space("/", lambda _: disk(RESERVE + (1 << 20)))
    assert space.has(0, 1.0)
    assert space.has(1 << 20, 1.0)
    assert not space.has((1 << 20) + 4096, 1.0)


def test_sp1_inodes_count_where_the_disk_has_a_number_of_them() -> None:
    assert not Space("/", lambda _: disk(1 << 40, RESERVE_INODES - 1)).has(0, 1.0)
    assert Space("/", lambda _: disk(1 << 40, 0, files=0)).has(0, 1.0)


def test_it_looks_once_a_second_and_a_disk_that_does_not_tell_is_tried() -> None:
    looks = []

    def look(_: str) -> os.statvfs_result:
        looks.append(1)
        return disk(1 << 40)

    space = Space("/", look)
    for now in (5.0, 5.5, 5.9, 6.1):
        assert space.has(0, now)
    assert len(looks) == 2

    def fail(_: str) -> os.statvfs_result:
        raise OSError

    assert Space("/", fail).has(0, 1.0)
