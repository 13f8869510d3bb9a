"""The spool's rules: an operator's suspensions, in a small log that all delivers read.

It lies in SPOOL/rules/, and is synced: a suspension outlives a power cut.  A line
ends with a word of its own, so that half a line is none.

    on WHAT VALUE SINCE UNTIL BY WHY .
    off WHAT VALUE AT BY .

Units    Times are float seconds since the epoch.
State    spool.sharedlog's, and the rules that stand.

Invariants, each a property in tests/spool/test_rulelog.py
    B1   decode(encode(rule)) == rule, whatever it is about.
    B2   Whatever a line holds, decode() raises nothing; a line cut short is None.
    B3   What suspend() or resume() has returned for stands after any power cut, for all.
    B4   The log stays small: ended rules are dropped when it grows.
"""

from __future__ import annotations

import time

from mta.errors import SpoolError
from mta.policy.suspensions import WHATS, Suspension, Suspensions
from mta.spool.layout import author_signs, host_word
from mta.spool.sharedlog import SharedLog
from mta.types import NULL_PATH, Mailbox, Reply
from mta.values import TYPE_CHECKING
from mta.words import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.spool.fs import Fs

__all__ = ["RULES_MAX", "RuleLog"]

DIRECTORY = "rules"
SHRINK_AT = 64 << 10  # octets
RULES_MAX = 10_000
TRIES = 500  # to get the lock, each PAUSE after the other
PAUSE = 0.01


def encode(rule: Suspension) -> bytes:
    """Return the line that has ``rule`` stand, without its end."""
    about = f"on {rule.what} {quote(rule.whom)} {rule.since:.6f} {rule.until:.6f}"
    return f"{about} {quote(rule.by)} {quote(Reply.clean(rule.why))} .".encode()


def encode_end(what: str, value: str, at: float, by: str) -> bytes:
    """Return the line that takes a rule back, without its end."""
    return f"off {what} {quote(value)} {at:.6f} {quote(by)} .".encode()


def decode(line: bytes) -> Suspension | tuple[str, str] | None:
    """Return the rule of a line, what and value of the one that it ends, or None if it is none."""
    try:
        words = line.decode().split(" ")
        if words[-1] != "." or len(words) < 3 or words[1] not in WHATS:
            return None
        if words[0] == "off" and len(words) == 6:
            return words[1], unquote(words[2])
        if words[0] != "on" or len(words) != 8:
            return None
        what, value = words[1], unquote(words[2])
        times = float(words[3]), float(words[4])
        return Suspension(
            what, value, unquote(words[5]), *times, unquote(words[6]), _word(what, value)
        )
    except ValueError:
        return None


def _word(what: str, value: str) -> str:
    """Return what names of jobs have for a rule's value."""
    if what == "sender":
        local, at, domain = value.rpartition("@")
        return author_signs(Mailbox(local, domain) if at else NULL_PATH)
    return host_word(value.lower()) if what in ("host", "domain") else ""


class RuleLog:
    """One process's end of the log."""

    def __init__(self, fs: Fs, pause: Callable[[float], None] = time.sleep) -> None:
        """Use the rules of the spool that ``fs`` stands for."""
        self._log = SharedLog(fs, DIRECTORY, durable=True)
        self._pause = pause
        self._rules: dict[tuple[str, str], Suspension] = {}

    def read(self) -> Suspensions | None:
        """Return all rules if any has changed since the last call, else None.

        SpoolError if they cannot be read: what was known stands.
        """
        try:
            lines, whole = self._log.read()
        except OSError as error:
            raise SpoolError(f"cannot read the rules: {error.strerror}") from error
        if whole:
            self._rules = {}
        if not lines and not whole:
            return None
        self._rules = _apply(self._rules, lines)
        return Suspensions(self._rules.values())

    def suspend(self, rule: Suspension) -> None:
        """Have ``rule`` stand, in place of another about the same; durable when it returns."""
        self.read()
        if len(self._rules) >= RULES_MAX and (rule.what, rule.whom) not in self._rules:
            raise SpoolError(f"there are {RULES_MAX} suspensions already")
        self._append(encode(rule))

    def resume(self, what: str, value: str, now: float, by: str) -> bool:
        """Take a rule back; durable when it returns.  Return whether there was one."""
        self.read()
        known = (what, value) in self._rules
        # Also where there is none: whoever took it back may have been killed before his sync.
        self._append(encode_end(what, value, now, by))
        return known

    def shrink(self, now: float) -> None:
        """Drop what has ended, if the log has grown and nobody else is at it."""
        if self._log.size < SHRINK_AT:
            return
        try:
            self._log.shrink(lambda lines: _folded(lines, now))
        except OSError as error:
            raise SpoolError(f"cannot rewrite the rules: {error.strerror}") from error

    def _append(self, line: bytes) -> None:
        try:
            for _ in range(TRIES):
                if self._log.append(line + b"\n"):
                    return
                self._pause(PAUSE)
        except OSError as error:
            raise SpoolError(f"cannot write the rules: {error.strerror}") from error
        raise SpoolError("the rules are locked by another process")

    def close(self) -> None:
        """Give its descriptor away."""
        self._log.close()


def _apply(
    known: dict[tuple[str, str], Suspension], lines: list[bytes]
) -> dict[tuple[str, str], Suspension]:
    rules = dict(known)
    for line in lines:
        found = decode(line)
        if isinstance(found, Suspension):
            rules.pop((found.what, found.whom), None)
            rules[found.what, found.whom] = found
        elif found is not None:
            rules.pop(found, None)
    return rules


def _folded(lines: list[bytes], now: float) -> list[bytes]:
    return [encode(rule) for rule in _apply({}, lines).values() if rule.stands(now)]
