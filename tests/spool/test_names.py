import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.spool import layout
from mta.spool import names as module
from mta.spool.layout import JobName, arrived, hour_of, new_id
from mta.spool.names import count, for_hosts, walk, walk_host
from mta.values import replace

EPOCH = 1_700_000_000.0


class Fs:
    """A queue in memory; its directories are in the order of a hash."""

    def __init__(self, files):
        self.hours = {"q.smtp": [], "q.smtp,1": []}
        for number, file in enumerate(files):
            hour, _, name = file.partition("/")
            place = "q.smtp,1" if number % 3 == 1 else "q.smtp"
            if f"{place}/{hour}" not in self.hours:
                self.hours[place].append(hour)
            self.hours.setdefault(f"{place}/{hour}", []).append(name)
        for names in self.hours.values():
            names.sort(key=hash)

    def count(self, hour):
        return sum(len(names) for path, names in self.hours.items() if path.endswith(hour))

    def list(self, path):
        if not path:
            return ["q.smtp", "q.smtp,1", "msg"]
        return list(self.hours.get(path, ()))

    def lists(self, path, size):
        names = self.list(path)
        for at in range(0, len(names), size):
            yield names[at : at + size]


@pytest.fixture(autouse=True)
def short_lists(monkeypatch):
    monkeypatch.setattr(module, "LISTED", 5)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 40_000), min_size=1, max_size=40),
    st.sampled_from([None, 0, 3]),
    st.sets(st.integers(0, 11)),
)
def test_na4_an_hour_that_cannot_be_read_keeps_no_other_from_being_read(arrivals, limit, broken):
    layout._last[0] = 0
    made = [new_id(EPOCH + second) for second in sorted(arrivals)]
    names = {JobName("smtp", hour_of(arrived(each)), each, 0, "a") for each in made}
    fs = Fs([name.file for name in names])
    bad = {hour for at, hour in enumerate(sorted({name.hour for name in names})) if at in broken}
    lists = fs.lists

    def failing(path, size):
        if path[-10:] in bad:
            raise OSError(5, "Input/output error", path)
        yield from lists(path, size)

    fs.lists, found, trouble = failing, set(), ""
    try:
        for some in walk(fs, "smtp", None, None, limit):
            found |= {replace(name, place=0) for name in some}
    except OSError as error:
        trouble = error.filename[-10:]
    assert found == {name for name in names if name.hour not in bad}
    assert trouble == min(bad, default="")


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 20_000), max_size=60),
    st.sampled_from([None, 0, 3, 20]),
    st.none() | st.integers(0, 20_000),
    st.none() | st.integers(0, 20_000),
)
def test_na1_na2_na3_all_are_given_once_in_short_lists(arrivals, limit, newer, older):
    layout._last[0] = 0  # ids never go back in one process; each example begins at EPOCH
    made = {}
    for second in sorted(arrivals):
        made_id = new_id(EPOCH + second)
        name = JobName("smtp", hour_of(arrived(made_id)), made_id, 0, "a")
        made[name] = arrived(name.id)
    newer = None if newer is None else EPOCH + newer
    older = None if older is None else EPOCH + older
    fs = Fs([name.file for name in made] + ["2023111422/stray", "2023111422/IDIDIDIDIDIDIDID.0.a"])
    lists = list(walk(fs, "smtp", newer, older, limit))
    assert all(len(names) <= 5 for names in lists)
    given_ = [replace(name, place=0) for names in lists for name in names]
    right = {n for n, at in made.items() if (newer is None or at > newer)}
    right = {n for n in right if older is None or made[n] < older}
    assert len(given_) == len(set(given_))
    assert set(given_) == right
    assert [n.hour for n in given_] == sorted(n.hour for n in given_)
    if limit is not None:
        assert all(names == sorted(names, key=lambda n: n.id) for names in lists)
        for hour in {n.hour for n in given_}:
            mine = [n.id for n in given_ if n.hour == hour]
            if not limit or fs.count(hour) <= limit:
                assert mine == sorted(mine)


@given(st.lists(st.sampled_from("ab"), max_size=40), st.integers(0, 9), st.integers(0, 30))
def test_na5_an_hour_is_read_as_long_as_one_may(hosts, after, most):
    files = [JobName("smtp", "2023111422", new_id(EPOCH), 0, host).file for host in hosts]
    fs = Fs(files)
    pieces = [f for at in (0, 1) for f in fs.lists(f"q.smtp{',1' * at}/2023111422", 5)]
    asked = iter(range(100))
    names, count, whole = for_hosts(
        fs, "smtp", "2023111422", [0, 1], {"a"}, most, lambda: next(asked) >= after
    )
    read = pieces[: max(1, after + 1)]
    mine = sorted(file for files in read for file in files if file.endswith(".a"))
    assert whole == (len(read) == len(pieces) or not pieces)
    assert [name.file.partition("/")[2] for name in names] == mine[:most]
    assert count == len(mine)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20_000), st.sampled_from(["a", "b.a", "", "core"])), max_size=60
    ),
    st.sets(st.integers(0, 5)),
)
def test_na6_counts_and_hosts_are_as_a_walk_has_them(mail, broken):
    layout._last[0] = 0
    made = [(new_id(EPOCH + second), host) for second, host in sorted(mail)]
    names = [JobName("smtp", hour_of(arrived(m)), m, 0, host) for m, host in made]
    fs = Fs([name.file for name in names])
    for path in [path for path in fs.hours if "/" in path]:
        fs.hours[path] += ["core", "core.a", "lost+found", f"{'a' * 16}.0.a", ""]
    hours = sorted({name.hour for name in names})
    bad = {hour for at, hour in enumerate(hours) if at in broken}
    real, lists = fs.list, fs.lists

    def failing(path, *size):
        if path[-10:] in bad:
            raise OSError(5, "Input/output error", path)
        return lists(path, *size) if size else real(path)

    fs.list = fs.lists = failing

    def walked(lists):
        found = []
        with contextlib.suppress(OSError):
            for some in lists:
                found += [(name.id, name.host) for name in some]
        return found

    right = walked(walk(fs, "smtp", None, None, 0))
    told, trouble = count(fs, "smtp")
    assert told == len(right) and (trouble is not None) == bool(bad)
    for host in ("a", "b.a", "", "core", "x"):
        given_ = walked(walk_host(fs, "smtp", host))
        assert given_ == [each for each in right if each[1] == host]
    if bad:
        with pytest.raises(OSError, match="Input/output"):
            list(walk_host(fs, "smtp", "a"))


def test_na6_a_queue_that_cannot_be_listed_is_told():
    class Gone(Fs):
        def list(self, path):
            raise OSError(5, "Input/output error", path)

    told, trouble = count(Gone([]), "smtp")
    assert told == 0 and trouble is not None
