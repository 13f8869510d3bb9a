"""deliver's command line: MMDF's flags, bundled or not, with their values joined or apart.

Source   MMDF II's deliver(8).  ``-l15``, ``-l 15``, ``-bwclocal`` and ``-bw -c local`` are all
         understood, before or after message ids; ``--`` ends the options.
Units    As typed there: -l minutes, -t and -o hours, -T seconds.  Here all are seconds.

Invariants, each a property in tests/deliver/test_flags.py
    A1   However the same flags are spelt (bundled, joined, apart, in any order),
         they parse to the same Flags.
    A2   What is no flag raises UsageError, never anything else.
    A3   What spell() says of flags parses to the same Flags, as far as they say which
         jobs are taken, and when.
"""

from __future__ import annotations

from mta.errors import UsageError
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HELP", "LEVELS", "SORT_LIMIT", "Flags", "parse", "spell"]

LEVELS = ("FAT", "TMP", "GEN", "BST", "FST", "PTR", "BTR", "FTR")  # least to most said
SORT_LIMIT = 50_000  # names of one hour that are sorted; of more, each list by itself
DEFAULT_INTERVAL = 600.0
_SWITCHES = "bpsw"
_VALUED = "clmotLTV"

HELP = """\
usage: deliver [-b] [-c a,b] [-l min] [-m n] [-o h] [-p] [-s] [-t h] [-w]
               [-L file] [-T s] [-V level] [--config FILE] [id...]

Take queued mail to its channel programs: one pass, or with -b for ever.

  -b          run as a daemon: sweep, serve new mail as it comes, sleep
  -c a,b      only these channels (default: all)
  -l min      leave a dead host alone this long; 0: as the channel says; negative: not at all
  -m n        sort no hour of a queue that holds more than n jobs (default 50000)
  -o h        only messages older than h hours
  -p          passive channels only: this version has none
  -s          take names as the directory gives them
  -t h        only messages younger than h hours
  -w          say on standard output what happens
  -L file     text log, relative to the log directory
  -T s        seconds between sweeps (default 600)
  -V level    how much the text log says: FAT TMP GEN BST FST PTR BTR FTR
  --config FILE   the configuration (default: $MTA_CONFIG, the user's, /etc's)
  id...       just these messages, in this order, whether due or not
"""


@frozen
class Flags:
    """What was asked; absent is None, "" or ().  ``dead_ttl`` 0.0 is "cache off"."""

    background: bool = False
    channels: tuple[str, ...] = ()
    dead_ttl: float | None = None
    sort_threshold: int = SORT_LIMIT
    older: float | None = None
    younger: float | None = None
    passive: bool = False
    unsorted: bool = False
    watch: bool = False
    log_file: str = ""
    interval: float = DEFAULT_INTERVAL
    level: str = ""
    config: str | None = None
    help: bool = False
    ids: tuple[str, ...] = ()


def parse(arguments: Sequence[str]) -> Flags:
    """Return what ``arguments`` (without the program's name) ask for.

    Raises UsageError with the reason.  Channel names are only split here; who
    has the configuration checks them.
    """
    given: dict[str, list[str]] = {}
    ids: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            ids += rest
            break
        if word.startswith("--"):
            _long(word, rest, given)
        elif word.startswith("-") and word != "-":
            _short(word, rest, given)
        else:
            ids.append(word)
    return _flags(given, tuple(ids))


def _long(word: str, rest: list[str], given: dict[str, list[str]]) -> None:
    name, joined, value = word[2:].partition("=")
    if name == "help" and not joined:
        given["help"] = [""]
    elif name == "config":
        if not joined:
            value = rest.pop(0) if rest else ""
        if not value:
            raise UsageError("--config needs a file")
        given["config"] = [value]
    else:
        raise UsageError(f"unknown option {_shown('--' + name)}; try --help")


def _short(word: str, rest: list[str], given: dict[str, list[str]]) -> None:
    """Take one argument of bundled flags; the first that has a value takes what is left of it."""
    for at, letter in enumerate(word[1:], 2):
        if letter in _SWITCHES:
            given[letter] = [""]
            continue
        if letter not in _VALUED:
            raise UsageError(f"unknown flag -{_shown(letter)}; try --help")
        value = word[at:] or (rest.pop(0) if rest else "")
        if not value:
            raise UsageError(f"-{letter} needs a value")
        given.setdefault(letter, []).append(value)
        return


def _flags(given: dict[str, list[str]], ids: tuple[str, ...]) -> Flags:
    names = [n.strip() for value in given.get("c", []) for n in value.split(",")]
    if "c" in given and not all(names):
        raise UsageError("-c needs channel names, separated by commas")
    minutes = _number("l", given, lowest=None)
    interval = _number("T", given)
    level = _last("V", given).upper()
    if level and level not in LEVELS:
        raise UsageError(f"-V: no level {_shown(level)}; there are {' '.join(LEVELS)}")
    threshold = _number("m", given)
    return Flags(
        background="b" in given,
        channels=tuple(dict.fromkeys(names)),
        dead_ttl=None if not minutes else max(0.0, minutes * 60),
        sort_threshold=SORT_LIMIT if threshold is None else int(threshold),
        older=_hours("o", given),
        younger=_hours("t", given),
        passive="p" in given,
        unsorted="s" in given,
        watch="w" in given,
        log_file=_last("L", given),
        interval=DEFAULT_INTERVAL if interval is None else max(interval, 0.1),
        level=level,
        config=given["config"][-1] if "config" in given else None,
        help="help" in given,
        ids=ids,
    )


def spell(flags: Flags) -> str:
    """Return the flags that say which jobs are taken, and when, as they may be typed."""
    said = ["-b"] if flags.background else []
    said += ["-c" + ",".join(flags.channels)] if flags.channels else []
    if flags.dead_ttl is not None:
        said.append(f"-l{_figures(flags.dead_ttl / 60)}" if flags.dead_ttl > 0 else "-l-1")
    for letter, seconds in (("t", flags.younger), ("o", flags.older)):
        said += [] if seconds is None else [f"-{letter}{_figures(seconds / 3600)}"]
    if flags.interval != DEFAULT_INTERVAL:
        said.append(f"-T{_figures(flags.interval)}")
    if flags.sort_threshold != SORT_LIMIT:
        said.append(f"-m{flags.sort_threshold}")
    said += ["-s"] if flags.unsorted else []
    return " ".join([*said, *flags.ids])


def _figures(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _last(letter: str, given: dict[str, list[str]]) -> str:
    return given[letter][-1] if letter in given else ""


def _hours(letter: str, given: dict[str, list[str]]) -> float | None:
    hours = _number(letter, given)
    return None if hours is None else hours * 3600


def _number(letter: str, given: dict[str, list[str]], lowest: float | None = 0.0) -> float | None:
    text = _last(letter, given)
    if not text:
        return None
    plain = text[1:] if text[0] == "-" else text
    if not plain.isascii() or not plain.replace(".", "", 1).isdigit() or len(plain) > 12:
        raise UsageError(f"-{letter}: {_shown(text)} is not a number")
    value = float(text)
    if lowest is not None and value < lowest:
        raise UsageError(f"-{letter}: {_shown(text)} is below {lowest:g}")
    return value


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:60])
