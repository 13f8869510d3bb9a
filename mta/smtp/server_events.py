"""What a listening session tells its driver, apart from the commands of commands.py."""

from __future__ import annotations

from mta.smtp.commands import AuthAnswer, AuthBegin, Etrn, MailFrom, RcptTo, Xclient
from mta.values import frozen

__all__ = [
    "AuthAnswer",
    "Chunk",
    "Closed",
    "DataBegin",
    "DataEnd",
    "Event",
    "Reset",
    "StartTls",
]


@frozen
class DataBegin:
    """DATA, or the first BDAT: may the body come?  354 (or 2yz) says so."""


@frozen
class Chunk:
    """Octets of the body: unstuffed, with CRLF line ends alone, unless it is BINARYMIME."""

    octets: bytes


@frozen
class DataEnd:
    """The body is whole; with a ``fault`` it is to be refused: see FAULTS."""

    fault: str


@frozen
class StartTls:
    """STARTTLS: 220, or why not now."""


@frozen
class Reset:
    """The open transaction, or exchange of AUTH, is gone."""


@frozen
class Closed:
    """The session is over: "quit", "errors", "refused", "protocol", or what lost() said."""

    reason: str


Event = (
    MailFrom
    | RcptTo
    | DataBegin
    | Chunk
    | DataEnd
    | StartTls
    | AuthBegin
    | AuthAnswer
    | Etrn
    | Xclient
    | Reset
    | Closed
)
