"""Days that pass in a minute: the clocks of our processes leap when the test says so.

Between two leaps time runs as always, so that what takes a second takes a second: only
waiting is cut short.  libfaketime does it (Debian: faketime), for wall and monotonic time alike,
in every process that was started with ``environment``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.e2e.house import TOOLS

__all__ = ["Leaps"]

NAME = "faketime/libfaketime.so.1"


class Leaps:
    """A clock that is ``ahead`` of the machine's by as many seconds as were leapt."""

    def __init__(self, root: Path) -> None:
        places = [*TOOLS.glob(f"usr/lib/*/{NAME}"), *Path("/usr/lib").glob(f"*/{NAME}")]
        if not places:
            pytest.skip("libfaketime is not here (Debian: faketime)")
        self.ahead = 0.0
        self._file = root / "clock"
        self.leap(0.0)
        self.environment = {
            "LD_PRELOAD": str(places[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        }

    def leap(self, seconds: float) -> None:
        """Let so many seconds have passed."""
        self.ahead += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"+{self.ahead:.0f}\n")
        os.replace(new, self._file)

    def now(self) -> float:
        """Return the wall time of our processes."""
        return time.time() + self.ahead
