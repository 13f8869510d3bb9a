from __future__ import annotations

from mta.smtp.server_acts import ACTS, ALONE, JUNK
from mta.smtp.server_states import ALLOWED, COMMAND_STATES, SEQUENCE, STATES, VERBS
from tests.smtp.listen import TERMS, greeted

# What brings a session into each state, and what each verb is tried with.
PATHS = {
    "start": None,
    "ready": (),
    "mail": ("MAIL FROM:<>",),
    "rcpt": ("MAIL FROM:<>", "RCPT TO:<a@b.c>"),
    "bdat": ("MAIL FROM:<>", "RCPT TO:<a@b.c>", "BDAT 0"),
}
LINES = {
    b"EHLO": "EHLO a",
    b"HELO": "HELO a",
    b"MAIL": "MAIL FROM:<>",
    b"RCPT": "RCPT TO:<a@b.c>",
    b"BDAT": "BDAT 0",
    b"VRFY": "VRFY a",
}


def test_every_verb_has_a_row_and_an_act() -> None:
    assert set(ACTS) == set(VERBS)
    assert set(VERBS) >= JUNK | ALONE
    assert set(SEQUENCE) == {(state, verb) for state in COMMAND_STATES for verb in VERBS}
    assert set(COMMAND_STATES) < set(STATES)


def test_a_command_out_of_its_turn_changes_nothing() -> None:
    """Every cell of the table, on the engine."""
    from tests.smtp.listen import Host

    for (state, verb), met in SEQUENCE.items():
        path = PATHS[state]
        host = Host(TERMS) if path is None else greeted()
        host.heard()
        host.say(*(path or ()))
        assert host.server.state == state
        before = list(host.events)
        replies = host.say(LINES.get(verb, verb.decode()))
        if met is ALLOWED:
            assert not any(reply.startswith("503") for reply in replies), (state, verb)
        else:
            assert replies == [str(met)], (state, verb)
            assert met.code == 503
            assert host.server.state == state
            assert host.events == before
