"""The first attempt at a message that has just been submitted, before submit returns.

Mode interactive: MMDF's submit did so for whoever waited at a terminal.  The message is
accepted, durable and routed by now; what the attempt makes of it is deliver's, and
changes no exit status.  A deliver that cannot run here (another user's spool, a
program that is missing) leaves the message to the next sweep.

Units    Times are float seconds on the monotonic clock.
"""

from __future__ import annotations

import subprocess
import sys
import time

from mta.machine.wake import wake_intake
from mta.spool.spool import Spool
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mta.config.model import Config

__all__ = ["attempt"]

TAKEN_IN = 10.0  # seconds that a running intake has to make the jobs
LOOK = 0.01


def attempt(config: Config, ident: str, channels: Sequence[str], *, aloud: bool) -> None:
    """Try the jobs of message ``ident`` on ``channels`` once; say what comes of it if ``aloud``."""
    _wait_for_jobs(config, ident)
    words = ["-c", ",".join(channels), *(["-w"] if aloud else []), "--config", config.path, ident]
    output = None if aloud else subprocess.DEVNULL
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", "mta.deliver.program", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    except KeyboardInterrupt:
        pass  # who does not want to wait has submitted it all the same
    except OSError:
        pass  # it is in the queue, and waits there


def _wait_for_jobs(config: Config, ident: str) -> None:
    """Wait until the intake that runs has made the message's jobs; without one deliver does."""
    spool = Spool.open(config.spool)
    limit = time.monotonic() + TAKEN_IN
    while not spool.find(ident) and wake_intake(config.runtime) and time.monotonic() < limit:
        time.sleep(LOOK)
