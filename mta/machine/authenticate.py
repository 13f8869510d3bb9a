"""Who a client is: AUTH on a listener, by a password file or by Dovecot.

    exchange, step = await authenticator.begin(mechanism, initial, facts)
        Challenge    send it; step = await exchange.proceed(answer), None if the client cancelled
        Granted      answer ACCEPTED: the client is step.user
        Denied       answer step.reply; reason and user are for the log
    exchange.close() when the session ends in between; it may always be called

Source   AUTH: RFC 4954.  By file: password_auth.py; by Dovecot: dovecot_auth.py.
State    One per process, made after any fork; what ``start`` read or greeted.

Invariants, each a property in tests/machine/test_authenticate.py
    J8   begin and proceed raise nothing, whatever becomes of the file or of Dovecot,
         and each Denied is one of REPLIES.
    J9   What is offered is what was configured and can be served, in that order.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable

from mta.errors import ConfigError
from mta.machine.auth_steps import (
    ACCEPTED,
    REPLIES,
    TEMPORARY,
    TOO_LONG,
    UNKNOWN,
    AuthFacts,
    Denied,
    Granted,
    Step,
    denied,
)
from mta.machine.dovecot_auth import Accepted, Answer, Dovecot, DovecotError, TooLong
from mta.machine.password_auth import FileExchange, PasswordAuth
from mta.machine.passwordfile import PasswordFile
from mta.smtp import sasl, steps
from mta.smtp.steps import WRONG, Challenge

__all__ = [
    "ACCEPTED",
    "REPLIES",
    "AuthFacts",
    "Authenticator",
    "Challenge",
    "Denied",
    "Exchange",
    "Granted",
    "Step",
]


class Authenticator:
    """Says who clients are; one per process."""

    def __init__(
        self,
        passwords: str,
        dovecot: str,
        mechanisms: tuple[str, ...],
        *,
        warn: Callable[[str], None],
        secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use the password file ``passwords`` or the socket ``dovecot``; "" is none.

        Raises ConfigError if both are given.
        """
        if passwords and dovecot:
            raise ConfigError("auth: either passwords or dovecot, not both")
        self._warn = warn
        self._wanted = tuple(name.upper() for name in mechanisms)
        self._file: PasswordAuth | None = None
        if passwords:
            self._file = PasswordAuth(PasswordFile(passwords, warn, clock), warn, secret)
        self._dovecot = Dovecot(dovecot) if dovecot else None
        self._told = ""  # what was last wrong with Dovecot

    async def start(self) -> None:
        """Read the file, or greet Dovecot.

        Raises ConfigError for a file that cannot be used.  A Dovecot that is away
        is only told of: it may come later.
        """
        if self._file is not None:
            self._file.file.load()
        if self._dovecot is not None:
            try:
                await self._dovecot.connect()
            except DovecotError as error:
                self.dovecot_failed(error)

    def close(self) -> None:
        """Let go of threads and connection."""
        if self._file is not None:
            self._file.close()
        if self._dovecot is not None:
            self._dovecot.close()

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What can be offered now, in the configured order; () means no AUTH at all."""
        able: tuple[str, ...] = ()
        if self._file is not None:
            able = self._file.mechanisms
        elif self._dovecot is not None:
            # one that never answered may come back: a client told 454 tries again,
            # one that sees no AUTH asks its user for another server
            able = self._dovecot.mechanisms or self._wanted
        return tuple([name for name in self._wanted if name in able])

    async def begin(
        self, mechanism: str, initial: bytes | None, facts: AuthFacts
    ) -> tuple[Exchange, Step]:
        """Begin an exchange; ``initial`` is None if none came with the AUTH command."""
        name = mechanism.upper()
        if name not in self.mechanisms:
            return _Over(), denied(UNKNOWN, "a mechanism that is not offered")
        if self._dovecot is not None:
            asked = _DovecotExchange(self, self._dovecot)
            return asked, await asked.begin(name, initial, facts)
        made = sasl.server(name, secrets.token_urlsafe(18))
        if self._file is None or made is None:
            return _Over(), denied(UNKNOWN, "a mechanism that is not known")
        exchange = self._file.exchange(made)
        return exchange, await exchange.begin(initial)

    def dovecot_failed(self, error: DovecotError) -> Denied:
        """Tell the operator of ``error``, once for as long as it lasts; return the refusal."""
        if self._told != str(error):
            self._told = str(error)
            self._warn(f"auth: {error}")
        return denied(TEMPORARY, str(error))

    def dovecot_answered(self) -> None:
        """Dovecot works: its next failure is news."""
        self._told = ""


class _Over:
    """An exchange that ended as it began."""

    async def proceed(self, octets: bytes | None) -> Step:
        """Refuse: there is nothing to go on with."""
        return denied(steps.MALFORMED, "an exchange that is over")

    def close(self) -> None:
        """Nothing to let go of."""


class _DovecotExchange:
    """One exchange that Dovecot judges."""

    def __init__(self, authenticator: Authenticator, dovecot: Dovecot) -> None:
        self._authenticator = authenticator
        self._question = dovecot.question()

    async def begin(self, mechanism: str, initial: bytes | None, facts: AuthFacts) -> Step:
        """Send AUTH."""
        words = ["service=smtp", "nologin"]
        words += [f"lip={facts.local}"] if facts.local else []
        words += [f"rip={facts.remote}"] if facts.remote else []
        words += ["secured"] if facts.secured else []
        return await self._react(self._question.begin(mechanism, initial, tuple(words)))

    async def proceed(self, octets: bytes | None) -> Step:
        """Send CONT, or CANCEL if the client cancelled."""
        if octets is None:
            self._question.cancel()
            return denied(steps.WITHDRAWN, steps.CANCELLED.reason)
        return await self._react(self._question.proceed(octets))

    def close(self) -> None:
        """Let Dovecot forget what was not finished."""
        self._question.cancel()

    async def _react(self, asked: Awaitable[Answer]) -> Step:
        try:
            answer = await asked
        except DovecotError as error:
            return self._authenticator.dovecot_failed(error)
        except TooLong:
            self._question.cancel()
            return denied(TOO_LONG, "more than Dovecot can be asked in a line")
        self._authenticator.dovecot_answered()
        if isinstance(answer, Accepted):
            return Granted(answer.user)
        if isinstance(answer, Challenge):
            return answer
        return denied(TEMPORARY if answer.temporary else WRONG, answer.reason, answer.user)


Exchange = _Over | FileExchange | _DovecotExchange
