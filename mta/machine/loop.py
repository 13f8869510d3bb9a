"""The event loop: uvloop's where it is installed, else asyncio's own.

uvloop takes about half the CPU of a message away; nothing needs it.
MTA_LOOP=asyncio in the environment leaves it out, to measure or to rule it out.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine
from typing import TypeVar

__all__ = ["new_loop", "run", "spare_collector"]

# Objects before the collector looks, and how seldom it looks further: of 20,000 at a time, 5 ms;
# of 100,000, 20 ms; of all that came since the start, after 20 million.
_GARBAGE = (20_000, 5, 200)

T = TypeVar("T")


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of the best kind there is."""
    return _factory()()


def run(main: Coroutine[object, object, T]) -> T:
    """Run ``main`` in a new loop to its end, as asyncio.run does."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def spare_collector() -> None:
    """Have the garbage collector leave alone what is there by now, and look seldom.

    For a process that has started: what it holds stays, and no message makes cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if os.environ.get("MTA_LOOP") != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop
