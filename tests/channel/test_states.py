from __future__ import annotations

import pytest

from mta.channel.records import FD, INLINE
from mta.channel.states import FROM_DELIVER, FROM_PROGRAM, JOB, SESSION, walk
from mta.errors import RemoteProtocolError


def reachable(table: dict[tuple[str, str], str], start: str) -> set[str]:
    found = {start}
    while True:
        more = {to for (at, _), to in table.items() if at in found} - found
        if not more:
            return found
        found |= more


@pytest.mark.parametrize(
    ("table", "start", "end"),
    [
        (SESSION, "silent", "closing"),
        (JOB[FD], "absent", "absent"),
        (JOB[INLINE], "absent", "absent"),
    ],
)
def test_a1_every_state_is_reached_and_leads_to_the_end(
    table: dict[tuple[str, str], str], start: str, end: str
) -> None:
    states = {at for at, _ in table} | set(table.values())
    assert reachable(table, start) == states
    assert all(end in reachable(table, state) for state in states)


def test_a2_every_word_is_one_ends() -> None:
    words = {word for _, word in SESSION}
    assert words == FROM_DELIVER | FROM_PROGRAM
    assert not FROM_DELIVER & FROM_PROGRAM
    assert {word for _, word in (*JOB[FD], *JOB[INLINE])} <= words


def test_what_is_not_in_the_table_is_an_error_that_names_both() -> None:
    for state in {at for at, _ in SESSION}:
        for word in FROM_DELIVER | FROM_PROGRAM:
            if (state, word) in SESSION:
                assert walk(SESSION, state, word) == SESSION[state, word]
            else:
                with pytest.raises(RemoteProtocolError, match=f"{word}.*{state}"):
                    walk(SESSION, state, word)
