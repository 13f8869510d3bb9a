"""What a process says of itself, whose death it shares, and the signals it notes.

Invariants, each a test in tests/machine/test_process.py
    M1   A signal only sets a flag, and wakes whoever sleeps on ``fileno()``.
    M2   A process that asked to die with its parent does not outlive one that
         was gone before it asked.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

__all__ = ["Signals", "die_with_parent", "set_title"]

_PR_SET_PDEATHSIG = 1
_titles = True


def set_title(text: str) -> None:
    """Show ``text`` as this process's title in ps(1); silently nothing without setproctitle."""
    global _titles  # noqa: PLW0603 - one failed import need not be tried again
    if not _titles:
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        _titles = False
        return
    setproctitle(text)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process (SIGTERM) when process ``parent`` ends.

    ``parent`` is the pid that the parent told: if it has ended before we asked,
    nobody would send the signal, so we exit at once.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)


class Signals:
    """Notes signals as flags; ``fileno()`` becomes readable when one has come."""

    def __init__(self, *numbers: int) -> None:
        """Catch ``numbers`` from now on (main thread only) until close()."""
        self._noted: set[int] = set()
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, number: int, _frame: object) -> None:
        self._noted.add(number)
        with suppress(BlockingIOError):  # the pipe is full of earlier wake-ups: it is readable
            os.write(self._in, b"!")

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._out

    def taken(self) -> frozenset[int]:
        """Return the signals that have come since the last call."""
        with suppress(BlockingIOError):
            while os.read(self._out, 512):
                pass
        noted, self._noted = self._noted, set()
        return frozenset(noted)

    def close(self) -> None:
        """Put back what was there before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self._out)
        os.close(self._in)
