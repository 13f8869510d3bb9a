"""smtp: hands messages to SMTP servers, many at once, with as few connections as serve.

Source   smtp(8), channel(7).  All of it is mta.machine.carrier's, which lmtp shares:
         outward.py reads the options, courier.py finds each job's site, targets.py the
         hosts and what TLS they must have, reach.py opens connections, site.py uses them.

Invariants, each a test in tests/channels/test_smtp.py
    P4   However long a body, the program does not grow with it.
"""

from __future__ import annotations

import sys

from mta.machine.carrier import run_carrier

__all__ = ["main"]


def main() -> int:
    """Run the channel program; return its exit status."""
    return run_carrier("smtp", lmtp=False)


if __name__ == "__main__":
    sys.exit(main())
