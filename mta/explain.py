"""Explanations: where mail for an address would go, and why mail still waits.

Units    Times are float seconds since the epoch.
"""

from __future__ import annotations

import json

from mta import listing, trace
from mta.address import parse_mailbox
from mta.config.routing import router
from mta.errors import EX_DATAERR, EX_NOHOST, EX_NOUSER, EX_OK, UsageError
from mta.machine.logline import printable
from mta.route.router import as_dict, render_text
from mta.spool.layout import valid_id
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mta.config.model import Config
    from mta.route.router import Routed
    from mta.spool.entry import Entry

__all__ = ["route", "route_lines", "why"]

_EXITS = {"5.1.1": EX_NOUSER, "5.1.2": EX_NOHOST, "5.4.4": EX_NOHOST}


def route(config: Config, address: str) -> Routed:
    """Return where mail for ``address`` goes, with every rule.  UsageError if it is no address."""
    way = router(config)
    try:
        mailbox = parse_mailbox(address, way.default_domain)
    except ValueError as error:
        raise UsageError(f"{printable(address)}: {error}") from None
    return way.route(mailbox, explain=True)


def route_lines(routed: Routed, *, as_json: bool) -> tuple[str, int]:
    """Return the explanation of ``routed``, and the exit status that says whether mail goes."""
    text = json.dumps(as_dict(routed)) if as_json else render_text(routed)
    if routed.outcome is None:
        return text, EX_OK
    return text, _EXITS.get(routed.outcome.reply.status, EX_DATAERR)


def why(config: Config, subject: str, now: float) -> Iterator[str]:
    """Yield why mail waits: of message ``subject``, or for the address ``subject``.

    Nothing if nothing waits.  UsageError if it is neither id nor address.
    """
    entries = _entries(config, subject)
    for entry in entries:
        for recipient, state in entry.pending:
            if valid_id(subject) or str(recipient.mailbox) == subject:
                said = trace.explain_wait(recipient, state, entry, now)
                yield printable(f"{entry.envelope.id}: {said}")


def _entries(config: Config, subject: str) -> Iterator[Entry]:
    if valid_id(subject):
        yield from trace.present(config, subject)
    elif "@" in subject:
        yield from listing.jobs(Spool.open(config.spool))
    else:
        raise UsageError(f"{printable(subject)} is neither a message id nor an address")
