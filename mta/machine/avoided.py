"""Addresses at which nobody answers, as deliver tells of them, and what it is told of others.

Source   channel(7): the words "avoid" and "address".
Units    Seconds of the loop's monotonic clock.
State    Until when each address is left alone; REMEMBERED_MAX of them.  One whose time is
         over stays until somebody answers there: deliver wants to hear of that.
"""

from __future__ import annotations

from mta.channel.records import AddressFact, Avoid
from mta.machine.exchangers import MxHost
from mta.machine.net import numeric
from mta.machine.places import Failure, Place
from mta.machine.smtp_session import Connection, Owner
from mta.machine.targets import Target
from mta.types import HOST, Outcome, Reply

__all__ = ["Avoided"]

REMEMBERED_MAX = 10_000
SILENT = ("4.4.1", "4.4.2")  # not reached, or lost: not a refusal that may be about us or a name
ANSWERS = Reply(250, "2.0.0", "answers")


class Avoided:
    """What is known of addresses, as "[192.0.2.1]:25"."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[float, Reply]] = {}

    def heed(self, told: Avoid, now: float) -> None:
        """Take in what deliver says."""
        self._until.pop(told.what, None)
        if told.seconds:
            self._add(told.what, now + told.seconds, told.reply)

    def _add(self, word: str, until: float, reply: Reply) -> None:
        self._until[word] = until, reply
        if len(self._until) > REMEMBERED_MAX:
            del self._until[next(iter(self._until))]

    def sift(
        self, pairs: list[tuple[MxHost, str]], target: Target, now: float
    ) -> tuple[list[tuple[MxHost, str]], Failure | None]:
        """Return those of ``pairs`` that may be tried, and the answer if none may."""
        if not self._until:
            return pairs, None
        kept, failure = [], None
        for host, address in pairs:
            until, reply = self._until.get(_word(address, target.port), (0.0, ANSWERS))
            if now >= until:
                kept.append((host, address))
            else:
                relay = Place(numeric(host.name) or host.name, address, target.port).relay
                failure = Failure(Outcome(reply, HOST), relay)
        return kept, failure

    def learn(
        self, found: Connection | Failure, address: str, port: int, owner: Owner
    ) -> AddressFact | None:
        """Return what deliver is to be told of an attempt at ``address``; None for nothing."""
        word = _word(address, port)
        if not word:
            return None
        if isinstance(found, Connection):
            return AddressFact(word, ANSWERS) if self._until.pop(word, None) else None
        reply, scope = found.outcome.reply, found.outcome.scope
        if scope != HOST or reply.status not in SILENT or found.tls is not None:
            return None
        if any(connection.relay.endswith(word) for connection in owner.connections):
            return None  # it has as many as it wants, perhaps
        self._add(word, 0.0, reply)
        return AddressFact(word, reply)


def _word(address: str, port: int) -> str:
    """Return the word for an address; "" for a Unix socket, which nobody else shares."""
    return "" if "/" in address else f"[{address}]:{port}"
