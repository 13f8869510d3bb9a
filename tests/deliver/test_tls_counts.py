from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.channel.records import TlsFact
from mta.deliver import tls_counts
from mta.deliver.tls_counts import PERIOD, TlsCounts
from tests.deliver.fakes import Log

FACTS = st.lists(
    st.builds(
        TlsFact,
        st.sampled_from("abcdef"),
        st.just("mx[192.0.2.1]:25"),
        st.sampled_from(["may", "sts"]),
        st.sampled_from(["", "", "certificate-expired", "validation-failure", "x", "y"]),
        st.sampled_from(["", "TLSv1.3"]),
        st.just("AES"),
    )
)


@given(FACTS, st.integers(0, 40))
def test_t1_what_is_written_is_what_was_told(facts, cut):
    log = Log()
    counts = TlsCounts(log, 0.0)
    for number, fact in enumerate(facts):
        if number == cut:
            counts.write()
        counts.note(fact)
    counts.write()
    counts.write()
    assert len(log.of("tls")) == len(facts)
    written, told = Counter(), Counter()
    for domain, policy, successful, failures in log.of("tls_counters"):
        written[domain, policy, ""] += successful
        for word, count in failures.items():
            written[domain, policy, word] += count
    for fact in facts:
        if fact.result or fact.protocol:
            told[fact.domain, fact.policy, fact.result] += 1
    assert +written == told


def test_t2_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tls_counts, "DOMAINS", 3)
    monkeypatch.setattr(tls_counts, "WORDS", 2)
    log = Log()
    counts = TlsCounts(log, 0.0)
    for number in range(50):
        fact = TlsFact(f"d{number}", "mx", "may", f"w{number}", "", "")
        counts.note(fact)
    counts.write()
    written = {domain: failures for domain, _, _, failures in log.of("tls_counters")}
    assert set(written) == {"d0", "d1", "d2", "*"}
    assert written["*"] == {"w3": 1, "w4": 1, "*": 45}


def test_they_are_written_once_an_hour():
    log = Log()
    counts = TlsCounts(log, 100.0)
    counts.note(TlsFact("d", "mx", "may", "", "TLSv1.3", "AES"))
    counts.tick(100.0 + PERIOD - 1)
    assert not log.of("tls_counters")
    counts.tick(100.0 + PERIOD)
    counts.tick(100.0 + PERIOD + 1)
    assert log.of("tls_counters") == [("d", "may", 1, {})]
