"""cleanque: an intake's housekeeping, for a spool that no daemon serves.

Takes in what was accepted, makes a checkpoint, and removes bodies that no job
needs any more.  A running intake does all of it by itself; then there is
nothing left to do here.  Warning of late mail and failing it is deliver's.

Source   MMDF's cleanque(8), whose four hours an orphan must be old.
"""

from __future__ import annotations

import os
import sys
import time

from mta.arguments import FLAG, VALUE, read_options
from mta.config.load import load_config
from mta.config.queues import paths
from mta.errors import PosthouseError, UsageError, exit_code
from mta.machine.log import Log
from mta.spool.cleaning import SHARDS, clean
from mta.spool.intake import Intake, try_lock
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mta.spool.entry import Envelope

__all__ = ["main", "run", "tidy"]

ORPHAN_AGE = 4 * 3600.0  # seconds


def tidy(spool: Spool, log: Log, now: float, say: Callable[[str], None]) -> None:
    """Do an intake's work once; ``say`` what was done.  SpoolError if the disk fails."""
    lock = try_lock(spool)
    if lock is None:
        say("intake runs, and cleans as it goes")
        return

    def queued(e: Envelope) -> None:
        log.queued(e.id, e.reverse_path, e.size, e.recipients, e.origin)

    intake = Intake(spool, lambda names: None, queued)
    try:
        taken = 0
        while count := intake.step():
            taken += count
        left = intake.checkpoint(at_once=True)
        removed = sum(clean(spool, shard, now - ORPHAN_AGE) for shard in range(SHARDS))
    finally:
        intake.close()
        spool.fs.close(lock)
        log.close()
    say(f"took in {taken} message(s), {left} segment(s) of the journal in use")
    say(f"removed {removed} orphaned bodies")


def run(arguments: Sequence[str], now: float, say: Callable[[str], None]) -> None:
    """Clean the configured spool.  PosthouseError if it or the command line will not do."""
    options, operands = read_options(arguments, {"w": FLAG}, {"config": VALUE})
    if operands:
        raise UsageError("usage: cleanque [-w] [--config FILE]")
    given = dict(options)
    config = load_config(given.get("config"))
    spool = Spool.open(config.spool, paths=paths(config))
    log = Log(config.log.dir, config.log.formats, "cleanque")
    tidy(spool, log, now, say if "w" in given else lambda text: None)
    for name in spool.fs.list("bad"):
        say(f"kept for a person: {os.path.join(config.spool, 'bad', name)}")


def main() -> int:
    """The command ``cleanque``; returns its exit status."""
    try:
        run(sys.argv[1:], time.time(), print)
    except PosthouseError as error:
        print(f"cleanque: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    return 0
