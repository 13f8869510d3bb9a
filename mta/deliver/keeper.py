"""Keeps an intake running: whichever deliver finds the lock free starts one as its child.

The child inherits the locked descriptor, so the lock lives as long as it does.
It ends with us; then another deliver, which looks once a second, starts the next.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from mta.config.load import load_config
from mta.errors import ConfigError
from mta.spool.intake import try_lock
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.machine.log import Log
    from mta.spool.spool import Spool

__all__ = ["Keeper"]

PATIENCE = 5.0  # seconds that a stopping child has
LONGEST_WAIT = 60.0


class Keeper:
    """Looks after the intake on behalf of one deliver."""

    def __init__(self, spool: Spool, config_path: str, log: Log) -> None:
        self._spool = spool
        self._config_path = config_path
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._wait = 1.0
        self._started = 0.0
        self._renewed = False

    def renew(self) -> None:
        """Have our intake end, and another begin that reads the configuration as it is now.

        With errors in it no intake could start: then the one that runs goes on.
        """
        if self._child is None:
            return
        try:
            load_config(self._config_path)
        except ConfigError as error:
            self._log.warning(f"{error}; intake goes on as it was")
            return
        self._renewed = True
        self._child.terminate()

    def tick(self, mono: float) -> None:
        """Start an intake if none runs."""
        if self._child is not None:
            if self._child.poll() is None:
                return
            if self._renewed:
                self._renewed, self._child, self._not_before = False, None, 0.0
        if self._child is not None:
            self._log.warning(
                f"intake ended, pid {self._child.pid}, status {self._child.returncode}: "
                f"another is started within {self._wait:g} s"
            )
            self._child = None
            if mono - self._started >= LONGEST_WAIT:
                self._wait = 1.0
            self._not_before = mono + self._wait
            self._wait = min(LONGEST_WAIT, self._wait * 2)
        if mono < self._not_before:
            return
        try:
            lock = try_lock(self._spool)
            if lock is not None:
                try:
                    self._start(lock)
                    self._started = mono
                finally:
                    os.close(lock)
        except OSError as error:
            self._log.warning(f"no intake: {error.strerror}")
            self._not_before = mono + self._wait

    def _start(self, lock: int) -> None:
        words = [
            "--config",
            self._config_path,
            "--lock-fd",
            str(lock),
            "--parent",
            str(os.getpid()),
        ]
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "mta.intake", *words],
            stdin=subprocess.DEVNULL,
            pass_fds=(lock,),
            process_group=0,
        )

    def stop(self) -> None:
        """End our intake, if we have one."""
        if self._child is None:
            return
        self._child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(PATIENCE)
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._child = None
