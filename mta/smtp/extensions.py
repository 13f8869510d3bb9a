"""Extensions: what a server says that it can, and what a message needs of it.

A message whose needs are not met fails at once, with a reply that names the
need: sending it anyway would break RFC 6152 or RFC 6531, and waiting would not
help.  What a server cannot pass on (a wish for DSNs) is left out instead.

Source   Keywords: RFC 5321 s4.1.1.1.  SIZE: RFC 1870.  8BITMIME: RFC 6152.
         PIPELINING: RFC 2920.  SMTPUTF8: RFC 6531.  CHUNKING, BINARYMIME: RFC
         3030.  DSN, xtext: RFC 3461 s4; utf-8-addr-xtext: RFC 6533 s3.  LIMITS:
         RFC 9422.  REQUIRETLS: RFC 8689 s4.2.1.  Statuses 5.6.3, 5.6.7, 5.3.4:
         RFC 3463 and RFC 6531 s3.5; 5.7.30: RFC 8689 s8.
Units    Sizes are octets.

Invariants, each a property in tests/smtp/test_extensions.py
    E1   Any lines parse; what is not well-formed is passed over.
    E2   A parameter goes out only if its extension was offered.
    E3   Any text comes out as xtext that reads back the same, without space or control.
"""

from __future__ import annotations

import re

from mta.smtp.grammar import WireReply
from mta.types import MESSAGE, RECIPIENT, Mailbox, NullPath, Outcome, Reply, ReversePath
from mta.values import frozen

__all__ = [
    "NO_EXTENSIONS",
    "Extensions",
    "Transaction",
    "mail_parameters",
    "over_limit",
    "parse",
    "rcpt_parameters",
    "unmet",
    "xtext",
]

_KEYWORD = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?")  # "AUTH=LOGIN" is old, and met
_SIZE = re.compile(r"[0-9]{1,20}")
_LIMIT = re.compile(r"(MAILMAX|RCPTMAX|RCPTDOMAINMAX)=([1-9][0-9]{0,5})", re.IGNORECASE)
_NOT_XCHAR = re.compile(r"[^!-*,-<>-~]")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
ENVID_MAX = 100  # RFC 3461 s4.4
ORCPT_MAX = 500  # RFC 3461 s4.2


@frozen
class Extensions:
    """What EHLO offered.  ``size`` 0: no fixed limit; None: the extension is not offered.

    ``auth`` are mechanisms; the three limits of RFC 9422 are 0 if none was said.
    ``keywords`` is all of it, upper case, in the server's order.
    """

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    size: int | None = None
    keywords: tuple[tuple[str, str], ...] = ()
    starttls: bool = False
    chunking: bool = False
    binary: bool = False
    dsn: bool = False
    requiretls: bool = False
    auth: tuple[str, ...] = ()
    mail_max: int = 0
    rcpt_max: int = 0
    rcpt_domain_max: int = 0


NO_EXTENSIONS = Extensions()


@frozen
class Transaction:
    """One message for one server: what goes into MAIL and RCPT.

    ``size`` is the octets of the body before dot-stuffing, 0 if unknown.
    ``dsn`` is (NOTIFY, ORCPT) of each recipient, or ().  ``binary`` implies
    ``eight_bit``, and that ``size`` is known.
    """

    reverse_path: ReversePath
    recipients: tuple[Mailbox, ...]
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    binary: bool = False
    requiretls: bool = False
    ret: str = ""
    envid: str = ""
    dsn: tuple[tuple[str, str], ...] = ()


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
    limits = _limits(keywords.get("LIMITS", ""))
    return Extensions(
        pipelining="PIPELINING" in keywords,
        eight_bit="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        size=size,
        keywords=tuple(keywords.items()),
        starttls="STARTTLS" in keywords,
        chunking="CHUNKING" in keywords,
        binary="BINARYMIME" in keywords and "CHUNKING" in keywords,
        dsn="DSN" in keywords,
        requiretls="REQUIRETLS" in keywords,
        auth=tuple(keywords.get("AUTH", "").upper().split()),
        mail_max=limits.get("MAILMAX", 0),
        rcpt_max=limits.get("RCPTMAX", 0),
        rcpt_domain_max=limits.get("RCPTDOMAINMAX", 0),
    )


def _limits(value: str) -> dict[str, int]:
    """Return the limits that RFC 9422 s4 names; others, and what is malformed, are ignored."""
    found = [_LIMIT.fullmatch(word) for word in value.split()]
    return {limit[1].upper(): int(limit[2]) for limit in found if limit is not None}


def _international(transaction: Transaction) -> bool:
    """True if SMTPUTF8 must be asked for: the message says so, or an address is not ASCII."""
    if transaction.smtputf8:
        return True
    path = transaction.reverse_path
    boxes = (
        transaction.recipients if isinstance(path, NullPath) else (path, *transaction.recipients)
    )
    return not all(box.local.isascii() and box.domain.isascii() for box in boxes)


def unmet(offered: Extensions, transaction: Transaction, verified: bool = False) -> Outcome | None:
    """Return the failure of a message that this server cannot take, None if it can.

    ``verified``: the session is under TLS, and the server is who it should be.
    """
    if offered.size and transaction.size > offered.size:
        text = f"message of {transaction.size} octets; this host takes {offered.size}"
        return Outcome(Reply(552, "5.3.4", text), MESSAGE)
    if transaction.binary and not offered.binary:
        text = "message is binary; this host does not offer BINARYMIME"
        return Outcome(Reply(554, "5.6.3", text), MESSAGE)
    if transaction.eight_bit and not (offered.eight_bit or transaction.binary):
        text = "message has 8-bit octets; this host does not offer 8BITMIME"
        return Outcome(Reply(554, "5.6.3", text), MESSAGE)
    if not offered.smtputf8 and _international(transaction):
        text = "message or address is internationalized; this host does not offer SMTPUTF8"
        return Outcome(Reply(553, "5.6.7", text), MESSAGE)
    if transaction.requiretls and not (offered.requiretls and verified):
        return _no_requiretls(verified)
    return None


def _no_requiretls(verified: bool) -> Outcome:
    if verified:
        text = "message requires TLS all its way; this host does not offer REQUIRETLS"
        return Outcome(Reply(550, "5.7.30", text), MESSAGE)
    text = "message requires TLS; this connection is not encrypted to a verified host"
    return Outcome(Reply(550, "5.7.10", text), MESSAGE)


def over_limit(offered: Extensions) -> Outcome:
    """Return the deferral of a recipient beyond RCPTMAX (RFC 9422 s4.2)."""
    text = f"this host takes {offered.rcpt_max} recipients with a message"
    return Outcome(Reply(452, "4.5.3", text), RECIPIENT)


def mail_parameters(offered: Extensions, transaction: Transaction) -> str:
    """Return the parameters of MAIL, each with a space before it."""
    words = ""
    if offered.size is not None and transaction.size:
        words += f" SIZE={transaction.size}"
    if offered.binary and transaction.binary:
        words += " BODY=BINARYMIME"
    elif offered.eight_bit and transaction.eight_bit:
        words += " BODY=8BITMIME"
    if offered.smtputf8 and _international(transaction):
        words += " SMTPUTF8"
    if offered.requiretls and transaction.requiretls:
        words += " REQUIRETLS"
    if offered.dsn and (transaction.ret or transaction.envid):
        words += f" RET={transaction.ret}" if transaction.ret else ""
        envid = xtext(transaction.envid)
        if envid and len(envid) <= ENVID_MAX and transaction.envid.isascii():
            words += f" ENVID={envid}"
    return words


def rcpt_parameters(offered: Extensions, transaction: Transaction, at: int) -> str:
    """Return the parameters of RCPT for recipient ``at``, each with a space before it."""
    if not offered.dsn or not transaction.dsn:
        return ""
    notify, original = transaction.dsn[at]
    words = f" NOTIFY={notify}" if notify else ""
    kind, semicolon, address = original.partition(";")
    if semicolon and address:
        if not address.isascii():
            kind = "utf-8"
        text = f"{kind};{xtext(address, kind.lower() == 'utf-8')}"
        words += f" ORCPT={text}" if len(text) <= ORCPT_MAX else ""
    return words


def xtext(text: str, unicode: bool = False) -> str:
    """Return ``text`` in RFC 3461's encoding, or with ``unicode`` in RFC 6533's for addresses.

    The latter is ASCII, too, and so fit for every server; the former has no way
    to say what is beyond ASCII, and encodes its UTF-8.
    """
    if unicode:
        return _NOT_QCHAR.sub(lambda c: f"\\x{{{ord(c[0]):02X}}}", text)
    return _NOT_XCHAR.sub(lambda c: "".join([f"+{octet:02X}" for octet in c[0].encode()]), text)
