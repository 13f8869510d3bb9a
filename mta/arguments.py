"""Command lines as getopt(3) reads them, for the commands whose start-up counts.

``argparse`` would cost more than the rest of ``submit``, and reads an option
with an attached value in ways that sendmail's callers do not expect.

Options end at the first operand or at ``--``: what follows, even with a
hyphen in front, is an operand and never an option.

Source   POSIX XBD 12.2; sendmail(8) for values that are only ever attached.
"""

from __future__ import annotations

from mta.errors import UsageError
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ATTACHED", "FLAG", "VALUE", "read_options", "read_span"]

FLAG = "no value"
VALUE = "a value, attached or the next argument"
ATTACHED = "a value or none, attached"

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

if TYPE_CHECKING:
    Options = list[tuple[str, str]]


def read_options(
    arguments: Sequence[str], short: Mapping[str, str], long: Mapping[str, str]
) -> tuple[Options, list[str]]:
    """Return the options in order as (name, value), and the operands.

    ``short`` and ``long`` map names (without hyphens) to FLAG, VALUE or
    ATTACHED.  UsageError for an option that is in neither, or has a wrong value.
    """
    options: Options = []
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            at += 1
            break
        if word[:1] != "-" or word == "-":
            break
        rest = arguments[at + 1 : at + 2]
        read = _long(word[2:], rest, long) if word[1] == "-" else _short(word[1:], rest, short)
        options += read[0]
        at += 1 + read[1]
    return options, list(arguments[at:])


def _long(word: str, rest: Sequence[str], known: Mapping[str, str]) -> tuple[Options, int]:
    name, equals, value = word.partition("=")
    kind = known.get(name)
    if kind is None:
        raise UsageError(f"unknown option {_shown('--' + name)}")
    if kind == FLAG:
        if equals:
            raise UsageError(f"option --{name} takes no value")
        return [(name, "")], 0
    if equals or kind == ATTACHED:
        return [(name, value)], 0
    if not rest:
        raise UsageError(f"option --{name} needs a value")
    return [(name, rest[0])], 1


def _short(letters: str, rest: Sequence[str], known: Mapping[str, str]) -> tuple[Options, int]:
    options: Options = []
    for at, letter in enumerate(letters):
        kind = known.get(letter)
        if kind is None:
            raise UsageError(f"unknown option {_shown('-' + letter)}")
        attached = letters[at + 1 :]
        if kind == FLAG:
            options.append((letter, ""))
        elif attached or kind == ATTACHED:
            return [*options, (letter, attached)], 0
        elif rest:
            return [*options, (letter, rest[0])], 1
        else:
            raise UsageError(f"option -{letter} needs a value")
    return options, 0


def read_span(text: str) -> float:
    """Return ``text``, as "30s", "15m", "2h", "5d" or "1w", in seconds; or UsageError."""
    number, unit = text[:-1], text[-1:]
    if unit not in _SPANS or not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise UsageError(f'{_shown(text)} is not a time as "30s", "15m", "2h", "5d" or "1w"')
    return float(int(number) * _SPANS[unit])


def _shown(text: str) -> str:
    return text[:40] if text.isprintable() else ascii(text[:40])
