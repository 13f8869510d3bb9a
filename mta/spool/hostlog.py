"""The spool's log of hosts: what each deliver learns of hosts that fail, told to all others.

One line for each thing that happened; see ``encode``.  It lies in SPOOL/host/ and
outlives the delivers.  A line ends with a word of its own, so that half a line is none.

Units    Times are float seconds since the epoch.
State    spool.sharedlog's; the size at which the log is shrunk next.

Invariants, each a property in tests/spool/test_hostlog.py
    W1   decode(encode(news)) == news.
    W2   Whatever a line holds, decode() raises nothing; a line cut short is None.
    W3   Delivers that read the same log know the same of each host in the end, however
         they were killed, and however often the log was shrunk meanwhile.
    W4   The log stays bounded: it is shrunk when it is large beside what still matters.
"""

from __future__ import annotations

import re

from mta.policy.deadhosts import KEPT, DeadHosts, Failing, News
from mta.spool.sharedlog import SharedLog
from mta.types import Reply
from mta.values import TYPE_CHECKING
from mta.words import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.spool.fs import Fs

__all__ = ["DIRECTORY", "HostLog", "decode", "encode", "read_hosts"]

DIRECTORY = "host"
SHRINK_AT = 256 << 10  # octets; and twice what the last shrink left
CHANNELS = 100  # of which the hosts are kept in a shrink

_TIME = r"([0-9]{1,11}\.[0-9]{1,6})"
_LINE = re.compile(
    rf"(?:down {_TIME} (\S+) (\S+) {_TIME} {_TIME} ([0-9]{{1,9}}) {_TIME} (\S+) (\S+) (4[0-9]{{2}})"
    rf" (4\.[0-9]{{1,3}}\.[0-9]{{1,3}}) (\S+)|up {_TIME} (\S+) (\S+) (\S+)) \."
)


def encode(news: News) -> bytes:
    """Return ``news`` as a line, without its end."""
    channel, host, f = quote(news.channel), quote(news.host), news.failing
    if f is None:
        return f"up {news.at:.6f} {channel} {host} {quote(news.who)} .".encode()
    reply = f.reply
    return (
        f"down {f.at:.6f} {channel} {host} {f.since:.6f} {f.before:.6f} {f.failures} {f.hold:.6f}"
        f" {quote(f.via)} {quote(f.who)} {reply.code} {reply.status} {quote(reply.text)} ."
    ).encode()


def decode(line: bytes) -> News | None:
    """Return the news of a line, or None if it is none."""
    try:
        match = _LINE.fullmatch(line.decode())
        if match is None:
            return None
        if match[13] is not None:
            at, channel, host, who = match.groups()[12:]
            return News(float(at), unquote(channel), unquote(host), None, unquote(who))
        at, channel, host, *words = match.groups()[:12]
        since, before, failures, hold, via, who, code, status, text = words
        reply = Reply(int(code), status, Reply.clean(unquote(text)))
        failing = Failing(
            *(float(at), float(since), int(failures), reply),
            *(unquote(via), float(hold), unquote(who), float(before)),
        )
        return News(failing.at, unquote(channel), unquote(host), failing, failing.who)
    except ValueError:
        return None


class HostLog:
    """One process's end of the log."""

    def __init__(self, fs: Fs) -> None:
        """Use the log of the spool that ``fs`` stands for."""
        self._log = SharedLog(fs, DIRECTORY)
        self._shrink_at = SHRINK_AT

    def tell(self, news: Sequence[News]) -> bool:
        """Append ``news``; False if somebody else is at it just now.  OSError is the disk's."""
        return self._log.append(b"".join([encode(each) + b"\n" for each in news]))

    def hear(self) -> tuple[list[News], bool]:
        """Return what was told since the last call, our own included, and whether it is all.

        If so, nothing is known of a host that is not in it.
        """
        lines, whole = self._log.read()
        found = [decode(line) for line in lines]
        return [news for news in found if news is not None], whole

    def shrink(self, now: float) -> bool:
        """Drop what does not matter any more, if the log is large; return whether it was done."""
        if self._log.size < self._shrink_at:
            return False
        kept = [0]

        def fold(lines: list[bytes]) -> list[bytes]:
            made = _folded(lines, now)
            kept[0] = sum(len(line) + 1 for line in made)
            return made

        done = self._log.shrink(fold)
        if done:
            self._shrink_at = max(SHRINK_AT, 2 * kept[0])
        return done

    def close(self) -> None:
        """Give its descriptor away."""
        self._log.close()


def _folded(lines: list[bytes], now: float) -> list[bytes]:
    known = DeadHosts(KEPT)
    for line in lines:
        news = decode(line)
        if news is not None:
            known.apply(news, now)
    made: dict[str, list[bytes]] = {}
    for news in known.lasting(now):
        if news.channel in made or len(made) < CHANNELS:
            made.setdefault(news.channel, []).append(encode(news))
    return [line for each in made.values() for line in each]


def read_hosts(fs: Fs, now: float) -> DeadHosts:
    """Return what is known of all hosts, for a person to look at."""
    known, log = DeadHosts(KEPT), HostLog(fs)
    try:
        for news in log.hear()[0]:
            known.apply(news, now)
    finally:
        log.close()
    return known
