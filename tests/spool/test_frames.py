"""F1 to F3: frames tell by themselves whether they are whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.spool import frames as room
from mta.spool.frames import BODY, MESSAGE, SEGMENT, Closing, frame, read_frame

frames = st.lists(
    st.tuples(st.sampled_from([BODY, MESSAGE, SEGMENT]), st.binary(max_size=60)), max_size=6
)


def scan(octets: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while (one := read_frame(lambda size, offset: octets[offset : offset + size], at)) is not None:
        found.append((one.kind, one.data))
        at = one.end
    return found


@given(frames)
def test_f1_frames_come_back(written):
    assert scan(b"".join(frame(k, d) for k, d in written)) == written


@given(frames, st.integers(0, 1000))
def test_f2_a_cut_segment_gives_its_whole_frames(written, cut):
    octets, ends = b"", []
    for kind, data in written:
        octets += frame(kind, data)
        ends.append(len(octets))
    cut = min(cut, len(octets))
    assert scan(octets[:cut]) == written[: sum(end <= cut for end in ends)]


@given(frames, st.integers(0, 1000), st.integers(1, 255))
def test_f3_a_changed_octet_ends_the_scan(written, at, change):
    octets = b"".join(frame(k, d) for k, d in written)
    if not octets:
        return
    at %= len(octets)
    changed = octets[:at] + bytes([octets[at] ^ change]) + octets[at + 1 :]
    found = scan(changed)
    assert len(found) < len(written) and found == written[: len(found)]


@given(st.lists(st.tuples(st.text("q/.A", min_size=1), st.binary()), max_size=4))
def test_a_closing_comes_back(files):
    closing = Closing("ID", 12, 0xABC, -1, tuple(files))
    assert Closing.decode(closing.encode()) == closing


def test_what_nobody_would_read_back_is_not_written(monkeypatch):
    monkeypatch.setattr(room, "FRAME_LIMIT", 10)
    assert frame(BODY, b"x" * 10)
    with pytest.raises(OSError, match="too many recipients"):
        frame(BODY, b"x" * 11)
