"""Explanations: where mail for an address would go, and why mail still waits.

Units    Times are float seconds since the epoch.
"""

from __future__ import annotations

import json

from mta.address import parse_mailbox
from mta.config.routing import router
from mta.errors import EX_DATAERR, EX_NOHOST, EX_NOUSER, EX_OK, UsageError
from mta.finding import find
from mta.machine.load import quick_load_average
from mta.machine.logline import printable
from mta.route.router import as_dict, render_text
from mta.values import TYPE_CHECKING
from mta.waiting import gather
from mta.waiting_text import record, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mta.config.model import Config
    from mta.finding import Found
    from mta.route.router import Routed

__all__ = ["find", "left_out", "route", "route_lines", "why"]

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


def why(config: Config, found: Found, now: float, *, as_json: bool = False) -> Iterator[str]:
    """Yield why what was ``found`` waits; nothing if nothing does."""
    load = quick_load_average()
    for wait in gather(config, found, now):
        if as_json:
            yield json.dumps(record(wait, now))
        else:
            yield from tell(config, wait, now, load)


def left_out(found: Found) -> str:
    """Say what was not looked at; "" if nothing was left out."""
    left = [f"{found.names_left} more jobs"] if found.names_left else []
    left += [f"{found.hours_left} hours of the queues"] if found.hours_left else []
    return f"not looked at: {' and '.join(left)}; --all looks at all" if left else ""
