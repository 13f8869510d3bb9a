"""deliver: the program.  Parses, opens, runs, and reports what stopped it in one line.

Exit     0 when the pass or the daemon ended in order, whatever became of the mail;
         64 for a wrong command line, 70 for a defect of ours, 75 when the spool or
         a channel program cannot be used or a pass could not read all of a queue,
         78 for a wrong configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable, Sequence

from mta.config.load import load_config
from mta.config.model import Config
from mta.config.queues import alike, paths
from mta.deliver.flags import HELP, LEVELS, Flags, parse
from mta.deliver.generations import Generations
from mta.errors import EX_TEMPFAIL, LocalProtocolError, PosthouseError, UsageError, exit_code, spelt
from mta.machine import loop
from mta.machine.listen import raise_descriptors
from mta.machine.log import Log
from mta.machine.logline import printable
from mta.spool.layout import valid_id
from mta.spool.spool import Spool
from mta.spool.states import HOLD
from mta.types import Reply

__all__ = ["main"]

DEFAULT_LEVEL = "FST"
DESCRIPTORS = 8192  # a job in flight holds one of its own, whatever its host does


def _check_channels(config: Config, flags: Flags) -> None:
    """Refuse channels that there are not: ConfigError."""
    if flags.passive:
        raise UsageError("-p: this version has no passive channels")
    for name in flags.channels:
        config.channel(name)


def _run(arguments: Sequence[str]) -> int:
    flags = parse(arguments)
    if flags.help:
        sys.stdout.write(HELP)
        return 0
    _check_ids(flags)
    config = load_config(flags.config)
    _check_channels(config, flags)
    level = LEVELS.index(flags.level or DEFAULT_LEVEL)
    log = Log(config.log.dir, config.log.formats, "deliver", file=flags.log_file, level=level)
    spool = Spool.open(config.spool, paths=paths(config), alike=alike(config))
    log.started("deliver", arguments)
    trouble = log.trouble()
    if trouble:  # no reason to leave mail undelivered, but somebody should know
        sys.stderr.write(f"deliver: the log cannot be written: {printable(trouble)}\n")
        log.warning(f"a log cannot be written: {trouble}")
    try:
        generations = Generations(config, flags, spool, log, _watch(flags))
        loop.spare_collector()
        raise_descriptors(DESCRIPTORS)
        asyncio.run(generations.run())
        _tell_held(spool, flags)
    except PosthouseError:
        raise
    except Exception as error:  # a defect of ours: the log gets it whole, a person one line
        for line in traceback.format_exc().splitlines():
            log.warning(line)
        raise LocalProtocolError(f"{type(error).__name__}: {error}; see the log") from error
    finally:
        log.stopped("deliver")
        log.flush()
    return 0


def _check_ids(flags: Flags) -> None:
    """Refuse what can be no message; one that is gone by now is no error."""
    for word in flags.ids:
        if not valid_id(word.partition(".")[0]):
            raise UsageError(f"{Reply.clean(word, 60)!r} is no message id")


def _tell_held(spool: Spool, flags: Flags) -> None:
    """Say of the messages that were named which of their jobs are held: they were not tried."""
    say = _watch(flags)
    for word in flags.ids if say is not None else ():
        message_id, dot, number = word.partition(".")
        for name in spool.find(message_id):
            entry = spool.peek(name)
            hold = None if entry is None else entry.note(HOLD)
            if say is not None and hold is not None and (not dot or str(name.number) == number):
                why = f": {hold.text}" if hold.text else ""
                say(printable(f"{name.key} is held by {hold.who}{why}; mta release {name.key}"))


def _watch(flags: Flags) -> Callable[[str], None] | None:
    """Return who writes -w's lines; nobody minds when the terminal has gone."""
    if not flags.watch:
        return None

    def say(line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    return say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run deliver; return its exit status."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except PosthouseError as error:
        print(spelt("deliver", error), file=sys.stderr)
        return exit_code(error)
    except OSError as error:
        print(spelt("deliver", error), file=sys.stderr)
        return EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
