"""The words: what every room of the house speaks of.

All are immutable values.  ``str`` fields hold no control characters: whoever
makes a Mailbox, a Reply or a Host from foreign octets checks that first
(``address.parse_mailbox``, ``Reply.clean``).

Source   Mailbox, reverse-path: RFC 5321 s4.1.2.  Reply: RFC 5321 s4.2 and the
         enhanced status of RFC 3463.  Outcome's scope: whom a reply is about.
Units    Times are float seconds since the epoch unless a name says otherwise.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from typing import Literal

    Scope = Literal["recipient", "message", "host", "channel"]
    State = Literal["pending", "deferred", "delivered", "failed"]
    Kind = Literal["urgent", "normal", "bulk"]
else:
    Scope = State = Kind = str

__all__ = [
    "BULK",
    "CHANNEL",
    "DEFERRED",
    "DELIVERED",
    "FAILED",
    "FINAL",
    "HOST",
    "KINDS",
    "MESSAGE",
    "NORMAL",
    "NULL_PATH",
    "PENDING",
    "PLAIN",
    "RECIPIENT",
    "URGENT",
    "Host",
    "Job",
    "Kind",
    "Mailbox",
    "NullPath",
    "Outcome",
    "Recipient",
    "Reply",
    "ReversePath",
    "Scope",
    "State",
    "Wishes",
]

Host = str  # the next hop's name, lower case; "" for mail that goes to this machine itself

RECIPIENT: Scope = "recipient"
MESSAGE: Scope = "message"
HOST: Scope = "host"
CHANNEL: Scope = "channel"

PENDING: State = "pending"
DEFERRED: State = "deferred"
DELIVERED: State = "delivered"
FAILED: State = "failed"
FINAL = (DELIVERED, FAILED)

URGENT: Kind = "urgent"
NORMAL: Kind = "normal"
BULK: Kind = "bulk"
KINDS = (URGENT, NORMAL, BULK)

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ATEXT = frozenset(_LETTERS + _LETTERS.upper() + "0123456789!#$%&'*+-/=?^_`{|}~.")


@frozen
class Mailbox:
    """``local@domain``.  ``local`` is without quoting; ``domain`` is lower case.

    ``str()`` gives the RFC 5321 form, with the local part quoted where it must be.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local
        plain = all(c in _ATEXT or c > "\x7f" for c in local)
        if not plain or not local or local[0] == "." or local[-1] == "." or ".." in local:
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}"


@frozen
class NullPath:
    """The null reverse-path ``<>``: mail that must never be answered by a DSN."""

    def __str__(self) -> str:
        return ""


NULL_PATH = NullPath()
ReversePath = Mailbox | NullPath


@frozen
class Reply:
    """A reply as SMTP gives it: ``code`` 250, ``status`` "2.1.5", ``text`` one clean line."""

    code: int
    status: str
    text: str

    @property
    def positive(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        """4yz: may be tried again."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: never to be tried again."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"

    @staticmethod
    def clean(text: str, limit: int = 500) -> str:
        """Return foreign ``text`` as one printable line of at most ``limit`` characters."""
        line = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
        return " ".join(line.split())[:limit]


@frozen
class Outcome:
    """What became of a delivery: the degree is the reply's code, the scope whom it is about."""

    reply: Reply
    scope: Scope = "recipient"


@frozen
class Recipient:
    """One recipient of a message; ``index`` is unique within the message.

    ``action`` is "" for a mailbox; "|command" or "/file" only when an alias or a
    forward file of this machine said so, never from an address.  ``original``
    is the address as it was submitted, where an alias changed it.  ``notify``
    and ``orcpt`` are as RFC 3461 s4.1 and s4.2 ask for DSNs: "NEVER", or some of
    "SUCCESS,FAILURE,DELAY", and "rfc822;bob@x.test", decoded; "" if not given.
    """

    index: int
    mailbox: Mailbox
    action: str = ""
    original: Mailbox | None = None
    notify: str = ""
    orcpt: str = ""


@frozen
class Job:
    """One message for one next-hop host on one channel: what a queue holds.

    ``next_hop`` is "" or where a table row sends ``host``, as "name:port".
    ``reverse_path`` is the job's own: an alias with an owner changes it.
    """

    number: int
    queue: str
    channel: str
    host: Host
    next_hop: str
    reverse_path: ReversePath
    recipients: tuple[Recipient, ...]


@frozen
class Wishes:
    """What a message asks for on its way, beside its recipients, and where it came from.

    ``origin`` is for the log.  ``ret`` and ``envid`` are as RFC 3461 has them, decoded;
    ``requiretls`` is RFC 8689's; ``binary`` says that the body is BINARYMIME (RFC 3030).
    ``kind`` "" and ``precedence`` None: as the header says.  ``expires`` is the wall
    time at which it is given up, 0.0 where the channel decides; ``mode`` is "queue"
    for a message that no deliver is to be woken for.  ``pinned``: an operator chose its
    way, which stands whatever the channel table says.
    """

    origin: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    binary: bool = False
    kind: Kind | str = ""
    precedence: int | None = None
    expires: float = 0.0
    mode: str = ""
    pinned: bool = False


PLAIN = Wishes()
