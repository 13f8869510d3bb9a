import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.status import Status, parse, suited
from mta.types import Reply

STATUS = st.builds(Status, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999))


@given(STATUS)
def test_e1_parse_reads_back_what_str_wrote(status):
    assert parse(str(status)) == status


@given(st.integers(200, 599), st.text(max_size=12) | STATUS.map(str))
def test_e2_the_suited_status_is_valid_and_of_the_codes_class(code, text):
    kind = parse(suited(Reply(code, text, ""))).kind
    assert kind == (code // 100 if code // 100 in (2, 4, 5) else 5)


@pytest.mark.parametrize(
    "text",
    ["", "5", "5.1", "5.1.1.1", "3.1.1", "5.01.1", "5.1.1000", "5.-1.1", "5.1.x", "5.1.\u0663"],
)
def test_what_is_no_status_is_refused(text):
    with pytest.raises(ValueError, match="RFC 3463"):
        parse(text)


def test_the_hosts_own_status_is_kept_only_where_it_agrees():
    assert suited(Reply(550, "5.7.1", "")) == "5.7.1"
    assert suited(Reply(550, "4.7.1", "")) == "5.1.1"
    assert suited(Reply(599, "", "")) == "5.0.0"
