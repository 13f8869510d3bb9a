"""The channel table: which channel takes mail for a host, and by which row.

Channels are asked in the order of the configuration and the first that knows
the host has it, whatever a later one says more precisely; within a channel its
rows are read from the top.  That is one order over all rows of all channels, so
one index over all of them finds the first row that covers a host without
reading the rows.

Source   MMDF's MCHN tables: the first channel whose table has the host wins.
Units    A host is a domain in lower case, or an address literal in brackets.
State    Built once from the configuration and never changed.

Invariants, each a property in tests/route/test_table.py
    R1   find(host) is the first row, in the order of channels and of rows in
         them, that covers host; None iff no row does.
    R2   A name covers itself; ".name" all names below it and not itself; "*"
         everything.  An address literal is covered by itself and "*" only.
    R3   The case of a pattern and of a host changes nothing.
"""

from __future__ import annotations

from mta.address import parse_domain
from mta.types import Host
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ChannelRow", "ChannelTable", "Match", "Pattern"]


@frozen
class Pattern:
    """One row: ``pattern`` is a name, ".name" or "*"; ``where`` says who wrote it.

    ``next_hop`` is "" or "name:port" to use for the hosts that it covers.
    """

    pattern: str
    next_hop: str
    where: str


@frozen
class ChannelRow:
    """One channel: its own ``patterns``, then the ``lines`` of its table ``file``.

    A line is (number, pattern, next hop), kept as plain tuples because tables
    of 100,000 lines are read by every one-shot submit.  ``local`` is true where
    the channel delivers to mailboxes of this machine.
    """

    name: str
    queue: str
    local: bool
    patterns: tuple[Pattern, ...] = ()
    file: str = ""
    lines: tuple[tuple[int, str, str], ...] = ()

    def pattern(self, index: int) -> Pattern:
        """Return the pattern at ``index``, counted over patterns, then lines."""
        if index < len(self.patterns):
            return self.patterns[index]
        number, pattern, next_hop = self.lines[index - len(self.patterns)]
        return Pattern(pattern, next_hop, f"{self.file}:{number}")


@frozen
class Match:
    """The ``channel`` that takes a host, and its row that says so."""

    channel: ChannelRow
    row: Pattern


class ChannelTable:
    """All channels in order; answers which one takes a host."""

    def __init__(self, channels: Sequence[ChannelRow]) -> None:
        """Index ``channels``; patterns are taken as they are, validated by whoever read them."""
        self.channels = tuple(channels)
        self._starts: list[int] = []
        keys: list[str] = []
        for channel in self.channels:
            self._starts.append(len(keys))
            keys += [p.pattern for p in channel.patterns]
            keys += [pattern for _, pattern, _ in channel.lines]
        plain = "".join(keys).isascii()
        keys = [key.lower() for key in keys] if plain else [_fold(key) for key in keys]
        # From the last to the first, so that the first row to say a thing keeps it.
        self._ranks = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        self._end = len(keys)
        self._star = self._ranks.pop("*", self._end)

    def find(self, host: Host) -> Match | None:
        """Return the first row that covers ``host``, or None if no channel knows it."""
        host = _fold(host)
        ranks = self._ranks
        best = min(ranks.get(host, self._end), self._star)
        if host[:1] != "[":
            dot = host.find(".", 1)
            while dot > 0:
                best = min(best, ranks.get(host[dot:], best))
                dot = host.find(".", dot + 1)
        return self._match(best) if best < self._end else None

    def before(self, channel: ChannelRow | None) -> Iterator[ChannelRow]:
        """Yield the channels asked before ``channel``; all of them for None."""
        for each in self.channels:
            if each is channel:
                return
            yield each

    def _match(self, rank: int) -> Match:
        position = len(self._starts) - 1
        while self._starts[position] > rank:
            position -= 1
        channel = self.channels[position]
        return Match(channel, channel.pattern(rank - self._starts[position]))


def _fold(name: str) -> str:
    """Return ``name`` in the spelling that is compared: an address's, where it can be one."""
    if name.isascii():
        return name.lower()
    dot = "." if name[:1] == "." else ""
    try:
        return dot + parse_domain(name[len(dot) :])
    except ValueError:
        return name.lower()
