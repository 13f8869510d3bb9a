"""``sendmail -q`` with a selection: the jobs that it means are tried now.

They are requeued, so that the delivers which run try them at once; of queues that no
deliver serves just now they are delivered here, in one pass.

Source   sendmail(8): -q[!]I, -q[!]R and -q[!]S with a part of an id, a recipient or
         the author; -qG with a queue group, which is a queue here.
"""

from __future__ import annotations

import time

from mta.config.load import load_config
from mta.control.program import Task
from mta.control.program import run as control
from mta.control.walk import find
from mta.control.wanted import check_queues
from mta.errors import EX_OK, UsageError
from mta.machine.census import delivers
from mta.policy.filters import Filter, Part
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.config.model import Config

__all__ = ["run", "selection"]

EX_NOTHING = 1
KEYS_MAX = 100_000  # jobs that one pass by hand is given
_PARTS = {"I": "id", "R": "recipient", "S": "author"}


def selection(words: Sequence[str]) -> Filter:
    """Return what the values of all ``-q`` ask for.  UsageError if one is no selection."""
    queues, parts = [], []
    for word in words:
        negated = word.startswith("!")
        letter, text = word[negated:][:1], word[negated:][1:]
        if letter in _PARTS and text:
            parts.append(Part(_PARTS[letter], text, negated))
        elif letter == "G" and text and not negated:
            queues.append(text)
        elif word:
            raise UsageError(
                "-q is followed by nothing, by I, R or S and a part of an id, a recipient or "
                "the sender (! before it: without that), or by G and a queue; "
                "deliver(8) repeats with -b"
            )
    return Filter(queues=tuple(queues), parts=tuple(parts))


def run(path: str | None, words: Sequence[str], deliver: Callable[[Config, list[str]], int]) -> int:
    """Have the jobs tried that ``words`` select; ``deliver`` makes a pass over those named."""
    wanted = selection(words)
    config = load_config(path)
    check_queues(config, wanted.queues)
    known = (*config.queues(), *Spool.open(config.spool).queues())
    status = control(config, Task("requeue", wanted), _silent)
    served = {queue for each in delivers(config.runtime) for queue in each.queues}
    keys: list[str] = []
    for queue in [q for q in wanted.queues or dict.fromkeys(known) if q not in served]:
        for name in find(Spool.open(config.spool), replace(wanted, queues=(queue,)), time.time()):
            if len(keys) < KEYS_MAX:
                keys.append(name.key)
    if keys:
        return deliver(config, keys)
    return EX_OK if status == EX_NOTHING else status


def _silent(_line: str) -> None:
    """Say nothing: sendmail does not either."""
