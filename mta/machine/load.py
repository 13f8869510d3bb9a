"""The machine's one-minute load average."""

from __future__ import annotations

__all__ = ["load_average"]


def load_average() -> float:
    """Return the one-minute load average; 0.0 where the system does not tell."""
    import psutil

    try:
        return float(psutil.getloadavg()[0])
    except OSError:
        return 0.0
