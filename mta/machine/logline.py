"""What a log line says: one event, its fields, and the text that Postfix's readers understand.

An event is a name and a mapping of fields.  The JSON log writes the mapping as
it is; the text log writes what ``TEXT`` makes of it, in the words that
pflogsumm and logwatch count by.  A line of either log is an interface: each
event has an entry in mta-log(5) and a golden test.

Source   Postfix's own lines, as pflogsumm 1.1.5 and logwatch 7.7 take them
         apart: ``NAME/SERVICE[PID]: ID: to=<…>, relay=…, delay=…, delays=a/b/c/d,
         dsn=…, status=sent|deferred|bounced (…)``; size in a ``qmgr`` line.
         Both take the classic time stamp, logwatch no other.
Units    Times are seconds; ``delay`` runs from arrival to the end of the attempt.

Invariants, each a property in tests/machine/test_logline.py
    G1   A text line is one line: no control character and no other sign that
         cannot be printed is in it, whatever the fields hold.
    G2   An address cannot end its own ``<…>``: no ``<`` or ``>`` inside.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING
from mta.words import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Fields = Mapping[str, Any]

__all__ = ["DEFAULT_LEVEL", "LEVELS", "SYSLOG_NAME", "TEXT", "printable", "seconds"]

SYSLOG_NAME = "posthouse"

# MMDF's levels, from the fewest lines to the most; deliver's -V takes the names.
LEVELS = ("FAT", "TMP", "GEN", "BST", "FST", "PTR", "BTR", "FTR")
DEFAULT_LEVEL = LEVELS.index("FST")
_TMP, _GEN, _BST, _FST = 1, 2, 3, 4

_STATUS = {"delivered": "sent", "deferred": "deferred", "failed": "bounced"}


def seconds(delay: float) -> str:
    """Return ``delay`` as Postfix writes it, two figures: 0, 0.05, 0.31, 4.2, 37, 86400."""
    if delay >= 10:
        return f"{delay:.0f}"
    text = f"{delay:.1f}" if delay >= 1 else f"{delay:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _address(text: object) -> str:
    return str(text).replace("<", "?").replace(">", "?")


def _queued(e: Fields) -> tuple[tuple[str, str], ...]:
    """Two lines: who brought it (pflogsumm's "received"), and the queue manager's."""
    path, origin = _address(e["from"]), e["origin"]
    size = (
        "qmgr",
        f"{e['id']}: from=<{path}>, size={e['size']}, nrcpt={e['recipients']} (queue active)",
    )
    if origin.split(" ")[0] == "dsn" or origin.startswith("rerouted="):
        # our own words, or known already: pflogsumm would count them as mail received
        return (size,)
    if origin.startswith("client="):
        return (("smtpd", f"{e['id']}: {origin}"), size)
    uid = origin if origin.startswith("uid=") else "uid=-"
    return (("pickup", f"{e['id']}: {uid.split(' ')[0]} from=<{path}>"), size)


def _attempt(e: Fields) -> tuple[tuple[str, str], ...]:
    original = f"orig_to=<{_address(e['original'])}>, " if "original" in e else ""
    relay = e["relay"].replace(",", "?") or "none"
    delays = "/".join([seconds(d) for d in e["delays"]])
    text = (
        f"{e['id']}: to=<{_address(e['to'])}>, {original}relay={relay}, "
        f"delay={seconds(e['delay'])}, delays={delays}, dsn={e['status']}, "
        f"status={_STATUS[e['state']]} ({e['code']} {e['status']} {e['text']})"
    )
    return ((e["program"].rsplit("/", 1)[-1], text),)


_NOTIFIED = {
    "failure": "sender non-delivery",
    "delay": "sender delay",
    "orphan": "postmaster non-delivery",
}


def _notified(e: Fields) -> tuple[tuple[str, str], ...]:
    kind = _NOTIFIED.get(e["about"], "sender delivery status")
    return (("bounce", f"{e['id']}: {kind} notification: {e['dsn']}"),)


# How Postfix begins the reason of a refusal, by the stage; its log's readers count by that.
_REASONS = {
    "CONNECT": "Client host rejected: ",
    "MAIL": "Sender address rejected: ",
    "RCPT": "Recipient address rejected: ",
    "DATA": "Data command rejected: ",
    "END-OF-MESSAGE": "End-of-data rejected: ",
}
_UNKNOWN = "Recipient address rejected: User unknown in local recipient table"


def _rejected(e: Fields) -> tuple[tuple[str, str], ...]:
    stage, text = e["stage"], e["text"].replace(";", ",")
    subject = {"MAIL": e.get("from"), "RCPT": e.get("to"), "CONNECT": e["client"]}.get(stage, stage)
    reason = f"{_REASONS.get(stage, '')}{text}"
    if stage == "RCPT" and e["status"] == "5.1.1":
        reason = _UNKNOWN
    elif stage == "RCPT" and "relay" in text.lower():
        reason = "Relay access denied"
    said = f"{e['code']} {e['status']} <{_address(subject or '')}>: {reason}"
    about = [f"from=<{_address(e['from'])}>"] if "from" in e else []
    about += [f"to=<{_address(e['to'])}>"] if "to" in e else []
    about += [f"proto={e['protocol']}"] if e["protocol"] else []
    about += [f"helo=<{_address(e['helo'])}>"] if e["helo"] else []
    return (("smtpd", f"NOQUEUE: reject: {stage} from {e['client']}: {said}; {' '.join(about)}"),)


def _disconnected(e: Fields) -> tuple[tuple[str, str], ...]:
    words, well, said = [], 0, 0
    for word, (total, good) in e["commands"].items():
        if not total:
            continue
        words.append(f"{word}={good}" if good == total else f"{word}={good}/{total}")
        well, said = well + good, said + total
    words.append(f"commands={well}" if well == said else f"commands={well}/{said}")
    return (("smtpd", " ".join([f"disconnect from {e['client']}", *words])),)


def _tls_accepted(e: Fields) -> tuple[tuple[str, str], ...]:
    bits = f"({e['bits']}/{e['bits']} bits)"
    agreed = f"{e['protocol']} with cipher {e['cipher']} {bits}"
    return (("smtpd", f"Anonymous TLS connection established from {e['client']}: {agreed}"),)


def _auth_failed(e: Fields) -> tuple[tuple[str, str], ...]:
    failed = f"SASL {e['mechanism']} authentication failed: {e['reason']}"
    return (("smtpd", f"warning: {e['client']}: {failed}"),)


# What the policy promises of a certificate when its connection succeeded.
_WORTH = {"verify": "Verified", "dane": "Verified", "dane-only": "Verified", "sts": "Verified"}
_LEVEL_WORTH = {"verified": "Verified", "trusted": "Trusted", "encrypted": "Untrusted"}


def _tls(e: Fields) -> tuple[tuple[str, str], ...]:
    result = e["result"]
    if not e["protocol"]:
        why = f"no TLS with {e['host']}: {result or 'not offered'} (policy {e['policy']})"
        return (("smtp", why),)
    worth = _LEVEL_WORTH.get(e["level"]) or _WORTH.get(e["policy"], "Untrusted")
    worth = "Untrusted" if result else worth
    bits = 128 if "128" in e["cipher"] else 256
    agreed = f"{e['protocol']} with cipher {e['cipher']} ({bits}/{bits} bits)"
    why = f" ({result})" if result else ""
    return (("smtp", f"{worth} TLS connection established to {e['host']}: {agreed}{why}"),)


def _tls_counters(e: Fields) -> tuple[tuple[str, str], ...]:
    failures = e["failures"]
    failed = ", ".join([f"{count} {word}" for word, count in failures.items()])
    text = f"tls counters of {e['domain']}, policy {e['policy']}: {e['successful']} successful"
    return (("", f"{text}, {sum(failures.values())} failed" + (f" ({failed})" if failed else "")),)


def _dead_host(e: Fields) -> tuple[tuple[str, str], ...]:
    said = f"({e['code']} {e['status']} {e['text']})"
    return (("", f"dead host {e['host']} on channel {e['channel']} until {e['until']} {said}"),)


def _demotion(e: Fields) -> tuple[tuple[str, str], ...]:
    where = f"channel {e['channel']}"
    if e["begins"]:
        return (("", f"host {e['host']} on {where} has failed for long: demoted to {e['to']}"),)
    return (("", f"host {e['host']} on {where} answers again: demoted no more"),)


def _load_level(e: Fields) -> tuple[tuple[str, str], ...]:
    how = "begins" if e["begins"] else "ends"
    text = f"{e['level']} {how}: {e['gauge']} {e['value']:g}, threshold {e['threshold']:g}"
    return (("", text),)


def _program_ended(e: Fields) -> tuple[tuple[str, str], ...]:
    return (("", f"channel program of {e['channel']} ended: pid {e['child']}, {_how(e['exit'])}"),)


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


# What Postfix's postsuper says of the like.
_NOTED = {"hold": "placed on hold", "release": "released from hold", "due": "requeued"}


def _by(e: Fields) -> str:
    """Who gave an order, and why if he said so."""
    return f" by {e['by']}" + (f": {e['text']}" if e["text"] else "")


def _noted(e: Fields) -> tuple[tuple[str, str], ...]:
    return (("postsuper", f"{e['id']}: {_NOTED[e['note']]}{_by(e)}"),)


def _deleted(e: Fields) -> tuple[tuple[str, str], ...]:
    to = ", ".join([f"<{_address(address)}>" for address in e["to"]])
    return (("postsuper", f"{e['id']}: deleted{_by(e)}: {to}"),)


# event → (the level it is written at, fields → its lines, each a service and a text;
# service "" is the process that writes the log).
TEXT: dict[str, tuple[int, Callable[[Fields], tuple[tuple[str, str], ...]]]] = {
    "queued": (_BST, _queued),
    "attempt": (_BST, _attempt),
    "connected": (_FST, lambda e: (("smtpd", f"connect from {e['client']}"),)),
    "disconnected": (_FST, _disconnected),
    "rejected": (_BST, _rejected),
    "lost_connection": (
        _BST,
        lambda e: (("smtpd", f"lost connection after {e['after']} from {e['client']}"),),
    ),
    "timeout": (_BST, lambda e: (("smtpd", f"timeout after {e['after']} from {e['client']}"),)),
    "tls_accepted": (_FST, _tls_accepted),
    "auth_failed": (_BST, _auth_failed),
    "tls": (_FST, _tls),
    "tls_counters": (_BST, _tls_counters),
    "removed": (_FST, lambda e: (("qmgr", f"{e['id']}: removed"),)),
    "notified": (_BST, _notified),
    "discarded": (
        _FST,
        lambda e: (
            (
                "",
                f"{e['id']}: {e['recipients']} failures discarded: from=<{_address(e['from'])}>",
            ),
        ),
    ),
    "unreported": (
        _FST,
        lambda e: (("", f"{e['id']}: failure for <{_address(e['to'])}> not reported: NOTIFY"),),
    ),
    "noted": (_GEN, _noted),
    "deleted": (_GEN, _deleted),
    "rerouted": (
        _GEN,
        lambda e: (("postsuper", f"{e['id']}: rerouted as {e['new']}{_by(e)}"),),
    ),
    "suspended": (
        _GEN,
        lambda e: (("", f"{e['what']} suspended until {e['until'] or 'resumed'}{_by(e)}"),),
    ),
    "resumed": (_GEN, lambda e: (("", f"{e['what']} resumed by {e['by']}"),)),
    "dead_host": (_GEN, _dead_host),
    "revived": (
        _GEN,
        lambda e: (("", f"host {e['host']} on channel {e['channel']} answers again"),),
    ),
    "demotion": (_GEN, _demotion),
    "load_level": (_GEN, _load_level),
    "program_started": (
        _FST,
        lambda e: (("", f"channel program of {e['channel']} started: pid {e['child']}"),),
    ),
    "program_ended": (_GEN, _program_ended),
    "started": (_GEN, lambda e: (("", f"started: {' '.join([e['command'], *e['arguments']])}"),)),
    "stopped": (_GEN, lambda e: (("", f"stopped: {e['command']}"),)),
    "warning": (_TMP, lambda e: (("", f"warning: {e['text']}"),)),
    "lost": (
        _TMP,
        lambda e: (("", f"warning: {e['lines']} lines of {e['file']} lost: {e['reason']}"),),
    ),
}
