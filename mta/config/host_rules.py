"""What is different for some hosts: the list ``hosts`` of mta.yaml, looked up by host.

Of the rules that match a host the one with the longest match counts, for each
of its settings by itself; what none of them says is the channel's.

Units    As in mta.config.model.
State    The answers for the KEPT hosts asked about last.

Invariants, each a property in tests/config/test_host_rules.py
    H1   Each setting is that of the longest match that says it, of two with one
         match the first; a name is longer than any suffix.
    H2   What no rule says is the channel's.
    H3   However many hosts are asked about, at most KEPT answers are held.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING, fields, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mta.config.model import Channel, HostRule, Retry
    from mta.types import Host

__all__ = ["HostRules", "HostSettings"]

KEPT = 10_000


@frozen
class HostSettings:
    """What holds for one host on one channel.

    The fields but ``retry`` bear the names of HostRule's and Channel's: one more
    there and here is one more setting.
    """

    retry: Retry
    dead_ttl: float
    per_host: int
    max_share: float
    rate: tuple[int, float] | None


_PLAIN = tuple([name for name in fields(HostSettings) if name != "retry"])


class HostRules:
    """The rules of one channel."""

    def __init__(self, rules: Sequence[HostRule], channel: Channel) -> None:
        """Look up in those of ``rules`` that are about ``channel``."""
        self._default = HostSettings(channel.retry, *[getattr(channel, name) for name in _PLAIN])
        self._rows: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, dict[str, Any]] = {}
        for rule in rules:
            if rule.channel in ("", channel.name):
                for pattern in rule.match:
                    self._add(pattern, rule)
        self._kept: dict[Host, HostSettings] = {}

    def _add(self, pattern: str, rule: HostRule) -> None:
        row = self._rows.setdefault(pattern, {})
        changes = self._changes.setdefault(pattern, {})
        for name in _PLAIN:
            value = getattr(rule, name)
            if value is not None:
                row.setdefault(name, value)
        for name, value in rule.changes:
            changes.setdefault(name, value)

    def find(self, host: Host) -> HostSettings:
        """Return what holds for ``host``, which is in lower case."""
        if not self._rows:
            return self._default
        found = self._kept.get(host)
        if found is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            found = self._kept[host] = self._look_up(host)
        return found

    def _look_up(self, host: Host) -> HostSettings:
        settings: dict[str, Any] = {}
        changes: dict[str, Any] = {}
        for pattern in _patterns(host):
            settings |= self._rows.get(pattern, {})
            changes |= self._changes.get(pattern, {})
        if changes:
            settings["retry"] = replace(self._default.retry, **changes)
        return replace(self._default, **settings)


def _patterns(host: Host) -> list[str]:
    """Return what may match ``host``, the shortest first: suffixes, then its own name."""
    dots = [at for at, sign in enumerate(host) if sign == "." and at] if host[:1] != "[" else []
    return [host[at:] for at in reversed(dots)] + [host]
