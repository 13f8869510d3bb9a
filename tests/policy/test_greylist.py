import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.greylist import TEXTS, greylisted
from mta.types import Reply

TEXT = st.text(max_size=60).map(Reply.clean)


@given(st.integers(400, 599), st.sampled_from(TEXTS), TEXT, st.sampled_from(["7.1", "0.0"]))
def test_g1_only_450_and_451_are_greylisting(code, sign, text, detail):
    reply = Reply(code, f"{code // 100}.{detail}", Reply.clean(f"{text} {sign}"))
    assert greylisted(reply) == (code in (450, 451))


@given(st.sampled_from([450, 451]), st.sampled_from(TEXTS) | TEXT.filter(str.isascii))
def test_g2_case_does_not_matter(code, text):
    spelt = [Reply(code, "4.2.0", Reply.clean(t)) for t in (text.lower(), text.upper())]
    assert greylisted(spelt[0]) == greylisted(spelt[1])


@pytest.mark.parametrize(
    ("code", "status", "text", "grey"),
    [
        (450, "4.2.0", "<a@b.test>: Recipient address rejected: Greylisted", True),
        (451, "4.7.1", "Come another time", True),
        (451, "4.3.0", "Greylisting in action, please come back later", True),
        (451, "4.2.2", "mailbox is over quota", False),
        (452, "4.3.1", "no space, try again later", False),
        (421, "4.7.1", "too busy", False),
        (450, "4.1.1", "user unknown in local table", False),
    ],
)
def test_what_servers_say(code, status, text, grey):
    assert greylisted(Reply(code, status, text)) is grey
