"""Lints of what bounds the load: thresholds, the pressure, the age that queues may reach."""

from __future__ import annotations

from collections.abc import Iterator

from mta.config.findings import Facts, Finding
from mta.config.model import Config, LoadLimits, PressureLimits

__all__ = ["RULES"]

SHORT = 10.0  # seconds: the rate at which a queue drains is not known better than that


def _order(config: Config, facts: Facts) -> Iterator[Finding]:
    """Thresholds that hide each other."""
    places: tuple[tuple[str, LoadLimits | PressureLimits], ...]
    places = (("load", config.load), ("load.psi", config.load.psi))
    for where, limits in places:
        refuse, queue_only, delay = limits.refuse, limits.queue_only, limits.delay
        if refuse and queue_only and refuse >= queue_only:
            text = f"{where}: refuse ({refuse:g}) is not below queue_only ({queue_only:g}): a busy"
            text += " machine would take on mail that it cannot deliver"
            yield Finding(None, "warning", text)
        for name, value in (("refuse", refuse), ("queue_only", queue_only)):
            if value and delay >= value:
                text = f"{where}: delay ({delay:g}) is not below {name} ({value:g}): it never acts"
                yield Finding(None, "warning", f"{text} where that does")


def _factor(config: Config, facts: Facts) -> Iterator[Finding]:
    """A queue_factor that somebody chose, with nothing for it to act on."""
    if config.load.queue_factor != 600_000 and not (
        config.load.queue_only or config.load.psi.queue_only
    ):
        text = "load: queue_factor means nothing without queue_only"
        yield Finding(None, "warning", text)


def _pressure(config: Config, facts: Facts) -> Iterator[Finding]:
    """Thresholds of a pressure that this kernel does not tell."""
    psi = config.load.psi
    if (psi.refuse or psi.queue_only or psi.delay) and not facts.pressure:
        text = "load.psi: this kernel tells no pressure (/proc/pressure): these never act"
        yield Finding(None, "warning", text)


def _target_age(config: Config, facts: Facts) -> Iterator[Finding]:
    """Ages that cannot be kept, and ages that two channels want of one queue."""
    wanted: dict[str, tuple[str, float]] = {}
    for channel in config.channels:
        name, age = channel.name, channel.target_age
        if not age:
            continue
        if age < SHORT:
            text = f"channel {name!r}: target_age is below {SHORT:g} s: intake slows for every"
            yield Finding(None, "warning", f"{text} burst")
        if age >= channel.fail_after.normal:
            text = f"channel {name!r}: target_age is not below fail_after: mail is given up first"
            yield Finding(None, "warning", text)
        if not config.listen:
            text = f"channel {name!r}: target_age slows smtpd, but nothing listens"
            yield Finding(None, "warning", text)
        other, other_age = wanted.setdefault(channel.queue, (name, age))
        if other_age != age:
            text = f"channels {other!r} and {name!r} share the queue {channel.queue!r} but disagree"
            yield Finding(None, "warning", f"{text} on target_age: the smaller counts")


RULES = (_order, _factor, _pressure, _target_age)
