"""sendmail, mailq, newaliases and runq: the names that programs on Unix call.

Two rules make it safe to hand this command a line that a web form had a part in.
No option names a file that is written.  The only one that names a file at all,
the configuration, is taken as the first argument or not: programs put their own
options first, so an option smuggled in later cannot choose our configuration,
with which one could choose commands to run.

Source   sendmail(8) of Sendmail 8 and of Postfix; LSB; CVE-2016-10033 and its kin.
         The manual is man/sendmail.8.
"""

from __future__ import annotations

import sys

from mta import errors
from mta.arguments import ATTACHED, FLAG, VALUE, read_options
from mta.errors import UsageError
from mta.headers import DotText, LineEnds
from mta.submit import Request, guarded, leave, one_shot, read_input, report, say, shown
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

__all__ = ["IGNORED", "MODES", "SHORT", "mailq", "main", "newaliases", "run", "runq", "until_dot"]

# Every letter that sendmail or Postfix know and that harms nobody.
SHORT = {
    "A": VALUE, "B": VALUE, "C": VALUE, "F": VALUE, "G": FLAG, "I": FLAG, "L": VALUE,
    "N": VALUE, "O": VALUE, "R": VALUE, "U": FLAG, "V": VALUE, "X": VALUE,
    "b": VALUE, "c": FLAG, "d": ATTACHED, "e": VALUE, "f": VALUE, "h": VALUE, "i": FLAG,
    "m": FLAG, "n": FLAG, "o": VALUE, "p": VALUE, "q": ATTACHED, "r": VALUE, "s": FLAG,
    "t": FLAG, "v": FLAG, "x": FLAG,
}  # fmt: skip
IGNORED = "ALOUXcdehmnpsx"  # taken with their value, and of no effect
_LONG = {"help": FLAG, "version": FLAG, "json": FLAG}

# What -b is followed by; the text says what to use where we have no such mode.
MODES = {
    "m": "",
    "p": "",
    "i": "",
    "v": "",
    "d": "the daemons are started by mta up, init or systemd",
    "D": "the daemons are started by mta up, init or systemd",
    "s": "SMTP on standard input comes with the listener; use submit --protocol",
    "t": "use mta route ADDRESS",
    "P": "use mta queue",
}
_DELIVERY = {"b": "background", "i": "interactive", "q": "queue", "d": "defer"}  # -odX
_CHECKED = {"B": ("7BIT", "8BITMIME"), "R": ("FULL", "HDRS"), "N": ()}
_NOTIFY = {"never", "success", "failure", "delay"}

USAGE = """\
usage: sendmail [-t] [-i] [-f path] [-F name] [-v] [options] [--] recipient...
       sendmail -bv address... | -bp | -bi | -q
sendmail(8) lists all options; to name a configuration, put --config FILE first.
"""


def main() -> NoReturn:
    """Run under the name that this process was called by; end the process."""
    name = sys.argv[0].rpartition("/")[2]
    leave(guarded(name or "sendmail", lambda: _PROGRAMS.get(name, run)(sys.argv[1:])))


def mailq() -> NoReturn:
    """List the queues; end the process."""
    leave(guarded("mailq", lambda: _mailq(sys.argv[1:])))


def newaliases() -> NoReturn:
    """Check the aliases; end the process."""
    leave(guarded("newaliases", lambda: _newaliases(sys.argv[1:])))


def runq() -> NoReturn:
    """Deliver what waits, once; end the process."""
    leave(guarded("runq", lambda: _runq(sys.argv[1:])))


def run(arguments: Sequence[str]) -> int:
    """Do what a sendmail command line says; return the exit status."""
    config, rest = _leading_config(arguments)
    options, operands = read_options(rest, SHORT, _LONG)
    value = dict(options)
    _check(options)
    mode = "i" if "I" in value else value.get("b", "m")
    if "help" in value or "version" in value:
        from mta import __version__

        say(1, USAGE if "help" in value else f"sendmail (Posthouse) {__version__}\n")
        return errors.EX_OK
    if "q" in value and mode == "m":
        return _run_queue(config, [v for name, v in options if name == "q"], operands)
    if mode == "m":
        return _submit(config, options, operands)
    if mode == "v":
        return verify_only(config, operands)
    return _PROGRAMS["mailq" if mode == "p" else "newaliases"](_with_config(config, operands))


def _leading_config(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Take ``--config FILE`` or ``-C FILE`` off the front, and only there."""
    if arguments and arguments[0] in ("--config", "-C"):
        if len(arguments) < 2:
            raise UsageError(f"option {arguments[0]} needs a value")
        return arguments[1], arguments[2:]
    return None, arguments


def _with_config(config: str | None, operands: Sequence[str]) -> list[str]:
    return [*(("--config", config) if config is not None else ()), *operands]


def _check(options: Sequence[tuple[str, str]]) -> None:
    """Refuse values that we would have to ignore although they mean something."""
    for name, value in options:
        if name == "C":
            raise UsageError("-C is taken only as the first argument, with FILE as the second")
        if name == "b" and MODES.get(value, "no such mode"):
            raise UsageError(f"-b{_clean(value)}: {MODES.get(value, 'no such mode')}")
        allowed = _CHECKED.get(name)
        if allowed and value.upper() not in allowed:
            raise UsageError(f"-{name} is followed by {' or '.join(allowed)}")
        if name == "N":
            words = {word.strip(" ").lower() for word in value.split(",")}
            if not words <= _NOTIFY or ("never" in words and len(words) > 1):
                raise UsageError("-N is followed by never, or by success, failure, delay")
        if name == "V" and not (value.isascii() and value.isprintable() and len(value) <= 100):
            raise UsageError("-V is followed by at most 100 printable characters")


def _clean(value: str) -> str:
    return value[:20] if value.isprintable() else "?"


def _submit(config: str | None, options: Sequence[tuple[str, str]], operands: Sequence[str]) -> int:
    value = dict(options)
    dots = "i" in value or ("o", "i") in options
    path = [v for name, v in options if name in ("f", "r")]
    from_header = "t" in value or ("o", "t") in options
    if not operands and not from_header:
        raise UsageError("no recipient; try sendmail --help")
    request = Request(
        tuple(operands),
        "sendmail",
        path[-1] if path else None,
        value.get("F", ""),
        from_header,
        "G" in value,
        "v" in value,
        "json" in value,
        config,
        value.get("N", ""),
        value.get("R", ""),
        value.get("V", ""),
        mode=_delivery(options),
    )
    return one_shot(request, read_input(0) if dots else until_dot(read_input(0)))


def _delivery(options: Sequence[tuple[str, str]]) -> str:
    """Return the mode that -odX or -ODeliveryMode=X asks for; "" where none does."""
    given = [value[1:] for name, value in options if name == "o" and value[:1] == "d"]
    long = [value.partition("=") for name, value in options if name == "O"]
    given += [value for word, _, value in long if word.lower() == "deliverymode"]
    if not given:
        return ""
    mode = _DELIVERY.get(given[-1][:1])
    if mode is None:
        raise UsageError("-od is followed by b, i, q or d")
    return mode


def until_dot(octets: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the text up to a line that is a lone dot, or all of it."""
    ends, dot = LineEnds(), DotText(stuffed=False)
    for chunk in octets:
        text, _ = dot.feed(ends.feed(chunk))
        if text:
            yield text
        if dot.ended:
            return
    text, _ = dot.feed(ends.end())
    yield text
    yield dot.end()


def verify_only(config: str | None, addresses: Sequence[str]) -> int:
    """-bv: tell for each address where its mail would go; submit nothing."""
    if not addresses:
        raise UsageError("-bv needs an address")
    from mta.accept import open_door
    from mta.config.load import load_config

    door = open_door(load_config(config))
    bad = 0
    for text in addresses:
        routed = door.verify(text)
        if routed.outcome is not None:
            bad += 1
            say(1, f"{shown(text)} {routed.outcome.reply}\n")
        for target in routed.targets:
            to = target.action or f"{target.mailbox}"
            say(1, f"{shown(text)} deliverable: channel {target.channel}, {to}\n")
    return errors.EX_NOUSER if bad else errors.EX_OK


def _mailq(arguments: Sequence[str]) -> int:
    from mta.mailq import mailq_main

    return _status_of(mailq_main, "mailq", arguments)


def _runq(arguments: Sequence[str]) -> int:
    """runq: what ``sendmail -q`` does; the options of sendmail's runq are ignored."""
    config, rest = _leading_config(arguments)
    _, ids = read_options(rest, SHORT, _LONG)
    return _run_queue(config, [], ids)


def _run_queue(config: str | None, selected: Sequence[str], ids: Sequence[str]) -> int:
    """Have everything tried once, or the messages named, or what the values of -q select."""
    from mta.spool.layout import valid_id

    words = [word for word in selected if word]
    if all(word[:1] == "I" and valid_id(word[1:]) for word in words):
        return _deliver([*_with_config(config, ()), *[w[1:] for w in words], *_ids(ids)])
    from mta import queuerun

    return queuerun.run(
        config, words, lambda loaded, keys: _deliver(["--config", loaded.path, *keys])
    )


def _deliver(words: Sequence[str]) -> int:
    from mta.deliver.program import main as deliver

    return _status_of(deliver, "deliver", words)


def _ids(ids: Sequence[str]) -> Sequence[str]:
    for ident in ids:
        if not (ident.isascii() and ident.isalnum()):
            raise UsageError("that is no id of a message")
    return ids


def _newaliases(arguments: Sequence[str]) -> int:
    """Read the aliases afresh and report what is wrong; there is no data base to make."""
    config, rest = _leading_config(arguments)
    read_options(rest, SHORT, _LONG)
    from mta.config.load import load_config

    loaded = load_config(config)
    if not loaded.local.aliases:
        report("newaliases", "no alias file is configured")
        return errors.EX_OK
    longest = max((sum(map(len, targets)) for _, targets, _ in loaded.aliases), default=0)
    total = sum(sum(map(len, targets)) for _, targets, _ in loaded.aliases)
    names = len(loaded.aliases)
    say(
        1,
        f"{loaded.local.aliases}: {names} aliases, longest {longest} bytes, {total} bytes total\n",
    )
    return errors.EX_OK


def _status_of(program: Callable[[], object], name: str, arguments: Sequence[str]) -> int:
    """Run another program's main() in this process, as if it had been called so."""
    sys.argv = [name, *arguments]
    status = program()
    sys.stdout.flush()  # leave() will not
    return status if isinstance(status, int) else errors.EX_OK


_PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {
    "mailq": _mailq,
    "newaliases": _newaliases,
    "runq": _runq,
}
