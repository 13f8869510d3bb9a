"""The commands of ``mta`` that act on waiting mail: options made of shared tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mta.config.model import Config
from mta.control.wanted import CHOICES, OPTIONS
from mta.errors import EX_OK
from mta.policy.suspensions import WHATS

__all__ = ["control_commands"]

Command = Callable[..., int]
Say = Callable[[str], None]
Option = Callable[[Command], Command]

_VERBS = (
    ("hold", "hold", "Hold jobs back: nobody delivers them until they are released."),
    ("release", "release", "Let held jobs go, at once."),
    ("requeue", "requeue", "Try jobs now, whatever their next time was."),
    ("delete", "delete", "Remove jobs; their authors are not told."),
    ("return", "return", "Give jobs up: their authors are told that they failed."),
    ("bounce", "return", "The same as return."),
    ("reroute", "reroute", "Send jobs where the channel table says now, or where you say."),
)


def control_commands(group: click.Group, config: Option, as_json: Option, say: Say) -> None:
    """Add the commands to ``group``; ``config`` and ``as_json`` are options they share with all."""
    for name, verb, text in _VERBS:
        group.command(name)(config(_control(verb, text, say)))
    group.command("suspend")(config(_suspend(say)))
    group.command("resume")(config(_resume(say)))
    group.command("suspended")(config(as_json(_suspended(say))))


def _wanted(command: Command) -> Command:
    """Give a command the options that name jobs; it gets them as one mapping, ``given``."""

    def gathered(ids: tuple[str, ...], **options: Any) -> int:
        given = {name: options.pop(f"of_{name}") for name, _, _ in OPTIONS}
        given["id"] = (*(given["id"] or ()), *ids)
        return command(given=given, **options)

    made: Command = click.argument("ids", metavar="[ID...]", nargs=-1)(gathered)
    made.__doc__ = command.__doc__
    for name, value, text in reversed(OPTIONS):
        extra: dict[str, Any] = {"is_flag": True} if not value else {}
        extra.update(multiple=value.endswith("..."))
        extra.update({"type": click.Choice(CHOICES[name])} if name in CHOICES else {})
        metavar = value.removesuffix("...") or None
        made = click.option(f"--{name}", f"of_{name}", metavar=metavar, help=text, **extra)(made)
    return made


def _control(verb: str, text: str, say: Say) -> Command:
    """Return the command that does ``verb`` to the jobs that are named."""

    def command(config: Config, given: dict[str, Any], **how: Any) -> int:
        from mta.control import program, wanted

        how["limit"] = how["limit"] or 0
        return program.run(config, program.Task(verb, wanted.read(given), **how), say)

    command.__doc__ = text
    made = _wanted(command)
    for word, value, about in reversed(_HOW):
        if word in _ONLY.get(verb, ()) or word not in _SPECIAL:
            extra: dict[str, Any] = {"is_flag": True} if not value else {"metavar": value}
            extra.update({"type": click.IntRange(1)} if word == "limit" else {})
            key = {"dry-run": "dry", "json": "as_json", "yes": "sure", "to": "channel"}
            parameter = key.get(word, word.replace("-", "_"))
            extra.update({"default": ""} if value and word != "limit" else {})
            made = click.option(f"--{word}", parameter, help=about, **extra)(made)
    return made


_HOW = (
    ("text", "TEXT", "Why: for the log; the author reads it where he is told."),
    ("to", "CHANNEL", "On this channel, wherever the channel table would send it."),
    ("next-hop", "HOST[:PORT]", "To this host or address, not to the recipient's own."),
    ("limit", "NUMBER", "At most so many jobs."),
    ("yes", "", "Even if they are many."),
    ("dry-run", "", "Change nothing: show what would be touched."),
    ("json", "", "One JSON object a line."),
)
_SPECIAL = ("to", "next-hop", "yes")
_ONLY = {"reroute": ("to", "next-hop"), "delete": ("yes",), "return": ("yes",)}


def _whose(command: Command) -> Command:
    """Give a command the options that say whose mail is meant; it gets them as ``given``."""

    def gathered(**options: Any) -> int:
        return command(given={what: options.pop(f"of_{what}") for what in WHATS}, **options)

    gathered.__doc__ = command.__doc__
    made: Command = gathered
    for what in reversed(WHATS):
        metavar, text = _WHOSE[what]
        option = click.option(f"--{what}", f"of_{what}", metavar=metavar, multiple=True, help=text)
        made = option(made)
    return made


_WHOSE = {
    "host": ("HOST", "Jobs for this next hop; .DOMAIN: for all hosts below it."),
    "domain": ("DOMAIN", "Jobs to addresses of this domain; .DOMAIN: below it."),
    "channel": ("NAME", "Jobs of this channel."),
    "queue": ("NAME", "Jobs in this queue."),
    "sender": ("ADDRESS", "Jobs of this author; <> for the null reverse-path."),
}


def _suspend(say: Say) -> Command:
    @click.option("--until", metavar="TIME", default="", help="Until 14:30, 2026-12-24T18:00.")
    @click.option("--for", "lasting", metavar="TIME", default="", help="For 30m, 2h, 5d.")
    @click.option("--reason", metavar="TEXT", default="", help="Why: for the log and mta why.")
    @_whose
    def suspend(config: Config, given: Any, until: str, lasting: str, reason: str) -> int:
        """Have mail wait, also what is queued already, until a time or until it is resumed."""
        from mta.control import suspending

        about = suspending.whom(config, given)
        return suspending.suspend(config, about, until=until, lasting=lasting, why=reason, say=say)

    return suspend


def _resume(say: Say) -> Command:
    @click.option("--all", "every", is_flag=True, help="All that is suspended.")
    @_whose
    def resume(config: Config, given: Any, every: bool) -> int:
        """Let suspended mail go again, at once."""
        from mta.control import suspending

        return suspending.resume(config, None if every else suspending.whom(config, given), say)

    return resume


def _suspended(say: Say) -> Command:
    def suspended(config: Config, as_json: bool) -> int:
        """List what is suspended: whose mail, since when, until when, by whom and why."""
        from mta.control import suspending

        for line in suspending.lines(config, as_json=as_json):
            say(line)
        return EX_OK

    return suspended
