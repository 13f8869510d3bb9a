"""What the two ends of a channel conversation tell each other, as values.

Source   man/channel.7.
Units    ``size`` octets; ``arrived`` seconds since the epoch; ``tag`` the number
         that deliver gave the job for this conversation; ``index`` a
         recipient's index within its message.
"""

from __future__ import annotations

from mta.types import Host, Outcome, Recipient, Reply, ReversePath
from mta.values import frozen

__all__ = [
    "ALL",
    "EACH",
    "FD",
    "INLINE",
    "AddressFact",
    "Answer",
    "Avoid",
    "Dispatch",
    "Done",
    "Opening",
    "Part",
    "Quit",
    "TlsFact",
    "Told",
]

EACH = "each"  # an outcome stands from the moment it is told
ALL = "all"  # the outcomes of a job stand when ``done`` is told, and not before
FD = "fd"  # the body comes as a descriptor with ``send``
INLINE = "inline"  # the body comes as octets after ``body``


@frozen
class Opening:
    """What deliver tells a program first: where it stands, and its options in order."""

    channel: str
    queue: str
    hostname: str
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str, default: str = "") -> str:
        """Return the last value of option ``name``, or ``default``."""
        return ([v for n, v in self.options if n == name] or [default])[-1]

    def every(self, name: str) -> tuple[str, ...]:
        """Return all values of option ``name`` in order: how a list is given."""
        return tuple([v for n, v in self.options if n == name])


@frozen
class Answer:
    """How a program works: ``settles`` EACH or ALL, ``jobs`` at once, ``body`` FD or INLINE.

    ``params``: it takes ``param`` lines, and the flags that came with them;
    ``addresses``: it tells of addresses, and heeds what it is told of them.
    """

    settles: str
    jobs: int
    body: str = FD
    params: bool = False
    addresses: bool = False


@frozen
class Dispatch:
    """One job as it is handed to a channel program, with the recipients it shall do.

    ``ret``, ``envid``, ``requiretls`` and ``binary`` are as in the spool's envelope.
    """

    tag: int
    id: str
    reverse_path: ReversePath
    size: int
    arrived: float
    host: Host
    next_hop: str
    eight_bit: bool
    smtputf8: bool
    recipients: tuple[Recipient, ...]
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    binary: bool = False

    def params(self) -> list[tuple[int | str, str, str]]:
        """Return what ``param`` lines tell: index or "*", name, value."""
        told: list[tuple[int | str, str, str]] = []
        told += [("*", "ret", self.ret)] if self.ret else []
        told += [("*", "envid", self.envid)] if self.envid else []
        for r in self.recipients:
            told += [(r.index, "notify", r.notify)] if r.notify else []
            told += [(r.index, "orcpt", r.orcpt)] if r.orcpt else []
        return told


@frozen
class Told:
    """What became of the recipients ``indexes`` of job ``tag``; ``relay`` is who said so, or "".

    ``passed``: the server that took them was told what DSNs they want (RFC 3461).
    """

    tag: int
    indexes: tuple[int, ...]
    outcome: Outcome
    relay: str = ""
    passed: bool = False


@frozen
class TlsFact:
    """A connection of the program's: ``result`` "" for success, or RFC 8460's word for a failure.

    ``policy`` is where the demand came from or what it was ("may", "verify",
    "dane", "sts"…), ``protocol`` "" if it went on in the clear, ``level`` "" or what
    the certificate was worth: none, encrypted, trusted, verified.
    """

    domain: str
    host: str
    policy: str
    result: str
    protocol: str
    cipher: str
    level: str = ""


@frozen
class AddressFact:
    """At ``address``, "[192.0.2.1]:25", somebody answered (2yz), or nobody did (4yz)."""

    address: str
    reply: Reply


@frozen
class Avoid:
    """Leave ``what``, an address or a host, alone for ``seconds``; for 0 it is well again."""

    what: str
    seconds: int
    reply: Reply


@frozen
class Done:
    """Job ``tag`` is finished: every recipient of it has been told, the body is closed."""

    tag: int


@frozen
class Part:
    """Some octets of the inline body of job ``tag``, in order; ``last`` when it is complete."""

    tag: int
    octets: bytes
    last: bool


@frozen
class Quit:
    """deliver will send no more jobs: finish those in flight and exit 0."""
