"""lmtp: hands messages to the LMTP servers that keep mailboxes, each recipient with its own fate.

Source   lmtp(8), channel(7); RFC 2033.  As smtp, but it greets with LHLO, goes to its
         relays alone, and settles each recipient when the server has answered for it.
"""

from __future__ import annotations

import sys

from mta.machine.carrier import run_carrier

__all__ = ["main"]


def main() -> int:
    """Run the channel program; return its exit status."""
    return run_carrier("lmtp", lmtp=True)


if __name__ == "__main__":
    sys.exit(main())
