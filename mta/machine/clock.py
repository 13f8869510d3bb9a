"""The two clocks: wall time for ages and ids, monotonic time for timeouts."""

from __future__ import annotations

import time

__all__ = ["monotonic", "wall"]

wall = time.time
monotonic = time.monotonic
