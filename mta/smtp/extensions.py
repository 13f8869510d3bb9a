"""Extensions: what a server says that it can, and what a message needs of it.

A message whose needs are not met fails at once, with a reply that names the
need: sending it anyway would break RFC 6152 or RFC 6531, and waiting would not
help.  (A 7-bit downgrade may come; it is not done silently.)

Source   Keywords: RFC 5321 s4.1.1.1.  SIZE: RFC 1870.  8BITMIME: RFC 6152.
         PIPELINING: RFC 2920.  SMTPUTF8: RFC 6531.  Statuses 5.6.3, 5.6.7,
         5.3.4: RFC 3463 and RFC 6531 s3.5.
Units    Sizes are octets.

Invariants, each a property in tests/smtp/test_extensions.py
    E1   Any lines parse; what is not well-formed is passed over.
    E2   A parameter goes out only if its extension was offered.
"""

from __future__ import annotations

import re

from mta.smtp.grammar import WireReply
from mta.types import MESSAGE, Mailbox, NullPath, Outcome, Reply, ReversePath
from mta.values import frozen

__all__ = ["NO_EXTENSIONS", "Extensions", "Transaction", "mail_parameters", "parse", "unmet"]

_KEYWORD = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?")  # "AUTH=LOGIN" is old, and met
_SIZE = re.compile(r"[0-9]{1,20}")


@frozen
class Extensions:
    """What EHLO offered.  ``size`` 0: no fixed limit; None: the extension is not offered.

    ``keywords`` is all of it, upper case, in the server's order.
    """

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    size: int | None = None
    keywords: tuple[tuple[str, str], ...] = ()


NO_EXTENSIONS = Extensions()


@frozen
class Transaction:
    """One message for one server: what goes into MAIL and RCPT.

    ``size`` is the octets of the body before dot-stuffing, 0 if unknown.
    """

    reverse_path: ReversePath
    recipients: tuple[Mailbox, ...]
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False


def parse(reply: WireReply) -> Extensions:
    """Return what a 2yz reply to EHLO offers; its first line is only a greeting."""
    keywords: dict[str, str] = {}
    for line in reply.lines[1:]:
        found = _KEYWORD.fullmatch(line.rstrip(b" "))
        if found is not None:
            value = (found[2] or b"").decode("latin-1")
            keywords.setdefault(found[1].decode("ascii").upper(), value)
    size: int | None = None
    if "SIZE" in keywords:
        size = int(keywords["SIZE"]) if _SIZE.fullmatch(keywords["SIZE"]) else 0
    return Extensions(
        pipelining="PIPELINING" in keywords,
        eight_bit="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        size=size,
        keywords=tuple(keywords.items()),
    )


def _international(transaction: Transaction) -> bool:
    """True if SMTPUTF8 must be asked for: the message says so, or an address is not ASCII."""
    if transaction.smtputf8:
        return True
    path = transaction.reverse_path
    boxes = (
        transaction.recipients if isinstance(path, NullPath) else (path, *transaction.recipients)
    )
    return not all(box.local.isascii() and box.domain.isascii() for box in boxes)


def unmet(offered: Extensions, transaction: Transaction) -> Outcome | None:
    """Return the failure of a message that this server cannot take, None if it can."""
    if offered.size and transaction.size > offered.size:
        text = f"message of {transaction.size} octets; this host takes {offered.size}"
        return Outcome(Reply(552, "5.3.4", text), MESSAGE)
    if transaction.eight_bit and not offered.eight_bit:
        text = "message has 8-bit octets; this host does not offer 8BITMIME"
        return Outcome(Reply(554, "5.6.3", text), MESSAGE)
    if not offered.smtputf8 and _international(transaction):
        text = "message or address is internationalized; this host does not offer SMTPUTF8"
        return Outcome(Reply(553, "5.6.7", text), MESSAGE)
    return None


def mail_parameters(offered: Extensions, transaction: Transaction) -> str:
    """Return the parameters of MAIL, each with a space before it."""
    words = ""
    if offered.size is not None and transaction.size:
        words += f" SIZE={transaction.size}"
    if offered.eight_bit and transaction.eight_bit:
        words += " BODY=8BITMIME"
    if offered.smtputf8 and _international(transaction):
        words += " SMTPUTF8"
    return words
