"""What the exit of a delivery program means for the mail it was given.

Source   sysexits.h and the statuses that Postfix gives its codes.  A code that
         is not there, a signal and a time limit mean a deferral: only a program
         that says so in the agreed words returns mail to its author.
"""

from __future__ import annotations

from mta.machine.run import Ran
from mta.types import RECIPIENT, Outcome, Reply

__all__ = ["SYSEXITS", "exit_outcome"]

# exit status → code, enhanced status, what to say when the program said nothing
SYSEXITS: dict[int, tuple[int, str, str]] = {
    0: (250, "2.0.0", "delivered to command"),
    64: (554, "5.3.0", "command line usage error"),
    65: (554, "5.6.0", "data format error"),
    66: (554, "5.3.0", "cannot open input"),
    67: (550, "5.1.1", "user unknown"),
    68: (550, "5.1.2", "host name unknown"),
    69: (554, "5.3.0", "service unavailable"),
    70: (554, "5.3.0", "internal software error"),
    71: (451, "4.3.0", "system resource problem"),
    72: (554, "5.3.0", "critical OS file missing"),
    73: (554, "5.2.0", "cannot create user output file"),
    74: (451, "4.3.0", "input/output error"),
    75: (451, "4.3.0", "temporary failure"),
    76: (554, "5.5.0", "remote error in protocol"),
    77: (554, "5.7.0", "permission denied"),
    78: (554, "5.3.5", "local configuration error"),
}


def exit_outcome(ran: Ran, name: str) -> Outcome:
    """Return what it means that program ``name`` ended so; the last line of its output is told."""
    said = Reply.clean(ran.last_line, 300)
    if ran.timed_out:
        code, status, why = 451, "4.3.0", "time limit exceeded"
    elif ran.status < 0:
        code, status, why = 451, "4.3.0", f"ended by signal {-ran.status}"
    else:
        code, status, why = SYSEXITS.get(
            ran.status, (451, "4.3.0", f"unknown exit status {ran.status}")
        )
    text = why if code == 250 and not said else f"{why}: {said}" if said else f"{why} ({name})"
    return Outcome(Reply(code, status, Reply.clean(text)), RECIPIENT)
