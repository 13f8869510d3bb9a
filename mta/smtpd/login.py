"""AUTH: the exchange between the engine and who knows the passwords.

Source   RFC 4954 s4, s6 (replies); s9 (failures are to cost time).
State    One exchange of one session; failures are counted by client, over all workers.

Invariants, each a test in tests/smtpd/test_login.py
    LG1  A failed login is answered after a second or more, and holds up nobody else.
    LG2  A client with too many failures in a minute is sent away before it is asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from mta.machine.authenticate import ACCEPTED, AuthFacts, Challenge, Denied, Granted
from mta.smtp.commands import AuthBegin
from mta.smtpd import replies
from mta.smtpd.counters import AUTH_FAILURES
from mta.types import Reply

if TYPE_CHECKING:
    from mta.machine.authenticate import Exchange, Step
    from mta.smtp.server_events import AuthAnswer
    from mta.smtpd.hall import Hall
    from mta.smtpd.session import Session

__all__ = ["Login", "step"]

WRONG = 535  # RFC 4954 s6: the name or the password
SHORTEST, LONGEST = 1.0, 3.0  # seconds before a failure is told
GIVEN_UP = Reply(501, "5.7.0", "authentication given up")
AWAY = Reply(454, "4.7.0", "temporary authentication failure")


class Login:
    """One exchange, and by which mechanism."""

    __slots__ = ("exchange", "mechanism")

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism
        self.exchange: Exchange | None = None

    def close(self) -> None:
        """Let it go, wherever it is."""
        if self.exchange is not None:
            self.exchange.close()


def step(session: Session, hall: Hall, event: AuthBegin | AuthAnswer) -> None:
    """Take what the engine heard; the answer follows once it is known."""
    if isinstance(event, AuthBegin):
        limit = hall.config.limits.auth_failures
        now = time.monotonic()
        if limit and hall.counters.rate(session.key, AUTH_FAILURES, now) >= limit:
            session.rejected("AUTH", replies.TOO_MANY_LOGINS)
            session.server.answer(replies.TOO_MANY_LOGINS)
            return
        session.exchange = Login(event.mechanism)
    session.wait(asyncio.get_running_loop().create_task(_run(session, hall, event)))


async def _run(session: Session, hall: Hall, event: AuthBegin | AuthAnswer) -> None:
    login, authenticator = session.exchange, hall.authenticator
    assert login is not None
    if authenticator is None:
        _take(session, hall, login, Denied(AWAY, "no passwords are known"))
        return
    try:
        if isinstance(event, AuthBegin):
            facts = AuthFacts("smtp", session.address, session.local, session.server.secured)
            began = await authenticator.begin(event.mechanism, event.initial, facts)
            login.exchange, came = began
        else:
            assert login.exchange is not None
            came = await login.exchange.proceed(event.octets)
    except Exception as error:
        hall.log.warning(f"authentication: {type(error).__name__}: {error}")
        came = Denied(AWAY, "a defect of ours")
    _take(session, hall, login, came)


def _take(session: Session, hall: Hall, login: Login, came: Step) -> None:
    if session.over:
        login.close()
        return
    if isinstance(came, Challenge):
        session.server.challenge(came.octets)
        session.go_on()
        return
    login.close()
    limit, now = hall.config.limits.auth_failures, time.monotonic()
    if limit and hall.counters.rate(session.key, AUTH_FAILURES, now) >= limit:
        # Others have failed meanwhile: right or wrong, nothing is to be learnt any more.
        came = Denied(replies.TOO_MANY_LOGINS, "too many failures meanwhile")
    if isinstance(came, Granted):
        session.login = session.server.authenticated = came.user
        session.server.answer(ACCEPTED)
        session.go_on()
        return
    session.exchange = None
    hall.log.auth_failed(session.client, login.mechanism, came.reason)
    if came.reply.code == WRONG:  # what was given up or misspelt guesses nothing
        hall.counters.add(session.key, AUTH_FAILURES, time.monotonic())
    session.later(
        SHORTEST + (LONGEST - SHORTEST) * random.random(),
        lambda: session.server.answer(came.reply),
    )
