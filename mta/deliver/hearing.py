"""What is rung at a deliver's ear, heeded: new jobs, hosts that ask for their mail, commands' work.

Source   machine/wake.py says what each datagram means.
"""

from __future__ import annotations

from mta.deliver.lane import Lane
from mta.deliver.orders import recall
from mta.machine.wake import AGAIN
from mta.spool.layout import JobName, host_word
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["heed"]


def heed(datagram: bytes, queue: str, lanes: Sequence[Lane]) -> bool:
    """Have the ``lanes`` of ``queue`` heed a datagram; return whether a sweep is asked for."""
    if datagram == b"*":
        return True
    if datagram[:1] == b"!":  # a host asks for its mail (RFC 1985)
        host = host_word(datagram[1:].decode("utf-8", "surrogateescape"))
        for lane in lanes:
            lane.hurry(host)
        return False
    again = datagram[:1] == AGAIN
    files = datagram[again:].decode("utf-8", "surrogateescape").split("\n")
    names = [n for n in (JobName.parse(queue, file) for file in files) if n is not None]
    take = recall if again else Lane.offer
    for lane in lanes:
        take(lane, names)
    return False
