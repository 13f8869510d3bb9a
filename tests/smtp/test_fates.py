from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp import fates
from mta.smtp.grammar import WireReply
from mta.smtp.states import RCPT, STATES, TRANSITIONS
from mta.types import HOST, MESSAGE

TEXT = st.sampled_from([b"", b"no", b"5.1.1 no", b"4.2.0 later", b"2.0.0 yes", b"9.9.9 odd"])


@given(st.sampled_from(sorted(fates.SCOPES)), st.integers(0, 99), TEXT, st.booleans())
def test_f1_f2_degree_and_status(
    row: tuple[str, int], low: int, text: bytes, accepted: bool
) -> None:
    phase, severity = row
    given_reply = WireReply(severity * 100 + low, (text,))
    outcome = fates.outcome(phase, given_reply, accepted)
    reply = outcome.reply
    if outcome.scope == HOST:
        assert reply.transient
    elif not (phase == RCPT and given_reply.code == 552):
        assert reply.code == given_reply.code
    assert reply.status.startswith(f"{reply.code // 100}.")
    assert len(reply.status.split(".")) == 3


@pytest.mark.parametrize("phase", STATES)
def test_f1_a_lost_connection_defers(phase: str) -> None:
    sending = phase in ("body", "final", "bdat")
    assert fates.lost(phase, "gone").scope == (MESSAGE if sending else HOST)
    assert fates.protocol_error(phase, "gone").scope == HOST
    for outcome in (fates.lost(phase, "gone"), fates.protocol_error(phase, "x" * 900)):
        assert outcome.reply.transient
        assert len(outcome.reply.text) <= 500


def test_every_refusal_that_can_come_has_a_scope() -> None:
    for (phase, severity), _ in TRANSITIONS.items():
        if severity in (4, 5) and phase not in ("quit", "body"):  # body: as final
            assert (phase, severity) in fates.SCOPES
