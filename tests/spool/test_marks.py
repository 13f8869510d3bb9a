"""What marks of finished work say, read at once or bit by bit."""

from hypothesis import given
from hypothesis import strategies as st

from mta.spool.layout import JobName
from mta.spool.making import Maker
from mta.spool.marks import mark_line, read_marks
from mta.spool.spool import Spool

NAMES = [JobName("smtp", "2026112206", f"{number:016}", 0, "h") for number in range(3)]
LINES = st.lists(
    st.builds(
        mark_line, st.sampled_from(NAMES), st.none() | st.sets(st.integers(0, 3), min_size=1)
    ),
    max_size=8,
)


@given(LINES, st.lists(st.integers(0, 300), max_size=5))
def test_marks_read_bit_by_bit_say_what_they_say_at_once(lines, cuts):
    octets = b"".join(lines)
    finished, at = {}, 0
    for cut in [*sorted(min(cut, len(octets)) for cut in cuts), len(octets)]:
        whole = octets[at:cut].rfind(b"\n") + 1
        read_marks(octets[at : at + whole], finished)
        at += whole
    assert finished == read_marks(octets)


MANY = [JobName("smtp", "2026112206", "A" * 16, number, "h") for number in (1, 2, 12, 121)]
MARKS = st.tuples(
    st.sampled_from(MANY), st.none() | st.sets(st.integers(0, 130), min_size=1, max_size=3)
)


@given(st.lists(st.tuples(MARKS, st.none() | st.integers(0, 30)), max_size=8))
def test_mk1_what_is_left_of_a_mark_says_nothing(marks):
    octets, whole, all_marked = b"", {}, {}
    for (name, recipients), cut in marks:
        line = mark_line(name, recipients)
        octets += line[:cut]
        for told, does in ((all_marked, True), (whole, cut is None or cut >= len(line))):
            if does and recipients is None:
                told[name.key] = None
            elif does and told.get(name.key, ()) is not None:
                told.setdefault(name.key, set()).update(recipients)
    found = read_marks(octets + b"\n")
    for key, recipients in found.items():
        assert key in all_marked
        known = all_marked[key]
        assert known is None or (recipients is not None and recipients <= known)
    for key, recipients in whole.items():
        assert found[key] is None or (recipients is not None and recipients <= found[key])


def test_of_a_done_file_each_mark_is_read_once(tmp_path):
    spool = Spool.open(str(tmp_path / "spool"))
    maker, read = Maker(spool, trusting=False), []
    plain = spool.fs.read
    spool.fs.read = lambda fd, size, at: read.append(plain(fd, size, at)) or read[-1]
    fd = spool.fs.create("done/SEGMENT")
    octets = b""
    for number, name in enumerate(NAMES):
        octets += mark_line(name, {number})
        spool.fs.write(fd, mark_line(name, {number}))
        assert maker._marks("SEGMENT") == {n.key: {i} for i, n in enumerate(NAMES[: number + 1])}
    assert b"".join(read) == octets
    spool.fs.close(fd)
    maker.forget("SEGMENT")
    assert not maker._read
