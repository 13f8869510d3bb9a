"""What became of a one-shot submission, as one JSON object on a line.

Keys: ``id`` (null if nothing was queued), ``refused`` (a list of address,
code, status, text), ``error`` (null, or code, status, text of what stopped
the whole message), and ``waits_for`` (null, or the threshold of the load that keeps
it back: "load 9.1 over queue_only 8").
"""

from __future__ import annotations

import json

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.accept import RefusedError
    from mta.types import Outcome, Reply

__all__ = ["outcome_line"]


def outcome_line(
    ident: str,
    refused: Sequence[tuple[str, Outcome]],
    error: RefusedError | None,
    waits: str = "",
) -> str:
    """Return the line, with its line end."""
    answer = {
        "id": ident or None,
        "refused": [{"address": address, **_reply(o.reply)} for address, o in refused],
        "error": None if error is None else _reply(error.outcome.reply),
        "waits_for": waits or None,
    }
    return json.dumps(answer) + "\n"


def _reply(reply: Reply) -> dict[str, str | int]:
    return {"code": reply.code, "status": reply.status, "text": reply.text}
