"""The client's half of AUTH: an exchange of octets, on lines of base64.

What goes wrong on our side of it is said with "*"; the server's answer to that
ends the authentication, and the session may go on without.

Source   RFC 4954 s4.
State    One authentication.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from mta.errors import RemoteProtocolError
from mta.smtp import fates
from mta.smtp.client_events import Exchange
from mta.smtp.grammar import WireReply, command
from mta.smtp.states import AUTH
from mta.types import HOST, Outcome, Reply

__all__ = ["Authentication"]

_COMMAND_MAX = 512  # RFC 4954 s4: a longer AUTH goes without its first answer


class Authentication:
    """One AUTH command and what follows it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._late: bytes | None = None  # the first answer, if an empty challenge must ask for it
        self._cancelled = ""

    def begin(self) -> bytes:
        """Return the AUTH command."""
        line = command(f"AUTH {self._exchange.mechanism}")
        first = self._exchange.initial()
        if first is None:
            return line
        longer = line[:-2] + b" " + (b2a_base64(first, newline=False) or b"=") + b"\r\n"
        if len(longer) <= _COMMAND_MAX:
            return longer
        self._late = first
        return line

    def answer(self, reply: WireReply) -> bytes:
        """Return the line that answers a challenge; RemoteProtocolError after we gave up."""
        if self._cancelled:
            raise RemoteProtocolError("a challenge after the authentication was given up")
        try:
            octets = a2b_base64(reply.lines[0].strip(b" "), strict_mode=True)
            if self._late is None:
                octets = self._exchange.step(octets)
            else:
                octets, self._late = self._late, None
        except (Base64Error, RemoteProtocolError) as error:
            self._cancelled = str(error)
            return b"*\r\n"
        return b2a_base64(octets, newline=False) + b"\r\n"

    def end(self, reply: WireReply) -> Outcome | None:
        """Return why the last reply is a refusal, None if it is not.

        Raises RemoteProtocolError if the server grants what was not yet proved.
        """
        if reply.severity == 2 and (self._late is not None or not self._exchange.complete):
            raise RemoteProtocolError("the server ends an authentication that is not over")
        if self._cancelled:
            text = Reply.clean(f"authentication given up: {self._cancelled}")
            return Outcome(Reply(421, "4.7.0", text), HOST)
        return None if reply.severity == 2 else fates.outcome(AUTH, reply)
