"""What delivers tell each other of hosts, with kills in the middle of any system call."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.policy.deadhosts import ROW, DeadHosts, Failing, News
from mta.spool import hostlog
from mta.spool.fs import Fs
from mta.spool.hostlog import HostLog, decode, encode, read_hosts
from mta.types import Reply
from tests.spool.disk import Disk, Killed, Process

TIME = st.integers(0, 10**16).map(lambda micros: micros / 1e6)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REPLY = st.builds(
    lambda code, detail, text: Reply(code, f"4.{detail}", Reply.clean(text)),
    st.integers(400, 499), st.sampled_from(["4.1", "7.0", "999.999"]), TEXT,
)  # fmt: skip
FAILING = st.builds(Failing, TIME, TIME, st.integers(1, 10**9 - 1), REPLY, TEXT, TIME, TEXT, TIME)


def news_of(channel, host, failing, at, who):
    return News(at if failing is None else failing.at, channel, host, failing,
                who if failing is None else failing.who)  # fmt: skip


NEWS = st.builds(news_of, TEXT, TEXT, st.none() | FAILING, TIME, TEXT)


@given(NEWS)
def test_w1_what_is_encoded_is_decoded(news):
    line = encode(news)
    assert b"\n" not in line
    assert decode(line) == news


@given(st.binary(max_size=200) | NEWS.map(encode), st.integers(0, 300))
def test_w2_whatever_a_line_holds(line, cut):
    found = decode(line)
    assert found is None or decode(encode(found)) == found
    if found is not None and cut < len(line):
        assert decode(line[:cut]) is None


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # who
        st.sampled_from(["fail", "fail", "well", "look", "shrink"]),
        st.sampled_from(["a", "b", "c"]),
        st.none() | st.integers(0, 12),  # system calls until the kill
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_w3_all_know_the_same_in_the_end(steps):
    disk, now = Disk(), 1e9
    processes = [Process(disk) for _ in range(3)]
    logs = [HostLog(p) for p in processes]
    known = [DeadHosts() for _ in range(3)]
    for who, what, host, fuse in steps:
        now += 1.0
        processes[who].fuse = fuse
        try:
            act(logs[who], known[who], what, host, now)
        except Killed:
            processes[who].kill()
            logs[who], known[who] = HostLog(processes[who]), DeadHosts()
        processes[who].fuse = None
    for log, facts in zip(logs, known, strict=True):
        hear(log, facts, now)
    truth = read_hosts(Process(disk), now).of("smtp")
    assert all(facts.of("smtp") == truth for facts in known)


def hear(log, facts, now):
    heard, whole = log.hear()
    for news in [*(facts.outdated(heard, now) if whole else ()), *heard]:
        facts.apply(news, now)


def act(log, facts, what, host, now):
    if what == "look":
        hear(log, facts, now)
    elif what == "shrink":
        log._shrink_at = 0
        log.shrink(now)
    else:
        news = News(now, "smtp", host, None)
        if what == "fail":
            news = facts.failed("smtp", host, Reply(421, "4.4.1", "refused"), now)
        log.tell([news])


def test_w4_the_log_is_kept_small(tmp_path, monkeypatch):
    monkeypatch.setattr(hostlog, "SHRINK_AT", 4000)
    log, facts = HostLog(Fs(str(tmp_path))), DeadHosts()
    for number in range(500):
        log.tell([facts.failed("smtp", f"h{number % 7}", Reply(421, "4.4.1", "no"), float(number))])
        hear(log, facts, float(number))
        log.shrink(float(number))
        (file,) = (tmp_path / "host").iterdir()
        assert file.stat().st_size < 3 * 4000
    assert read_hosts(Fs(str(tmp_path)), 500.0).of("smtp") == facts.of("smtp")


def test_a_shrink_forgets_what_is_long_past(tmp_path):
    log, facts = HostLog(Fs(str(tmp_path))), DeadHosts()
    log.tell([facts.failed("smtp", "old", Reply(421, "4.4.1", "no"), 0.0)])
    log.tell([facts.failed("smtp", "new", Reply(421, "4.4.1", "no"), ROW)])
    log._shrink_at = 0
    log.hear()
    assert log.shrink(ROW)
    assert list(read_hosts(Fs(str(tmp_path)), ROW).of("smtp")) == ["new"]


def test_without_a_log_nothing_is_known(tmp_path):
    assert not read_hosts(Fs(str(tmp_path)), 0.0).of("smtp")
