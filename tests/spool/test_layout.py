"""L1 to L3: ids sort by arrival, and names come back from paths."""

from hypothesis import given
from hypothesis import strategies as st

from mta.spool import layout
from mta.spool.layout import JobName, arrived, host_word, new_id, valid_id

times = st.floats(1e9, 4e9)
hosts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(st.lists(times, min_size=2, max_size=20))
def test_l1_a_later_id_is_greater(clock):
    ids = [new_id(now) for now in clock]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    assert all(valid_id(i) for i in ids)


@given(times)
def test_l2_an_id_tells_when_its_message_arrived(now):
    layout._last[0] = 0
    assert abs(arrived(new_id(now)) - now) < 1e-6
    assert layout.hour(new_id(now))[:2] in ("19", "20", "21")


@given(hosts, st.integers(0, 99999), times)
def test_l3_a_name_comes_back_from_its_path(host, number, now):
    layout._last[0] = 0
    message_id = new_id(now)
    name = JobName("smtp", layout.hour(message_id), message_id, number, host_word(host))
    assert JobName.parse("smtp", name.file) == name
    last = name.path.rpartition("/")[2]
    assert len(last) <= 255 and last.isascii() and " " not in last
    assert name.path.count("/") == 2


def test_different_long_hosts_have_different_words():
    one, two = "a" * 300 + ".one", "a" * 300 + ".two"
    assert host_word(one) != host_word(two)
    assert host_word("ordinary.example.test") == "ordinary.example.test"


def test_what_is_no_job_is_none():
    for file in ("", "2026/x", "2026112206/ABC.0.h", "2026112206/" + "A" * 16 + ".x.h", "h/.tmp"):
        assert JobName.parse("smtp", file) is None
