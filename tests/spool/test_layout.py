"""L1 to L4: ids sort by arrival, and names come back from paths."""

from hypothesis import given
from hypothesis import strategies as st

from mta.spool import layout
from mta.spool.layout import JobName, arrived, host_word, id_again, new_id, valid_id
from mta.types import BULK, NORMAL, NULL_PATH, URGENT, Mailbox

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


@given(times, times | st.floats(-1e9, 1e9))
def test_l2_ids_stand_before_a_time_as_their_arrivals_do(now, other):
    layout._last[0] = 0
    message_id = new_id(now)
    for at in (other, now, now + 2e-6, now - 2e-6):
        if abs(at - arrived(message_id)) > 1e-6:
            assert (message_id < layout.id_at(at)) == (arrived(message_id) < at)
    assert message_id >= layout.id_at(arrived(message_id))


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


KINDS = st.sampled_from([URGENT, NORMAL, BULK])
PATHS = st.builds(Mailbox, st.text(max_size=5), st.sampled_from(["a.test", "b.test"]))


@given(KINDS, st.integers(0, 1 << 29), st.integers(1, 100_000), st.just(NULL_PATH) | PATHS, hosts)
def test_l4_a_tag_tells_kind_size_recipients_and_sender(kind, size, recipients, path, host):
    layout._last[0] = 0
    tag = layout.tag(kind, size, recipients, path)
    name = JobName("smtp", "2023111422", new_id(1.7e9), 3, host_word(host), tag)
    assert JobName.parse("smtp", name.file) == name
    assert name.kind == kind
    assert size / 2 <= name.octets <= 2 * size
    assert recipients / 2 <= name.recipients <= 2 * recipients
    assert name.author == layout.tag(NORMAL, 1, 1, path)[3:] != ""


def test_l4_a_name_of_an_older_version_is_an_ordinary_job():
    name = JobName.parse("smtp", f"2023111422/{new_id(1.7e9)}.0.mx-7.example.test")
    assert (name.kind, name.octets, name.recipients, name.author) == (NORMAL, 0, 1, "")
    assert name.host == "mx-7.example.test"


def test_l4_what_is_no_tag_is_no_name():
    for tag in ("", "n", "x123456", "n1234567"):
        assert JobName.parse("smtp", f"2023111422/{new_id(1.7e9)}.0-{tag}.h") is None


def test_l5_an_id_given_again_keeps_the_arrival_and_is_new():
    old = new_id(1_700_000_000.25)
    given_again = [id_again(old) for _ in range(2000)]
    assert len({old, *given_again}) == 2001 and all(map(valid_id, given_again))
    assert all(0 <= arrived(each) - arrived(old) < 0.001 for each in given_again)
    mine = new_id(arrived(given_again[0]))
    assert mine[-5:] < given_again[0][-5:], "numbers above every pid"
