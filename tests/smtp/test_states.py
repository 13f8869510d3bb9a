from __future__ import annotations

from mta.smtp.states import (
    AUTH,
    BANNER,
    BDAT,
    BODY,
    CLOSED,
    CONNECT,
    EHLO,
    FINAL,
    GREETED,
    LHLO,
    LIMITS,
    MAIL,
    QUIT,
    READY,
    STARTTLS,
    STATES,
    TLS,
    TRANSITIONS,
)


def test_every_state_has_a_time_limit() -> None:
    assert set(LIMITS) == set(STATES)
    assert all(limit > 0 for limit in LIMITS.values())


def test_time_limits_are_at_least_the_minimum_of_rfc_5321() -> None:
    for state, minimum in (("banner", 300), ("mail", 300), ("rcpt", 300), ("data", 120)):
        assert LIMITS[state] >= minimum
    assert LIMITS["body"] >= 180
    assert LIMITS["final"] >= 600


def test_all_states_are_reached_and_all_can_end() -> None:
    # begin() and finish() and quit() are the steps that are ours, not the server's
    steps = {(state, to) for (state, _), to in TRANSITIONS.items()}
    steps |= {(CONNECT, BANNER), (READY, MAIL), (READY, QUIT), (BODY, FINAL), (BODY, BDAT)}
    steps |= {(GREETED, READY), (GREETED, STARTTLS), (GREETED, AUTH), (TLS, EHLO), (BANNER, LHLO)}
    reached = {CONNECT}
    while more := {to for state, to in steps if state in reached} - reached:
        reached |= more
    assert reached == set(STATES)
    ending = {CLOSED}
    while more := {state for state, to in steps if to in ending} - ending:
        ending |= more
    assert ending == set(STATES)


def test_only_refusals_and_quit_close() -> None:
    for (state, severity), to in TRANSITIONS.items():
        assert to != CLOSED or severity in (4, 5) or state == QUIT
