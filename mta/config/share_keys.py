"""The keys of a channel that say whose turn it is, and who gets how much: part of CHANNEL."""

from __future__ import annotations

from mta.config.kinds import Key, ListOf

__all__ = ["SHARES"]

SHARES = (
    Key("order", "order", "Which of the jobs that may go goes first.", "arrival"),
    Key("fair_authors", "yes-no", "One author's flood waits for others' single messages.", "yes"),
    Key("bulk_delay", "time", "How much older bulk must be to go before normal mail.", "4h"),
    Key("max_share", "share", "Of the slots, what one host may have while others wait.", "0.5"),
    Key("rate", "rate", "The most attempts to begin with one host in a time, as 100/1m."),
    Key("interval", "some-time", "Time between sweeps; deliver's -T if left out."),
    Key("jobs", "any-count", "The most jobs of one sweep; 0 is all.", "0"),
    Key("runners", "any-count", "Jobs in flight of all delivers together; 0 holds the queue."),
    Key("nice", "niceness", "The niceness of the channel program.", "0"),
    Key("mode", "mode", "When mail that is accepted is first tried.", "background"),
    Key("paths", ListOf("place", lone=True), "Directories that its jobs are spread over.", ()),
)
