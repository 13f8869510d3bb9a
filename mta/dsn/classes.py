"""Bounce classes: what kind of trouble a reply tells of, in one word, for people and for counting.

Enhanced statuses say it where they are used with care; large hosts put most of
what they refuse under a few vague ones (5.7.1, 5.5.0), so their words count,
too.  One table, in order: the first row that fits names the class.

Source   RFC 3463 and the IANA registry of enhanced status codes; what large hosts
         say, one example a row at least in tests/dsn/examples.txt.

Invariants, each a property in tests/dsn/test_classes.py
    C1   Every reply that is not positive has exactly one class of CLASSES; a positive one has none.
    C2   The class depends on the status and the text, the case of letters aside.
    C3   Every row of the table decides some example: none is hidden by those before it.
"""

from __future__ import annotations

import re

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.types import Reply

__all__ = ["CLASSES", "ROWS", "classify"]

CLASSES = (
    *("bad-address", "bad-domain", "mailbox-full", "inactive", "policy", "auth-failure"),
    *("greylisted", "rate-limited", "too-large", "content", "relaying-denied", "dns"),
    *("connection", "timeout", "tls", "loop", "expired", "other"),
)

_WHO = r"(local )?(user|recipient|mailbox|address|account|person|list|part)"

# Class; the statuses it may stand under, without their first number ("" = any); and what
# its text must hold ("" = anything).
ROWS: tuple[tuple[str, str, str], ...] = (
    # What the status says, whatever the text; but where hosts use it for two things, both.
    ("expired", "4.7 4.300 4.316", ""),
    ("expired", "", r"delivery time expired|message expired|too long in (the )?queue"),
    ("loop", "4.6 4.14", ""),
    ("bad-address", "4.1", r"recipient.*(rejected|not found)|access denied"),
    ("greylisted", "", r"gr[ea]y[- ]?list|postgrey|gr[ea]ylisted"),
    ("mailbox-full", "2.2", ""),
    ("too-large", "2.3 3.4", ""),
    ("tls", "7.10 7.11 7.30 7.5", ""),
    ("auth-failure", "7.20 7.21 7.22 7.23 7.24 7.26 7.27 7.29 7.40 7.509 7.515", ""),
    ("rate-limited", "7.28 7.708", ""),
    ("policy", "7.25 7.511 7.606 7.703 7.705 7.750", ""),
    ("relaying-denied", "7.54 7.64", ""),
    ("bad-domain", "1.2 1.10 4.310", ""),
    ("dns", "4.3 4.312", ""),
    ("inactive", "1.6 2.1", r"disabled|inactive|suspend|deactivat|dormant|moved|closed|not active"),
    # What the text says, where the status is vague or absent.
    ("auth-failure", "", r"\b(spf|dkim|dmarc)\b|unauthenticated|not authenticated to send"),
    ("mailbox-full", "", r"over ?-?quota|quota (exceeded|is full)|(mailbox|inbox) (is )?full"),
    ("mailbox-full", "", r"out of storage|exceeded.*(storage|quota)|insufficient.*mailbox"),
    ("relaying-denied", "", r"relay(ing)?( access)? (is )?(denied|not permitted|not allowed)"),
    ("relaying-denied", "", r"unable to relay|not (a )?(permitted to )?relay|we do not relay"),
    ("loop", "", r"mail (forwarding )?loop|too many hops|hop count|loops back|routing loop"),
    ("too-large", "", r"(message|size).*(too (large|big)|exceed)|exceed.*(message )?size"),
    ("rate-limited", "", r"rate[- ]limit|too many (connections|messages|recipients|emails)"),
    ("rate-limited", "", r"throttl|unusual rate|too (fast|frequent)|exceeded.*rate|rate.*exceeded"),
    ("rate-limited", "", r"unexpected volume|sending limit|temporarily rate"),
    ("content", "", r"virus|malware|infected|phish|(attachment|executable|file type).*block"),
    ("content", "", r"security issue|content (rejected|not accept)|(bare|stray) (cr|lf)|malformed"),
    ("policy", "", r"spam(?!e)|blackli|blockli|block(ed)? (list|using|by)|\brbl\b|dnsbl"),
    ("policy", "", r"unsolicited|reputation|\bbanned\b|poor.*score|bulk mail|(ip|host).*blocked"),
    ("inactive", "", r"(account|mailbox|user|address).*(disabled|inactive|suspend|deactiv|closed)"),
    ("inactive", "", r"no longer (active|in use|available|with)|has moved|dormant"),
    ("bad-domain", "", r"null mx|(domain|host)( name)? (does not|doesn.t) (exist|accept mail)"),
    ("bad-domain", "", r"(unknown|no such|nonexistent) (host|domain)|domain not found|nxdomain"),
    ("bad-domain", "", r"accepts no mail|no channel knows"),
    ("bad-address", "", r"(user|recipient|mailbox|address|account|alias)s?.{0,60}unknown"),
    ("bad-address", "", rf"(unknown|no such|invalid|nonexistent|not a known|not a valid) {_WHO}"),
    ("bad-address", "", rf"{_WHO}.{{0,80}}(not (found|exist|known|here)|doesn.t|invalid)"),
    ("bad-address", "", r"mailbox unavailable|unrouteable|undeliverable address|no mailbox here"),
    ("tls", "", r"\b(start)?tls\b|certificate|\bssl\b|dane|mta-sts"),
    ("dns", "", r"\bdns\b|servfail|name (server|resolution)|(look ?up|resolv).*(host|\bmx\b)"),
    ("timeout", "", r"time[d -]*out|no answer within|not? answer(ed)? in time|silent"),
    ("connection", "", r"connection (refused|reset|lost|closed|failed|dropped)"),
    ("connection", "", r"unreachable|no route|(can|could )not connect|connect(ion)? to"),
    # What a vague status leaves, when the text says nothing.
    ("bad-address", "1.0 1.1 1.3 1.4", ""),
    ("inactive", "1.6 2.1", ""),
    ("connection", "4.1 4.2", ""),
    ("dns", "4.4", ""),
    ("mailbox-full", "3.1", r"(?!.*system)storage|mailbox"),
    ("content", "6.0 6.1 6.2 6.3 6.4 6.5 6.6 6.7 6.8 6.9 6.10", ""),
    ("rate-limited", "5.3", ""),
    ("tls", "7.4", ""),
    ("auth-failure", "7.8 7.9", ""),
    ("policy", "7.0 7.1 7.2 7.3 7.7", ""),
)  # fmt: skip

_COMPILED = [
    (name, frozenset(statuses.split()), re.compile(pattern) if pattern else None)
    for name, statuses, pattern in ROWS
]


def row_of(reply: Reply) -> int:
    """Return the number of the row that fits ``reply``; -1 if none does."""
    status, text = reply.status[2:], reply.text.lower()
    for number, (_, statuses, pattern) in enumerate(_COMPILED):
        if statuses and status not in statuses:
            continue
        if pattern is None or pattern.search(text) is not None:
            return number
    return -1


def classify(reply: Reply) -> str:
    """Return the class of a reply that is not positive; "" of one that is."""
    if reply.positive:
        return ""
    number = row_of(reply)
    return "other" if number < 0 else ROWS[number][0]
